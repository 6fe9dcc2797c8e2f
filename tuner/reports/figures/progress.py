"""The best value so far, against time and against epochs trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tuner.common.words import counted
from tuner.reports.figures import style
from tuner.reports.formatting import format_value, metric_words
from tuner.reports.results import BaselineLine, Outcome, Results, ResultStatus, TrajectoryPoint, outcomes, trajectory


class BestSoFar(NamedTuple):
    """The improvements of a search, what came of each trial, and where the search is now."""

    metric: str
    points: tuple[TrajectoryPoint, ...]
    outcomes: tuple[Outcome, ...]
    baseline: BaselineLine | None
    elapsed_s: float
    epochs: int


def build_best_so_far(results: Results) -> BestSoFar | None:
    """Return the search's progress; None before anything was better than nothing."""
    points = trajectory(results)
    if not points:
        return None
    improved = {point.trial for point in points}
    others = [trial for trial in (*results.ranked, *results.failed) if trial.number not in improved]
    shown = improved | {trial.number for trial in style.sample_evenly(others, style.MOST_TRIALS)}
    return BestSoFar(
        metric=results.metric,
        points=points,
        outcomes=tuple(outcome for outcome in outcomes(results) if outcome.trial in shown),
        baseline=results.baseline_line,
        elapsed_s=max(results.finalists_from_s or results.elapsed_s, points[-1].elapsed_s),
        epochs=results.total_epochs,
    )


def draw_best_so_far(data: BestSoFar) -> Figure:
    """Draw the best so far against time and against epochs, each trial's result as a mark."""
    figure, (by_time, by_epochs) = style.build_figure(10.5, 4.8, 2, share_y=True)
    unit, unit_s = style.time_unit(data.elapsed_s)
    _draw_steps(by_time, data, [point.elapsed_s / unit_s for point in data.points], data.elapsed_s / unit_s)
    _draw_steps(by_epochs, data, [point.epochs for point in data.points], data.epochs)
    for status in style.MARKS:
        found = [outcome for outcome in data.outcomes if outcome.status == status]
        _draw_outcomes(by_time, status, found, [outcome.elapsed_s / unit_s for outcome in found])
        _draw_outcomes(by_epochs, status, found, [outcome.epochs for outcome in found])
    values = [outcome.value for outcome in data.outcomes if outcome.value is not None and outcome.status != "failed"]
    style.set_metric_axis(by_time, "y", data.metric, values)
    by_time.set_xlabel(f"time ({unit})")
    by_epochs.set_xlabel("epochs trained, all trials together")
    by_epochs.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    lines = [Line2D([], [], color=style.BLACK, linewidth=2, label="best so far")]
    if data.baseline is not None:
        lines.append(style.build_baseline_handle(data.baseline.label))
    marks = style.build_status_handles({outcome.status for outcome in data.outcomes}, failed="failed (no value)")
    style.set_legend(figure, [*lines, *marks], below=True)
    last = data.points[-1]
    value = f"{metric_words(data.metric)} {format_value(data.metric, last.best)}"
    style.set_title(figure, f"Best so far: {value}, by trial {last.trial}")
    return figure


def _draw_steps(panel: Any, data: BestSoFar, places: Sequence[float], end: float) -> None:
    """Draw the best value as a staircase up to where the search is now, and the baseline's value."""
    bests = [point.best for point in data.points]
    panel.step(
        [*places, max(end, places[-1])], [*bests, bests[-1]], where="post", color=style.BLACK, linewidth=2, zorder=3
    )
    if data.baseline is not None:
        panel.axhline(data.baseline.value, color=style.GREY, linewidth=1.2, linestyle=style.DASHED, zorder=2)
    panel.set_xlim(left=0)


def _draw_outcomes(panel: Any, status: ResultStatus, found: Sequence[Outcome], places: Sequence[float]) -> None:
    """Draw a mark for each trial at its value; failed ones have none that counts and stand at the foot."""
    if not found:
        return  # an empty line that is not clipped would be laid out as a mark in the figure's corner
    marker, face, edge = style.MARKS[status]
    look: dict[str, Any] = {"marker": marker, "mfc": face, "mec": edge, "ms": 5.5, "mew": 1.4, "linestyle": "none"}
    look |= style.crowd_style(len(found))
    if status == "failed":
        foot = panel.get_xaxis_transform()
        panel.plot(places, [0.0] * len(found), transform=foot, clip_on=False, zorder=5, **look)
        return
    valued = [(place, outcome.value) for place, outcome in zip(places, found, strict=True) if outcome.value is not None]
    panel.plot([place for place, _ in valued], [value for _, value in valued], zorder=4, **look)


def describe_best_so_far(data: BestSoFar) -> str:
    """Say in words how the best value grew."""
    first, last = data.points[0], data.points[-1]
    share = last.elapsed_s / data.elapsed_s if data.elapsed_s > 0 else 1.0
    return (
        f"Best {metric_words(data.metric)} so far against elapsed time and against epochs trained: from "
        f"{format_value(data.metric, first.best)} to {format_value(data.metric, last.best)} (trial {last.trial}), "
        f"reached after {share:.0%} of the time and {last.epochs} of {counted(data.epochs, 'epoch')}. "
        "Marks show each trial's result by status."
    )


BEST_SO_FAR = style.FigureKind(build_best_so_far, draw_best_so_far, describe_best_so_far, part="cost")
