"""Forecast of what a search has still to spend after its trials: finalists, test split, export and report. Pure.

A time budget is one promise for all of it, so trials end in time for the rest. The forecast is of what was seen so far;
as long as nothing was, of shares of the budget. What does not fit is left out: trainings of a finalist, then finalists,
the last of each first; never the model nor the report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from tuner.runs.finalists import epochs_of_cut, finalist_trials, remaining_trainings
from tuner.runs.state import RunState, TrialState

FINALISTS_SHARE, ONE_TRAINING_SHARE = 0.4, 0.65
"""Most of what is left without the closing that is kept for finalists: for all of them, and for one training alone."""
CAUTION = 1.2
"""More is kept for finalists than is forecast: what is cut off is lost, what is too much is used for more trainings."""
CLOSING_SHARE, MOST_CLOSING_SHARE = 0.08, 0.3
"""Share of the budget for export and report as long as no process has been seen to start; and their most ever."""
CLOSING_STARTS = 0.6
"""Export and report take at least so many times the start of a process: both load libraries, in one thread."""
CLOSING_S = (13.0, 90.0)
"""Least and most for export and report."""
START_S, LONGEST_START_S, STARTS, MOST_CONTENTION = 10.0, 30.0, 2.0, 3.0
"""Least and most for the start of a process: Ray has loaded the libraries of the first workers before, so that a later
one takes twice as long; what takes longer is no start, but activations that were computed."""
STOP_S, LONGEST_STOP_S = 2.0, 12.0
"""Ending the workers, and what they may take for it: an epoch that takes longer is cut."""
LATER_PHASE = 3.0
"""An epoch that trains blocks of a backbone takes so many times one of the head, as long as none was seen."""
LATER_STOP = 1.25
"""With another seed, a training that stops early may stop so much later."""
COMPILED = 4
"""Trials at the start whose first epochs compile what later ones share."""
TEST_S, IMAGE_S, BACKWARD, MOST_TEST_SHARE = 1.0, 5e-4, 3.0, 0.1
"""Building a network for the test split; least for an image of it if activations are read in training, which may lie
there from earlier; an image that is learnt from takes so many times one that is not; and a network's most."""

RESAMPLES, FEWEST_RESAMPLES = 400, 100
"""Draws of test images; the error of a deviation from so many is 4 and 7%."""
MOST_VALUES = 4e7
"""Probabilities that are looked at for all draws, as long as these are not too few."""
VALUE_S = 1.5e-7
"""Drawing a probability again and looking at it, in the metric that takes longest: the AUC sorts them."""


def resamples(values: int) -> int:
    """Return how often predictions of so many probabilities are drawn again."""
    return int(min(RESAMPLES, max(FEWEST_RESAMPLES, MOST_VALUES / values)))


class Costs(NamedTuple):
    """Seconds that parts of a search take, as far as they are known."""

    start_s: float
    """A process, until it trains."""
    test_s: float
    """Reading the test split with one trained finalist."""
    closing_s: float
    """Export and report."""
    stop_s: float
    """Ending the trials that run."""


class Wanted(NamedTuple):
    """A training that finalists lack."""

    trial: int
    number: int
    seconds: float
    least_s: float = math.inf
    """For as many epochs as its trial had: the first of all is cut to those rather than left out."""


class Fit(NamedTuple):
    """The trainings that fit, and the seconds until they are tested."""

    kept: tuple[Wanted, ...]
    seconds: float


class Parts(NamedTuple):
    """The seconds of a search from now on, by part."""

    trials: float
    finalists: float
    closing: float


def fit_trainings(wanted: Sequence[Wanted], room_s: float, free_at_s: Sequence[float], test_s: float) -> Fit:
    """Return the trainings that can be done and tested within `room_s`; what does not fit is passed over.

    `wanted` are in the order in which they begin; `free_at_s` are the seconds until each process can begin one. A
    finalist of which a training does not fit gets no later one either.

    >>> wanted = [Wanted(0, 0, 10), Wanted(1, 0, 50), Wanted(0, 1, 10), Wanted(1, 1, 5)]
    >>> [(one.trial, one.number) for one in fit_trainings(wanted, 30, [5.0], 1.0).kept]
    [(0, 0), (0, 1)]
    """
    slots, kept, out, end_s = sorted(free_at_s), list[Wanted](), set[int](), 0.0
    for one in wanted:
        if not slots or one.trial in out:
            continue
        done_s = slots[0] + one.seconds
        if max(end_s, done_s) + test_s * (len(kept) + 1) > room_s:
            out.add(one.trial)
            continue
        end_s, slots = max(end_s, done_s), sorted([done_s, *slots[1:]])
        kept.append(one)
    return Fit(tuple(kept), end_s + test_s * len(kept))


def share_out(room_s: float, wanted: Sequence[Wanted], slots: int, costs: Costs) -> Parts:
    """Return the parts of the `room_s` seconds that are left while trials run.

    All finalists if they fit into their share; else what fits; the first of them alone may take more, and may be cut.
    """
    rest_s = max(0.0, room_s - costs.closing_s - costs.stop_s)
    cautious, free_at_s = [one._replace(seconds=CAUTION * one.seconds) for one in wanted], [costs.start_s] * slots
    of_all = fit_trainings(cautious, FINALISTS_SHARE * rest_s, free_at_s, costs.test_s)
    of_one = fit_trainings(cautious[:1], ONE_TRAINING_SHARE * rest_s, free_at_s, costs.test_s)
    if not of_one.kept:
        cut = [one._replace(seconds=CAUTION * one.least_s) for one in wanted[:1]]
        of_one = fit_trainings(cut, ONE_TRAINING_SHARE * rest_s, free_at_s, costs.test_s)
    finalists_s = max(of_all.seconds, of_one.seconds)
    return Parts(rest_s - finalists_s, finalists_s, costs.closing_s + costs.stop_s)


def expected_parts(budget_s: float, finalists: int) -> Parts:
    """Return the parts of a time budget before anything was seen."""
    closing_s = _closing_s(CLOSING_SHARE * budget_s, budget_s) + STOP_S
    rest_s = max(0.0, budget_s - closing_s)
    finalists_s = FINALISTS_SHARE * rest_s if finalists else 0.0
    return Parts(rest_s - finalists_s, finalists_s, closing_s)


def rest_s(state: RunState, budget_s: float | None, finalists: int, trainings_each: int) -> float:
    """Return the seconds that a search takes after its trials if nothing is left out."""
    wanted = wanted_trainings(state, finalists, trainings_each) if finalists else []
    costs = costs_of(state, budget_s, list(dict.fromkeys(one.trial for one in wanted)))
    slots = state.sessions[-1].max_concurrent if state.sessions else 1
    return fit_trainings(wanted, math.inf, [costs.start_s] * slots, costs.test_s).seconds + costs.closing_s


def _closing_s(seconds: float, budget_s: float | None) -> float:
    low, high = CLOSING_S
    return min(high, max(low, seconds), math.inf if budget_s is None else MOST_CLOSING_SHARE * budget_s)


def costs_of(state: RunState, budget_s: float | None, chosen: Sequence[int] = (), contention: float = 1.0) -> Costs:
    """Return what the parts of a search cost, from what its record has seen of them; `chosen` are the finalists.

    `contention` is how many processes want a core of the machine, those of the search with them.
    """
    start_s = _start_s(state, min(MOST_CONTENTION, max(1.0, contention)))
    by_share_s, by_start_s = CLOSING_SHARE * (budget_s or 0.0), CLOSING_STARTS * (start_s or 0.0)
    closing_s = _closing_s(by_share_s if start_s is None else by_start_s, budget_s)
    in_hand_s = [trial.epochs[-1].seconds for trial in state.with_status("running") if trial.epochs]
    return Costs(
        start_s if start_s is not None else closing_s / CLOSING_STARTS,
        min(_test_s(state, [state.trials[number] for number in chosen]), MOST_TEST_SHARE * (budget_s or math.inf)),
        closing_s,
        min(LONGEST_STOP_S, STOP_S + max(in_hand_s, default=0.0)),
    )


def _start_s(state: RunState, contention: float) -> float | None:
    """Return the seconds that a process takes until it trains, by the first that did; None before any has."""
    trained_s = [trial.epochs[0].elapsed_s - trial.epochs[0].seconds for trial in state.trials.values() if trial.epochs]
    if not trained_s or not state.sessions:
        return None
    return min(LONGEST_START_S, max(START_S * contention, STARTS * (min(trained_s) - state.sessions[0].elapsed_s)))


def _test_s(state: RunState, chosen: Sequence[TrialState]) -> float:
    """Return the seconds that the test split takes: as it did, or as the images of an epoch let one expect."""
    tested_s = sorted(one.tested.elapsed_s for one in state.finalists.values() if one.tested is not None)
    began_s = [session.elapsed_s for session in state.sessions]
    pairs = [pair for pair in pairwise(tested_s) if not any(pair[0] <= one <= pair[1] for one in began_s)]
    if pairs:  # within a session: between two there is more
        return median(after - before for before, after in pairs)
    data = state.study.data if state.study is not None else {}
    test, train, validation = (int(data.get(f"{name}_images") or 0) for name in ("test", "train", "validation"))
    per_image_s = [_image_s(trial, train, validation) for trial in chosen if trial.epochs and train]
    values = test * len(data.get("class_names") or ())
    drawing_s = VALUE_S * values * resamples(values) if values else 0.0
    return TEST_S + drawing_s + test * max(per_image_s, default=0.0)


def _image_s(trial: TrialState, train: int, validation: int) -> float:
    """Return the seconds that a network needs for an image without learning from it.

    A trial that reads activations has computed them once, before its first epoch, if no other one had.
    """
    facts = trial.ended or trial.paused
    if facts is None or facts.cut is None:
        return median(epoch.seconds for epoch in trial.epochs) / (BACKWARD * train + validation)
    before_s = trial.epochs[0].elapsed_s - trial.epochs[0].seconds - trial.started_s
    return max(IMAGE_S, (before_s - START_S) / (train + validation))


def wanted_trainings(state: RunState, count: int, trainings_each: int) -> list[Wanted]:
    """Return the trainings that the finalists of a search still lack, by number, each with the seconds it takes.

    One that was cut takes those of the epochs that it lacks.
    """
    missing = remaining_trainings(state, finalist_trials(state, count), trainings_each)
    expected = expected_epochs(state, {one.trial for one in missing})
    had = {number: len(state.trials[number].epochs) for number in expected}
    found = []
    for one in missing:
        done = epochs_of_cut(state, one.trial, one.number)
        left, least = expected[one.trial][done:], expected[one.trial][done : had[one.trial]]
        found.append(Wanted(one.trial, one.number, sum(left), sum(least)))
    return found


def expected_epochs(state: RunState, trials: Iterable[int]) -> dict[int, list[float]]:
    """Return the seconds that each epoch of these trials takes if they are trained again, at the pace of now."""
    pace, later_phase, compile_s, lengths = _pace(state), _later_phase(state), _compile_s(state), _lengths(state)
    found = {number: epoch_seconds(state.trials[number], *lengths, later_phase) for number in trials}
    return {
        number: [pace * (seconds + (0.0 if place else compile_s)) for place, seconds in enumerate(epochs)]
        for number, epochs in found.items()
    }


def _lengths(state: RunState) -> tuple[int, int]:
    """Return the epochs of a training, and those of its head phase."""
    if state.study is None:
        return 1, 0
    training = state.study.specification.get("training") or {}
    return state.study.max_epochs, int(training.get("head_epochs") or 0)


def epoch_seconds(trial: TrialState, max_epochs: int, head_epochs: int, later_phase: float) -> list[float]:
    """Return the seconds of each epoch of a trial that is trained again: those seen, then the same for the others."""
    seen = [epoch.seconds for epoch in trial.epochs]
    length = max_epochs
    if trial.status == "completed":  # by itself
        length = min(max_epochs, math.ceil(LATER_STOP * len(seen)))
    if not seen:
        return []
    later_s = _typical_s(trial)
    head_only = len(seen) <= head_epochs and bool(trial.configuration.get("unfreeze_depth"))
    return [
        seen[number] if number < len(seen) else later_s * (later_phase if head_only and number >= head_epochs else 1.0)
        for number in range(length)
    ]


def _typical_s(trial: TrialState) -> float:
    """Return the seconds of an epoch in the phase that a trial is in, without the first, which compiles, if it can."""
    own = [epoch.seconds for epoch in trial.epochs if epoch.phase == trial.epochs[-1].phase]
    return median(own[1:] or own)


def _later_phase(state: RunState) -> float:
    """Return how many times an epoch of the head an epoch takes that trains more."""
    found = []
    for trial in state.trials.values():
        head = [epoch.seconds for epoch in trial.epochs if epoch.phase == "head"]
        if head and trial.epochs[-1].phase == "fine_tune":
            found.append(_typical_s(trial) / max(1e-3, median(head[1:] or head)))
    return max(1.0, median(found)) if found else LATER_PHASE


def _compile_s(state: RunState) -> float:
    """Return what a first epoch takes more than a second one: in the first trials, for which nothing was compiled."""
    seen = [trial.epochs for trial in state.trials.values() if len(trial.epochs) > 1][:COMPILED]
    return median(max(0.0, first.seconds - second.seconds) for first, second, *_ in seen) if seen else 0.0


def _pace(state: RunState) -> float:
    """Return how many times longer epochs of running trials take now than their earlier ones did; at least 1."""
    found = []
    for trial in state.with_status("running"):
        own = [epoch.seconds for epoch in trial.epochs[1:] if epoch.phase == trial.epochs[-1].phase]
        if len(own) > 2:  # two in a row: one may have been held up
            found.append(min(own[-2:]) / max(1e-3, median(own[:-2])))
    return max(1.0, median(found)) if found else 1.0
