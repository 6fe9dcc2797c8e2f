"""Values by epoch: the learning curves of the best trials, and the training of the one that is exported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from tuner.common.metrics import asked_values
from tuner.common.words import counted
from tuner.reports.figures import style
from tuner.reports.formatting import capital, format_value, metric_words, shortened
from tuner.reports.results import Results, TrialResult
from tuner.runs.epoch import Epoch

HIGHLIGHTED = 10
"""Trials whose curves are told apart."""
BEHIND = 100
"""Curves behind them; more would be one grey area, and a file of many megabytes."""


class CurveTrial(NamedTuple):
    """A trial that has a curve."""

    trial: int
    rank: int
    architecture: str
    """Empty when its configuration names none."""
    best: float
    unfrozen_at: int | None
    """First epoch with blocks of the backbone unfrozen."""
    is_baseline: bool
    is_highlighted: bool


class EpochValue(NamedTuple):
    """A trial's value of the metric after one epoch."""

    trial: int
    epoch: int
    value: float


class LearningCurves(NamedTuple):
    """The best trials and a sample of the others, with their values by epoch."""

    metric: str
    trials: tuple[CurveTrial, ...]
    """By rank, the highlighted ones first."""
    epochs: tuple[EpochValue, ...]
    """Points of one trial after another; epochs whose value is no finite number are left out."""
    left_out: int
    """Trials for which there was no room."""


def build_learning_curves(results: Results) -> LearningCurves | None:
    """Return the curves of the best trials, the baseline and a sample of the others; None without an epoch."""
    drawable = [trial for trial in results.ranked if _finite_epochs(trial, results.metric)]
    if not drawable:
        return None
    best = drawable[:HIGHLIGHTED] + [trial for trial in drawable[HIGHLIGHTED:] if trial.is_baseline]
    others = [trial for trial in drawable[HIGHLIGHTED:] if not trial.is_baseline]
    behind = style.sample_evenly(others, BEHIND)
    metric, shown = results.metric, [*((trial, True) for trial in best), *((trial, False) for trial in behind)]
    epochs = tuple(
        EpochValue(trial.number, epoch.epoch, epoch.metrics[metric])
        for trial, _ in shown
        for epoch in _finite_epochs(trial, metric)
    )
    trials = tuple(_curve_trial(trial, metric, is_highlighted=is_best) for trial, is_best in shown)
    return LearningCurves(metric, trials, epochs, len(others) - len(behind))


def _finite_epochs(trial: TrialResult, metric: str) -> list[Epoch]:
    return [epoch for epoch in trial.epochs if math.isfinite(epoch.metrics.get(metric, math.nan))]


def _curve_trial(trial: TrialResult, metric: str, *, is_highlighted: bool) -> CurveTrial:
    known = (trial.number, trial.rank or 0, trial.architecture, trial.best or 0.0)
    unfrozen_at = _first_fine_tuned(_finite_epochs(trial, metric))
    return CurveTrial(*known, unfrozen_at, is_baseline=trial.is_baseline, is_highlighted=is_highlighted)


def _first_fine_tuned(epochs: Sequence[Epoch]) -> int | None:
    """Return the first epoch of fine-tuning; None when nothing was unfrozen."""
    return next((epoch.epoch for epoch in epochs if epoch.phase == "fine_tune"), None)


Curve = list[tuple[int, float]]
"""Epochs and values of one trial."""


def draw_learning_curves(data: LearningCurves) -> Figure:
    """Draw the metric by epoch: the best trials in colour by rank, the others faint, unfreezing marked."""
    figure, (panel,) = style.build_figure(10.5, 5.2)
    curves = _curves_by_trial(data)
    best = [trial for trial in data.trials if trial.is_highlighted]
    behind = [curves[trial.trial] for trial in data.trials if not trial.is_highlighted]
    panel.add_collection(
        LineCollection(behind, colors=style.FAINT, linewidths=0.8, zorder=1, rasterized=len(behind) > 50)
    )
    if points := [curve[0] for curve in behind if len(curve) == 1]:  # of which a line shows nothing
        panel.plot(*zip(*points, strict=True), "o", color=style.FAINT, ms=3, zorder=1)
    handles = [
        _draw_curve(panel, data.metric, trial, curves[trial.trial], index, len(best))
        for index, trial in enumerate(best)
    ]
    style.set_metric_axis(panel, "y", data.metric, [row.value for row in data.epochs])
    style.set_epoch_axis(panel)
    _draw_ranks(panel, best, curves, [line.get_color() for line in handles])
    if behind:
        number = len(behind) + data.left_out
        words = f"{len(behind)} of {number:,} others" if data.left_out else counted(number, "other")
        handles.append(Line2D([], [], color=style.FAINT, linewidth=0.8, label=words))
    if any(trial.unfrozen_at is not None for trial in best):
        handles.append(style.build_handle("o", "white", style.BLACK, "blocks unfrozen"))
    style.set_legend(figure, handles)
    style.set_title(figure, f"{capital(metric_words(data.metric))} by epoch, the best trials")
    return figure


def _curves_by_trial(data: LearningCurves) -> dict[int, Curve]:
    curves: dict[int, Curve] = {trial.trial: [] for trial in data.trials}
    for row in data.epochs:
        curves[row.trial].append((row.epoch, row.value))
    return curves


def _draw_curve(panel: Any, metric: str, trial: CurveTrial, curve: Curve, index: int, number: int) -> Line2D:
    """Draw one curve: the winner in vermillion, the others from dark to light by rank, the baseline black, dashed."""
    shade = mpl.colormaps["viridis"](0.05 + 0.7 * (index - 1) / max(1, number - 2)) if index else style.VERMILLION
    color = style.BLACK if trial.is_baseline and index else shade
    architecture = f" {shortened(trial.architecture, 40)}" if trial.architecture else ""
    mark = ", baseline" if trial.is_baseline else ""
    line: Line2D
    (line,) = panel.plot(
        [epoch for epoch, _ in curve],
        [value for _, value in curve],
        color=color,
        linewidth=2.6 if index == 0 else 1.5,
        linestyle=style.DASHED if trial.is_baseline else "-",
        marker="o" if len(curve) == 1 else None,
        label=f"{trial.rank}. trial {trial.trial}{architecture}{mark}: {format_value(metric, trial.best)}",
        zorder=30 - index,  # the better, the nearer
    )
    if trial.unfrozen_at is not None:
        value = dict(curve)[trial.unfrozen_at]
        panel.plot([trial.unfrozen_at], [value], "o", mfc="white", mec=color, ms=6, mew=1.6, zorder=40)
    return line


def _draw_ranks(panel: Any, trials: Sequence[CurveTrial], curves: dict[int, Curve], colors: Sequence[Any]) -> None:
    """Write each trial's rank behind its last epoch; where several end together, one above the other."""
    panel.autoscale_view()  # the limits must stand before places in them can be told
    to_axes = (panel.transScale + panel.transLimits).transform
    columns: dict[int, list[tuple[float, int]]] = {}
    for index, trial in enumerate(trials):
        x, y = to_axes(curves[trial.trial][-1])
        columns.setdefault(round(100 * float(x)), []).append((float(y), index))
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for x, ends in columns.items():  # in hundredths of the width
        ends.sort()
        for y, (_, index) in zip(spread_apart([y for y, _ in ends], 0.034), ends, strict=True):
            panel.text(x / 100 + 0.01, y, trials[index].rank, transform=panel.transAxes, color=colors[index],
                       fontsize=9, fontweight="bold", va="center", zorder=50, path_effects=halo)  # fmt: skip


def spread_apart(places: Sequence[float], distance: float) -> list[float]:
    """Move ascending `places` as a whole and from each other until neighbours are at least `distance` apart.

    >>> [round(place, 3) for place in spread_apart([0.5, 0.5, 0.9], 0.1)]
    [0.467, 0.567, 0.867]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + distance) if moved else place)
    shift = (sum(places) - sum(moved)) / max(1, len(places))
    return [place + shift for place in moved]


def describe_learning_curves(data: LearningCurves) -> str:
    """Say in words what the learning curves show."""
    best = [trial for trial in data.trials if trial.is_highlighted]
    winner = best[0]
    unfrozen = sum(trial.unfrozen_at is not None for trial in best)
    marks = f"; dots mark where {unfrozen} of them unfreeze blocks of their backbone" if unfrozen else ""
    others = len(data.trials) - len(best) + data.left_out
    behind = f", {others} others faint behind them" if others else ""
    epochs = sum(row.trial == winner.trial for row in data.epochs)
    return (
        f"{capital(metric_words(data.metric))} by epoch of the best {counted(len(best), 'trial')}{behind}{marks}. "
        f"The best is trial {winner.trial}, with {format_value(data.metric, winner.best)} "
        f"over {counted(epochs, 'epoch')}."
    )


class WinnerEpoch(NamedTuple):
    """The winner's values after one epoch; None for what was no finite number."""

    epoch: int
    accuracy: float | None
    val_accuracy: float | None
    loss: float | None
    val_loss: float | None
    asked: float | None
    """The study's metric, where it is another one."""


class Winner(NamedTuple):
    """Accuracy and loss of the winner in training and validation, and the study's metric, over both phases."""

    trial: int
    architecture: str
    metric: str
    value: float
    best_epoch: int
    unfrozen_at: int | None
    epochs: tuple[WinnerEpoch, ...]
    told: frozenset[str]
    """The values that there are at all: a training function of one's own need not tell of all."""


def build_winner(results: Results) -> Winner | None:
    """Return the training of the trial that is exported; None without one."""
    winner = results.chosen
    if winner is None or winner.best is None or winner.best_epoch is None:
        return None
    names = [*WinnerEpoch._fields[1:-1], *(asked_values([results.metric]) or [""])]
    epochs = tuple(
        WinnerEpoch(epoch.epoch, *(_finite(epoch.metrics.get(name, math.nan)) for name in names))
        for epoch in winner.epochs
    )
    about = (winner.number, winner.architecture, results.metric, winner.best, winner.best_epoch.epoch)
    told = frozenset(name for epoch in winner.epochs for name in epoch.metrics)
    return Winner(*about, _first_fine_tuned(winner.epochs), epochs, told)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _winner_name(data: Winner) -> str:
    return f"trial {data.trial}" + (f" ({shortened(data.architecture, 40)})" if data.architecture else "")


def draw_winner(data: Winner) -> Figure:
    """Draw accuracy and loss of the winner, and the study's metric where it is another, both phases in one picture."""
    names = ["accuracy", "loss", *asked_values([data.metric])]
    figure, panels = style.build_figure(10.5, 4.6, len(names))
    epochs = [row.epoch for row in data.epochs]
    for panel, name in zip(panels, names, strict=True):
        fields = (name, f"val_{name}") if name != data.metric else (None, "asked")
        train, validation = (
            np.array([getattr(row, field) if field else None for row in data.epochs], dtype=float) for field in fields
        )
        marker = "o" if len(epochs) == 1 else None
        panel.plot(epochs, train, color=style.BLUE, linewidth=1.8, linestyle=style.DASHED, marker=marker)
        panel.plot(epochs, validation, color=style.VERMILLION, linewidth=2.2, marker=marker)
        best = validation[epochs.index(data.best_epoch)]
        panel.plot([data.best_epoch], [best], "*", color=style.VERMILLION, mec=style.BLACK, mew=0.6, ms=14, zorder=5)
        style.set_metric_axis(panel, "y", name, [*train, *validation], log_from=50)
        style.set_epoch_axis(panel)
        if data.unfrozen_at is not None:
            _draw_phases(panel, epochs, data.unfrozen_at)
    handles = [
        Line2D([], [], color=style.BLUE, linewidth=1.8, linestyle=style.DASHED, label="training"),
        Line2D([], [], color=style.VERMILLION, linewidth=2.2, label="validation"),
        style.build_handle("*", style.VERMILLION, style.BLACK, f"best epoch: {data.best_epoch}", 12),
    ]
    style.set_legend(figure, handles, below=True)
    value = f"{metric_words(data.metric)} {format_value(data.metric, data.value)}"
    style.set_title(figure, f"{capital(_winner_name(data))}: {value}")
    return figure


def _draw_phases(panel: Any, epochs: Sequence[int], unfrozen_at: int) -> None:
    """Shade the epochs with blocks unfrozen and name both phases above the data."""
    left, right = min(epochs) - 0.5, max(epochs) + 0.5
    border = max(left, unfrozen_at - 0.5)
    panel.axvspan(border, right, color=style.BLUE, alpha=0.07, linewidth=0, zorder=0)
    panel.axvline(border, color=style.GREY, linewidth=1, linestyle=":")
    panel.set_xlim(left, right)
    for start, end, name in ((left, border, "head"), (border, right, "blocks unfrozen")):
        if (end - start) / (right - left) > 0.018 * len(name):
            middle = (start + end) / 2
            panel.text(
                middle, 1.01, name, transform=panel.get_xaxis_transform(), color=style.GREY, ha="center", va="bottom"
            )


def describe_winner(data: Winner) -> str:
    """Say in words how the winner was trained."""
    unfrozen = f" Blocks of the backbone are unfrozen from epoch {data.unfrozen_at} on." if data.unfrozen_at else ""
    best = next(row for row in data.epochs if row.epoch == data.best_epoch)
    values = ", ".join(
        f"{name} {'not a number' if (value := getattr(best, field)) is None else format_value(metric, value)}"
        for name, metric, field in (
            ("validation accuracy", "val_accuracy", "val_accuracy"),
            ("training accuracy", "accuracy", "accuracy"),
            ("validation loss", "val_loss", "val_loss"),
            ("training loss", "loss", "loss"),
            *((metric_words(name), name, "asked") for name in asked_values([data.metric])),
        )
        if metric in data.told
    )
    return (
        f"Accuracy and loss of {_winner_name(data)} in training and validation over "
        f"{counted(len(data.epochs), 'epoch')}. It is best at epoch {data.best_epoch}: {values}.{unfrozen}"
    )


WINNER = style.FigureKind(build_winner, draw_winner, describe_winner, part="won")
LEARNING_CURVES = style.FigureKind(build_learning_curves, draw_learning_curves, describe_learning_curves, part="won")
