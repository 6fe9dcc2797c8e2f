"""The figures of a report by name, and the files they become.

A new figure is one file beside this one and one entry here. The file holds all that changes together: the figure's
data (rows of raw values, None for what is missing, nothing of a drawing), the function that builds them from the
results (None when there is nothing to show), the one that draws them, and the one that says in words what is seen.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import matplotlib.style
from matplotlib.figure import Figure

from tuner.common.errors import cause_of
from tuner.common.files import replacing
from tuner.common.registry import Registry
from tuner.reports.figures import cost, curves, groups, importance, pareto, predictions, probes, progress, space
from tuner.reports.figures.style import STYLE, FigureKind
from tuner.reports.results import Results

_LOG = logging.getLogger(__name__)
Format = Literal["png", "svg"]
FORMATS: tuple[Format, ...] = ("png", "svg")
PNG_DPI = 144
_NO_DATES = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}


FIGURES: Registry[FigureKind] = Registry("figure")
_KINDS = {
    "winner": curves.WINNER,
    "learning_curves": curves.LEARNING_CURVES,
    "pareto": pareto.PARETO,
    "confusion": predictions.CONFUSION,
    "class_accuracy": predictions.CLASS_ACCURACY,
    "confident_mistakes": predictions.CONFIDENT_MISTAKES,
    "predictions": predictions.PREDICTIONS,
    "importance": importance.IMPORTANCE,
    "by_architecture": groups.BY_ARCHITECTURE,
    "by_preprocessing": groups.BY_PREPROCESSING,
    "probes": probes.PROBES,
    "variants": predictions.VARIANTS,
    "parallel_coordinates": space.PARALLEL_COORDINATES,
    "slices": space.SLICES,
    "best_so_far": progress.BEST_SO_FAR,
    "cost": cost.COST,
    "rungs": cost.RUNGS,
}
for _name, _kind in _KINDS.items():
    FIGURES.add(_name, _kind)


@dataclass(frozen=True)
class DrawnFigure:
    """A figure on disk: its name in the registry, its files, and what it shows in words."""

    name: str
    paths: tuple[Path, ...]
    alt: str


def draw_figure(name: str, results: Results) -> Figure | None:
    """Return the figure `name` of these results; None when there is nothing to show."""
    kind = FIGURES[name]
    data = kind.build(results)
    if data is None:
        return None
    with matplotlib.style.context(["default", STYLE]):
        return kind.draw(data)


def figure_png(figure: Figure) -> bytes:
    """Return a drawn figure as the content of a PNG file."""
    content = io.BytesIO()
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(content, format="png", dpi=PNG_DPI, metadata=_NO_DATES["png"])
    return content.getvalue()


def save_figures(
    results: Results,
    directory: Path,
    formats: Sequence[Format] = FORMATS,
    say: Callable[[str], None] | None = None,
) -> tuple[DrawnFigure, ...]:
    """Draw every figure that has something to show into `directory`, and remove those of an earlier report that do not.

    One that cannot be drawn is left out, and `say` is told; without `say`, what it raises is raised.

    Matplotlib's settings are replaced while this runs and put back afterwards, so do not draw in another thread.
    """
    drawn = []
    for name in FIGURES:
        wanted: Sequence[Format] = ()
        try:
            if (figure := _saved(name, results, directory, formats)) is not None:
                drawn.append(figure)
                wanted = formats
        except Exception as error:  # of data that nobody has thought of; the others are drawn, and the report made
            if say is None or isinstance(error, OSError):
                raise
            _LOG.warning("figure %s", name, exc_info=True)
            say(f"the figure {name} is left out of the report: {cause_of(error)}")
        for suffix in set(FORMATS) - set(wanted):
            (directory / f"{name}.{suffix}").unlink(missing_ok=True)
    return tuple(drawn)


def _saved(name: str, results: Results, directory: Path, formats: Sequence[Format]) -> DrawnFigure | None:
    """Draw one figure into `directory`; None when there is nothing to show."""
    kind = FIGURES[name]
    data = kind.build(results)
    if data is None:
        return None
    return DrawnFigure(name, save_figure(partial(kind.draw, data), directory, name, formats), kind.describe(data))


def save_figure(draw: Callable[[], Figure], directory: Path, name: str, formats: Sequence[Format]) -> tuple[Path, ...]:
    """Draw one figure in our style into `directory`; return its files, which are the same for the same data."""
    paths = tuple(directory / f"{name}.{suffix}" for suffix in formats)
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in another script: boxes, no crash
        figure = draw()
        for suffix, path in zip(formats, paths, strict=True):
            with replacing(path) as aside:
                figure.savefig(aside, format=suffix, dpi=PNG_DPI, metadata=_NO_DATES[suffix])
            figure.set_layout_engine("none")  # it stands: to lay it out again for the next format takes as long
    return paths
