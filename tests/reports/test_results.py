"""Ranking, best so far and what differs: by hand, and for all records."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.make_record import epoch, make_state, small_state, trial_ended, trial_started
from tuner.common.errors import RunError
from tuner.common.metrics import oriented
from tuner.common.words import counted
from tuner.reports.results import build_results, outcomes, trajectory
from tuner.runs.events import FinalistsStarted, FinalistTrained, SessionEnded, TrialPaused
from tuner.runs.state import RunState


def three_trials(**study):
    """Trial 0, the baseline, reaches 0.5 at 12 s; trial 1 fails after 0.9 at 11 s; trial 2 reaches 0.7 at 22 s."""
    return small_state(
        trial_started(0, {"architecture": "cnn", "filters": 32}, elapsed_s=9),
        trial_started(1, {"architecture": "cnn", "filters": 64}, elapsed_s=9),
        epoch(0, 1, 0.4, elapsed_s=10),
        epoch(1, 1, 0.9, elapsed_s=11),
        epoch(0, 2, 0.5, elapsed_s=12),
        trial_ended(1, "failed", "out of memory: x", elapsed_s=13),
        epoch(0, 3, 0.45, best=0.5, elapsed_s=14),
        trial_ended(0, parameters=10, elapsed_s=14.5),
        trial_started(2, {"architecture": "dense", "units": 8}, elapsed_s=20),
        epoch(2, 1, 0.6, elapsed_s=21),
        epoch(2, 2, 0.7, elapsed_s=22),
        **study,
    )


def test_trials_are_ranked_by_their_best_value_and_failed_ones_are_not():
    results = build_results(three_trials())
    assert [(trial.number, trial.rank) for trial in results.trials] == [(0, 2), (1, None), (2, 1)]
    assert [trial.number for trial in results.ranked] == [2, 0]
    assert [trial.number for trial in results.failed] == [1]
    assert results.winner is not None and results.winner.number == 2
    assert results.baseline is not None and results.baseline.number == 0


def test_a_search_that_went_on_after_its_finalists_was_one_until_the_last_trial():
    state = three_trials()
    state.apply(FinalistsStarted(trials=[2], trainings=1, elapsed_s=30))
    assert build_results(state).finalists_from_s == 30
    for event in (trial_started(3, elapsed_s=50), epoch(3, 1, 0.1, elapsed_s=60), trial_ended(3, elapsed_s=60)):
        state.apply(event)  # the same trials are the best, so that there is no other event of finalists
    assert build_results(state).finalists_from_s == 60
    assert build_results(three_trials()).finalists_from_s is None


def test_the_earlier_of_equals_ranks_first_as_the_record_says_too():
    state = small_state(
        *(trial_started(number) for number in range(3)), *(epoch(number, 1, 0.5) for number in (2, 1, 0))
    )
    results = build_results(state)
    assert [trial.number for trial in results.ranked] == [0, 1, 2]
    assert state.best_trial().number == results.winner.number


def test_a_loss_is_ranked_from_small_to_large_and_its_gain_is_positive_when_better():
    state = small_state(
        trial_started(0), trial_started(1), epoch(0, 1, 0.5, best=0.85), epoch(1, 1, 0.6, best=0.8), metric="val_loss"
    )  # fmt: skip
    results = build_results(state)
    assert [trial.number for trial in results.ranked] == [1, 0]
    assert results.gain(results.ranked[0]).value == pytest.approx(0.05)


def test_the_best_epoch_is_the_first_of_equals_with_its_own_values():
    state = small_state(
        trial_started(0),
        epoch(0, 1, 0.4),
        epoch(0, 2, 0.6, val_loss=1.0),
        epoch(0, 3, 0.6, val_loss=0.5),
        epoch(0, 4, 0.5, 0.6),
    )
    (trial,) = build_results(state).trials
    assert trial.best == 0.6
    assert trial.best_epoch is not None
    assert (trial.best_epoch.epoch, trial.best_epoch.metrics["val_loss"]) == (2, 1.0)
    assert trial.last_epoch is not None and trial.last_epoch.epoch == 4


def test_values_that_are_not_numbers_are_never_best():
    state = small_state(
        trial_started(0), trial_started(1), trial_started(2),
        epoch(0, 1, math.nan), epoch(1, 1, math.inf), epoch(2, 1, 0.1), epoch(2, 2, math.nan, best=0.1),
    )  # fmt: skip
    results = build_results(state)
    assert [trial.number for trial in results.ranked] == [2]
    assert results.ranked[0].best_epoch.epoch == 1
    assert [trial.number for trial in results.waiting] == [0, 1]
    assert [point.trial for point in trajectory(results)] == [2]


def test_a_running_trial_of_an_ended_session_is_unfinished():
    running = small_state(trial_started(0), epoch(0, 1, 0.5))
    ended = small_state(trial_started(0), epoch(0, 1, 0.5), SessionEnded(reason="interrupted"))
    assert build_results(running).counts == {"running": 1}
    assert build_results(ended).counts == {"unfinished": 1}
    done = small_state(trial_started(0), trial_ended(0), trial_started(1), SessionEnded(reason="interrupted"))
    assert [trial.status for trial in build_results(done).trials] == ["completed", "unfinished"]


def test_the_gain_is_unknown_without_a_value_of_the_baseline():
    with_failed = small_state(
        trial_started(0), trial_started(1), epoch(0, 1, 0.3), epoch(1, 1, 0.5), trial_ended(0, "failed")
    )
    without = small_state(trial_started(1), epoch(1, 1, 0.5))
    for state in (with_failed, without):
        results = build_results(state)
        assert results.gain(results.winner) is None
    results = build_results(three_trials())
    assert results.gain(results.ranked[0]).value == pytest.approx(0.2)
    assert results.gain(results.failed[0]) is None


def finalist_trained(trial: int, number: int, value: float) -> FinalistTrained:
    return FinalistTrained(
        trial=trial, number=number, status="completed", reason="max_epochs", epochs=3, best=value, seconds=1
    )


COMPLETED, STOPPED, PAUSED, RUNNING = "completed", "stopped", "paused", None
BASELINE, OTHER = [0.5, 0.7, 0.72], [0.4, 0.6, 0.8, 0.9]


@pytest.mark.parametrize(
    ("baseline", "baseline_fate", "trial", "fate", "gain", "basis"),
    [
        (BASELINE, COMPLETED, OTHER, COMPLETED, 0.18, ""),
        (BASELINE[:2], PAUSED, OTHER, COMPLETED, -0.1, "after epoch 2"),
        (BASELINE[:1], STOPPED, OTHER, COMPLETED, -0.1, "after epoch 1"),
        (BASELINE[:2], RUNNING, OTHER, RUNNING, -0.1, "after epoch 2"),
        (BASELINE, COMPLETED, OTHER[:2], STOPPED, -0.1, "after epoch 2"),
        (BASELINE, COMPLETED, OTHER[:1], RUNNING, -0.1, "after epoch 1"),
        (BASELINE, COMPLETED, OTHER, STOPPED, 0.18, "after epoch 4"),
        ([0.7, 0.5], COMPLETED, [0.4, 0.9], STOPPED, 0.2, "after epoch 2"),
        ([0.7, 0.5], STOPPED, [0.9, 0.2], COMPLETED, 0.2, "after epoch 2"),
        ([math.nan, 0.5], STOPPED, [0.6, 0.55, 0.9], COMPLETED, 0.1, "after epoch 2"),
        ([0.5], PAUSED, [math.nan, 0.9], COMPLETED, None, ""),
    ],
)
def test_a_gain_is_between_equal_epochs_where_one_of_the_two_was_ended(
    baseline, baseline_fate, trial, fate, gain, basis
):
    events = []
    for number, (values, status) in enumerate([(baseline, baseline_fate), (trial, fate)]):
        bests = [max(value for value in (0.0, *values[: index + 1]) if value == value) for index in range(len(values))]
        events += [
            trial_started(number),
            *(epoch(number, index + 1, value, bests[index]) for index, value in enumerate(values)),
        ]
        if status == PAUSED:
            events.append(TrialPaused(trial=number, epoch=len(values)))
        elif status is not None:
            events.append(trial_ended(number, status))
    results = build_results(small_state(*events))
    found = results.gain(results.trials[1])
    assert (None if found is None else found.value) == (None if gain is None else pytest.approx(gain))
    assert found is None or found.basis == basis
    assert results.gain(results.trials[0]) is None, "the baseline is not better than itself"
    end = "" if baseline_fate == COMPLETED else f", after {counted(len(baseline), 'epoch')}"
    assert results.baseline_line == (
        pytest.approx(max(value for value in baseline if value == value)),
        f"baseline{end}",
    )


@pytest.mark.parametrize(
    ("baseline", "trial", "gain", "basis"),
    [([0.6, 0.7, 0.8], [0.9, 0.9, 0.6], 0.1, "over 3 seeds"), ([0.6], [0.5, 0.6], -0.05, "over 2 and 1 seed"),
     ([], [0.9], 0.4, "after epoch 1"), ([0.6], [], 0.4, "after epoch 1")],
)  # fmt: skip
def test_a_gain_of_finalists_is_over_their_seeds(baseline, trial, gain, basis):
    events = [trial_started(0), epoch(0, 1, 0.5), trial_ended(0, STOPPED), trial_started(1), epoch(1, 1, 0.9)]
    events.append(FinalistsStarted(trials=[1, 0], trainings=3))
    for number, values in ((0, baseline), (1, trial)):
        events += [finalist_trained(number, seed, value) for seed, value in enumerate(values)]
    results = build_results(small_state(*events))
    found = results.gain(results.trials[1])
    assert found.value == pytest.approx(gain) and found.basis == basis
    value, label = results.baseline_line
    assert (value, label) == (
        (pytest.approx(np.mean(baseline)), f"baseline, over {counted(len(baseline), 'seed')}")
        if baseline else (0.5, "baseline, after 1 epoch")
    )  # fmt: skip


def test_the_best_so_far_counts_the_epochs_of_failed_trials_and_not_their_values():
    assert trajectory(build_results(three_trials())) == (
        (10, 1, 0, 0.4), (12, 3, 0, 0.5), (21, 5, 2, 0.6), (22, 6, 2, 0.7),
    )  # fmt: skip


def test_outcomes_stand_where_a_trial_was_last_heard_of():
    assert outcomes(build_results(three_trials())) == (
        (0, "completed", 14.5, 4, 0.5), (1, "failed", 13, 3, 0.9), (2, "running", 22, 6, 0.7),
    )  # fmt: skip


def test_a_trial_that_failed_before_its_first_epoch_has_an_outcome_without_a_value():
    state = small_state(trial_started(0, elapsed_s=3), trial_ended(0, "failed", "MemoryError", elapsed_s=5))
    assert outcomes(build_results(state)) == ((0, "failed", 5, 0, None),)
    assert trajectory(build_results(state)) == ()


def test_what_differs_leaves_out_what_the_architecture_already_says():
    configurations = [
        {"batch_size": 64, "learning_rate": 0.1, "architecture": "cnn", "blocks": 2},
        {"batch_size": 64, "learning_rate": 0.2, "architecture": "dense", "layers": 3},
        {"batch_size": 64, "learning_rate": 0.2, "architecture": "dense", "layers": 3, "dropout": 0.5},
    ]
    state = small_state(*(trial_started(number, values) for number, values in enumerate(configurations)))
    assert build_results(state).differing == ("learning_rate", "architecture", "dropout")


def test_one_and_true_are_different_settings():
    state = small_state(*(trial_started(number, {"a": value}) for number, value in enumerate([1, True])))
    assert build_results(state).differing == ("a",)


def test_an_empty_record_has_empty_results():
    results = build_results(RunState())
    assert (results.name, results.metric, results.trials, results.winner) == ("", "val_accuracy", (), None)
    assert (trajectory(results), outcomes(results), results.differing) == ((), (), ())


def test_results_stay_as_they_were_while_the_search_goes_on():
    state = small_state(trial_started(0), epoch(0, 1, 0.5))
    results = build_results(state)
    state.apply(epoch(0, 2, 0.6))
    assert len(results.trials[0].epochs) == 1


def test_a_metric_that_epochs_do_not_measure_is_refused():
    with pytest.raises(
        RunError, match=r"unknown metric 'val_acuracy'; did you mean 'val_accuracy'\? \(known: accuracy"
    ):
        build_results(small_state(metric="val_acuracy"))


@settings(max_examples=25, deadline=None)
@given(
    trials=st.integers(0, 25),
    seed=st.integers(0, 1000),
    metric=st.sampled_from(["val_accuracy", "val_loss"]),
    end=st.sampled_from(["finished", "interrupted", None]),
)
def test_for_every_record_the_ranking_the_trajectory_and_the_record_agree(trials, seed, metric, end):
    state = make_state(trials, seed=seed, metric=metric, end=end, max_epochs=6)
    results = build_results(state)
    sign = oriented(1, results.mode)
    points = trajectory(results)
    assert np.all(np.diff([sign * point.best for point in points]) > 0)
    assert np.all(np.diff([point.elapsed_s for point in points]) >= 0)
    assert np.all(np.diff([sign * trial.best for trial in results.ranked]) <= 0)
    assert len(results.ranked) + len(results.failed) + len(results.waiting) == len(results.trials) == trials
    assert sum(results.counts.values()) == trials
    best = state.best_trial()
    if best is None:
        assert (results.winner, points) == (None, ())
    else:
        assert (results.winner.number, results.winner.best) == (best.number, points[-1].best)
