"""Figures drawn from their data; `figure_data` says what is in them, `picture` how they look."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from tuner.reports.figures.figure_data import BestSoFar, Curve, Dot, Group, Groups, LearningCurves, WinnerCurves
from tuner.reports.figures.style import (
    BLACK,
    BLUE,
    FAINT,
    GREY,
    MARKS,
    VERMILLION,
    build_figure,
    build_handle,
    set_epoch_axis,
    set_legend,
    set_metric_axis,
    set_title,
    time_unit,
)
from tuner.reports.formatting import capital, format_value, metric_words
from tuner.reports.results import Outcome, ResultStatus

DASHED = (0, (4, 2))
MANY = 300
"""From here on, marks are drawn as pixels in vector files, and see-through."""


def draw_learning_curves(data: LearningCurves) -> Figure:
    """Metric by epoch: the best trials in colour by rank, the others faint, unfreezing marked."""
    figure, (panel,) = build_figure(10.5, 5.2)
    lines = [list(zip(curve.epochs, curve.values, strict=True)) for curve in data.rest]
    panel.add_collection(LineCollection(lines, colors=FAINT, linewidths=0.8, zorder=1, rasterized=len(lines) > 50))
    drawn = [_draw_curve(panel, curve, index, len(data.best)) for index, curve in enumerate(data.best)]
    set_metric_axis(panel, "y", data.metric, [value for curve in (*data.best, *data.rest) for value in curve.values])
    set_epoch_axis(panel)
    _draw_ranks(panel, data.best, [line.get_color() for line in drawn])
    if data.rest:
        drawn.append(Line2D([], [], color=FAINT, linewidth=0.8, label=_rest_words(data)))
    if any(curve.unfrozen_at in curve.epochs for curve in data.best):
        drawn.append(build_handle("o", "white", BLACK, "blocks unfrozen"))
    set_legend(figure, drawn)
    set_title(figure, f"{capital(metric_words(data.metric))} by epoch, the best trials")
    return figure


def _rest_words(data: LearningCurves) -> str:
    if len(data.rest) < data.rest_total:
        return f"{len(data.rest)} of {data.rest_total:,} others"
    return f"{data.rest_total} other{'' if data.rest_total == 1 else 's'}"


def _draw_curve(panel: Any, curve: Curve, index: int, number: int) -> Line2D:
    """One curve: the winner in vermillion, the others from dark to light by rank, the baseline black and dashed."""
    shade = mpl.colormaps["viridis"](0.05 + 0.7 * (index - 1) / max(1, number - 2)) if index else VERMILLION
    color = BLACK if curve.is_baseline and index else shade
    line: Line2D
    (line,) = panel.plot(
        curve.epochs,
        curve.values,
        color=color,
        linewidth=2.6 if index == 0 else 1.5,
        linestyle=DASHED if curve.is_baseline else "-",
        marker="o" if len(curve.epochs) == 1 else None,
        label=curve.label,
        zorder=30 - index,  # the better, the nearer
    )
    if curve.unfrozen_at in curve.epochs:
        value = curve.values[curve.epochs.index(curve.unfrozen_at)]
        panel.plot([curve.unfrozen_at], [value], "o", mfc="white", mec=color, ms=6, mew=1.6, zorder=40)
    return line


def _draw_ranks(panel: Any, curves: Sequence[Curve], colors: Sequence[Any]) -> None:
    """Each curve's rank behind its last epoch; where several end together, one above the other."""
    panel.autoscale_view()  # the limits must stand before places in them can be told
    to_axes = (panel.transScale + panel.transLimits).transform
    columns: dict[int, list[tuple[float, int]]] = {}
    for index, curve in enumerate(curves):
        x, y = to_axes((curve.epochs[-1], curve.values[-1]))
        columns.setdefault(round(100 * float(x)), []).append((float(y), index))
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for x, ends in columns.items():  # in hundredths of the width
        ends.sort()
        for y, (_, index) in zip(spread_apart([y for y, _ in ends], 0.034), ends, strict=True):
            panel.text(x / 100 + 0.01, y, curves[index].rank, transform=panel.transAxes, color=colors[index],
                       fontsize=9, fontweight="bold", va="center", zorder=50, path_effects=halo)  # fmt: skip


def spread_apart(places: Sequence[float], distance: float) -> list[float]:
    """Ascending `places` moved as a whole and from each other until neighbours are at least `distance` apart.

    >>> [round(place, 3) for place in spread_apart([0.5, 0.5, 0.9], 0.1)]
    [0.467, 0.567, 0.867]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + distance) if moved else place)
    shift = (sum(places) - sum(moved)) / max(1, len(places))
    return [place + shift for place in moved]


def draw_winner(data: WinnerCurves) -> Figure:
    """Accuracy and loss of the winner, both phases in one picture."""
    figure, panels = build_figure(10.5, 4.6, 2)
    shown = (("accuracy", data.accuracy, data.val_accuracy), ("loss", data.loss, data.val_loss))
    for panel, (name, train, validation) in zip(panels, shown, strict=True):
        marker = "o" if len(data.epochs) == 1 else None
        panel.plot(data.epochs, train, color=BLUE, linewidth=1.8, linestyle=DASHED, marker=marker)
        panel.plot(data.epochs, validation, color=VERMILLION, linewidth=2.2, marker=marker)
        best = validation[data.epochs.index(data.best_epoch)]
        panel.plot([data.best_epoch], [best], "*", color=VERMILLION, mec=BLACK, mew=0.6, ms=14, zorder=5)
        set_metric_axis(panel, "y", name, [*train, *validation], log_from=50)
        set_epoch_axis(panel)
        if data.unfrozen_at is not None:
            _draw_phases(panel, data.epochs, data.unfrozen_at)
    handles = [
        Line2D([], [], color=BLUE, linewidth=1.8, linestyle=DASHED, label="training"),
        Line2D([], [], color=VERMILLION, linewidth=2.2, label="validation"),
        build_handle("*", VERMILLION, BLACK, f"best epoch: {data.best_epoch}", 12),
    ]
    set_legend(figure, handles, below=True)
    value = f"{metric_words(data.metric)} {format_value(data.metric, data.value)}"
    set_title(figure, f"{capital(data.label)}: {value}")
    return figure


def _draw_phases(panel: Any, epochs: Sequence[int], unfrozen_at: int) -> None:
    """Shade the epochs with blocks unfrozen and name both phases above the data."""
    left, right = min(epochs) - 0.5, max(epochs) + 0.5
    border = max(left, unfrozen_at - 0.5)
    panel.axvspan(border, right, color=BLUE, alpha=0.07, linewidth=0, zorder=0)
    panel.axvline(border, color=GREY, linewidth=1, linestyle=":")
    panel.set_xlim(left, right)
    for start, end, name in ((left, border, "head"), (border, right, "blocks unfrozen")):
        if (end - start) / (right - left) > 0.018 * len(name):
            middle = (start + end) / 2
            panel.text(middle, 1.01, name, transform=panel.get_xaxis_transform(), color=GREY, ha="center", va="bottom")


def draw_best_so_far(data: BestSoFar) -> Figure:
    """Best so far against time and against epochs, each trial's result as a mark."""
    figure, (by_time, by_epochs) = build_figure(10.5, 4.8, 2, share_y=True)
    unit, unit_s = time_unit(data.elapsed_s)
    times = [point.elapsed_s / unit_s for point in data.points]
    _draw_steps(by_time, data, times, data.elapsed_s / unit_s)
    _draw_steps(by_epochs, data, [point.epochs for point in data.points], data.epochs)
    for status in MARKS:
        found = [outcome for outcome in data.outcomes if outcome.status == status]
        _draw_outcomes(by_time, status, found, [outcome.elapsed_s / unit_s for outcome in found])
        _draw_outcomes(by_epochs, status, found, [outcome.epochs for outcome in found])
    values = [outcome.value for outcome in data.outcomes if outcome.value is not None and outcome.status != "failed"]
    set_metric_axis(by_time, "y", data.metric, values)
    by_time.set_xlabel(f"time ({unit})")
    by_epochs.set_xlabel("epochs trained, all trials together")
    by_epochs.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    lines = [Line2D([], [], color=BLACK, linewidth=2, label="best so far")]
    if data.baseline is not None:
        lines.append(Line2D([], [], color=GREY, linewidth=1.2, linestyle=DASHED, label="baseline"))
    set_legend(figure, [*lines, *_status_handles({outcome.status for outcome in data.outcomes})], below=True)
    last = data.points[-1]
    value = f"{metric_words(data.metric)} {format_value(data.metric, last.best)}"
    set_title(figure, f"Best so far: {value}, by trial {last.trial}")
    return figure


def _draw_steps(panel: Any, data: BestSoFar, places: Sequence[float], end: float) -> None:
    """The best value as a staircase up to where the search is now, and the baseline's value."""
    bests = [point.best for point in data.points]
    panel.step([*places, max(end, places[-1])], [*bests, bests[-1]], where="post", color=BLACK, linewidth=2, zorder=3)
    if data.baseline is not None:
        panel.axhline(data.baseline, color=GREY, linewidth=1.2, linestyle=DASHED, zorder=2)
    panel.set_xlim(left=0)


def _draw_outcomes(panel: Any, status: ResultStatus, found: Sequence[Outcome], places: Sequence[float]) -> None:
    """A mark for each trial at its value; failed ones have none that counts and stand at the foot."""
    if not found:
        return  # an empty line that is not clipped would be laid out as a mark in the figure's corner
    marker, face, edge = MARKS[status]
    style: dict[str, Any] = {"marker": marker, "mfc": face, "mec": edge, "ms": 5.5, "mew": 1.4, "linestyle": "none"}
    if len(found) > MANY:
        style |= {"alpha": 0.5, "rasterized": True}
    if status == "failed":
        foot = panel.get_xaxis_transform()
        panel.plot(places, [0.0] * len(found), transform=foot, clip_on=False, zorder=5, **style)
        return
    valued = [(place, outcome.value) for place, outcome in zip(places, found, strict=True) if outcome.value is not None]
    panel.plot([place for place, _ in valued], [value for _, value in valued], zorder=4, **style)


def _status_handles(statuses: set[ResultStatus]) -> list[Line2D]:
    names = {"failed": "failed (no value)"}
    return [build_handle(*MARKS[status], names.get(status, status)) for status in MARKS if status in statuses]


def draw_groups(data: Groups) -> Figure:
    """Each trial's best value by one hyperparameter: a strip per setting, its median as a bar."""
    labels = [_group_label(group) for group in data.groups]
    figure, (panel,) = build_figure(10.5, 2.2 + sum(0.34 + 0.16 * label.count("\n") for label in labels))
    for row, group in enumerate(data.groups):
        _draw_strip(panel, row, group.dots)
        if group.interval is not None:
            panel.plot(group.interval, [row, row], color=BLACK, linewidth=5, alpha=0.3, solid_capstyle="butt", zorder=2)
        if group.median is not None and group.trials > 1:
            panel.plot([group.median] * 2, [row - 0.32, row + 0.32], color=BLACK, linewidth=2.6, zorder=3)
    if data.baseline is not None:
        panel.axvline(data.baseline, color=GREY, linewidth=1.2, linestyle=DASHED, zorder=2)
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)
    set_metric_axis(panel, "x", data.metric, [dot.value for group in data.groups for dot in group.dots])
    handles = _status_handles({dot.status for group in data.groups for dot in group.dots})
    if any(group.trials > 1 for group in data.groups):
        handles.append(build_handle("|", BLACK, BLACK, "median", 12))
    if any(group.interval is not None for group in data.groups):
        handles.append(Line2D([], [], color=BLACK, linewidth=5, alpha=0.3, label="its 95% interval"))
    if data.baseline is not None:
        handles.append(Line2D([], [], color=GREY, linewidth=1.2, linestyle=DASHED, label="baseline"))
    set_legend(figure, handles)
    more = f" ({data.left_out} more left out)" if data.left_out else ""
    set_title(figure, f"Best {metric_words(data.metric)} of each trial, by {data.what}{more}")
    return figure


def _group_label(group: Group) -> str:
    failed = f", {group.failed} failed" if group.failed else ""
    name = textwrap.fill(group.label, 34, max_lines=3, placeholder=" ...")
    return f"{name}\n{group.trials} trial{'' if group.trials == 1 else 's'}{failed}"


def _draw_strip(panel: Any, row: int, dots: Sequence[Dot]) -> None:
    """Marks on a line, moved off it a little where there are several, always in the same way."""
    spread = min(0.22, 0.03 * len(dots)) if len(dots) > 1 else 0.0
    heights = row + np.random.default_rng(row).uniform(-spread, spread, len(dots))
    for status, (marker, face, edge) in MARKS.items():
        shown = [(dot.value, height) for dot, height in zip(dots, heights, strict=True) if dot.status == status]
        style = {"alpha": 0.5, "rasterized": True} if len(dots) > MANY else {}
        panel.plot([value for value, _ in shown], [height for _, height in shown], marker, mfc=face, mec=edge, ms=5.5,
                   mew=1.4, zorder=4, **style)  # fmt: skip
