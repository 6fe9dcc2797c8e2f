"""How a search went: its improvements, and what came of each trial, by time and by epochs. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tuner.reports.results import Results, ResultStatus


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
    epochs = [epoch for trial in results.trials for epoch in trial.epochs]
    if not epochs:
        return ()
    failed = {trial.number for trial in results.failed}
    times = np.array([epoch.elapsed_s for epoch in epochs])
    sign = 1.0 if results.maximise else -1.0
    values = sign * np.array([-sign * math.inf if epoch.trial in failed else epoch.best_so_far for epoch in epochs])
    order = np.argsort(times, kind="stable")
    bests = np.fmax.accumulate(np.where(np.isfinite(values), values, -math.inf)[order])
    improved = np.flatnonzero(bests > np.concatenate(([-math.inf], bests[:-1])))
    return tuple(
        TrajectoryPoint((epoch := epochs[order[place]]).elapsed_s, int(place) + 1, epoch.trial, epoch.best_so_far)
        for place in improved
    )


def outcomes(results: Results) -> tuple[Outcome, ...]:
    """Each trial at the moment it was last heard of, by number."""
    times = np.sort([epoch.elapsed_s for trial in results.trials for epoch in trial.epochs])
    epochs = np.searchsorted(times, [trial.last_s for trial in results.trials], side="right")
    return tuple(
        Outcome(trial.number, trial.status, trial.last_s, int(before), trial.best)
        for trial, before in zip(results.trials, epochs, strict=True)
    )
