"""What a search is expected to gain: pure functions of its state."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from tests.support.make_record import epoch, make_events, session_started, small_state, trial_ended, trial_started
from tuner.runs.events import Event, FinalistsStarted, FinalistTrained
from tuner.runs.expected_gain import APART, FARTHEST, LATELY, RATE, SHORTER, distributed, expected_gain, signs_of
from tuner.runs.record import replay
from tuner.runs.state import RunState

EVENLY = [(10.0 * place, 0.5 + 0.02 * place) for place in range(1, 11)]
"""Trials with one epoch each: when it ends, and its value."""


def events_of(found: Sequence[tuple[float, float]]) -> list[Event]:
    return [
        event
        for trial, (end_s, value) in enumerate(found)
        for event in (
            trial_started(trial, elapsed_s=end_s - 10.0),
            epoch(trial, 1, value, elapsed_s=end_s, val_loss=value),
            trial_ended(trial, elapsed_s=end_s),
        )
    ]


def state_of(
    found: Sequence[tuple[float, float]], *more: Event, metric: str = "val_accuracy", **study: object
) -> RunState:
    return small_state(session_started(), *events_of(found), *more, metric=metric, **study)


def test_the_signs_are_what_was_gained_lately_and_how_far_the_best_are_apart():
    signs = signs_of(state_of(EVENLY))
    assert signs is not None and signs.ran_s == 100.0
    assert signs.lately == pytest.approx(0.7 - 0.54)
    assert signs.apart == pytest.approx(np.mean([0.08, 0.06, 0.04, 0.02])) and signs.most == pytest.approx(0.3)
    gain = expected_gain(state_of(EVENLY), 100.0)
    scale = LATELY * signs.lately + APART * signs.apart
    assert gain is not None and gain.mean == pytest.approx(SHORTER * scale * math.log1p(RATE))


@pytest.mark.parametrize(
    ("state", "horizon_s"),
    {
        "nothing has begun": (small_state(), 600.0),
        "few trials": (state_of(EVENLY[:4]), 10.0),
        "trials without an epoch": (small_state(*(trial_started(one, elapsed_s=one) for one in range(9))), 1.0),
        "too far": (state_of(EVENLY), 100.0 * FARTHEST + 1),
        "no time": (state_of(EVENLY), 0.0),
        "a time that is over": (state_of(EVENLY), -10.0),
        "several metrics": (state_of(EVENLY, metrics=["val_accuracy", "parameters"]), 100.0),
        "trials that are all alike": (state_of([(10.0 * place, 0.95) for place in range(1, 11)]), 100.0),
        "a value that is none": (state_of([*EVENLY, (110.0, math.inf)]), 100.0),
        "those that failed do not count": (
            state_of(EVENLY[:4], trial_started(4), epoch(4, 1, 0.9), trial_ended(4, "failed", "not a number")),
            10.0,
        ),
    }.values(),
)
def test_nothing_is_said_where_nothing_is_known(state, horizon_s):
    assert expected_gain(state, horizon_s) is None


def test_more_time_gains_more_and_never_less_than_nothing():
    gains = [expected_gain(state_of(EVENLY), horizon_s) for horizon_s in (1.0, 10.0, 100.0, 400.0)]
    assert all(gain is not None and 0 <= gain.low <= gain.high and gain.low <= gain.mean for gain in gains)
    means = [gain.mean for gain in gains if gain is not None]
    assert means == sorted(means) and means[0] < means[-1]


def test_a_search_that_stands_still_gains_less_than_one_that_rises():
    still = [(10.0 * place, 0.7 - 0.02 * abs(place - 2)) for place in range(1, 11)]
    (quiet, rising) = (expected_gain(state_of(found), 100.0) for found in (still, EVENLY))
    assert quiet is not None and rising is not None and 0 < quiet.mean < rising.mean


def test_the_best_of_few_images_that_are_equal_differ_by_half_a_step():
    tied = [(10.0 * place, value) for place, value in enumerate((0.9, 0.97, 0.95, 0.97, 0.97, 0.97, 0.97, 0.9), 1)]
    signs, gain = signs_of(state_of(tied)), expected_gain(state_of(tied), 80.0)
    assert signs is not None and signs.apart == pytest.approx(0.01) and gain is not None and gain.mean > 0
    perfect = [(10.0 * place, 1.0) for place in range(1, 11)]
    assert expected_gain(state_of(perfect), 100.0) == (0.0, 0.0, 0.0)


def test_less_of_a_loss_is_a_gain():
    falling = [(end_s, 2.0 - value) for end_s, value in EVENLY]
    loss, accuracy = (
        signs_of(state_of(found, metric=metric)) for found, metric in ((falling, "val_loss"), (EVENLY, "val_accuracy"))
    )
    assert loss is not None and accuracy is not None and loss[1:3] == pytest.approx(accuracy[1:3])
    assert loss.most == math.inf


def test_no_share_grows_beyond_1():
    high = [(end_s, 2 * value - 0.41) for end_s, value in EVENLY]
    gain = expected_gain(state_of(high), 400.0)
    assert gain is not None and gain.high == pytest.approx(0.01)


def test_the_time_of_finalists_is_none_of_the_search():
    later = FinalistsStarted(trials=[9], trainings=1, elapsed_s=101.0)
    state = state_of(EVENLY, later)
    state.elapsed_s = 1000.0
    signs = signs_of(state)
    assert signs is not None and signs.ran_s == 101.0


@pytest.mark.parametrize("part", [9, 3])  # before and after a quarter of the time
def test_a_search_that_goes_on_after_its_finalists_gains_as_if_there_had_been_none(part):
    def later(events):
        return [one.model_copy(update={"elapsed_s": one.elapsed_s + 500.0}) for one in events]

    events = make_events(20, end=None)
    place = len(events) // part
    moment_s = events[place - 1].elapsed_s
    finalists = [
        FinalistsStarted(trials=[0], trainings=1, elapsed_s=moment_s),
        FinalistTrained(trial=0, number=0, status="completed", reason="max_epochs", epochs=1, best=0.1, seconds=9.0,
                        elapsed_s=moment_s + 500.0),
        session_started(resumed=True, elapsed_s=moment_s + 500.0),
    ]  # fmt: skip
    resumed = signs_of(replay([*events[:place], *finalists, *later(events[place:])]))
    assert resumed == pytest.approx(signs_of(replay(events)))


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_it_can_be_asked_of_a_search_at_any_moment(metric):
    events = make_events(20, metric=metric, end=None)
    known = [expected_gain(replay(events[:end]), 60.0) for end in range(1, len(events), 7)]
    assert known[0] is None and known[-1] is not None


@pytest.mark.parametrize("rate", [0.1, 0.3, 1.0, 4.0, 8.9, 9.1, 40.0])
def test_the_interval_holds_80_percent_of_its_own_distribution(rate):
    generator = np.random.default_rng(0)
    drawn = np.maximum(0.0, 0.1 * (math.log(rate) + generator.logistic(size=40_000)))
    mean, low, high = distributed(rate, 0.1)
    assert drawn.mean() == pytest.approx(mean, abs=0.002)
    held = np.mean((drawn >= low) & (drawn <= high))
    assert held == pytest.approx(max(0.8, 1 / (1 + rate)), abs=0.01)
