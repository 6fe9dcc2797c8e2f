"""The picture of the benchmark: mean regret against what was spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.search_quality.report import Group, by_group, mean_curve, shared
from benchmarks.search_quality.rows import Row

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a6506f", "#7a6a00", "#333333")
"""After Okabe & Ito, with yellow and light blue left out: all are dark enough on white, also without colours."""
DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (4, 1.2, 1, 1.2)))
MARKERS = "os^DvPX*<>phd8H"
PANEL_PX = (700, 470)
DPI = 100


def draw(rows: Sequence[Row], path: Path) -> None:
    """A panel for each suite and number of slots; the legend has the best policy of the first panel first.

    Searches to a larger budget begin as those to a smaller one: all budgets of a policy make one curve.
    """
    panels = by_panel(rows)
    looks = styles(sorted({row.policy for row in rows}))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    abreast = columns + 1
    legend_px = 26 * -(-len(looks) // abreast)
    size = (columns * PANEL_PX[0] / DPI, (lines * PANEL_PX[1] + legend_px) / DPI)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for place, (title, inside) in zip(axes, panels.items(), strict=False):
        _draw_panel(place, title, inside, looks)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    handles = {
        label: handle for place in axes for handle, label in zip(*place.get_legend_handles_labels(), strict=True)
    }
    first = next(iter(panels.values()))
    names = sorted(handles, key=lambda policy: ([*curve(first, policy).values()] or [1.0])[-1])
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=abreast, handlelength=4)
    figure.savefig(path)


def by_panel(rows: Sequence[Row]) -> dict[str, dict[Group, list[Row]]]:
    """Groups, each with its comparable rows, by the panel that they share."""
    panels: dict[str, dict[Group, list[Row]]] = {}
    for group, inside in by_group(rows).items():
        panels.setdefault(group.title(), {})[group] = shared(inside)
    return panels


def curve(groups: dict[Group, list[Row]], policy: str) -> dict[float, float]:
    """Mean regret by full trainings spent, of all budgets; what two budgets share is taken from the larger."""
    points: dict[float, float] = {}
    for group, rows in groups.items():
        points |= {share * group.budget: regret for share, regret in mean_curve(rows, policy).items()}
    return dict(sorted(points.items()))


def styles(policies: Sequence[str]) -> dict[str, dict[str, object]]:
    """Neighbours in the list differ in marker, dash and colour; no two of fifteen have one marker."""
    return {
        policy: {
            "color": COLOURS[number % len(COLOURS)],
            "linestyle": DASHES[(number + number // len(COLOURS)) % len(DASHES)],
            "marker": MARKERS[number % len(MARKERS)],
            "linewidth": 1.2 if ":" in policy else 2.0,
        }
        for number, policy in enumerate(policies)
    }


def _draw_panel(place: Axes, title: str, groups: dict[Group, list[Row]], looks: dict[str, dict[str, object]]) -> None:
    for policy, look in looks.items():
        points = curve(groups, policy)
        if points:
            place.plot(list(points), list(points.values()), markersize=5, label=policy, **look)  # type: ignore[arg-type]  # a look is text and numbers
    place.set_title(title, loc="left")
    place.set_xlabel("full trainings spent")
    place.set_ylabel("mean regret (0: the best, 1: the median configuration)")
    place.set_xscale("log")
    place.set_yscale("log")
    for axis in (place.xaxis, place.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    place.grid(visible=True, which="both", alpha=0.25)
