"""The arithmetic of the race: from finished epochs to what is in the table. Pure functions.

A run is one leg's search at one size in one round, told by its finished epochs in the order in which they finished.
Medians are over the rounds of a leg; where more than half of the rounds have no value, neither has the median.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.common.errors import RunError
from tuner.runs.events import ConfigurationChanged, EpochReported, Event, TrialStarted


@dataclass(frozen=True)
class Epoch:
    """One finished epoch of one trial."""

    elapsed_s: float
    """Seconds from the launch of the leg's process to the end of this epoch's validation."""
    trial: str
    epoch: int
    """Counted from 1."""
    val_accuracy: float
    seconds: float
    configuration: Mapping[str, Any] = field(default_factory=dict)


Run = tuple[Epoch, ...]
Steps = tuple[tuple[float, float], ...]
"""Times and the best accuracy from then on; both increase."""


def parse_epochs(text: str, name: str = "epochs") -> Run:
    """The epochs in JSON lines, by time; a last line without its end is left out (its writer was killed).

    Raises:
        RunError: another line cannot be read.
    """
    complete, _, _ = text.rpartition("\n")
    try:
        found = [Epoch(**json.loads(line)) for line in complete.splitlines()]
    except (ValueError, TypeError) as error:
        raise RunError(f"{name} must hold one epoch of the race per line: {error}") from None
    return tuple(sorted(found, key=lambda epoch: epoch.elapsed_s))


def epochs_of_events(events: Iterable[Event], launched: float) -> Run:
    """The epochs in a record of tuner, with times counted from `launched` (Unix time in seconds)."""
    configurations: dict[int, dict[str, Any]] = {}
    found = []
    for event in events:
        if isinstance(event, TrialStarted | ConfigurationChanged):
            configurations[event.trial] = dict(event.configuration)
        elif isinstance(event, EpochReported):
            found.append(
                Epoch(
                    event.time - launched,
                    str(event.trial),
                    event.epoch,
                    event.metrics["val_accuracy"],
                    event.seconds,
                    configurations.get(event.trial, {}),
                )
            )
    return tuple(sorted(found, key=lambda epoch: epoch.elapsed_s))


def within(run: Run, budget_s: float) -> Run:
    """The epochs that finished within the budget: nothing else counts."""
    return tuple(epoch for epoch in run if epoch.elapsed_s <= budget_s)


def best_steps(run: Run) -> Steps:
    """When the best accuracy improved, and to what; an accuracy that is not a number improves nothing."""
    steps: list[tuple[float, float]] = []
    for epoch in run:
        if not math.isnan(epoch.val_accuracy) and (not steps or epoch.val_accuracy > steps[-1][1]):
            steps.append((epoch.elapsed_s, epoch.val_accuracy))
    return tuple(steps)


def best_at(steps: Steps, time_s: float) -> float | None:
    """The best accuracy at a time; None before the first epoch finished."""
    return max((accuracy for when, accuracy in steps if when <= time_s), default=None)


def time_to_reach(steps: Steps, accuracy: float) -> float | None:
    """When the best accuracy was first at least `accuracy`; None if it never was."""
    return next((when for when, reached in steps if reached >= accuracy), None)


def median(values: Sequence[float | None], *, missing_is_worst: float) -> float | None:
    """The median, a missing value counted as `missing_is_worst` (infinite); None where that decides it.

    >>> median([3.0, None, 1.0], missing_is_worst=math.inf), median([None, 1.0], missing_is_worst=math.inf)
    (3.0, None)
    """
    if not values:
        return None
    found = statistics.median(missing_is_worst if value is None else value for value in values)
    return found if math.isfinite(found) else None


def median_steps(curves: Sequence[Steps]) -> Steps:
    """The median over rounds of the best accuracy at each time at which one of them improves."""
    found: list[tuple[float, float]] = []
    for when in sorted({when for curve in curves for when, _ in curve}):
        middle = median([best_at(curve, when) for curve in curves], missing_is_worst=-math.inf)
        if middle is not None and (not found or middle > found[-1][1]):
            found.append((when, middle))
    return tuple(found)


@dataclass(frozen=True)
class Summary:
    """A leg at one size: medians over its rounds."""

    leg: str
    rounds: int
    epochs: float
    epochs_per_s: float
    """Over the whole budget, starting up and preparing included."""
    epochs_per_s_later: float
    """Over the second half of the budget, when everything is warm."""
    first_epoch_s: float | None
    accuracy: float | None
    """The best validation accuracy of a round at the end of its budget."""
    accuracy_at_s: float | None
    """The time at which a round reached its own best."""


def summarise(leg: str, runs: Sequence[Run], budget_s: float, *, to_last_epoch: bool = False) -> Summary:
    """What the table says of a leg's rounds; raises ValueError without any.

    With `to_last_epoch`, rates are over the time until the last epoch of each round: it had nothing more to do.
    """
    counted = [within(run, budget_s) for run in runs]
    steps = [best_steps(run) for run in counted]
    spans = [run[-1].elapsed_s if to_last_epoch and run else budget_s for run in counted]
    later = [
        sum(epoch.elapsed_s > span_s / 2 for epoch in run) / (span_s / 2)
        for run, span_s in zip(counted, spans, strict=True)
    ]
    return Summary(
        leg=leg,
        rounds=len(counted),
        epochs=statistics.median(len(run) for run in counted),
        epochs_per_s=statistics.median(len(run) / span_s for run, span_s in zip(counted, spans, strict=True)),
        epochs_per_s_later=statistics.median(later),
        first_epoch_s=median([run[0].elapsed_s if run else None for run in counted], missing_is_worst=math.inf),
        accuracy=median([curve[-1][1] if curve else None for curve in steps], missing_is_worst=-math.inf),
        accuracy_at_s=median([curve[-1][0] if curve else None for curve in steps], missing_is_worst=math.inf),
    )


@dataclass(frozen=True)
class Comparison:
    """Tuner against one other leg."""

    other: str
    speed_ratio: float | None
    """Tuner's epochs per second over the other's; None where the other had none."""
    reached_s: float | None
    """When tuner had the other's final accuracy (median over tuner's rounds); None if it never had."""
    share_of_budget: float | None
    share_of_its_time: float | None
    """`reached_s` over the time at which the other itself reached its final accuracy."""
    accuracy_gained: float | None
    """Tuner's final accuracy less the other's."""


def compare(tuner: Summary, tuner_runs: Sequence[Run], other: Summary, budget_s: float) -> Comparison:
    """How tuner's rounds stand to the medians of another leg."""
    reached_s = None
    if other.accuracy is not None:
        times = [time_to_reach(best_steps(within(run, budget_s)), other.accuracy) for run in tuner_runs]
        reached_s = median(times, missing_is_worst=math.inf)
    both = tuner.accuracy is not None and other.accuracy is not None
    return Comparison(
        other=other.leg,
        speed_ratio=tuner.epochs_per_s / other.epochs_per_s if other.epochs_per_s else None,
        reached_s=reached_s,
        share_of_budget=None if reached_s is None else reached_s / budget_s,
        share_of_its_time=None if reached_s is None or not other.accuracy_at_s else reached_s / other.accuracy_at_s,
        accuracy_gained=(tuner.accuracy or 0.0) - (other.accuracy or 0.0) if both else None,
    )


def best_peer(summaries: Iterable[Summary]) -> Summary | None:
    """The peer with the highest final accuracy, of equals the one that had it first; None if none has one."""
    scored = [summary for summary in summaries if summary.accuracy is not None]
    return max(scored, key=lambda one: (one.accuracy or 0.0, -(one.accuracy_at_s or 0.0)), default=None)
