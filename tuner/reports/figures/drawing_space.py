"""Importance, slices and parallel coordinates drawn from their data (`figure_data_space`)."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tuner.reports.figures.figure_data_importance import Importances
from tuner.reports.figures.figure_data_space import Parallel, Slice, Slices
from tuner.reports.figures.style import (
    BLACK,
    BLUE,
    GREY,
    MARKS,
    build_figure,
    build_handle,
    set_legend,
    set_log_axis,
    set_metric_axis,
    set_title,
)
from tuner.reports.formatting import capital, is_share, metric_words, shortened


def draw_importances(data: Importances) -> Figure:
    """A bar for each hyperparameter, with its range over shuffles."""
    figure, (panel,) = build_figure(10.5, 1.4 + 0.34 * len(data.items))
    for row, item in enumerate(data.items):
        panel.barh(row, max(0.0, item.share), color=BLUE, height=0.6, zorder=3)
        panel.plot([max(0.0, item.low), max(0.0, item.high)], [row, row], color=BLACK, linewidth=1.6, zorder=4)
    labels = [
        f"{item.name}" if item.trials == data.trials else f"{item.name} ({item.trials} trials have it)"
        for item in data.items
    ]
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel(f"share of the differences in {metric_words(data.metric)} that is lost when it is shuffled")
    set_title(figure, f"What mattered, compared after epoch {data.epoch}")
    return figure


def draw_slices(data: Slices) -> Figure:
    """A small panel for each hyperparameter."""
    columns = min(3, len(data.items))
    rows = math.ceil(len(data.items) / columns)
    figure = Figure(figsize=(10.5, 1.0 + 2.5 * rows), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    values = [point.value for item in data.items for point in item.points]
    for panel, item in zip(panels, data.items, strict=False):
        _draw_slice(panel, item)
    for panel in panels[len(data.items) :]:
        panel.set_visible(False)
    for index, panel in enumerate(figure.axes):
        if index % columns == 0:
            set_metric_axis(panel, "y", data.metric, values)
    found = {point.status for item in data.items for point in item.points}
    set_legend(figure, [build_handle(*MARKS[one], one) for one in MARKS if one in found], below=True)
    set_title(figure, f"{capital(metric_words(data.metric))} of each trial, by each hyperparameter")
    return figure


def _draw_slice(panel: Any, item: Slice) -> None:
    places = np.array([point.place for point in item.points])
    if item.categories:
        places = places + np.random.default_rng(0).uniform(-0.16, 0.16, len(places))  # or they hide each other
        labels = [shortened(word, 24) for word in item.categories]
        turned = sum(map(len, labels)) > 28
        panel.set_xticks(range(len(labels)), labels, rotation=30 if turned else 0, ha="right" if turned else "center")
        panel.set_xlim(-0.5, len(labels) - 0.5)
    style: dict[str, Any] = {"alpha": 0.5, "rasterized": True} if len(places) > 300 else {}
    for status, (marker, face, edge) in MARKS.items():
        chosen = [index for index, point in enumerate(item.points) if point.status == status]
        panel.plot(places[chosen], [item.points[index].value for index in chosen], marker, mfc=face, mec=edge, ms=4.5,
                   mew=1.2, zorder=3, **style)  # fmt: skip
    if item.is_log:
        set_log_axis(panel)
    panel.set_title(item.name)


def draw_parallel(data: Parallel) -> Figure:
    """Each trial as a line through its hyperparameters to its value, the best ones darkest and on top."""
    figure, (panel,) = build_figure(10.5, 5.0)
    last = len(data.axes)
    values = np.array([line.value for line in data.lines])
    low, high = float(values.min()), float(values.max())
    norm = Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5)
    colors = mpl.colormaps["viridis_r" if data.maximise else "viridis"]
    segments = []
    for line in data.lines:
        points = [(index, place) for index, place in enumerate(line.places) if place is not None]
        segments.append([*points, (last, float(norm(line.value)))])
    panel.add_collection(
        LineCollection(segments, colors=[colors(norm(value)) for value in values], linewidths=1.1,
                       alpha=0.75 if len(segments) < 100 else 0.45, zorder=2, rasterized=len(segments) > 100)
    )  # fmt: skip
    for index, axis in enumerate(data.axes):
        panel.axvline(index, color=GREY, linewidth=1, zorder=3)
        for place, word in axis.ticks:
            shown = shortened(word, 18)
            panel.text(index - 0.03, place, shown, fontsize=8, ha="right", va="center", zorder=5,
                       bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})  # fmt: skip
    panel.axvline(last, color=BLACK, linewidth=1.4, zorder=3)
    for place in (0.0, 0.5, 1.0):
        value = low + place * (high - low)
        words = f"{100 * value:.1f}%" if is_share(data.metric) else f"{value:.3g}"
        panel.text(last + 0.04, place, words, fontsize=8, ha="left", va="center")
    names = [textwrap.fill(axis.name.replace("_", " "), 10, break_long_words=False) for axis in data.axes]
    panel.set_xticks(range(last + 1), [*names, metric_words(data.metric).replace(" ", "\n")], fontsize=8)
    panel.set_xlim(-0.75, last + 0.45)
    panel.set_ylim(-0.06, 1.06)
    panel.set_yticks([])
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=panel, shrink=0.8, pad=0.02)
    set_metric_axis(bar.ax, "y", data.metric, [])
    more = f", {len(data.lines)} of {data.total:,}" if len(data.lines) < data.total else ""
    set_title(figure, f"Trials through their hyperparameters{more}")
    return figure
