"""What trials showed, and after how many epochs: observations for a model that learns from stopped trials too. Pure.

Epochs at which trials came to rest (stopped, or paused at a rung) are the levels; a trial is observed at every level
that it reached. Values become ranks, and ranks normal scores, so that neither the metric's scale nor an outlier
matters; what epochs alone bring is taken off, estimated from the trials seen at both of two neighbouring levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtri

from tuner.equal_epochs import ENDED_BY_ITSELF, FAILED, PAUSED

GROWTH = 1.5
"""Levels are at least this factor apart: schedulers that stop at any epoch would make one of each."""


class Observations(NamedTuple):
    """Arrays of one length."""

    owner: np.ndarray
    """int: the place of the trial in the sequence that was given."""
    level: np.ndarray
    """int: how many levels lie below that of this value."""
    target: np.ndarray
    """float: larger is better; mean and variance of all are about 0 and 1."""

    def taken(self, places: Sequence[int] | np.ndarray) -> Observations:
        """Some of them."""
        return Observations(self.owner[places], self.level[places], self.target[places])


def is_informative(trial: FrozenTrial) -> bool:
    """Whether there is anything to learn from a trial: it showed a value, or failed."""
    return has_failed(trial) or bool(curve_of(trial))


def is_running(trial: FrozenTrial) -> bool:
    """Whether a trial runs and has shown nothing yet: others should keep away from its place."""
    is_open = not trial.state.is_finished() and not trial.user_attrs.get(PAUSED)
    return bool(trial.params) and is_open and not is_informative(trial)


def has_failed(trial: FrozenTrial) -> bool:
    """Whether a trial broke, or ended with a value that is no number."""
    if trial.user_attrs.get(FAILED) or trial.state == TrialState.FAIL:
        return True
    return trial.state == TrialState.COMPLETE and not curve_of(trial)


def curve_of(trial: FrozenTrial) -> Mapping[int, float]:
    """Value by epoch; a complete trial without reported epochs has its value at epoch 1. Only finite values."""
    curve = {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
    if not curve and trial.state == TrialState.COMPLETE and trial.value is not None and math.isfinite(trial.value):
        return {1: trial.value}
    return curve


def levels_of(trials: Sequence[FrozenTrial]) -> list[int]:
    """The epochs at which trials are compared, ascending."""
    last = {trial.number: max(curve) for trial in trials if (curve := curve_of(trial))}
    if not last:
        return []
    resting = {last[trial.number] for trial in trials if trial.number in last and _was_held(trial)}
    levels: list[int] = []
    for epoch in sorted({*resting, max(last.values())}, reverse=True):
        if not levels or epoch * GROWTH <= levels[-1]:
            levels.append(epoch)
    return levels[::-1]


def _was_held(trial: FrozenTrial) -> bool:
    """Whether somebody else had the trial stop or wait where it did."""
    if trial.user_attrs.get(ENDED_BY_ITSELF) or trial.state == TrialState.COMPLETE:
        return False
    return trial.state.is_finished() or bool(trial.user_attrs.get(PAUSED))


def observe(trials: Sequence[FrozenTrial], *, maximise: bool) -> Observations:
    """Everything that informative trials showed; failed ones are worse than all, at the lowest level."""
    sign, levels = 1.0 if maximise else -1.0, levels_of(trials)
    seen = [
        (owner, level, sign * value)
        for owner, trial in enumerate(trials)
        for level, value in ([(0, -sign * math.inf)] if has_failed(trial) else _at_levels(trial, levels))
    ]
    owner, level = (np.array([one[column] for one in seen], dtype=int) for column in (0, 1))
    scores = normal_scores(np.array([one[2] for one in seen]))
    targets = scores - _gains_of_epochs(owner, level, scores)[level]
    return Observations(owner, level, targets / (float(targets.std()) or 1.0))


def _at_levels(trial: FrozenTrial, levels: Sequence[int]) -> list[tuple[int, float]]:
    """(level, value) where a trial can be compared.

    One that ended by itself counts at the top; one that was stopped before the first level counts there.
    """
    curve = curve_of(trial)
    last = max(curve, default=0)
    found = [(level, curve[epoch]) for level, epoch in enumerate(levels) if epoch in curve]
    top = len(levels) - 1
    has_ended = trial.state == TrialState.COMPLETE or trial.user_attrs.get(ENDED_BY_ITSELF)
    if has_ended and last < levels[top]:
        found.append((top, curve[last]))
    return found or ([(0, curve[last])] if curve else [])


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Float [n]: the normal quantiles of ranks (Blom 1958); equals share theirs.

    >>> normal_scores(np.array([0.1, 0.9, 0.9, 0.5])).round(2).tolist()
    [-1.05, 0.63, 0.63, -0.3]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    scores: np.ndarray = ndtri((ranks[place] - 0.375) / (len(values) + 0.25))
    return scores


def _gains_of_epochs(owner: np.ndarray, level: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Float [levels]: what is expected at each level of a trial that is average at the lowest."""
    number = int(level.max()) + 1 if len(level) else 1
    table = np.full((int(owner.max()) + 1 if len(owner) else 0, number), np.nan)
    table[owner, level] = scores
    offsets = np.zeros(number)
    lowest = table[:, 0][~np.isnan(table[:, 0])]
    offsets[0] = lowest.mean() if len(lowest) else 0.0
    for upper in range(1, number):
        steps = table[:, upper] - table[:, upper - 1]
        steps = steps[~np.isnan(steps)]
        offsets[upper] = offsets[upper - 1] + (steps.mean() if len(steps) else 0.0)
    return offsets


def most_telling(observations: Observations, number: int) -> np.ndarray:
    """Int [at most number]: places of observations to keep: half of them high and good, the rest spread over all."""
    target, level = observations.target, observations.level
    if len(target) <= number:
        return np.arange(len(target))
    high = np.lexsort((-target, -level))[: number // 2]
    good = np.argsort(-target, kind="stable")
    kept = list(dict.fromkeys([*high.tolist(), *good[: number // 4].tolist()]))
    is_kept = np.zeros(len(target), bool)
    is_kept[kept] = True
    rest = good[~is_kept[good]]
    spread = rest[np.linspace(0, len(rest) - 1, number - len(kept)).round().astype(int)]
    return np.array(sorted({*kept, *spread.tolist()}))
