"""What the figures show, computed before anything is drawn. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from tuner.common.intervals import median_interval
from tuner.reports.formatting import format_value, shortened
from tuner.reports.results import Outcome, Results, ResultStatus, TrajectoryPoint, TrialResult, outcomes, trajectory
from tuner.runs.events import Epoch

HIGHLIGHTED = 10
"""Trials whose curves are told apart."""
FAINT = 100
"""Curves behind them; more would be one grey area, and a file of many megabytes."""
OUTCOMES = 500
"""Dots in a figure: evenly taken over the ranking where there are more trials."""
GROUPS = 24
"""Settings compared in one figure; more would not be legible."""


class Curve(NamedTuple):
    """One trial's validation values, epoch by epoch."""

    trial: int
    rank: int
    label: str
    best: float
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    unfrozen_at: int | None
    """First epoch with blocks of the backbone unfrozen."""
    is_baseline: bool


class LearningCurves(NamedTuple):
    """The best trials' curves by rank, the rest, and how many trials the rest stands for."""

    metric: str
    best: tuple[Curve, ...]
    rest: tuple[Curve, ...]
    rest_total: int


class WinnerCurves(NamedTuple):
    """Accuracy and loss of the winner in training and validation, over both phases."""

    trial: int
    label: str
    metric: str
    value: float
    best_epoch: int
    unfrozen_at: int | None
    epochs: tuple[int, ...]
    accuracy: tuple[float, ...]
    val_accuracy: tuple[float, ...]
    loss: tuple[float, ...]
    val_loss: tuple[float, ...]


class BestSoFar(NamedTuple):
    """The improvements of a search, what came of each trial, and where the search is now."""

    metric: str
    points: tuple[TrajectoryPoint, ...]
    outcomes: tuple[Outcome, ...]
    baseline: float | None
    elapsed_s: float
    epochs: int


class Dot(NamedTuple):
    """One trial's best value."""

    trial: int
    status: ResultStatus
    value: float


class Group(NamedTuple):
    """The trials that share one setting; without a best value and a median when none of them has a result."""

    label: str
    dots: tuple[Dot, ...]
    """By rank."""
    best: float | None
    median: float | None
    interval: tuple[float, float] | None
    """Of the median, 95%; None with fewer than six results."""
    trials: int
    """With a result."""
    failed: int


class Groups(NamedTuple):
    """Trials by one hyperparameter, the group with the best trial first, those without a result last."""

    metric: str
    hyperparameter: str
    groups: tuple[Group, ...]
    left_out: int
    """Groups for which there was no room."""
    baseline: float | None

    @property
    def what(self) -> str:
        """The hyperparameter in words."""
        return "preprocessing" if self.hyperparameter == "preprocess" else self.hyperparameter


def learning_curves(results: Results) -> LearningCurves | None:
    """The best trials' curves, the baseline's among them, and a sample of the rest; None without an epoch."""
    drawable = [trial for trial in results.ranked if _finite(trial, results.metric)]
    if not drawable:
        return None
    best = drawable[:HIGHLIGHTED] + [trial for trial in drawable[HIGHLIGHTED:] if trial.is_baseline]
    rest = [trial for trial in drawable[HIGHLIGHTED:] if not trial.is_baseline]
    return LearningCurves(
        metric=results.metric,
        best=tuple(_curve(trial, results.metric) for trial in best),
        rest=tuple(_curve(trial, results.metric) for trial in spread(rest, FAINT)),
        rest_total=len(rest),
    )


def _finite(trial: TrialResult, metric: str) -> list[Epoch]:
    return [epoch for epoch in trial.epochs if math.isfinite(getattr(epoch, metric))]


def _curve(trial: TrialResult, metric: str) -> Curve:
    epochs = _finite(trial, metric)
    mark = ", baseline" if trial.is_baseline else ""
    name = f" {_architecture(trial)}" if trial.architecture else ""
    return Curve(
        trial=trial.number,
        rank=trial.rank or 0,
        label=f"{trial.rank}. trial {trial.number}{name}{mark}: {format_value(metric, trial.best)}",
        best=trial.best or 0.0,
        epochs=tuple(epoch.epoch for epoch in epochs),
        values=tuple(getattr(epoch, metric) for epoch in epochs),
        unfrozen_at=_unfrozen_at(epochs),
        is_baseline=trial.is_baseline,
    )


def _architecture(trial: TrialResult) -> str:
    """The architecture's name as a title or a legend can hold it."""
    return shortened(trial.architecture, 40)


def _unfrozen_at(epochs: Sequence[Epoch]) -> int | None:
    """The first epoch of fine-tuning; None when nothing was unfrozen."""
    return next((epoch.epoch for epoch in epochs if epoch.phase == "fine_tune"), None)


def spread(trials: Sequence[TrialResult], number: int) -> list[TrialResult]:
    """At most `number` of the trials, evenly over their order, the first among them."""
    if len(trials) <= number:
        return list(trials)
    return [trials[index * len(trials) // number] for index in range(number)]


def winner_curves(results: Results) -> WinnerCurves | None:
    """The training of the trial that is exported; None without one."""
    winner = results.chosen
    if winner is None or winner.best is None or winner.best_epoch is None:
        return None
    name = f" ({_architecture(winner)})" if winner.architecture else ""
    values = {
        name: tuple(getattr(epoch, name) for epoch in winner.epochs)
        for name in ("accuracy", "val_accuracy", "loss", "val_loss")
    }
    return WinnerCurves(
        trial=winner.number,
        label=f"trial {winner.number}{name}",
        metric=results.metric,
        value=winner.best,
        best_epoch=winner.best_epoch.epoch,
        unfrozen_at=_unfrozen_at(winner.epochs),
        epochs=tuple(epoch.epoch for epoch in winner.epochs),
        **values,
    )


def best_so_far(results: Results) -> BestSoFar | None:
    """The search's progress; None before anything was better than nothing."""
    points = trajectory(results)
    if not points:
        return None
    by_trial = {outcome.trial: outcome for outcome in outcomes(results)}
    order = [*results.ranked, *results.failed]
    improved = {point.trial for point in points}
    rest = spread([trial for trial in order if trial.number not in improved], OUTCOMES)
    shown = sorted({trial.number for trial in rest} | improved)
    return BestSoFar(
        metric=results.metric,
        points=points,
        outcomes=tuple(by_trial[number] for number in shown),
        baseline=_baseline(results),
        elapsed_s=max(results.finalists_from_s or results.elapsed_s, points[-1].elapsed_s),
        epochs=results.total_epochs,
    )


def by_architecture(results: Results) -> Groups | None:
    """Trials by architecture; None without a result."""
    return _groups(results, "architecture")


def by_preprocessing(results: Results) -> Groups | None:
    """Trials by preprocessing variant; None when there are not at least two to compare."""
    groups = _groups(results, "preprocess")
    return groups if groups is not None and len(groups.groups) > 1 else None


def _groups(results: Results, hyperparameter: str) -> Groups | None:
    if results.winner is None:
        return None
    members: dict[str, list[TrialResult]] = {}
    for trial in (*results.ranked, *results.failed):
        members.setdefault(str(trial.configuration.get(hyperparameter, "not set")), []).append(trial)
    groups = [_group(label, trials) for label, trials in members.items()]
    return Groups(
        metric=results.metric,
        hyperparameter=hyperparameter,
        groups=tuple(groups[:GROUPS]),
        left_out=max(0, len(groups) - GROUPS),
        baseline=_baseline(results),
    )


def _group(label: str, trials: Sequence[TrialResult]) -> Group:
    """The group of `trials`, which come by rank, the failed ones last."""
    ranked = [trial for trial in trials if trial.rank is not None]
    values = [trial.best for trial in ranked if trial.best is not None]
    return Group(
        label=label,
        dots=tuple(Dot(trial.number, trial.status, trial.best or 0.0) for trial in spread(ranked, OUTCOMES)),
        best=values[0] if values else None,
        median=median(values) if values else None,
        interval=median_interval(values),
        trials=len(ranked),
        failed=len(trials) - len(ranked),
    )


def _baseline(results: Results) -> float | None:
    """The baseline's value, if it has one that counts."""
    baseline = results.baseline
    return baseline.best if baseline is not None and baseline.rank is not None else None
