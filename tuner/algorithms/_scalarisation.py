"""Metrics after the first in an Optuna study of ours: where they are kept, and one target made of several. Pure.

A study with reported epochs has one value per trial in Optuna. The other metrics are user attributes: of the study,
their names and directions; of a trial, their values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from tuner.algorithms._observations import Observations, evidence_of, normal_scores
from tuner.common.metrics import Mode, chebyshev, epoch_objectives, metric_of, oriented

OTHER_METRICS = "other_metrics"
"""User attribute: of a study, the names of the metrics after the first; of a trial, the value of each that is known."""


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
