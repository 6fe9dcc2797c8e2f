"""Which trials become finalists, and what may be said of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.make_record import epoch, small_state, trial_ended, trial_started
from tuner.common.intervals import mean_interval
from tuner.reports._leaderboard import leaderboard_markdown
from tuner.reports.results import build_results
from tuner.runs.events import FinalistsStarted, FinalistTested, FinalistTrained
from tuner.runs.finalists import (
    FinalistTraining,
    best_training,
    finalist_seed,
    finalist_trials,
    gain_on_test,
    pack_bits,
    remaining_trainings,
    summarise_finalists,
    unpack_bits,
)
from tuner.runs.state import RunState


def searched(*values: float, **study) -> RunState:
    """A search with one epoch for each trial, of these values; trial 0 is the baseline."""
    events = []
    for trial, value in enumerate(values):
        events += [trial_started(trial), epoch(trial, 1, value), trial_ended(trial)]
    return small_state(*events, **study)


def trained(trial: int, seed_number: int, best: float | None, status="completed") -> FinalistTrained:
    return FinalistTrained(
        trial=trial, seed_number=seed_number, status=status, reason="max_epochs", epochs=9, best=best, seconds=1.0
    )


def judgement(trial: int, seed_number: int, correct: np.ndarray) -> FinalistTested:
    return FinalistTested(
        trial=trial,
        seed_number=seed_number,
        images=len(correct),
        test_accuracy=float(correct.mean()),
        test_loss=1.0,
        correct=pack_bits(correct),
    )


def judged(tables: dict[int, np.ndarray], validation: dict[int, float]) -> RunState:
    """Finalists with `[seeds, images] bool` of right answers, and a validation value for each."""
    state = searched(*[0.5] * (max(tables) + 1))
    state.apply(FinalistsStarted(trials=list(tables), seeds=len(next(iter(tables.values())))))
    for trial, table in tables.items():
        for seed_number, row in enumerate(table):
            state.apply(trained(trial, seed_number, validation[trial] + 0.001 * seed_number))
            state.apply(judgement(trial, seed_number, row))
    return state


def answers(rate: float, seeds: int = 3, images: int = 2000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < rate


def test_the_best_trials_become_finalists_with_the_baseline_behind_them() -> None:
    assert finalist_trials(searched(0.1, 0.5, 0.3, 0.4), 2) == (1, 3, 0)
    assert finalist_trials(searched(0.6, 0.5, 0.3, 0.4), 2) == (0, 1)
    assert finalist_trials(searched(0.1, 0.5), 5) == (1, 0)


def test_a_loss_is_better_when_it_is_smaller() -> None:
    assert finalist_trials(searched(0.9, 0.5, 0.3, metric="val_loss"), 1) == (2, 0)


def test_trials_without_a_value_and_failed_ones_are_no_finalists() -> None:
    state = searched(0.1, 0.5)
    state.apply(trial_started(2))
    state.apply(trial_started(3))
    state.apply(epoch(3, 1, 0.9))
    state.apply(trial_ended(3, "failed", "not a number: loss is nan"))
    assert finalist_trials(state, 3) == (1, 0)
    assert finalist_trials(small_state(), 3) == ()


def test_all_finalists_are_trained_with_one_seed_before_the_next_and_none_twice() -> None:
    state = searched(0.1, 0.5)
    order = [(one.trial, one.seed_number) for one in remaining_trainings(state, (1, 0), 2)]
    assert order == [(1, 0), (0, 0), (1, 1), (0, 1)]
    state.apply(trained(1, 0, 0.5))
    assert remaining_trainings(state, (1, 0), 1) == [FinalistTraining(0, 0, {"architecture": "cnn"})]


def test_seeds_are_the_same_for_all_finalists_and_no_trial_has_had_them() -> None:
    from tuner.common.seeds import trial_seed

    seeds = {finalist_seed(7, number) for number in range(50)}
    assert len(seeds) == 50 and not seeds & {trial_seed(7, number) for number in range(1000)}


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_right_answers_are_kept_in_the_record_as_they_are(values) -> None:
    assert unpack_bits(pack_bits(np.array(values)), len(values)).tolist() == values


def test_finalists_are_ranked_by_validation_and_their_first_values_do_not_count() -> None:
    state = judged({1: answers(0.9), 2: answers(0.5, seed=1)}, {1: 0.6, 2: 0.7})
    first, second = summarise_finalists(state)
    assert (first.trial, second.trial) == (2, 1)  # the better one on the test images is not chosen by them
    assert first.validation.mean == pytest.approx(0.701)
    assert first.deviation == pytest.approx(0.001)
    assert best_training(state, 2) == 2


def test_a_training_that_failed_is_counted_and_has_no_part_in_the_mean() -> None:
    state = searched(0.1, 0.5)
    state.apply(FinalistsStarted(trials=[1, 0], seeds=2))
    state.apply(trained(1, 0, 0.5))
    state.apply(trained(1, 1, 0.9, status="failed"))
    (only,) = summarise_finalists(state)
    assert (only.trained, only.failed, only.validation.mean, only.test_accuracy) == (1, 1, 0.5, None)
    assert (only.validation.low, only.deviation) == (None, None)


def test_the_interval_of_a_mean_is_students() -> None:
    interval = mean_interval([0.50, 0.52, 0.54])
    assert interval.mean == pytest.approx(0.52)
    assert interval.high is not None and interval.high - 0.52 == pytest.approx(4.302653 * 0.02 / 3**0.5, rel=1e-5)


def test_with_one_seed_the_interval_is_that_of_the_images() -> None:
    (only,) = summarise_finalists(judged({0: answers(0.7, seeds=1)}, {0: 0.7}))
    assert only.test_accuracy is not None and only.test_accuracy.low is not None
    mean = only.test_accuracy.mean
    assert mean - only.test_accuracy.low == pytest.approx(1.959964 * (mean * (1 - mean) / 2000) ** 0.5, rel=1e-2)


def test_no_mistake_among_a_few_images_does_not_mean_that_there_are_none() -> None:
    (only,) = summarise_finalists(judged({0: np.ones((3, 100), dtype=bool)}, {0: 0.99}))
    assert only.test_accuracy is not None and only.test_accuracy.low is not None
    assert only.test_accuracy.mean == 1.0 and 0.94 < only.test_accuracy.low < 0.98
    assert only.validation.high is not None and only.validation.high <= 1.0


def test_equal_answers_have_no_gain_and_what_is_hard_for_both_cancels_out() -> None:
    table = answers(0.7)
    same = gain_on_test(judged({0: table, 1: table}, {0: 0.6, 1: 0.5}), 0, 1)
    assert same is not None and same.mean == 0
    worse = table.copy()
    worse[:, :40] = False
    paired = gain_on_test(judged({0: table, 1: worse}, {0: 0.6, 1: 0.5}), 0, 1)
    other = gain_on_test(judged({0: table, 1: answers(0.686, seed=5)}, {0: 0.6, 1: 0.5}), 0, 1)
    assert paired is not None and other is not None and paired.low is not None and other.low is not None
    assert paired.mean - paired.low < other.mean - other.low


def test_the_interval_of_a_gain_holds_the_truth_about_as_often_as_it_says() -> None:
    """300 pairs of models whose accuracies vary by 1 point from seed to seed, the first 2 points better on average."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        hardness = generator.random(1000)
        tables = {
            trial: np.stack([hardness < generator.normal(rate, 0.01) for _ in range(3)])
            for trial, rate in ((0, 0.72), (1, 0.70))
        }
        gain = gain_on_test(judged(tables, {0: 0.7, 1: 0.6}), 0, 1)
        assert gain is not None and gain.low is not None and gain.high is not None
        held += gain.low <= 0.02 <= gain.high
    assert 0.92 <= held / 300 <= 0.995


def test_the_leaderboard_says_who_won_on_the_test_images_and_by_how_much() -> None:
    page = leaderboard_markdown(build_results(judged({1: answers(0.8), 0: answers(0.7, seed=1)}, {1: 0.7, 0: 0.6})))
    assert "**Trial 1 (cnn) won with test accuracy" in page and "3 seeds" in page
    assert "Trial 1 is better than the baseline" in page
    assert "times the standard deviation from seed to seed" in page
    assert "## Finalists" in page and "The test split was read once" in page


def test_the_leaderboard_says_when_the_first_two_cannot_be_told_apart() -> None:
    tables = {1: answers(0.7), 2: answers(0.7, seed=1), 0: answers(0.5, seed=2)}
    page = leaderboard_markdown(build_results(judged(tables, {1: 0.71, 2: 0.70, 0: 0.5})))
    assert "Trial 1 and trial 2 cannot be told apart" in page
    assert "Trial 1 is better than the baseline" in page


def test_finalists_that_were_not_tested_are_not_called_winners_on_test_images() -> None:
    state = searched(0.1, 0.5)
    state.apply(FinalistsStarted(trials=[1, 0], seeds=1))
    state.apply(trained(1, 0, 0.5))
    page = leaderboard_markdown(build_results(state))
    assert "The test split has not been read yet" in page and "won with test accuracy" not in page
