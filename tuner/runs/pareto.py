"""The Pareto front of a run: the values of each trial in all metrics, and the trials that no other beats. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tuner.common.metrics import epoch_objectives, front, most_volume, oriented_points, shares_beaten
from tuner.runs.state import RunState, TrialState


def metrics_of(state: RunState) -> tuple[str, ...]:
    """Return all metrics that the study optimises, the one that the scheduler compares first."""
    return state.study.all_metrics if state.study is not None else ()


def measured_values(trial: TrialState, metrics: tuple[str, ...]) -> dict[str, float]:
    """Return a trial's known values of a study's `metrics`; of the first metric, the best one."""
    first = {metrics[0]: trial.best} if metrics and trial.best is not None and math.isfinite(trial.best) else {}
    return {**first, **other_values(trial, metrics[1:])}


def other_values(trial: TrialState, others: tuple[str, ...]) -> dict[str, float]:
    """Return a trial's known values of the metrics after the first.

    A metric of every epoch has its value from the epoch of the best value: the weights that are kept are those.
    """
    values: dict[str, float | None] = {}
    for metric in others:
        if metric in epoch_objectives():
            at = next((epoch for epoch in trial.epochs if epoch.best_so_far == trial.best), None)
            values[metric] = None if at is None else at.metrics.get(metric)
        else:
            values[metric] = None if trial.measured is None else getattr(trial.measured, metric)
    return {metric: value for metric, value in values.items() if value is not None and math.isfinite(value)}


def comparable_values(state: RunState) -> dict[int, dict[str, float]]:
    """Return the values of trials by number, of those that have not failed and have a value in every metric."""
    metrics = metrics_of(state)
    found = {trial.number: measured_values(trial, metrics) for trial in state.trials.values()}
    return {
        number: values
        for number, values in sorted(found.items())
        if values and len(values) == len(metrics) and state.trials[number].status != "failed"
    }


def pareto_front(values: Mapping[int, Mapping[str, float]], metrics: tuple[str, ...]) -> tuple[int, ...]:
    """Return the trials that no other dominates, the best in the first metric first."""
    numbers = list(values)
    return tuple(numbers[place] for place in front(_points(values, metrics)))


def front_finalists(state: RunState, count: int) -> tuple[int, ...]:
    """Return at most `count` trials of the front: the best in the first metric, then those adding most volume.

    In each metric a trial counts with the share of trials that it is no worse than, so that units do not matter, and
    what is at the end of one metric only because it is worthless in another adds next to nothing.
    """
    values, metrics = comparable_values(state), metrics_of(state)
    points = _points(values, metrics)
    places = front(points)
    if count < 1 or not len(places):
        return ()
    numbers = list(values)
    chosen = most_volume(shares_beaten(points)[places], count)
    return tuple(numbers[places[place]] for place in chosen)


def _points(values: Mapping[int, Mapping[str, float]], metrics: tuple[str, ...]) -> np.ndarray:
    return oriented_points(np.array([[own[metric] for metric in metrics] for own in values.values()]), metrics)
