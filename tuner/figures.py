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

from tuner.drawing import draw_best_so_far, draw_groups, draw_learning_curves, draw_winner
from tuner.figure_alts import best_so_far_alt, groups_alt, learning_curves_alt, winner_curves_alt
from tuner.figure_data import best_so_far, by_architecture, by_preprocessing, learning_curves, winner_curves
from tuner.files import replacing
from tuner.picture import STYLE
from tuner.registry import Registry
from tuner.results import Results

Format = Literal["png", "svg"]
FORMATS: tuple[Format, ...] = ("png", "svg")
PNG_DPI = 144
_NO_DATES = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


@dataclass(frozen=True)
class FigureKind:
    """A figure in three functions: data of results, drawing of data, words for data."""

    data: Callable[[Results], Any]
    draw: Callable[[Any], Figure]
    alt: Callable[[Any], str]


FIGURES: Registry[FigureKind] = Registry("figure")
FIGURES.add("winner", FigureKind(winner_curves, draw_winner, winner_curves_alt))
FIGURES.add("learning_curves", FigureKind(learning_curves, draw_learning_curves, learning_curves_alt))
FIGURES.add("best_so_far", FigureKind(best_so_far, draw_best_so_far, best_so_far_alt))
FIGURES.add("by_architecture", FigureKind(by_architecture, draw_groups, groups_alt))
FIGURES.add("by_preprocessing", FigureKind(by_preprocessing, draw_groups, groups_alt))


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
