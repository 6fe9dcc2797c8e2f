"""The first metric against each of the others, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator

from tuner.common.metrics import epoch_objectives, metric_of, oriented
from tuner.common.words import counted
from tuner.reports.figures import style
from tuner.reports.figures.cost import find_cheapest_front, number_words
from tuner.reports.formatting import capital, format_value, metric_words
from tuner.reports.results import Results, ResultStatus

MOST_LABELS = 15
"""Trials of the front that are named; more names would cover each other."""


class ParetoPoint(NamedTuple):
    """One trial."""

    trial: int
    status: ResultStatus
    value: float
    """Value of the first metric."""
    other: float
    """Value of the panel's metric."""
    is_on_front: bool
    """Whether it is on the front of all metrics together."""
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


def build_pareto(results: Results) -> Pareto | None:
    """Return what trials reached in all metrics; None with one metric, and before anything is known in all of them."""
    known = [trial for trial in results.ranked if len(trial.values) == len(results.metrics)]
    if not results.front:
        return None
    kept = {trial.number for trial in style.sample_evenly(known, style.MOST_TRIALS)} | {
        trial.number for trial in results.front
    }
    winner = results.chosen.number if results.chosen is not None else None
    panels = []
    for metric in results.metrics[1:]:
        points = {
            trial.number: ParetoPoint(
                trial.number, trial.status, trial.values[results.metric], trial.values[metric],
                bool(trial.is_on_front), trial.is_baseline, trial.number == winner,
            )
            for trial in known
        }  # fmt: skip
        mode = metric_of(metric).mode
        best = find_cheapest_front([
            (-oriented(point.other, mode), oriented(point.value, results.mode), point.trial)
            for point in points.values()
        ])  # fmt: skip
        shown = tuple(point for number, point in points.items() if number in kept)
        panels.append(ParetoPanel(metric, shown, tuple((points[one].other, points[one].value) for one in best)))
    return Pareto(results.metric, tuple(panels), len(results.front), len(known))


def draw_pareto(data: Pareto) -> Figure:
    """Draw the first metric against each other one: the front as a staircase, what it dominates faint behind it."""
    figure, panels = style.build_figure(max(7.5, 5.25 * len(data.panels)), 4.8, len(data.panels), share_y=True)
    for axes, panel in zip(panels, data.panels, strict=True):
        _draw_panel(axes, panel, data.on_front <= MOST_LABELS)
        _set_axis(axes, panel)
    points = data.panels[0].points
    style.set_metric_axis(panels[0], "y", data.metric, [point.value for point in points])
    found = {point.status for point in points if point.is_on_front}
    handles = [Line2D([], [], color=style.BLACK, linewidth=1.6, label="best at that cost or below")]
    handles += [
        style.build_handle(*style.MARKS[status], f"on the front, {status}") for status in style.MARKS if status in found
    ]
    if any(not point.is_on_front for point in points):
        handles.append(style.build_handle("o", style.FAINT, style.FAINT, "dominated", 5))
    if any(point.is_baseline for point in points):
        handles.append(style.build_handle("o", "none", style.BLACK, "baseline", 11))
    if any(point.is_winner for point in points):
        handles.append(style.build_handle("s", "none", style.GREEN, "winner", 11))
    style.set_legend(figure, handles, below=True)
    others = " and ".join(metric_words(panel.metric) for panel in data.panels)
    style.set_title(figure, f"{capital(metric_words(data.metric))} against {others}: the Pareto front")
    return figure


def _draw_panel(axes: Any, panel: ParetoPanel, has_labels: bool) -> None:
    behind = [point for point in panel.points if not point.is_on_front]
    axes.plot(*_places(behind), "o", mfc=style.FAINT, mec=style.FAINT, ms=4, linestyle="none", zorder=2)
    costs = [point.other for point in panel.points]
    end = max(costs) if metric_of(panel.metric).mode == "min" else min(costs)
    stairs = [*panel.stairs, (end, panel.stairs[-1][1])]
    axes.step([x for x, _ in stairs], [y for _, y in stairs], where="post", color=style.BLACK, linewidth=1.6, zorder=3)
    front = [point for point in panel.points if point.is_on_front]
    style.draw_marks(axes, *_places(front), [point.status for point in front], size=7, edge_width=1.5)
    for point in panel.points:
        if point.is_baseline:
            axes.plot(point.other, point.value, "o", mfc="none", mec=style.BLACK, ms=12, mew=1.4, zorder=5)
        if point.is_winner:
            axes.plot(point.other, point.value, "s", mfc="none", mec=style.GREEN, ms=12, mew=1.6, zorder=5)
        if point.is_on_front and has_labels:
            axes.annotate(
                str(point.trial), (point.other, point.value), xytext=(-6, 6), textcoords="offset points",
                ha="right", fontsize=8, color=style.GREY, zorder=6,
            )  # fmt: skip


def _places(points: Sequence[ParetoPoint]) -> tuple[list[float], list[float]]:
    return [point.other for point in points], [point.value for point in points]


def _set_axis(axes: Any, panel: ParetoPanel) -> None:
    """Write units below a panel; scale by factors where costs differ by more than ten times."""
    costs = [point.other for point in panel.points]
    if panel.metric in epoch_objectives():
        style.set_metric_axis(axes, "x", panel.metric, costs)
        return
    if min(costs) > 0 and max(costs) > 10 * min(costs):
        style.set_log_axis(axes)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if max(costs) < 1000 * min(costs) else (1.0,)))
    unit = {"seconds_per_image": " (ms per image)", "model_mb": " (MB)"}.get(panel.metric, "")
    axes.set_xlabel(f"{metric_words(panel.metric)}{unit}")
    factor = 1000.0 if panel.metric == "seconds_per_image" else 1.0
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: number_words(factor * value)))


def describe_pareto(data: Pareto) -> str:
    """Say in words where the Pareto front goes."""
    panel = data.panels[0]
    others = " and ".join(metric_words(one.metric) for one in data.panels)
    (cheap, low), (dear, high) = panel.stairs[0], panel.stairs[-1]
    ends = f"{format_value(data.metric, low)} with {format_value(panel.metric, cheap)}"
    if len(panel.stairs) > 1:
        ends += f" to {format_value(data.metric, high)} with {format_value(panel.metric, dear)}"
    return (
        f"{capital(metric_words(data.metric))} against {others} of {counted(data.trials, 'trial')}, {data.on_front} "
        f"of them on the Pareto front. Against {metric_words(panel.metric)} it goes from {ends}."
    )


PARETO = style.FigureKind(build_pareto, draw_pareto, describe_pareto, part="won")
