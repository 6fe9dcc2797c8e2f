"""What a search still takes after its trials, forecast from what was seen: pure functions of its state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.make_record import epoch, session_started, small_state, trial_ended, trial_started
from tuner.runs.events import Event, FinalistTested, FinalistTrained, TrialPaused
from tuner.runs.finalists import pack_bits
from tuner.runs.forecast import (
    CAUTION,
    CLOSING_S,
    CLOSING_STARTS,
    FINALISTS_SHARE,
    IMAGE_S,
    LATER_PHASE,
    LONGEST_START_S,
    ONE_TRAINING_SHARE,
    START_S,
    STOP_S,
    TEST_S,
    Costs,
    Wanted,
    costs_of,
    epoch_seconds,
    expected_parts,
    fit_trainings,
    rest_s,
    share_out,
    wanted_trainings,
)

COSTS = Costs(start_s=5.0, test_s=1.0, closing_s=10.0, stop_s=2.0)


def wanted(seconds: Sequence[float], seeds: int = 3) -> list[Wanted]:
    """Trainings of finalists that take so long each, seed by seed."""
    return [Wanted(trial, seed, taken) for seed in range(seeds) for trial, taken in enumerate(seconds)]


def trained(trial: int, seconds: Sequence[float], begins_s: float = 10.0, **changes: object) -> list[Event]:
    """A trial with epochs of these lengths, one after the other."""
    ends_s = [begins_s + sum(seconds[: place + 1]) for place in range(len(seconds))]
    return [
        trial_started(trial, elapsed_s=begins_s),
        *(
            epoch(trial, place + 1, 0.5 + 0.1 * trial, seconds=taken, elapsed_s=end_s, **changes)
            for place, (taken, end_s) in enumerate(zip(seconds, ends_s, strict=True))
        ),
    ]


# --- what fits ---


@pytest.mark.parametrize(
    ("room_s", "slots", "kept", "seconds"),
    [
        (math.inf, 1, 6, 5 + 60 + 6),  # all: a start, six trainings, six tests
        (math.inf, 2, 6, 5 + 30 + 6),
        (math.inf, 6, 6, 5 + 10 + 6),
        (math.inf, 9, 6, 5 + 10 + 6),
        (71.0, 1, 6, 71),
        (70.0, 1, 5, 5 + 50 + 5),  # the last seed of the last finalist goes first
        (40.0, 1, 3, 5 + 30 + 3),
        (27.0, 1, 2, 5 + 20 + 2),  # all seeds but the first
        (16.0, 1, 1, 16),  # then the second finalist
        (15.9, 1, 0, 0),
        (0.0, 2, 0, 0),
        (-5.0, 2, 0, 0),
        (100.0, 0, 0, 0),
    ],
)
def test_seeds_are_left_out_before_finalists_and_the_last_of_each_first(room_s, slots, kept, seconds):
    fit = fit_trainings(wanted([10.0, 10.0]), room_s, [5.0] * slots, 1.0)
    assert fit.kept == tuple(wanted([10.0, 10.0])[:kept]) and fit.seconds == seconds


def test_a_finalist_that_takes_too_long_does_not_keep_others_out():
    fit = fit_trainings(wanted([10.0, 500.0, 5.0], seeds=2), 60.0, [0.0], 0.0)
    assert [(one.trial, one.number) for one in fit.kept] == [(0, 0), (2, 0), (0, 1), (2, 1)]


@given(
    seconds=st.lists(st.floats(0.1, 300), min_size=1, max_size=6), seeds=st.integers(1, 4),
    slots=st.integers(1, 8), room_s=st.floats(0, 2000), test_s=st.floats(0, 20),
)  # fmt: skip
def test_whatever_fits_fits_and_no_finalist_has_a_later_seed_without_the_earlier(seconds, seeds, slots, room_s, test_s):
    fit = fit_trainings(wanted(seconds, seeds), room_s, [3.0] * slots, test_s)
    assert fit.seconds <= room_s or not fit.kept
    assert fit.seconds >= sum(one.seconds for one in fit.kept) / slots
    for _, own in groupby(sorted(fit.kept), key=lambda one: one.trial):
        numbers = [one.number for one in own]
        assert numbers == list(range(len(numbers)))
    more = fit_trainings(wanted(seconds, seeds), 2 * room_s, [3.0] * slots, test_s)
    assert len(more.kept) >= len(fit.kept) or seeds * len(seconds) > len(fit.kept)


# --- the parts of a budget ---


def test_trials_get_what_the_rest_leaves_when_all_finalists_fit():
    parts = share_out(1000.0, wanted([10.0]), 1, COSTS)
    assert parts.closing == 12.0 and parts.finalists == pytest.approx(5 + 3 * 10 * CAUTION + 3)
    assert sum(parts) == pytest.approx(1000.0)


def test_finalists_get_no_more_than_their_share_and_one_alone_a_larger_one():
    rest = 200.0 - 12.0
    several = share_out(200.0, wanted([20.0]), 1, COSTS)
    assert 5 + 20 * CAUTION < several.finalists <= FINALISTS_SHARE * rest
    alone = share_out(200.0, wanted([80.0]), 1, COSTS)
    assert FINALISTS_SHARE * rest < alone.finalists <= ONE_TRAINING_SHARE * rest
    assert share_out(200.0, wanted([150.0]), 1, COSTS).finalists == 0.0
    cut = [Wanted(0, 0, 150.0, least_s=60.0)]  # for as many epochs as its trial had
    assert share_out(200.0, cut, 1, COSTS).finalists == pytest.approx(5 + 60 * CAUTION + 1)


@given(room_s=st.floats(-100, 10_000), seconds=st.lists(st.floats(0.1, 500), max_size=5), slots=st.integers(1, 8))
def test_parts_are_never_negative_and_never_more_than_there_is(room_s, seconds, slots):
    parts = share_out(room_s, wanted(seconds), slots, COSTS)
    assert min(parts) >= 0 and parts.trials + parts.finalists <= max(0.0, room_s - 12.0) + 1e-6


@pytest.mark.parametrize("budget_s", [30.0, 60.0, 180.0, 600.0, 7200.0])
def test_before_anything_is_seen_the_parts_are_shares_of_the_budget(budget_s):
    parts = expected_parts(budget_s, 3)
    assert sum(parts) == pytest.approx(budget_s) and parts.trials >= parts.finalists > 0
    assert expected_parts(budget_s, 0).finalists == 0


# --- what was seen ---


def test_closing_is_forecast_from_the_start_of_a_worker_within_bounds():
    def costs(first_s: float) -> Costs:
        return costs_of(small_state(session_started(elapsed_s=3.0), *trained(0, [2.0], first_s)), 600.0)

    assert costs(11.0).start_s == 16.0 and costs(11.0).closing_s == CLOSING_S[0]
    assert costs(3.5) == Costs(START_S, TEST_S, CLOSING_S[0], STOP_S + 2.0)
    assert costs(3000.0).start_s == LONGEST_START_S and costs(3000.0).closing_s == CLOSING_STARTS * LONGEST_START_S
    busy = costs_of(small_state(session_started(elapsed_s=3.0), *trained(0, [2.0], 3.5)), 600.0, contention=2.5)
    assert busy.start_s == 2.5 * START_S and busy.closing_s == CLOSING_STARTS * 2.5 * START_S
    assert costs_of(small_state(), 3000.0).closing_s == CLOSING_S[1]
    assert costs_of(small_state(), 300.0).closing_s == 24.0 and costs_of(small_state(), None).closing_s == CLOSING_S[0]


def test_an_epoch_of_a_network_says_what_the_test_split_takes_and_a_test_that_was_seen_says_it_better():
    data = {"train_images": 300, "validation_images": 100, "test_images": 200}
    state = small_state(session_started(), *trained(0, [9.0, 10.0, 11.0]), data=data)
    assert costs_of(state, 600.0, [0]).test_s == pytest.approx(1.0 + 200 * 10.0 / 1000)
    cached = TrialPaused(trial=0, epoch=3, cut="pooled average")
    paused = small_state(session_started(elapsed_s=1.0), *trained(0, [1.0, 1.0], 9.0), cached, data=data)
    assert costs_of(paused, 600.0, [0]).test_s == pytest.approx(1.0 + 200 * IMAGE_S)  # no activations were computed


def test_what_was_tested_in_two_sessions_does_not_say_how_long_a_test_takes():
    def tested(trial: int, elapsed_s: float) -> list[Event]:
        values = {"images": 40, "test_accuracy": 0.5, "test_loss": 1.0, "correct": pack_bits(np.ones(40, bool))}
        trained = FinalistTrained(
            trial=trial, number=0, status="completed", reason="max_epochs", epochs=1, best=0.5, seconds=1.0
        )
        return [trained, FinalistTested(trial=trial, number=0, elapsed_s=elapsed_s, **values)]

    again = session_started(elapsed_s=101.0, resumed=True)
    before = [session_started(elapsed_s=1.0), *trained(0, [2.0]), *trained(1, [2.0]), *tested(0, 100.0), again]
    assert costs_of(small_state(*before, *tested(1, 500.0)), 600.0).test_s == TEST_S
    third = [*trained(2, [2.0]), *tested(2, 504.0)]
    assert costs_of(small_state(*before, *tested(1, 500.0), *third), 600.0).test_s == 4.0


def test_a_training_takes_what_its_trial_took_and_the_same_for_the_epochs_that_it_lacks():
    def seconds(*events: Event, depth: int = 0, head: int = 0, later: float = LATER_PHASE) -> list[float]:
        (trial,) = small_state(*events).trials.values()
        trial.configuration = {"unfreeze_depth": depth}
        return epoch_seconds(trial, 6, head, later)

    assert seconds(*trained(0, [5.0, 2.0, 2.0])) == [5.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    assert seconds(*trained(0, [5.0])) == [5.0] * 6
    assert seconds(trial_started(0)) == []
    ended = trial_ended(0, "completed", "early_stopping")
    assert seconds(*trained(0, [5.0, 2.0, 2.0]), ended) == [5.0, 2.0, 2.0, 2.0]  # another seed stops a little later
    assert seconds(*trained(0, [2.0, 1.0], phase="head"), depth=2, head=2) == [2.0, 1.0, 3.0, 3.0, 3.0, 3.0]
    assert seconds(*trained(0, [2.0, 1.0], phase="head"), depth=0, head=2) == [2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert seconds(*trained(0, [2.0, 1.0], phase="head"), depth=2, head=2, later=5.0)[2:] == [5.0] * 4


def test_a_machine_that_becomes_slower_is_seen_in_the_trials_that_run():
    steady = small_state(session_started(), *trained(0, [2.0] * 6), max_epochs=6)
    slower = small_state(session_started(), *trained(0, [2.0, 2.0, 2.0, 2.0, 6.0, 6.0]), max_epochs=6)
    one_late = small_state(session_started(), *trained(0, [2.0, 2.0, 2.0, 2.0, 2.0, 9.0]), max_epochs=6)
    assert wanted_trainings(steady, 1, 1) == [Wanted(0, 0, 12.0, 12.0)]
    assert [one.seconds for one in wanted_trainings(slower, 1, 1)] == [60.0]
    assert [one.seconds for one in wanted_trainings(one_late, 1, 1)] == [19.0]


def test_a_training_that_was_cut_takes_the_epochs_that_it_lacks():
    state = small_state(session_started(), *trained(0, [2.0] * 4), max_epochs=6)
    cut = FinalistTrained(trial=0, number=0, status="completed", reason="time_budget", epochs=1, best=0.5, seconds=2.0)
    state.apply(cut)
    assert wanted_trainings(state, 1, 1) == [Wanted(0, 0, 10.0, 6.0)]


@settings(max_examples=30)
@given(seconds=st.lists(st.floats(0.01, 100), min_size=1, max_size=8), slots=st.integers(1, 4), seeds=st.integers(1, 3))
def test_the_rest_is_closing_and_all_that_finalists_want(seconds, slots, seeds):
    state = small_state(session_started(slots), *trained(0, seconds), max_epochs=8)
    of_all = rest_s(state, 600.0, 1, seeds)
    assert of_all >= rest_s(state, 600.0, 0, seeds) + max(8 * min(seconds), sum(seconds)) * -(-seeds // slots) - 1e-6
