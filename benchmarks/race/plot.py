"""The picture of the race: best validation accuracy against time, a panel for each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.race.legs import LEGS
from benchmarks.race.results import Run, Steps, best_peer, best_steps, compare, median_steps, summarise, within
from benchmarks.race.workload import SIZES
from tuner.reports.figures.style import BLACK, GREY, STYLE, build_figure, set_metric_axis, set_title


def draw_race(runs: Mapping[str, Mapping[str, Sequence[Run]]], budget_s: float) -> Figure:
    """Runs by size, leg and round: the median curve of each leg strong, its rounds faint."""
    drawn = {size: {leg: of[leg] for leg in of if LEGS[leg].is_drawn} for size, of in runs.items()}
    shown = {size: legs for size, legs in drawn.items() if legs}
    with style.context(STYLE, after_reset=True):
        figure, panels = build_figure(5.4 * max(1, len(shown)), 4.9, max(1, len(shown)))
        for panel, (size, legs) in zip(panels, shown.items(), strict=False):
            _draw_size(panel, size, legs, budget_s)
        names = [name for name in LEGS if any(name in legs for legs in shown.values())]
        handles = [
            Line2D([], [], color=LEGS[name].colour, linestyle=LEGS[name].line, linewidth=2.4, label=LEGS[name].label)
            for name in names
        ]
        columns = len(handles) if len(shown) > 1 else 2
        figure.legend(handles=handles, loc="outside lower center", ncols=max(1, columns), handlelength=3.4)
        set_title(figure, f"Best validation accuracy in {budget_s:g} s")
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    with style.context(STYLE, after_reset=True):
        figure.savefig(path, dpi=160)


def _draw_size(panel: Any, size: str, legs: Mapping[str, Sequence[Run]], budget_s: float) -> None:
    values = []
    for name, rounds in legs.items():
        curves = [best_steps(within(run, budget_s)) for run in rounds]
        look = {"color": LEGS[name].colour, "solid_capstyle": "butt", "zorder": 4 if name == "tuner" else 3}
        for curve in curves:
            _draw_steps(panel, curve, budget_s, **look, linewidth=0.9, alpha=0.35)
        _draw_steps(panel, median_steps(curves), budget_s, **look, linewidth=2.4, linestyle=LEGS[name].line)
        values += [accuracy for curve in curves for _, accuracy in curve]
    _mark_best_peer(panel, legs, budget_s)
    panel.set_title(f"{SIZES[size]} px ({size})")
    panel.set_xlim(0, budget_s)
    panel.set_ylim(bottom=max(values, default=0.0) / 2)  # below, no leg is of interest, and all begin somewhere else
    panel.set_xlabel("seconds since launch")
    set_metric_axis(panel, "y", "val_accuracy", values)


def _draw_steps(panel: Any, steps: Steps, end_s: float, **style: Any) -> None:
    """A line that rises at each improvement and goes on to the end."""
    if steps:
        times, values = zip(*steps, strict=True)
        panel.plot([*times, end_s], [*values, values[-1]], drawstyle="steps-post", **style)


def _mark_best_peer(panel: Any, legs: Mapping[str, Sequence[Run]], budget_s: float) -> None:
    """Where tuner reaches what the best peer has at the end."""
    summaries = {name: summarise(name, rounds, budget_s) for name, rounds in legs.items()}
    best = best_peer(summary for name, summary in summaries.items() if LEGS[name].is_peer)
    if best is None or best.accuracy is None or "tuner" not in legs:
        return
    against = compare(summaries["tuner"], legs["tuner"], best, budget_s)
    panel.axhline(best.accuracy, color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=2)
    if against.reached_s is None or against.share_of_budget is None:
        return
    panel.plot([against.reached_s], [best.accuracy], "o", mfc="white", mec=BLACK, mew=1.5, ms=7, zorder=6)
    panel.annotate(
        f"{against.reached_s:.0f} s, {100 * against.share_of_budget:.0f}%",
        (against.reached_s, best.accuracy),
        xytext=(9, -7),
        textcoords="offset points",
        va="top",
        fontweight="bold",
        zorder=7,
    )
