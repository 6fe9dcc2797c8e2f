"""Costs, fronts and rungs as data."""

from __future__ import annotations

import pytest

from tests.support.make_record import (
    epoch,
    make_state,
    session_started,
    small_state,
    study_created,
    trial_ended,
    trial_started,
)
from tuner.reports.figures.cost import build_cost, build_rungs, describe_cost, describe_rungs
from tuner.reports.results import build_results
from tuner.runs.events import TrialPaused
from tuner.runs.record import replay


def trial(number: int, values: list[float], status="completed", reason="max_epochs", **ended):
    """A trial with an epoch of 2 s for each value."""
    best = 0.0
    yield trial_started(number)
    for index, value in enumerate(values, start=1):
        best = max(best, value)
        yield epoch(number, index, value, best=best)
    if status != "running":
        yield trial_ended(number, status, reason, **ended)


def test_a_trial_is_on_the_front_when_no_cheaper_one_is_as_good() -> None:
    state = small_state(
        *trial(0, [0.3], parameters=100),
        *trial(1, [0.1, 0.5], parameters=900),
        *trial(2, [0.1, 0.1, 0.4], parameters=50),
        *trial(3, [0.1, 0.1, 0.1, 0.6], parameters=900),
    )
    data = build_cost(build_results(state))
    assert data is not None
    assert data.front_seconds == (0, 1, 3)
    assert data.front_parameters == (2, 3)
    assert {row.trial: row.seconds for row in data.trials} == {0: 2.0, 1: 4.0, 2: 6.0, 3: 8.0}


def test_of_a_loss_the_smaller_one_is_better() -> None:
    events = [trial_started(0), epoch(0, 1, 0.2, best=0.9, val_loss=0.9), trial_started(1)]
    events += [epoch(1, 1, 0.2, best=0.5, val_loss=0.5, seconds=9.0)]
    data = build_cost(build_results(small_state(*events, metric="val_loss")))
    assert data is not None and data.front_seconds == (0, 1)
    assert data.front_parameters == ()  # they have not ended, so their parameters are not known
    assert "of 2 trials against training time. The cheapest" in describe_cost(data)


def test_many_trials_are_thinned_out_but_for_the_front() -> None:
    results = build_results(make_state(3000, slots=64))
    data = build_cost(results)
    assert data is not None and len(data.trials) <= 2100
    assert set(data.front_seconds) <= {row.trial for row in data.trials}
    of = f" of {len(data.trials):,} of {len(results.ranked):,} trials against training time and"
    assert of in describe_cost(data)


def test_every_trial_with_an_epoch_is_in_the_flow_once() -> None:
    state = replay(
        [
            study_created(max_epochs=4),
            session_started(rungs=[1, 2]),
            *trial(0, [0.1] * 4),
            *trial(1, [0.1], "stopped", "scheduler"),
            *trial(2, [0.1] * 2, "failed", "x"),
            *trial(3, [0.1] * 3, "running"),
            *trial(4, [0.1] * 2, "completed", "early_stopping"),
            trial_started(5),
            *trial(6, [0.1], "running"),
            TrialPaused(trial=6, epoch=1),
        ]
    )
    flow = build_rungs(build_results(state))
    assert flow is not None and flow.trials == 7
    rows = [
        (rung.epoch, rung.entered, rung.went_on, rung.stopped, rung.ended, rung.failed, rung.waiting, rung.open)
        for rung in flow.rungs
    ]
    assert rows == [(1, 6, 4, 1, 0, 0, 1, 0), (2, 4, 2, 0, 1, 1, 0, 0), (4, 2, 0, 0, 1, 0, 0, 1)]
    assert "Up to epoch 1: 6 trained, 4 went on, 1 stopped, 1 wait to go on;" in describe_rungs(flow)


@pytest.mark.parametrize("rungs", [[], [1, 3], [2, 4]])
def test_rungs_are_those_that_the_search_was_resolved_to(rungs) -> None:
    session = session_started(rungs=rungs)
    flow = build_rungs(build_results(replay([study_created(max_epochs=8), session, *trial(0, [0.1] * 8)])))
    assert flow is not None and [rung.epoch for rung in flow.rungs] == [*rungs, 8]


def test_what_enters_a_rung_goes_on_or_ends_there_in_every_search() -> None:
    for options in ({}, {"end": None}, {"end": "interrupted", "max_epochs": 7}):
        flow = build_rungs(build_results(make_state(60, **options)))
        assert flow is not None
        for rung, following in zip(flow.rungs, [*flow.rungs[1:], None], strict=True):
            assert rung.entered == rung.went_on + rung.stopped + rung.ended + rung.failed + rung.waiting + rung.open
            assert rung.went_on == (following.entered if following is not None else 0)
