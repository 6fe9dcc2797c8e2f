"""The picture of benchmarks.scale: efficiency by slots, measured and on paper, and seconds per suggestion."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from matplotlib import style

from benchmarks.scale.account import efficiency_at
from benchmarks.scale.report import Results, by_slots
from tuner.reports.figures.style import BLACK, BLUE, GREY, STYLE, VERMILLION, build_figure, set_title

PAPER = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


def save(results: Results, path: Path) -> None:
    """Draw what there is."""
    panels = [_draw_efficiency] * bool(results.of("efficiency"))
    panels += [_draw_suggestions] * bool(results.simulated or results.searched)
    if not panels:
        return
    with style.context(STYLE, after_reset=True):
        figure, axes = build_figure(5.6 * len(panels), 4.6, len(panels))
        for draw, axis in zip(panels, axes, strict=True):
            draw(axis, results)
        set_title(figure, "How a search grows")
        figure.savefig(path, dpi=110)


def _draw_efficiency(panel: Any, results: Results) -> None:
    measured = by_slots(results)
    for slots, rows in measured.items():
        panel.plot([slots] * len(rows), [row["efficiency"] for row in rows], "o", color=BLUE, alpha=0.35, markersize=4)
    medians = [median(row["efficiency"] for row in rows) for rows in measured.values()]
    epoch_s = results.of("efficiency")[0]["epoch_s"]
    panel.plot(list(measured), medians, color=BLUE, linewidth=2.2, label=f"measured, epochs of {epoch_s:g} s")
    for seconds, line in ((10.0, "--"), (1.0, ":")) if results.report_s else ():
        shares = [efficiency_at(slots, seconds, results.report_s or 0.0) for slots in PAPER]
        panel.plot(PAPER, shares, line, color=BLACK, label=f"on paper, epochs of {seconds:g} s")
    panel.axhline(0.95, color=GREY, linewidth=0.8)
    panel.set_xscale("log", base=2)
    panel.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1,024"])
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("slots")
    panel.set_ylabel("share of the slots' time spent in epochs")
    panel.legend(loc="lower left")


def _draw_suggestions(panel: Any, results: Results) -> None:
    for name, found, colour in (("simulated", results.simulated, VERMILLION), ("on Ray", results.searched, BLUE)):
        if found:
            numbers, seconds = zip(*found, strict=True)
            panel.plot(numbers, seconds, ".", color=colour, markersize=1.5, alpha=0.6, label=name)
    panel.axhline(1.0, color=GREY, linewidth=0.8)
    panel.set_yscale("log")
    panel.set_yticks([0.001, 0.01, 0.1, 1.0], ["0.001", "0.01", "0.1", "1"])
    panel.set_xlabel("trials so far")
    panel.set_ylabel("seconds of processor time per suggestion")
    panel.legend(loc="lower right", markerscale=6)
