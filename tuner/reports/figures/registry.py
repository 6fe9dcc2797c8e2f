"""The figures of a report: one entry each in `FIGURES`, and the files they become.

A new figure is one entry: what is in it (a function of the results, None when there is nothing to show), how it is
drawn, and what it shows in words.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
from matplotlib.figure import Figure

from tuner.common.files import replacing
from tuner.common.registry import Registry
from tuner.reports.figures.drawing import draw_best_so_far, draw_groups, draw_learning_curves, draw_winner
from tuner.reports.figures.drawing_cost import draw_cost, draw_flow
from tuner.reports.figures.drawing_pareto import draw_pareto
from tuner.reports.figures.drawing_predictions import draw_class_accuracy, draw_confusion, draw_examples, draw_variants
from tuner.reports.figures.drawing_space import draw_importances, draw_parallel, draw_slices
from tuner.reports.figures.figure_alts import (
    best_so_far_alt,
    class_accuracy_alt,
    confusion_alt,
    cost_alt,
    examples_alt,
    flow_alt,
    groups_alt,
    importances_alt,
    learning_curves_alt,
    parallel_alt,
    pareto_alt,
    slices_alt,
    variants_alt,
    winner_curves_alt,
)
from tuner.reports.figures.figure_data import (
    best_so_far,
    by_architecture,
    by_preprocessing,
    learning_curves,
    winner_curves,
)
from tuner.reports.figures.figure_data_cost import cost, rung_flow
from tuner.reports.figures.figure_data_importance import importances
from tuner.reports.figures.figure_data_pareto import pareto
from tuner.reports.figures.figure_data_predictions import (
    class_accuracy,
    confident_mistakes,
    confusion,
    some_predictions,
    variant_pictures,
)
from tuner.reports.figures.figure_data_space import parallel, slices
from tuner.reports.figures.style import STYLE
from tuner.reports.results import Results

Format = Literal["png", "svg"]
FORMATS: tuple[Format, ...] = ("png", "svg")
PNG_DPI = 144
_NO_DATES = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


Part = Literal["won", "trust", "mattered", "cost", "use"]
"""The question of a report that a figure helps to answer."""


@dataclass(frozen=True)
class FigureKind:
    """A figure in three functions (data of results, drawing of data, words for data), and where it belongs."""

    data: Callable[[Results], Any]
    draw: Callable[[Any], Figure]
    alt: Callable[[Any], str]
    part: Part
    has_photos: bool = False
    """Whether it shows images of the data set, whose colours must stay as they are in a dark page."""


FIGURES: Registry[FigureKind] = Registry("figure")
_KINDS = {
    "winner": FigureKind(winner_curves, draw_winner, winner_curves_alt, "won"),
    "learning_curves": FigureKind(learning_curves, draw_learning_curves, learning_curves_alt, "won"),
    "pareto": FigureKind(pareto, draw_pareto, pareto_alt, "won"),
    "confusion": FigureKind(confusion, draw_confusion, confusion_alt, "trust"),
    "class_accuracy": FigureKind(class_accuracy, draw_class_accuracy, class_accuracy_alt, "trust"),
    "confident_mistakes": FigureKind(confident_mistakes, draw_examples, examples_alt, "trust", has_photos=True),
    "predictions": FigureKind(some_predictions, draw_examples, examples_alt, "trust", has_photos=True),
    "importance": FigureKind(importances, draw_importances, importances_alt, "mattered"),
    "by_architecture": FigureKind(by_architecture, draw_groups, groups_alt, "mattered"),
    "by_preprocessing": FigureKind(by_preprocessing, draw_groups, groups_alt, "mattered"),
    "variants": FigureKind(variant_pictures, draw_variants, variants_alt, "mattered", has_photos=True),
    "parallel_coordinates": FigureKind(parallel, draw_parallel, parallel_alt, "mattered"),
    "slices": FigureKind(slices, draw_slices, slices_alt, "mattered"),
    "best_so_far": FigureKind(best_so_far, draw_best_so_far, best_so_far_alt, "cost"),
    "cost": FigureKind(cost, draw_cost, cost_alt, "cost"),
    "rungs": FigureKind(rung_flow, draw_flow, flow_alt, "cost"),
}
for _name, _kind in _KINDS.items():
    FIGURES.add(_name, _kind)


@dataclass(frozen=True)
class DrawnFigure:
    """A figure on disk: its name in the registry, its files, and what it shows in words."""

    name: str
    paths: tuple[Path, ...]
    alt: str


def build_figure(name: str, results: Results) -> Figure | None:
    """The figure `name` of these results; None when there is nothing to show."""
    kind = FIGURES[name]
    data = kind.data(results)
    if data is None:
        return None
    with matplotlib.style.context(["default", STYLE]):
        return kind.draw(data)


def save_figures(results: Results, directory: Path, formats: Sequence[Format] = FORMATS) -> tuple[DrawnFigure, ...]:
    """Draw every figure that has something to show into `directory`, and remove those of an earlier report that do not.

    Matplotlib's settings are replaced while this runs and put back afterwards, so do not draw in another thread.
    """
    drawn = []
    for name in FIGURES:
        data = FIGURES[name].data(results)
        wanted = formats if data is not None else ()
        paths = tuple(directory / f"{name}.{suffix}" for suffix in wanted)
        if data is not None:
            _save(FIGURES[name], data, paths)
            drawn.append(DrawnFigure(name, paths, FIGURES[name].alt(data)))
        for suffix in set(FORMATS) - set(wanted):
            (directory / f"{name}.{suffix}").unlink(missing_ok=True)
    return tuple(drawn)


def _save(kind: FigureKind, data: Any, paths: Sequence[Path]) -> None:
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in another script: boxes, no crash
        figure = kind.draw(data)
        for path in paths:
            suffix = path.suffix[1:]
            with replacing(path) as aside:
                figure.savefig(aside, format=suffix, dpi=PNG_DPI, metadata=_NO_DATES[suffix])
            figure.set_layout_engine("none")  # it stands: to lay it out again for the next format takes as long
