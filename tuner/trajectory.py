"""How a search went: its improvements, and what came of each trial, by time and by epochs. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import NamedTuple

from tuner.results import Results, ResultStatus


class TrajectoryPoint(NamedTuple):
    """A moment at which the search found something better."""

    elapsed_s: float
    epochs: int
    """Epochs trained by all trials until then."""
    trial: int
    best: float


class Outcome(NamedTuple):
    """What came of one trial, and when."""

    trial: int
    status: ResultStatus
    elapsed_s: float
    epochs: int
    """Epochs trained by all trials until then."""
    value: float | None


def trajectory(results: Results) -> tuple[TrajectoryPoint, ...]:
    """Best so far against elapsed seconds and against epochs trained: one point for each improvement.

    Epochs of failed trials count as trained; their values do not, as they left no model.
    """
    reported = sorted(
        (
            (epoch.elapsed_s, trial.number, epoch.best_so_far, trial.status == "failed")
            for trial in results.trials
            for epoch in trial.epochs
        ),
        key=lambda row: row[0],
    )
    sign, best = (1.0 if results.maximise else -1.0), -math.inf
    points = []
    for count, (elapsed_s, number, value, failed) in enumerate(reported, start=1):
        if not failed and math.isfinite(value) and sign * value > best:
            best = sign * value
            points.append(TrajectoryPoint(elapsed_s, count, number, value))
    return tuple(points)


def outcomes(results: Results) -> tuple[Outcome, ...]:
    """Each trial at the moment it was last heard of, by number."""
    times = sorted(epoch.elapsed_s for trial in results.trials for epoch in trial.epochs)
    return tuple(
        Outcome(trial.number, trial.status, trial.last_s, bisect_right(times, trial.last_s), trial.best)
        for trial in results.trials
    )
