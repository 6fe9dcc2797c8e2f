"""Everything that figures share: their form, their colours, marks, axes and legends, and how many trials they show.

Matplotlib's own objects are used: no pyplot, no global figure. Colours are those of Okabe and Ito (2008), told apart by
all common kinds of colour vision; marks differ in shape as well. Legends are outside the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from tuner.reports.formatting import is_share, metric_words
from tuner.reports.results import Results, ResultStatus

Item = TypeVar("Item")
Part = Literal["won", "trust", "mattered", "cost", "use"]
"""The question of a report that a figure helps to answer."""


@dataclass(frozen=True)
class FigureKind:
    """A figure as three functions (data of results, drawing of data, words for data), and where it belongs."""

    build: Callable[[Results], Any]
    draw: Callable[[Any], Figure]
    describe: Callable[[Any], str]
    part: Part
    has_photos: bool = False
    """Whether it shows images of the data set, whose colours must stay as they are in a dark page."""


BLUE, VERMILLION, GREEN, ORANGE, PURPLE, BLACK = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#222222"
GREY, FAINT = "#707070", "#C4C4C4"
DASHED = (0, (4, 2))
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": BLACK,
    "ytick.labelcolor": BLACK,
    "text.color": BLACK,
    "axes.labelcolor": BLACK,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.hashsalt": "tuner",  # the same data give the same file
    "svg.fonttype": "path",
}
"""Put around drawing and saving; everything else is matplotlib's default, whatever the user's own settings are."""

MARKS: dict[ResultStatus, tuple[str, str, str]] = {
    "completed": ("o", BLUE, BLUE),
    "stopped": ("v", "white", ORANGE),
    "failed": ("x", VERMILLION, VERMILLION),
    "running": ("D", "white", GREEN),
    "paused": ("d", "white", GREY),
    "unfinished": ("s", "white", PURPLE),
}
"""Marker, face and edge of a trial's result by status."""

LEGEND_MARK_IN, LEGEND_SIGN_IN = 0.6, 0.09
"""Widths in a legend: of a mark with the space around it, and, rather too much, of a sign of its words."""
MOST_TRIALS = 500
"""Trials in a figure: evenly taken over the ranking where there are more."""
CROWD = 300
"""From here on, marks are drawn as pixels in vector files, and see-through."""


def sample_evenly(items: Sequence[Item], number: int) -> list[Item]:
    """Return at most `number` of the items, evenly over their order, the first among them.

    >>> sample_evenly("abcdef", 3), sample_evenly("ab", 3)
    (['a', 'c', 'e'], ['a', 'b'])
    """
    if len(items) <= number:
        return list(items)
    return [items[index * len(items) // number] for index in range(number)]


def build_figure(
    width_in: float, height_in: float, panels: int = 1, rows: int = 1, *, share_y: bool = False, pad: float = 0.12
) -> tuple[Figure, list[Any]]:
    """Return an empty figure with panels side by side, in rows; `pad` lies between them, in inches."""
    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=min(pad, 0.1))
    figure = Figure(figsize=(width_in, height_in), layout=layout)
    return figure, list(figure.subplots(rows, panels, squeeze=False, sharey=share_y).flat)


def set_title(figure: Figure, text: str) -> None:
    """Write what is seen above everything, from the left edge."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=13, fontweight="bold")


def set_legend(figure: Figure, handles: Sequence[Any], *, below: bool = False) -> None:
    """Add a legend to the right of the panels, or below them in one row, in several where one is too long."""
    if below:
        columns = legend_columns([handle.get_label() for handle in handles], figure.get_figwidth())
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    else:
        figure.legend(handles=handles, loc="outside right upper", borderaxespad=1.2)


def legend_columns(labels: Sequence[str], width_in: float) -> int:
    """Return in how many columns entries of a legend stand below a figure so wide, in inches, without being cut off.

    >>> legend_columns(["completed", "failed"], 10.5), legend_columns(["mobilenet_search_1"] * 10, 10.5)
    (2, 4)
    """
    widths_in = [LEGEND_MARK_IN + LEGEND_SIGN_IN * len(label) for label in labels]
    if sum(widths_in) <= width_in:
        return max(1, len(labels))
    return max(1, int(width_in / max(widths_in)))


def build_handle(marker: str, face: str, edge: str, label: str, size: float = 6.5) -> Line2D:
    """Return a legend entry for a mark."""
    return Line2D([], [], marker=marker, mfc=face, mec=edge, ms=size, mew=1.4, linestyle="none", label=label)


def build_status_handles(statuses: Collection[ResultStatus], *, failed: str = "failed") -> list[Line2D]:
    """Return a legend entry for each status that occurs; `failed` names the failed ones."""
    labels = {"failed": failed}
    return [build_handle(*MARKS[status], labels.get(status, status)) for status in MARKS if status in statuses]


def build_baseline_handle(label: str) -> Line2D:
    """Return the legend entry for the line of the baseline's value."""
    return Line2D([], [], color=GREY, linewidth=1.2, linestyle=DASHED, label=label)


def crowd_style(number: int) -> dict[str, Any]:
    """Return how marks are drawn where they are many."""
    return {"alpha": 0.5, "rasterized": True} if number > CROWD else {}


def draw_marks(
    panel: Any,
    x: Sequence[float] | np.ndarray,
    y: Sequence[float] | np.ndarray,
    statuses: Sequence[ResultStatus],
    *,
    size: float = 5.5,
    edge_width: float = 1.4,
    zorder: int = 4,
) -> None:
    """Draw a mark for each trial by its status."""
    for status, (marker, face, edge) in MARKS.items():
        chosen = [index for index, found in enumerate(statuses) if found == status]
        panel.plot(
            [x[index] for index in chosen], [y[index] for index in chosen], marker, mfc=face, mec=edge, ms=size,
            mew=edge_width, zorder=zorder, **crowd_style(len(statuses)),
        )  # fmt: skip


def set_epoch_axis(panel: Any) -> None:
    """Count whole epochs below a panel."""
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))


def set_row_axis(panel: Any, labels: Sequence[str]) -> None:
    """Name the rows 0, 1, ... of a panel, the first on top."""
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)


def set_metric_axis(
    panel: Any, which: Literal["x", "y"], metric: str, values: Sequence[float], *, log_from: float = 4
) -> None:
    """Label and scale an axis with values of `metric`: shares in percent.

    Losses are drawn by factors where the largest is more than `log_from` times the smallest: the early ones, which are
    of no interest, would press the late ones together.
    """
    finite = [value for value in values if math.isfinite(value)]
    axis = getattr(panel, f"{which}axis")
    axis.set_label_text(f"{metric_words(metric)} (%)" if is_share(metric) else metric_words(metric))
    if is_share(metric):
        axis.set_major_formatter(FuncFormatter(lambda value, _position: f"{100 * value:g}"))
    elif finite and min(finite) > 0 and max(finite) > log_from * min(finite):
        getattr(panel, f"set_{which}scale")("log")
        few_decades = max(finite) < 30 * min(finite)
        axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if few_decades else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def set_log_axis(panel: Any) -> None:
    """Scale the x axis by factors, with plain numbers on it: `text.parse_math` is off."""
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def time_unit(seconds: float) -> tuple[str, float]:
    """Return the unit in which a time axis up to `seconds` is read best, and its seconds.

    >>> time_unit(90), time_unit(1800), time_unit(90000)
    (('s', 1.0), ('min', 60.0), ('h', 3600.0))
    """
    if seconds < 180:
        return "s", 1.0
    return ("min", 60.0) if seconds < 3 * 3600 else ("h", 3600.0)
