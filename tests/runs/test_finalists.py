"""Which trials become finalists, and what may be said of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.make_record import epoch, session_started, small_state, trial_ended, trial_started
from tuner.common.intervals import mean_interval, wilson_interval
from tuner.reports._leaderboard import leaderboard_markdown
from tuner.reports.formatting import escaped
from tuner.reports.results import build_results
from tuner.runs.events import (
    ConfigurationChanged,
    FinalistsStarted,
    FinalistTested,
    FinalistTrained,
    SessionEnded,
    TrialMeasured,
)
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
    with_earlier_finalists,
)
from tuner.runs.state import RunState


def searched(*values: float, **study) -> RunState:
    """A search with one epoch for each trial, of these values; trial 0 is the baseline."""
    events = []
    for trial, value in enumerate(values):
        events += [trial_started(trial), epoch(trial, 1, value), trial_ended(trial)]
    return small_state(*events, **study)


def trained(trial: int, number: int, best: float | None, status="completed") -> FinalistTrained:
    return FinalistTrained(
        trial=trial, number=number, status=status, reason="max_epochs", epochs=9, best=best, seconds=1.0
    )


def judgement(trial: int, number: int, correct: np.ndarray) -> FinalistTested:
    return FinalistTested(
        trial=trial,
        number=number,
        images=len(correct),
        test_accuracy=float(correct.mean()),
        test_loss=1.0,
        correct=pack_bits(correct),
    )


def judged(tables: dict[int, np.ndarray], validation: dict[int, float], folds: int = 0) -> RunState:
    """Finalists with `[trainings, images] bool` of right answers, and a validation value for each."""
    state = searched(*[0.5] * (max(tables) + 1))
    state.apply(FinalistsStarted(trials=list(tables), trainings=len(next(iter(tables.values()))), folds=folds))
    for trial, table in tables.items():
        for number, row in enumerate(table):
            state.apply(trained(trial, number, validation[trial] + 0.001 * number))
            state.apply(judgement(trial, number, row))
    return state


def answers(rate: float, seeds: int = 3, images: int = 2000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, images)) < rate


def test_the_best_trials_become_finalists_with_the_baseline_behind_them() -> None:
    assert finalist_trials(searched(0.1, 0.5, 0.3, 0.4), 2) == (1, 3, 0)
    assert finalist_trials(searched(0.6, 0.5, 0.3, 0.4), 2) == (0, 1)
    assert finalist_trials(searched(0.1, 0.5), 5) == (1, 0)


def test_what_a_population_has_made_of_the_baseline_is_no_baseline_among_the_finalists() -> None:
    state = searched(0.1, 0.5)
    state.apply(ConfigurationChanged(trial=0, epoch=1, configuration={"architecture": "cnn", "filters": 64}))
    assert finalist_trials(state, 1) == (1,)
    state.apply(FinalistsStarted(trials=[1], trainings=1))
    state.apply(trained(1, 0, 0.5))
    state.apply(judgement(1, 0, answers(0.5)[0]))
    assert "The population has changed the baseline while it trained, so no gain can be stated." in texts_of(state)


def test_what_was_trained_again_stays_a_finalist_when_later_trials_are_ahead() -> None:
    state = searched(0.1, 0.5, 0.3, 0.9, 0.2)
    for trial, best in ((0, 0.1), (1, 0.5), (2, 0.3)):
        state.apply(trained(trial, 0, best))
    state.apply(trained(4, 0, None, "failed"))
    assert with_earlier_finalists(state, (3, 0)) == (3, 1, 2, 0)
    assert with_earlier_finalists(state, (0,)) == (1, 2, 0), "there was no time for the best"
    assert with_earlier_finalists(state, (3, 1, 2, 4, 0)) == (3, 1, 2, 4, 0)


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
    order = [(one.trial, one.number) for one in remaining_trainings(state, (1, 0), 2)]
    assert order == [(1, 0), (0, 0), (1, 1), (0, 1)]
    state.apply(trained(1, 0, 0.5))
    assert remaining_trainings(state, (1, 0), 1) == [FinalistTraining(0, 0, {"architecture": "cnn"})]


def test_a_training_that_was_cut_for_want_of_time_is_left_to_be_done() -> None:
    state = searched(0.1, 0.5)
    state.apply(trained(1, 0, 0.5).model_copy(update={"reason": "time_budget"}))
    state.apply(trained(0, 0, 0.5))
    assert [(one.trial, one.number) for one in remaining_trainings(state, (1, 0), 1)] == [(1, 0)]


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
    state.apply(FinalistsStarted(trials=[1, 0], trainings=2))
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
    assert only.test_accuracy == only.model_test
    assert only.test_accuracy[1:] == wilson_interval(only.test_accuracy.mean, 2000)


def test_no_mistake_among_a_few_images_does_not_mean_that_there_are_none() -> None:
    (only,) = summarise_finalists(judged({0: np.ones((3, 100), dtype=bool)}, {0: 0.99}))
    assert only.test_accuracy is not None and only.test_accuracy.low is not None
    assert only.test_accuracy.mean == 1.0 and 0.94 < only.test_accuracy.low < 0.98
    assert only.validation.high is not None and only.validation.high <= 1.0


def test_equal_answers_have_no_gain_and_what_is_hard_for_both_cancels_out() -> None:
    table = answers(0.7)
    same = gain_on_test(judged({0: table, 1: table}, {0: 0.6, 1: 0.5}), 0, 1)
    assert same is not None and same.points.mean == 0
    worse = table.copy()
    worse[:, :40] = False
    paired = gain_on_test(judged({0: table, 1: worse}, {0: 0.6, 1: 0.5}), 0, 1)
    other = gain_on_test(judged({0: table, 1: answers(0.686, seed=5)}, {0: 0.6, 1: 0.5}), 0, 1)
    assert paired is not None and other is not None
    assert paired.points.low is not None and other.points.low is not None
    assert paired.points.mean - paired.points.low < other.points.mean - other.points.low


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
        assert gain is not None and gain.points.low is not None and gain.points.high is not None
        held += gain.points.low <= 0.02 <= gain.points.high
    assert 0.92 <= held / 300 <= 0.995


def test_the_leaderboard_says_who_won_on_the_test_images_and_by_how_much() -> None:
    page = leaderboard_markdown(
        build_results(ended(judged({1: answers(0.8), 0: answers(0.7, seed=1)}, {1: 0.7, 0: 0.6})))
    )
    assert "**Trial 1 (cnn) won with test accuracy" in page and "3 seeds" in page
    assert "Trial 1 is better than the baseline" in page
    assert "the mean of 3 seeds" in page and "best.keras is one of these trainings" in page
    assert "## Finalists" in page and "The test split was read once" in page


def test_the_leaderboard_says_when_the_first_two_cannot_be_told_apart() -> None:
    tables = {1: answers(0.7), 2: answers(0.7, seed=1), 0: answers(0.5, seed=2)}
    page = leaderboard_markdown(build_results(judged(tables, {1: 0.71, 2: 0.70, 0: 0.5})))
    assert "Trial 1 and trial 2 cannot be told apart" in page
    assert "Trial 1 is better than the baseline" in page


def test_finalists_that_were_not_tested_are_not_called_winners_on_test_images() -> None:
    state = searched(0.1, 0.5)
    state.apply(FinalistsStarted(trials=[1, 0], trainings=1))
    state.apply(trained(1, 0, 0.5))
    page = leaderboard_markdown(build_results(state))
    assert "The test split has not been read yet" in page and "won with test accuracy" not in page


BETTER, EQUAL, WORSE = answers(0.8), answers(0.7, seed=2), answers(0.6, seed=3)


def texts_of(state: RunState) -> str:
    return leaderboard_markdown(build_results(state))


def ended(state: RunState, reason="finished") -> RunState:
    state.apply(SessionEnded(reason=reason))
    return state


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({1: BETTER, 0: EQUAL}, "Trial 1 is better than the baseline (trial 0): +"),
        ({1: WORSE, 0: EQUAL}, "Trial 1 is worse than the baseline (trial 0) on the test images, though not on"),
        ({1: EQUAL, 0: EQUAL}, "Trial 1 and the baseline (trial 0) cannot be told apart: 0.00 points"),
        (
            {1: BETTER[:1], 0: EQUAL[:1]},
            "Trial 1 and the baseline (trial 0) cannot be compared, there being one seed each",
        ),
        ({1: BETTER, 0: EQUAL[:1]}, "Trial 1 and the baseline (trial 0) cannot be compared, there being one seed each"),
        ({1: BETTER[:1], 0: EQUAL}, "Trial 1 and the baseline (trial 0) cannot be compared, there being one seed each"),
        ({1: BETTER, 0: EQUAL[:2]}, "95% interval"),
        ({1: BETTER[:2], 0: WORSE[:2]}, "2 seeds each"),
        ({0: BETTER, 1: EQUAL}, "The winner is the baseline (trial 0): the search found nothing better"),
        ({0: BETTER, 1: EQUAL}, "Trial 0 (cnn), the baseline, won with test accuracy"),
        ({1: BETTER, 2: EQUAL}, "The baseline (trial 0) was not trained again, so no gain can be stated."),
        ({1: BETTER, 2: EQUAL, 3: WORSE, 0: WORSE}, "Trial 1 is better than trial 3:"),
        ({1: BETTER, 2: EQUAL, 3: WORSE, 0: WORSE}, "The others were not compared with each other"),
        ({1: BETTER[:1], 0: EQUAL[:1]}, "one seed (95% interval for new images alone"),
        ({1: BETTER, 0: EQUAL}, "the mean of 3 seeds (95% interval for the mean over new seeds and new images:"),
        ({1: BETTER, 0: EQUAL}, "best.keras is one of these trainings: "),
    ],
)
def test_a_verdict_says_what_was_compared_and_what_was_not(tables, words) -> None:
    state = ended(judged(tables, {trial: 0.9 - 0.1 * place for place, trial in enumerate(tables)}))
    page = texts_of(state)
    assert words in page
    assert "+0.00" not in page and "-0.00" not in page and "standard deviation" not in page
    if min(len(table) for table in tables.values()) < 2:
        assert "is better than" not in page and "Recommended" not in page


@pytest.mark.parametrize("why", ["out of memory: tensor_a", "hung"])
def test_a_baseline_whose_trainings_have_all_failed_is_named_with_the_reason(why) -> None:
    state = searched(0.1, 0.5)
    state.apply(FinalistsStarted(trials=[1, 0], trainings=1))
    state.apply(trained(1, 0, 0.5))
    state.apply(trained(0, 0, None, status="failed").model_copy(update={"reason": why}))
    state.apply(judgement(1, 0, BETTER[0]))
    words = f"All trainings of the baseline (trial 0) with new seeds failed, so no gain can be stated: {escaped(why)}."
    assert words in texts_of(ended(state))


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([trial_ended(0, "failed", "boom")], "The baseline (trial 0) failed, so no gain can be stated: boom."),
        ([], "The baseline (trial 0) has no value, so it was not trained again"),
    ],
)
def test_a_baseline_that_has_failed_or_has_no_value_is_named(events, words) -> None:
    started = [trial_started(0), *events, trial_started(1), epoch(1, 1, 0.5), trial_ended(1)]
    state = small_state(
        *started, FinalistsStarted(trials=[1], trainings=1), trained(1, 0, 0.5), judgement(1, 0, BETTER[0])
    )
    assert words in texts_of(ended(state))


def test_a_search_without_a_baseline_says_so_in_its_verdict() -> None:
    started = [trial_started(1), epoch(1, 1, 0.5), trial_ended(1)]
    state = small_state(
        *started, FinalistsStarted(trials=[1], trainings=1), trained(1, 0, 0.5), judgement(1, 0, BETTER[0])
    )
    assert "The search had no baseline to compare with." in texts_of(ended(state))


@pytest.mark.parametrize(
    ("reason", "verb"),
    [
        ("finished", "won"),
        ("time_budget", "won"),
        ("interrupted", "is ahead"),
        ("error", "is ahead"),
        (None, "is ahead"),
    ],
)
def test_nothing_has_won_before_the_search_is_over(reason, verb) -> None:
    state = judged({1: BETTER, 0: EQUAL}, {1: 0.7, 0: 0.6})
    page = texts_of(state if reason is None else ended(state, reason))
    assert f"**Trial 1 (cnn) {verb} with test accuracy" in page


def test_readings_of_the_test_split_are_counted_by_session() -> None:
    state = judged({1: BETTER, 0: EQUAL}, {1: 0.7, 0: 0.6})
    assert "The test split was read once" in texts_of(state)
    for number in range(2):
        state.apply(session_started())
        state.apply(trained(2 + number, 0, 0.4))
        state.apply(judgement(2 + number, 0, WORSE[0]))
    page = texts_of(state)
    assert "The test split was read in 3 sessions" in page and "No choice was made by its test accuracy" not in page


def test_the_trust_section_is_about_the_finalist_that_was_chosen() -> None:
    state = judged({2: BETTER, 1: EQUAL, 0: WORSE}, {2: 0.7, 1: 0.6, 0: 0.5})
    page = texts_of(ended(state))
    assert "Trained again with 3 new seeds, trial 2, the winner, has 70.10% instead of 50.00% in the search" in page
    assert "The highest value, 50.00% of trial 0, is the best of 3 trials and 3 epochs" in page
    assert "chance" not in page


def with_sizes(
    tables: dict[int, np.ndarray], sizes: dict[int, tuple[int, float | None]], apart: float = 0.0001
) -> RunState:
    """Finalists whose validation values are so far apart; from seed to seed they differ by 0.001."""
    state = judged(tables, {trial: 0.9 - apart * place for place, trial in enumerate(tables)})
    for trial, (parameters, seconds) in sizes.items():
        state.apply(TrialMeasured(trial=trial, parameters=parameters, seconds_per_image=seconds))
    return ended(state)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (
            {1: (900, None), 2: (300, None)},
            "Recommended: trial 2. It cannot be told apart from trial 1 and is smaller: 300",
        ),
        (
            {1: (900, None), 2: (890, None)},
            "Recommended: trial 1. Of those that cannot be told apart from it, none within 2 points is",
        ),
        ({1: (300, None), 2: (900, None)}, "Recommended: trial 1."),
        ({1: (900, 0.002), 2: (900, 0.001)}, "is faster: 1 ms an image instead of 2 ms"),
        ({}, "Recommended: trial 1."),
    ],
)
def test_of_finalists_that_cannot_be_told_apart_the_smaller_or_faster_is_recommended(sizes, words) -> None:
    assert words in texts_of(with_sizes({1: EQUAL, 2: EQUAL.copy(), 0: WORSE}, sizes))


def test_a_smaller_finalist_that_is_worse_is_not_recommended() -> None:
    sizes = {1: (900, None), 2: (10, None)}
    assert "Recommended" not in texts_of(with_sizes({1: BETTER, 2: WORSE}, sizes))
    assert "Recommended" not in texts_of(with_sizes({1: EQUAL, 2: EQUAL.copy()}, sizes, apart=0.1))  # in validation


def test_a_gain_is_over_the_seeds_that_both_were_tested_with() -> None:
    state = judged({1: BETTER, 0: EQUAL[:2]}, {1: 0.7, 0: 0.6})
    gain = gain_on_test(state, 1, 0)
    assert gain is not None and gain.trainings == 2
    assert gain.points.mean == pytest.approx(BETTER[:2].mean() - EQUAL[:2].mean())


# --- folds instead of seeds ---


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({1: BETTER, 0: EQUAL}, "the mean of 3 folds (95% interval for the mean over other folds and new images:"),
        ({1: BETTER, 0: EQUAL}, "best.keras is the training on fold 3, which has the best value on its own validation"),
        ({1: BETTER, 0: EQUAL}, "3 folds each"),
        (
            {1: BETTER, 0: EQUAL},
            "were trained again on each of 3 folds of the training images, with a new seed on each",
        ),
        ({1: BETTER, 0: EQUAL}, "Trained again on 3 folds, trial 1, the winner, has"),
        ({1: BETTER, 0: EQUAL}, "wider as folds share training images: Nadeau and Bengio 2003"),
        ({1: BETTER, 0: EQUAL}, "the images of the first fold, by which they were chosen, are."),
        ({1: BETTER, 0: EQUAL}, "fold to fold"),
        ({1: BETTER, 0: EQUAL[:2]}, "a finalist that lacks one stands behind those that have more"),
        ({1: BETTER[:1], 0: EQUAL[:1]}, "one fold (95% interval for new images alone"),
        ({1: BETTER[:1], 0: EQUAL[:1]}, "there being one fold each"),
    ],
)
def test_a_report_says_folds_where_finalists_were_trained_on_folds(tables, words) -> None:
    page = texts_of(ended(judged(tables, {1: 0.7, 0: 0.6}, folds=3)))
    assert words in page
    assert "seeds" not in page.partition("## Trials")[0] and "seed to seed" not in page and "new seed," not in page


def test_a_finalist_that_lacks_a_fold_stands_behind_one_that_has_all() -> None:
    tables, values = {1: BETTER[:2], 0: EQUAL}, {1: 0.9, 0: 0.6}
    assert [one.trial for one in summarise_finalists(judged(tables, values))] == [1, 0]
    assert [one.trial for one in summarise_finalists(judged(tables, values, folds=3))] == [0, 1]


def test_the_interval_over_folds_is_wider_since_they_share_training_images() -> None:
    values = [0.5, 0.52, 0.54]
    over_seeds, over_folds = mean_interval(values), mean_interval(values, folds=3)
    assert over_folds.mean == over_seeds.mean
    widths = [one.high - one.low for one in (over_seeds, over_folds)]
    assert widths[1] / widths[0] == pytest.approx(((1 / 3 + 1 / 2) / (1 / 3)) ** 0.5)


def test_a_training_validates_on_its_own_fold_and_one_with_another_seed_on_the_only_split() -> None:
    assert [FinalistTraining(0, number, {}, folds=3).fold for number in range(3)] == [0, 1, 2]
    assert [FinalistTraining(0, number, {}).fold for number in range(3)] == [0, 0, 0]
