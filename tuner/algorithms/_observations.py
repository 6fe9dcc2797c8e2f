"""Values of trials after so many epochs, as observations for a model that learns from stopped trials too. Pure.

Epochs at which trials came to rest (stopped, or paused at a rung) are the levels; a trial is observed at every level
that it reached. Values become ranks, and ranks normal scores, so that neither the metric's scale nor an outlier
matters; what epochs alone bring is taken off, estimated from the trials seen at both of two neighbouring levels.

A study with reported epochs has one value per trial in Optuna. Metrics after the first are user attributes: of the
study, their names and directions; of a trial, their values; one target is made of several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tuner.algorithms.tpe import ENDED_BY_ITSELF, FAILED, PAUSED
from tuner.common.metrics import Mode, chebyshev, epoch_objectives, metric_of, oriented

OTHER_METRICS = "other_metrics"
"""User attribute: of a study, the names of the metrics after the first; of a trial, the value of each that is known."""
GROWTH = 1.5
"""Levels are at least this factor apart: schedulers that stop at any epoch would make one of each."""


class Observations(NamedTuple):
    """Observations of trials, as arrays of one length."""

    owner: np.ndarray
    """int: the place of the trial in the sequence that was given."""
    level: np.ndarray
    """int: how many levels lie below that of this value."""
    target: np.ndarray
    """float: larger is better; mean and variance of all are about 0 and 1."""

    def taken(self, places: Sequence[int] | np.ndarray) -> Observations:
        """Return the observations at these places."""
        return Observations(self.owner[places], self.level[places], self.target[places])


class Evidence(NamedTuple):
    """The values that one trial has shown, and how it stands."""

    curve: Mapping[int, float]
    """Value by epoch; only finite values."""
    has_failed: bool
    """It failed, or ended with a value that is no number."""
    has_ended: bool
    """It came to its own end, and would have shown nothing better later."""
    was_held: bool
    """A scheduler or a budget made it stop or wait."""
    is_running: bool

    @property
    def is_informative(self) -> bool:
        """Whether there is anything to learn from it."""
        return self.has_failed or bool(self.curve)

    @property
    def is_unknown(self) -> bool:
        """Whether it runs and has shown nothing yet: others should keep away from its place."""
        return self.is_running and not self.is_informative


def evidence_of(trial: FrozenTrial) -> Evidence:
    """Return the values of a trial; a complete one without reported epochs has its value at epoch 1."""
    state, attributes = trial.state, trial.user_attrs
    curve = {epoch: value for epoch, value in trial.intermediate_values.items() if math.isfinite(value)}
    is_complete = state == TrialState.COMPLETE
    if not curve and is_complete and trial.value is not None and math.isfinite(trial.value):
        curve = {1: trial.value}
    has_failed = bool(attributes.get(FAILED)) or state == TrialState.FAIL or (is_complete and not curve)
    has_ended = is_complete or bool(attributes.get(ENDED_BY_ITSELF))
    rests = state.is_finished() or bool(attributes.get(PAUSED))
    return Evidence(curve, has_failed, has_ended, rests and not has_ended and not has_failed, not rests)


def levels_of(shown: Sequence[Evidence]) -> list[int]:
    """Return the epochs at which trials are compared, ascending."""
    lasts = [(max(one.curve), one.was_held) for one in shown if one.curve and not one.has_failed]
    furthest = max((last for last, _ in lasts), default=None)
    levels: list[int] = []
    for epoch in sorted({last for last, was_held in lasts if was_held or last == furthest}, reverse=True):
        if not levels or epoch * GROWTH <= levels[-1]:
            levels.append(epoch)
    return levels[::-1]


def observe(shown: Sequence[Evidence], *, mode: Mode) -> Observations:
    """Return all observations of informative trials; failed ones are worse than all, at the lowest level."""
    levels = levels_of(shown)
    seen: list[tuple[int, int, float]] = []
    for place, one in enumerate(shown):
        if one.has_failed:
            seen.append((place, 0, -math.inf))
        else:
            seen += [(place, reached, oriented(value, mode)) for reached, value in _at_levels(one, levels)]
    owner, level = (np.array([one[column] for one in seen], dtype=int) for column in (0, 1))
    scores = normal_scores(np.array([one[2] for one in seen]))
    targets = scores - _gains_of_epochs(owner, level, scores)[level]
    return Observations(owner, level, targets / (float(targets.std()) or 1.0))


def _at_levels(shown: Evidence, levels: Sequence[int]) -> list[tuple[int, float]]:
    """Return (level, value) wherever a trial can be compared.

    One that ended by itself counts at the top; one that was stopped before the first level counts there.
    """
    curve = shown.curve
    found = [(level, curve[epoch]) for level, epoch in enumerate(levels) if epoch in curve]
    if not curve or (found and not shown.has_ended):
        return found
    last = max(curve)
    if shown.has_ended and last < levels[-1]:
        found.append((len(levels) - 1, curve[last]))
    return found or [(0, curve[last])]


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return the normal quantiles of ranks (Blom 1958), float [n]; equal values share theirs.

    >>> normal_scores(np.array([0.1, 0.9, 0.9, 0.5])).round(2).tolist()
    [-1.05, 0.63, 0.63, -0.3]
    """
    from scipy.special import ndtri  # here, since its import takes longer than those of most of what is ours

    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    scores: np.ndarray = ndtri((ranks[place] - 0.375) / (len(values) + 0.25))
    return scores


def _gains_of_epochs(owner: np.ndarray, level: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return for each level the expected score of a trial that is average at the lowest, float [levels]."""
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
    """Return at most `number` indices of observations to keep: half are high and good, the rest spread over all."""
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


def with_measured(
    known: Mapping[str, float], measured: Mapping[str, Any], others: Sequence[str], *, is_new_best: bool
) -> dict[str, float]:
    """Return the other metrics of a trial after one more epoch.

    A metric of every epoch counts at the epoch of the best value, which has the weights that are kept; of a fact of the
    trial, the first measurement stands.
    """
    found = dict(known)
    for name in others:
        value, is_newer = measured.get(name), name not in found or (name in epoch_objectives() and is_new_best)
        if is_newer and value is not None and math.isfinite(value):
            found[name] = float(value)
    return found


_DIRECTIONS: dict[Mode, StudyDirection] = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}


def direction_of(mode: Mode) -> StudyDirection:
    """Return Optuna's name of a mode."""
    return _DIRECTIONS[mode]


def mode_of(study: Study) -> Mode:
    """Return whether a study looks for the largest or the smallest value of its first metric."""
    return next(mode for mode, direction in _DIRECTIONS.items() if direction == study.direction)


def directions_of(study: Study) -> list[StudyDirection]:
    """Return the directions of all metrics of a study, the first one's first."""
    return [study.direction, *(direction_of(metric_of(name).mode) for name in study.user_attrs.get(OTHER_METRICS, ()))]


def reached(study: Study, trial: FrozenTrial) -> list[float] | None:
    """Return the values of all metrics that a trial reached, the first one's first; None where one is not known."""
    curve, others = evidence_of(trial).curve, trial.user_attrs.get(OTHER_METRICS, {})
    names = study.user_attrs.get(OTHER_METRICS, ())
    if not curve or any(name not in others for name in names):
        return None
    return [curve[max(curve)], *(others[name] for name in names)]


def scalarised(
    study: Study, trials: Sequence[FrozenTrial], observations: Observations, generator: np.random.Generator
) -> Observations:
    """Return the observations with all metrics in their targets (Chebyshev scalarisation, random weights).

    Weights are drawn anew for each suggestion (Knowles 2006, ParEGO), so that suggestions spread over the front.
    Every metric counts by its normal scores. `trials` are those of `observations.owner`; a failed one is the worst in
    everything, one of which a metric is not known is average there. With one metric, nothing is drawn or changed.
    """
    names = study.user_attrs.get(OTHER_METRICS, ())
    if not names or not len(observations.target):
        return observations
    columns = [observations.target, *(_scores(name, trials)[observations.owner] for name in names)]
    utilities = chebyshev(np.stack(columns, axis=1), generator.dirichlet(np.ones(len(columns))))
    spread = float(utilities.std()) or 1.0
    return observations._replace(target=(utilities - utilities.mean()) / spread)


def _scores(name: str, trials: Sequence[FrozenTrial]) -> np.ndarray:
    """Return normal scores of one metric, float [trials]; larger is better."""
    mode = metric_of(name).mode
    values = [one.user_attrs.get(OTHER_METRICS, {}).get(name) for one in trials]
    has_failed = np.array([evidence_of(one).has_failed for one in trials])
    signed = np.array([math.nan if value is None else oriented(value, mode) for value in values])
    signed[has_failed] = -math.inf
    known = ~np.isnan(signed)
    scores = np.zeros(len(trials))
    scores[known] = normal_scores(signed[known])
    return scores
