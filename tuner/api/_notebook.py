"""Consoles of searches that a program has begun, and the picture of a search in a notebook."""

from __future__ import annotations

import html
import importlib
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from tuner.common.errors import printable
from tuner.reports.console import ROWS, Limits, SearchConsole, Watched, describe_search, describe_trial
from tuner.runs.events import Event, Notice
from tuner.runs.state import RunState

_EVERY_S = 1.0
_CELL = 'style="text-align: left"'


def is_notebook() -> bool:
    """Return whether this program is a notebook, in which pictures can be shown and renewed."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _display() -> tuple[Callable[..., Any], Callable[[str], Any]]:
    """Return what shows something in a notebook, and what makes HTML of a text for it."""
    module = importlib.import_module("IPython.display")
    return module.display, module.HTML


class KeptConsole(SearchConsole):
    """A console that shows nothing: a search in the background is asked how far it is."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))

    def say(self, text: str) -> None:
        """Leave it unsaid."""


class NotebookConsole(SearchConsole):
    """A console that prints lines below a cell, and above them a picture of the search that is renewed."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self._shown_s = -_EVERY_S

    def say(self, text: str) -> None:
        """Print one line below the cell."""
        sys.stdout.write(f"{printable(text)}\n")

    @contextmanager
    def watching(self, record: Watched, limits: Limits) -> Iterator[None]:
        """Show the search as a picture that is renewed until the end of the block."""
        show, make = _display()
        self._tells_notices = True
        handle = show(make(search_html(record.state, limits, record.elapsed_s())), display_id=True)

        def renew(event: Event) -> None:
            if isinstance(event, Notice):
                self.say(event.text)
            if self._clock() - self._shown_s >= _EVERY_S:
                self._shown_s = self._clock()
                handle.update(make(search_html(record.state, limits, event.elapsed_s, self._building)))

        record.listen(renew, "the progress cannot be shown")
        try:
            yield
        finally:
            handle.update(make(search_html(record.state, limits, None)))


def search_html(
    state: RunState, limits: Limits, elapsed_s: float | None, building: Mapping[int, str] | None = None
) -> str:
    """Return a picture of a search: how far it is, the best so far, what runs; without times when it has ended."""
    ended = len(state.trials) - len(state.with_status("running")) - len(state.with_status("paused"))
    title = html.escape(state.study.study if state.study else "search")
    words = html.escape(describe_search(state, limits, elapsed_s))
    bar = f'<progress max="{limits.trials}" value="{min(ended, limits.trials)}"></progress>'
    running = state.with_status("running")[-ROWS:] if elapsed_s is not None else []
    max_epochs = state.study.max_epochs if state.study else 1
    rows = [
        (
            trial.number,
            f"{trial.epochs[-1].epoch if trial.epochs else 0}/{max_epochs}",
            "" if trial.best is None else f"{trial.best:.4f}",
            (building or {}).get(trial.number) or describe_trial(trial),
        )
        for trial in running
    ]
    table = table_html(("trial", "epoch", "best", "configuration"), rows) if rows else ""
    return f"<div><b>{title}</b> {bar}<br>{words}{table}</div>"


def table_html(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """Return a table; every cell is a text, whatever is in it."""
    head = "".join(f"<th {_CELL}>{html.escape(name)}</th>" for name in names)
    lines = ["".join(f"<td {_CELL}>{html.escape(str(cell))}</td>" for cell in row) for row in rows]
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
