"""Cost and rungs drawn from their data (`figure_data_cost`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from tuner.reports.figures.figure_data_cost import Cost, CostPoint, Flow
from tuner.reports.figures.style import (
    BLACK,
    BLUE,
    FAINT,
    GREY,
    MARKS,
    ORANGE,
    VERMILLION,
    build_figure,
    build_handle,
    set_legend,
    set_log_axis,
    set_metric_axis,
    set_title,
    time_unit,
)
from tuner.reports.formatting import capital, metric_words

KINDS = (
    ("went_on", BLUE, "went on"),
    ("ended", "#7FB8D9", "ended by themselves"),
    ("stopped", ORANGE, "stopped"),
    ("failed", VERMILLION, "failed"),
    ("open", FAINT, "running or unfinished"),
)


def draw_cost(data: Cost) -> Figure:
    """Metric against seconds and against parameters, the Pareto front of each as a line."""
    with_parameters = [point for point in data.points if point.parameters is not None]
    figure, panels = build_figure(10.5, 4.6, 2 if with_parameters else 1, share_y=True)
    unit, unit_s = time_unit(max(point.seconds for point in data.points))
    _draw_panel(panels[0], data.points, [point.seconds / unit_s for point in data.points], data.front_seconds)
    panels[0].set_xlabel(f"training time of the trial ({unit})")
    if with_parameters:
        places = [float(point.parameters or 0) for point in with_parameters]
        _draw_panel(panels[1], with_parameters, places, data.front_parameters)
        panels[1].set_xlabel("parameters")
        panels[1].xaxis.set_major_formatter(FuncFormatter(lambda value, _position: number_words(value)))
    set_metric_axis(panels[0], "y", data.metric, [point.value for point in data.points])
    found = {point.status for point in data.points}
    handles = [build_handle(*MARKS[status], status) for status in MARKS if status in found]
    handles.append(Line2D([], [], color=BLACK, linewidth=1.6, label="best at that cost or below"))
    if any(point.is_baseline for point in data.points):
        handles.append(build_handle("o", "none", BLACK, "baseline", 11))
    set_legend(figure, handles, below=True)
    set_title(figure, f"{capital(metric_words(data.metric))} against what a trial costs")
    return figure


def _draw_panel(panel: Any, points: Sequence[CostPoint], places: Sequence[float], front: Sequence[int]) -> None:
    """Marks by status and the front as a staircase; a log axis where costs differ by more than ten times."""
    style: dict[str, Any] = {"alpha": 0.5, "rasterized": True} if len(points) > 300 else {}
    for status, (marker, face, edge) in MARKS.items():
        shown = [(place, point.value) for place, point in zip(places, points, strict=True) if point.status == status]
        panel.plot([place for place, _ in shown], [value for _, value in shown], marker, mfc=face, mec=edge, ms=5.5,
                   mew=1.3, zorder=3, **style)  # fmt: skip
    by_trial = {point.trial: (place, point.value) for place, point in zip(places, points, strict=True)}
    steps = [by_trial[trial] for trial in front if trial in by_trial]
    if steps:
        end = max(places)
        panel.step([*(place for place, _ in steps), end], [*(value for _, value in steps), steps[-1][1]],
                   where="post", color=BLACK, linewidth=1.6, zorder=4)  # fmt: skip
    for place, point in zip(places, points, strict=True):
        if point.is_baseline:
            panel.plot([place], [point.value], "o", mfc="none", mec=BLACK, ms=11, mew=1.4, zorder=5)
    positive = [place for place in places if place > 0]
    if positive and max(positive) > 10 * min(positive):
        set_log_axis(panel)


def number_words(value: float) -> str:
    """A number of parameters for an axis.

    >>> number_words(1_250_000), number_words(40_000), number_words(12)
    ('1.25 M', '40 k', '12')
    """
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"


def draw_flow(data: Flow) -> Figure:
    """A bar for each rung: how many entered, and what became of them there."""
    figure, (panel,) = build_figure(10.5, 1.6 + 0.55 * len(data.rungs))
    for row, rung in enumerate(data.rungs):
        left = 0
        for name, color, _ in KINDS:
            width = getattr(rung, name)
            if width:
                panel.barh(row, width, left=left, color=color, height=0.62, zorder=3)
                if width >= 0.045 * data.trials:
                    ink = "white" if name in ("went_on", "failed") else BLACK
                    panel.text(left + width / 2, row, f"{width}", ha="center", va="center", color=ink, zorder=4)
            left += width
    begins = [1, *(rung.epoch + 1 for rung in data.rungs[:-1])]
    labels = [
        f"epoch {rung.epoch}" if begin == rung.epoch else f"epochs {begin} to {rung.epoch}"
        for begin, rung in zip(begins, data.rungs, strict=True)
    ]
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel("trials that trained there")
    panel.spines["left"].set_color(GREY)
    used = [(color, label) for name, color, label in KINDS if any(getattr(rung, name) for rung in data.rungs)]
    set_legend(figure, [Patch(color=color, label=label) for color, label in used], below=True)
    set_title(figure, "Rungs: who went on, and who did not")
    return figure
