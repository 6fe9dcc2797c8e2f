"""Confusion, classes and single images drawn from their data (`figure_data_predictions`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from tuner.reports.figures.figure_data_predictions import ClassAccuracy, Confusion, Example, Examples, Pictures
from tuner.reports.figures.style import BLACK, BLUE, GREEN, GREY, VERMILLION, build_figure, set_title
from tuner.reports.formatting import shortened

NAMED = 120
"""Classes whose names are written beside the matrix; more could not be read."""
IN_CELLS = 15
"""Classes up to which shares are written into the cells."""
COLUMNS = 4


def draw_confusion(data: Confusion) -> Figure:
    """The matrix in shares of each true class, the rarest confusions still visible."""
    number = len(data.class_names)
    size = min(16.0, max(5.5, 2.6 + 0.135 * number))
    figure, (panel,) = build_figure(size + 1.2, size)
    colors = LinearSegmentedColormap.from_list("confusion", ["#FFFFFF", "#9CC9E6", BLUE, "#00263F"])
    # The root spreads small shares: one image in twenty is seen at a glance.
    shown = panel.imshow(np.sqrt(data.matrix), cmap=colors, vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    panel.grid(visible=False)
    if number <= NAMED:
        font = 9 if number <= 30 else max(4.2, 9 - 0.05 * number)
        names = [shortened(name, 22) for name in data.class_names]
        panel.set_xticks(range(number), names, rotation=90, fontsize=font)
        panel.set_yticks(range(number), names, fontsize=font)
    else:
        panel.set_xticks([])
        panel.set_yticks([])
    panel.tick_params(length=0)
    if number <= IN_CELLS:
        for row, column in np.ndindex(data.matrix.shape):
            share = data.matrix[row, column]
            if share >= 0.005:
                ink = "white" if share > 0.35 else BLACK
                panel.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=8)
    panel.set_xlabel("predicted class")
    panel.set_ylabel("true class")
    bar = figure.colorbar(shown, ax=panel, shrink=0.6, pad=0.02)
    bar.set_ticks([math.sqrt(share) for share in (0, 0.05, 0.2, 0.5, 1)], labels=["0", "5", "20", "50", "100"])
    bar.set_label("% of the images of the true class")
    set_title(figure, f"What is taken for what: {data.images:,} test images, {data.accuracy:.2%} right")
    return figure


def draw_class_accuracy(data: ClassAccuracy) -> Figure:
    """A line for each class with its interval, the worst first."""
    number = len(data.class_names)
    columns = 1 if number <= 40 else 2 if number <= 120 else 3
    per_column = math.ceil(number / columns)
    figure = Figure(figsize=(10.5, 1.2 + 0.17 * min(per_column, 120)), layout=ConstrainedLayoutEngine(w_pad=0.12))
    panels = figure.subplots(1, columns, squeeze=False, sharex=True)[0]
    for column, panel in enumerate(panels):
        rows = range(column * per_column, min(number, (column + 1) * per_column))
        places = range(len(rows))
        panel.hlines(places, [data.low[row] for row in rows], [data.high[row] for row in rows], color="#9CC9E6", lw=3)
        panel.plot([data.accuracy[row] for row in rows], places, "o", color=BLUE, ms=4, zorder=3)
        panel.axvline(data.mean, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)))
        names = [shortened(data.class_names[row], 24) for row in rows]
        panel.set_yticks(places, names, fontsize=8 if number <= 60 else 6.5)
        panel.set_ylim(per_column - 0.4, -0.6)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{100 * value:g}"))
        panel.set_xlabel("test accuracy (%)")
        panel.tick_params(axis="y", length=0)
    set_title(figure, "Test accuracy by class, with 95% intervals; dashed: all classes")
    return figure


def draw_examples(data: Examples) -> Figure:
    """Images with their true class and what the model says of them."""
    rows = math.ceil(len(data.items) / COLUMNS)
    figure = Figure(figsize=(10.5, 0.7 + 2.55 * rows), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel, item in zip(panels, data.items, strict=False):
        _draw_example(panel, item)
    for panel in panels[len(data.items) :]:
        panel.set_visible(False)
    set_title(figure, data.title)
    return figure


def _draw_example(panel: Any, item: Example) -> None:
    pixels = item.pixels[..., 0] if item.pixels.shape[-1] == 1 else item.pixels
    panel.imshow(pixels, cmap="gray" if pixels.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])
    color = GREEN if item.is_right else VERMILLION
    for spine in panel.spines.values():
        spine.set(visible=True, color=color, linewidth=2.5)
    name, share = item.labels[0]
    said = f"{shortened(name, 20)} {share:.0%}"
    true = "" if item.is_right else f"\nis {shortened(item.true, 22)}"
    panel.set_title(f"{'✓' if item.is_right else '✗'} {said}{true}", color=color, fontsize=9.5)


def draw_variants(data: Pictures) -> Figure:
    """A row of pictures for each variant, its text above."""
    columns = max(len(row.images) for row in data.rows)
    figure = Figure(figsize=(10.5, 0.6 + 1.62 * len(data.rows)), layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05))
    panels = figure.subplots(len(data.rows), columns, squeeze=False)
    for line, row in zip(panels, data.rows, strict=True):
        for panel, pixels in zip(line, row.images, strict=False):
            shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
            panel.imshow(shown, cmap="gray" if shown.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest")
        for panel in line:
            panel.axis("off")
        line[0].set_title(row.text, loc="left", fontsize=10)
    set_title(figure, "What the networks saw: preprocessing and augmentation")
    return figure
