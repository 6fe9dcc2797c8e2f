"""Successive halving by promotion, against the paper's Algorithm 2 written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.algorithms.halving import Halving
from tuner.common.metrics import Mode


def halving(factor: int = 3, *, mode: Mode = "max") -> Halving:
    return Halving((1, 3, 9), factor, mode=mode)


def arrive_all(made: Halving, values: list[float], epoch: int = 1) -> list[int]:
    """Trials 0, 1, ... reach a rung; those that went on at once."""
    return [trial for trial, value in enumerate(values) if not made.arrive(trial, epoch, value)]


def test_a_trial_waits_at_a_rung_until_enough_others_have_come() -> None:
    made = halving()
    assert made.arrive(0, 1, 0.5) and made.arrive(1, 1, 0.4)
    assert made.promotable() is None
    assert made.arrive(2, 1, 0.3)
    assert made.promotable() == 0


def test_a_trial_that_would_be_promoted_at_once_goes_on_in_its_slot() -> None:
    made = halving()
    assert arrive_all(made, [0.1, 0.2, 0.9]) == [2]
    assert made.paused == {0, 1}


def test_an_excused_trial_passes_the_first_rungs_and_counts_there_as_any_other() -> None:
    made = Halving((1, 3, 9), 2, mode="max", excused_epochs=4)
    made.excuse(0)
    assert not made.arrive(0, 1, 0.1), "alone, where others wait"
    assert made.arrive(1, 1, 0.05) and made.arrive(2, 1, 0.04), "of three, only the best would go on: it has"
    assert not made.arrive(0, 3, 0.2)
    assert made.arrive(0, 9, 0.3), "not excused so far on"
    assert made.paused == {0, 1, 2}


def test_a_trial_goes_on_only_when_it_has_left_the_slot_in_which_it_came() -> None:
    halving = Halving((1, 3), 2, mode="max")
    assert halving.arrive(0, 1, 0.9)
    halving.hold(0)
    assert halving.arrive(1, 1, 0.1)
    assert halving.promotable() is None, "the best one is still being saved"
    halving.release(0)
    assert halving.promotable() == 0


def test_a_trial_whose_worker_was_lost_before_it_had_left_waits_when_it_comes_again() -> None:
    halving = Halving((1, 3), 3, mode="max")
    assert halving.arrive(0, 1, 0.9)
    halving.hold(0)
    halving.withdraw(0)
    assert halving.arrive(0, 1, 0.9), "trained again from its checkpoint"
    assert halving.arrive(1, 1, 0.1) and halving.arrive(2, 1, 0.2)
    assert halving.promotable() == 0, "of three trials, not of four"
    halving.promote(0)
    assert not halving.arrive(0, 1, 0.9), "what was promoted does not wait where it was"


def test_a_trial_whose_worker_was_lost_as_it_left_does_not_wait_at_a_rung_below() -> None:
    """It goes on from a checkpoint below that rung, and would never be promoted from there again."""
    halving = Halving((1, 2), 2, mode="max")
    assert halving.arrive(0, 1, 0.1) and not halving.arrive(1, 1, 0.2)
    assert halving.arrive(1, 2, 0.3)
    halving.hold(1)
    halving.withdraw(1)
    assert not halving.arrive(1, 1, 0.2) and halving.paused == {0}
    assert halving.arrive(1, 2, 0.3) and halving.promotable(is_final=True) == 1


def test_between_rungs_nobody_waits() -> None:
    made = halving()
    assert not made.arrive(0, 2, 0.5) and made.paused == set()
    assert made.is_rung(3) and not made.is_rung(2)


def test_the_highest_rung_comes_first() -> None:
    made = halving()
    arrive_all(made, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    for trial in (0, 1):
        made.promote(trial)
        assert made.arrive(trial, 3, 0.9 - trial / 10)
    made.promote(2)
    assert made.arrive(2, 3, 0.1)
    assert made.promotable() == 0, "one of three at the second rung, before any of the first"


def test_smaller_is_better_when_the_metric_says_so() -> None:
    made = halving(mode="min")
    arrive_all(made, [0.1, 0.2, 0.3])
    assert made.promotable() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_comes_last(bad) -> None:
    made = halving()
    arrive_all(made, [bad, 0.1, 0.2])
    assert made.promotable() == 2 or 2 not in made.paused
    assert made.promotable() != 0


def test_of_equals_the_earlier_goes_on() -> None:
    made = halving()
    arrive_all(made, [0.5, 0.5, 0.5])
    assert made.promotable() == 0


def test_a_trial_that_ended_by_itself_counts_at_the_rungs_above() -> None:
    """As it is with Ray's own, a 0.60 would pass where finished trials had 0.95."""
    made = halving()
    arrive_all(made, [0.95, 0.94, 0.93, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    for trial in (0, 1):
        made.promote(trial)
        made.end(trial, 0.95)
    made.promote(2)
    assert made.arrive(2, 3, 0.93), "two of three at its rung are better, and only one goes on"
    assert made.promotable() is None


def test_a_failed_trial_waits_no_more_and_takes_no_place() -> None:
    made = halving()
    arrive_all(made, [0.5, 0.4, 0.3])
    made.end(0, None)
    assert made.promotable() is None and made.paused == {1, 2}


@pytest.mark.parametrize(("status", "promoted"), [("completed", 1), ("stopped", None), ("failed", None)])
def test_of_an_earlier_session_only_what_ended_by_itself_counts_at_the_rungs_above(status, promoted) -> None:
    made = Halving((1, 3), 2, mode="max")
    made.restore(0, {1: 0.1}, status)
    made.restore(1, {1: 0.5, 2: 0.5, 3: 0.5}, "paused")
    assert made.paused == {1} and made.promotable() == promoted, "the better one of two that count, or one alone"


def test_when_no_more_trials_come_the_best_one_goes_on_however_few_there_are() -> None:
    made = halving()
    arrive_all(made, [0.5, 0.4])
    assert made.promotable() is None
    assert made.promotable(is_final=True) == 0


def test_restored_rungs_are_what_they_were() -> None:
    """Played once undisturbed, and once from the curves up to some moment."""
    generator = np.random.default_rng(0)
    made, curves = halving(), {}
    for trial in range(40):
        curves[trial] = {}
        for epoch in range(1, 10):
            curves[trial][epoch] = max([*curves[trial].values(), float(generator.random())])
            if made.arrive(trial, epoch, curves[trial][epoch]):
                break
        else:
            made.end(trial, curves[trial][9])
    again = halving()
    for trial, curve in curves.items():
        again.restore(trial, curve, "completed" if max(curve) == 9 and trial not in made.paused else "paused")
    assert (again.paused, again.promotable()) == (made.paused, made.promotable())


def test_a_trial_that_was_running_at_a_rung_arrives_there_again() -> None:
    """Whether it had to wait there, or came to its own end, its session had no time to say."""
    made = Halving((1, 2), 2, mode="max")
    made.restore(0, {1: 0.5}, "paused")
    made.restore(1, {1: 0.6, 2: 0.7}, "running")
    assert made.paused == {0} and made.promotable() is None
    assert made.arrive(1, 1, 0.6) is False, "it has been promoted there, and only trains it again"
    assert made.arrive(1, 2, 0.7) is True


def test_a_promotion_holds_whoever_has_reached_the_rung_since() -> None:
    made = Halving((1,), 2, mode="max")
    made.restore(0, {1: 0.5}, "running", is_promoted=True)
    made.restore(1, {1: 0.9}, "paused")
    assert made.paused == {1} and made.promotable() == 1
    assert made.arrive(0, 1, 0.5) is False


def test_a_trial_that_is_lost_as_it_waits_arrives_again_and_is_given_out_once() -> None:
    made = halving()
    arrive_all(made, [0.3, 0.2, 0.1])
    assert made.promotable() == 0
    made.withdraw(0)
    assert made.promotable() is None, "another worker trains it"
    assert made.arrive(0, 1, 0.3) is False, "it is the best of three, and keeps its slot"
    made.withdraw(0)
    assert made.arrive(0, 1, 0.3) is False, "nothing to withdraw: it was promoted"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(2, 5))
def test_exactly_the_share_that_the_paper_names_goes_on(values, factor) -> None:
    """Algorithm 2, line by line: of `n` at a rung, those among the top n / factor that have not gone on."""
    made = Halving((1,), factor, mode="max")
    went_on: set[int] = set()
    reached: list[tuple[float, int]] = []
    for trial, value in enumerate(values):
        reached.append((-value, trial))
        top = [number for _, number in sorted(reached)[: len(reached) // factor] if number not in went_on]
        waits = made.arrive(trial, 1, value)
        assert waits == (not top or top[0] != trial)
        if not waits:
            went_on.add(trial)
        candidate = next((number for number in top if number not in went_on), None)
        assert made.promotable() == candidate
        if candidate is not None:
            made.promote(candidate)
            went_on.add(candidate)
