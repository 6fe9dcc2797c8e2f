"""The report as one self-contained page: what won, can it be trusted, what mattered, what it cost, how to use it.

The texts are those of the leaderboard, from Markdown; the table is filled from data in the page, some rows at a time,
so that ten thousand trials scroll as smoothly as ten. Nothing is fetched, and no script but the page's own may run.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from tuner import __version__
from tuner.common.errors import TunerError
from tuner.reports._leaderboard import PageTexts
from tuner.reports._leaderboard_sections import cost_cells, cost_columns, gain_cell
from tuner.reports.data_section import DataView
from tuner.reports.figures.registry import FIGURES, PNG_DPI, DrawnFigure
from tuner.reports.formatting import (
    describe_configuration,
    format_duration,
    format_value,
    reason_words,
)
from tuner.reports.results import Results, TrialResult
from tuner.reports.tables import TABLES

FOLDER = Path(__file__).parent / "page"
RELOAD_S = 30
FIRST_ROWS = 100
FILTERED = ("study", "architecture", "status", "front")
LARGEST_VECTOR_BYTES = 150_000
"""A drawing of more than this is put into the page as pixels."""
PALETTE = 255
SCREEN_DPI = 100
TITLES: dict[str, str] = {
    "won": "What won, and by how much",
    "trust": "Can I trust it?",
    "mattered": "What mattered?",
    "data": "What were the data?",
    "cost": "What did it cost?",
    "use": "How do I use it?",
    "leaderboard": "Leaderboard",
    "failures": "Failures and notices",
    "environment": "How it was run",
}
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


class PageFigure(NamedTuple):
    """A figure inside the page."""

    name: str
    source: str
    """A `data:` address."""
    alt: str
    width: int
    height: int
    has_photos: bool
    file: str
    """Beside the page."""


class PagePart(NamedTuple):
    """A section of the page."""

    id: str
    title: str
    texts: Sequence[Markup]
    figures: Sequence[PageFigure]
    is_first: bool
    data: DataView | None = None


class Filter(NamedTuple):
    """A list to choose rows by."""

    title: str
    column: int
    choices: Sequence[str]


class PageColumn(NamedTuple):
    """A column of the leaderboard."""

    title: str
    is_number: bool


class Page(NamedTuple):
    """A page in its parts, whatever it is about."""

    title: str
    kind: str
    verdict: str
    """Markdown."""
    parts: Sequence[PagePart]
    columns: Sequence[PageColumn]
    rows: Sequence[Sequence[Any]]
    """The rows of its table: the cells as shown, and the values to sort and filter by."""
    elapsed_s: float
    files: Sequence[str]
    """Written beside the page."""
    is_running: bool = False


def render_page(
    results: Results, texts: PageTexts, figures: Sequence[DrawnFigure], data: DataView | None = None
) -> str:
    """Return the page of a run, complete with its figures, style and script."""
    columns, rows = leaderboard_rows(results)
    return render(
        Page(
            title=results.name or "Leaderboard",
            kind="Report of a search",
            verdict=texts.verdict,
            parts=_parts(texts, figures, data),
            columns=columns,
            rows=rows,
            elapsed_s=results.elapsed_s,
            files=(*(f"{name}.parquet" for name in TABLES), "leaderboard.md"),
            is_running=results.study is not None and results.session_ended is None,
        )
    )


def render_data(source: str, verdict: str, data: DataView) -> str:
    """Return the page of a data set, which needs no script; `verdict` is Markdown."""
    part = PagePart("data", "What is in it", (), (), True, data)
    return render(Page(source, "Account of a data set", verdict, [part], columns=(), rows=(), elapsed_s=0.0, files=()))


def render(page: Page) -> str:
    """Return a page as HTML."""
    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    return environment.get_template("index.html").render(
        title=page.title,
        kind=page.kind,
        verdict=as_html(page.verdict),
        reload_s=RELOAD_S if page.is_running else 0,
        elapsed=format_duration(page.elapsed_s),
        version=__version__,
        parts=page.parts,
        columns=page.columns,
        filters=_filters(page.columns, page.rows),
        first_rows=[row[0] for row in page.rows[:FIRST_ROWS]],
        number_of_rows=len(page.rows),
        files=page.files,
        rows=page.rows,
        style=style,
        has_script=any(part.id == "leaderboard" for part in page.parts) or page.is_running,
        script=script,
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
    )


def _parts(texts: PageTexts, figures: Sequence[DrawnFigure], data: DataView | None) -> list[PagePart]:
    """Return the sections that have something to say, in the order of the questions that people ask."""
    by_part: dict[str, list[PageFigure]] = {}
    for figure in figures:
        by_part.setdefault(FIGURES[figure.name].part, []).append(page_figure(figure))
    found: list[PagePart] = []
    for part, title in TITLES.items():
        own = [as_html(text) for text in texts.parts.get(part, ()) if text]
        view = data if part == "data" else None
        if own or by_part.get(part) or view is not None or part == "leaderboard":
            found.append(PagePart(part, title, own, by_part.get(part, []), not found, view))
    return found


def as_html(markdown: str) -> Markup:
    """Return Markdown as HTML; HTML in it is text."""
    # The renderer escapes HTML in its source (`html: False`, see its test), so what it gives is safe as it is.
    return Markup(_MARKDOWN.render(markdown))  # noqa: S704  the renderer has escaped what is HTML in it


def page_figure(figure: DrawnFigure) -> PageFigure:
    """Embed a figure as a `data:` address: as a drawing where that is small or all there is, else as pixels."""
    has_photos = figure.name in FIGURES and FIGURES[figure.name].has_photos
    by_suffix = {path.suffix: path for path in figure.paths}
    png, svg = (_content(by_suffix.get(suffix)) for suffix in (".png", ".svg"))
    is_vector = svg is not None and not has_photos and len(svg) <= LARGEST_VECTOR_BYTES
    chosen, suffix, mime = (svg, ".svg", "svg+xml") if is_vector or png is None else (png, ".png", "png")
    if chosen is None:
        raise TunerError(f"figure {figure.name} must be a PNG or an SVG file; got neither")
    content = chosen if chosen is svg or has_photos else _with_palette(chosen)
    source = f"data:image/{mime};base64,{base64.b64encode(content).decode()}"
    path = by_suffix[suffix]
    return PageFigure(figure.name, source, figure.alt, *_size_px(path, chosen), has_photos, path.name)


def _content(path: Path | None) -> bytes | None:
    """Return the content of a figure; None without a file: a report of a running search removes what it does not draw.

    It may do so while another process writes a report to the same folder.
    """
    try:
        return None if path is None else path.read_bytes()
    except FileNotFoundError:
        return None


def _with_palette(png: bytes) -> bytes:
    """Return a drawing in as many colours as a palette has: a quarter of the bytes, and no difference to be seen."""
    content = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        colours = image.convert("RGB").quantize(PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    colours.save(content, "PNG")
    return content.getvalue()


def _size_px(path: Path, content: bytes) -> tuple[int, int]:
    """Return width and height of a PNG or SVG file of ours in pixels of the screen, from its header."""
    if path.suffix == ".png":
        width, height = struct.unpack(">II", content[16:24])
        return round(width * SCREEN_DPI / PNG_DPI), round(height * SCREEN_DPI / PNG_DPI)
    box = re.search(rb'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', content[:4096])
    if box is None:
        raise TunerError(f"{path}: must begin with the size of the drawing")
    points_wide, points_high = (float(part) for part in box.groups())
    return round(points_wide * SCREEN_DPI / 72), round(points_high * SCREEN_DPI / 72)


def leaderboard_rows(results: Results) -> tuple[list[PageColumn], list[list[Any]]]:
    """Return columns and rows of the leaderboard; a row is the cells as shown, and the values to sort and filter by.

    Ranked trials first, by rank; then those without a result; then the failed ones.
    """
    names = results.differing_within
    with_gain = results.baseline is not None
    columns = [
        PageColumn("rank", is_number=True),
        PageColumn("trial", is_number=True),
        PageColumn(results.metric, is_number=True),
        *([PageColumn("gain", is_number=True)] if with_gain else []),
        PageColumn("architecture", is_number=False),
        PageColumn("configuration", is_number=False),
        PageColumn("epochs", is_number=True),
        PageColumn("time", is_number=True),
        *(PageColumn(title, is_number=title != "front") for title in cost_columns(results)),
        PageColumn("status", is_number=False),
        PageColumn("reason", is_number=False),
    ]
    order = [*results.ranked, *results.waiting, *results.failed]
    return columns, [sortable(columns, _cells(results, trial, names, with_gain)) for trial in order]


def _cells(
    results: Results, trial: TrialResult, names: Sequence[str], with_gain: bool
) -> list[tuple[str, float | None]]:
    """Return the cells of a trial, each with the value of its number."""
    return [
        (str(trial.rank or "-"), trial.rank),
        (trial.label, trial.number),
        (format_value(results.metric, trial.best), trial.best),
        *([gain_cell(results, trial)] if with_gain else []),
        (trial.architecture, 0),
        (describe_configuration(trial.configuration, names), 0),
        (str(len(trial.epochs)), len(trial.epochs)),
        (format_duration(trial.seconds), trial.seconds),
        *cost_cells(results, trial),
        (trial.status, 0),
        (reason_words(trial.reason), 0),
    ]


def _filters(columns: Sequence[PageColumn], rows: Sequence[Sequence[Any]]) -> list[Filter]:
    """Return lists to choose from: studies, architectures and statuses, where there are several."""
    found = []
    for index, column in enumerate(columns):
        if column.title in FILTERED:
            choices = sorted({str(row[0][index]) for row in rows})
            if len(choices) > 1:
                found.append(Filter(column.title, index, choices))
    return found


def sortable(columns: Sequence[PageColumn], pairs: Sequence[tuple[str, float | None]]) -> list[Any]:
    """Return a row of the table: its cells as shown, and for each column of numbers the value to sort by."""
    values = [
        None if value is None else float(f"{value:.6g}") if column.is_number else 0
        for column, (_, value) in zip(columns, pairs, strict=True)
    ]
    return [[shown for shown, _ in pairs], values]
