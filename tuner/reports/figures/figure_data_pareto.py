"""The first metric against each of the others, and the Pareto front. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tuner.common.metrics import METRICS
from tuner.reports.figures.figure_data import OUTCOMES, spread
from tuner.reports.figures.figure_data_cost import cheapest_front
from tuner.reports.results import Results, ResultStatus


class ParetoPoint(NamedTuple):
    """One trial."""

    trial: int
    status: ResultStatus
    value: float
    """Of the first metric."""
    other: float
    """Of the panel's metric."""
    is_on_front: bool
    """Of all metrics together."""
    is_baseline: bool
    is_winner: bool


class ParetoPanel(NamedTuple):
    """The first metric against another."""

    metric: str
    points: tuple[ParetoPoint, ...]
    """Best by the first metric first."""
    stairs: tuple[tuple[float, float], ...]
    """(other, value) of the trials that none beats in these two, from the cheapest to the best in the first metric."""


class Pareto(NamedTuple):
    """All trials in all metrics."""

    metric: str
    panels: tuple[ParetoPanel, ...]
    on_front: int
    trials: int


def pareto(results: Results) -> Pareto | None:
    """What trials reached in all metrics; None with one metric, and before anything is known in all of them."""
    known = [trial for trial in results.ranked if len(trial.values) == len(results.metrics)]
    if not results.front:
        return None
    kept = {trial.number for trial in spread(known, OUTCOMES)} | {trial.number for trial in results.front}
    winner = results.chosen.number if results.chosen is not None else None
    sign = 1.0 if results.maximise else -1.0
    panels = []
    for metric in results.metrics[1:]:
        points = {
            trial.number: ParetoPoint(
                trial.number, trial.status, trial.values[results.metric], trial.values[metric],
                bool(trial.is_on_front), trial.is_baseline, trial.number == winner,
            )
            for trial in known
        }  # fmt: skip
        turn = 1.0 if METRICS[metric] == "min" else -1.0
        best = cheapest_front([(turn * point.other, sign * point.value, point.trial) for point in points.values()])
        shown = tuple(point for number, point in points.items() if number in kept)
        panels.append(ParetoPanel(metric, shown, tuple((points[one].other, points[one].value) for one in best)))
    return Pareto(results.metric, tuple(panels), len(results.front), len(known))
