"""Where trials are compared, and what a search is expected to cost: worked out by hand."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.algorithms.halving import (
    Rung,
    bracket_epochs,
    default_grace_epochs,
    expected_in_brackets,
    expected_rungs,
    rung_epochs,
)
from tuner.algorithms.schedulers import SCHEDULERS, SchedulerContext
from tuner.runs.epoch import METRIC, TIME


@pytest.mark.parametrize(
    ("max_epochs", "grace", "factor", "expected"),
    [
        (50, 2, 4, (2, 8, 32)),
        (81, 1, 3, (1, 3, 9, 27)),  # 81 itself is the end, not a rung
        (30, 4, 4, (4, 16)),
        (9, 9, 3, ()),
        (1, 1, 2, ()),
        (16, 1, 2, (1, 2, 4, 8)),
    ],
)
def test_rungs_grow_by_the_reduction_factor_below_the_last_epoch(max_epochs, grace, factor, expected):
    assert rung_epochs(max_epochs, grace, factor) == expected


@pytest.mark.parametrize(("grace", "factor"), [(0, 4), (1, 1), (-1, 2), (1, 0)])
def test_rungs_that_would_not_grow_are_refused(grace, factor):
    with pytest.raises(
        ValueError, match=f"must be at least 1 and reduction_factor at least 2; got {grace} and {factor}"
    ):
        rung_epochs(30, grace, factor)


@pytest.mark.parametrize(
    ("head", "unfreezes", "max_epochs", "expected"),
    [(3, True, 30, 4), (3, False, 30, 1), (3, True, 3, 3), (5, True, 2, 2), (1, True, 30, 2)],
)
def test_the_first_comparison_waits_for_the_first_unfrozen_epoch(head, unfreezes, max_epochs, expected):
    assert default_grace_epochs(head, unfreezes, max_epochs) == expected


def test_a_table_of_rungs_by_hand():
    # 64 trials to epoch 4; a quarter of them, 16, the 12 epochs to 16; 4 the 14 epochs to 30
    assert expected_rungs(64, 30, (4, 16), 4) == (Rung(4, 64, 256), Rung(16, 16, 448), Rung(30, 4, 504))


def test_without_rungs_every_trial_trains_to_the_end():
    assert expected_rungs(10, 30, (), 4) == (Rung(30, 10, 300),)


def ends_with_rays_hyperband(trials: int, max_epochs: int, factor: int) -> list[int]:
    """The epochs that each trial trains, one after the other on one slot; later trials are better."""
    built = SCHEDULERS["hyperband"].build(SchedulerContext("max", max_epochs, 1, factor, mutable={}))
    every = [WatchedTrial(trial_id=str(number), status="PENDING", epochs=0) for number in range(trials)]

    def stop(trial: Any) -> None:
        trial.status = "TERMINATED"
        built.on_trial_complete(controller, trial, {})

    searcher = SimpleNamespace(on_pause=lambda _trial: None, on_unpause=lambda _trial: None)
    controller: Any = SimpleNamespace(
        search_alg=SimpleNamespace(searcher=searcher), stop_trial=stop, get_trials=lambda: every
    )
    for trial in every:
        built.on_trial_add(controller, trial)
    while (trial := built.choose_trial_to_run(controller)) is not None:
        trial.status = "RUNNING"
        action = "CONTINUE"
        while action == "CONTINUE" and trial.epochs < max_epochs:
            trial.epochs += 1
            action = built.on_trial_result(controller, trial, {TIME: trial.epochs, METRIC: float(trial.trial_id)})
        if action == "PAUSE" and trial.epochs < max_epochs:
            trial.status = "PAUSED"
        else:
            stop(trial)
    return sorted(trial.epochs for trial in every)


class WatchedTrial(SimpleNamespace):
    """A trial as Ray's scheduler looks at it: known by identity."""

    is_saving = False
    __hash__ = object.__hash__
    __eq__ = object.__eq__


@pytest.mark.parametrize(
    ("trials", "max_epochs", "factor"), [(25, 30, 4), (40, 27, 3), (9, 16, 4), (7, 9, 2), (3, 1, 4)]
)
def test_the_table_of_brackets_is_what_rays_hyperband_does(trials, max_epochs, factor):
    ends = ends_with_rays_hyperband(trials, max_epochs, factor)
    table = expected_in_brackets(trials, max_epochs, factor)
    assert {end for end in ends if end < max_epochs} <= set(bracket_epochs(max_epochs, factor))
    assert [rung.trials for rung in table] == [sum(end >= rung.epoch for end in ends) for rung in table]
    assert table[-1].epochs_spent == sum(ends)


def test_at_least_one_trial_goes_on():
    assert [rung.trials for rung in expected_rungs(3, 30, (1, 4, 16), 4)] == [3, 1, 1, 1]


@given(st.integers(1, 10_000), st.integers(1, 1000), st.integers(1, 1000), st.integers(2, 10))
def test_halving_never_costs_more_than_training_everything_and_never_less_than_one_trial(
    trials, max_epochs, grace, factor
):
    epochs = rung_epochs(max_epochs, grace, factor)
    table = expected_rungs(trials, max_epochs, epochs, factor)
    assert [rung.epoch for rung in table] == [*epochs, max_epochs]
    assert list(epochs) == sorted(set(epochs)) and all(epoch < max_epochs for epoch in epochs)
    assert max_epochs <= table[-1].epochs_spent <= trials * max_epochs
    assert all(after.trials <= before.trials for before, after in itertools.pairwise(table))
