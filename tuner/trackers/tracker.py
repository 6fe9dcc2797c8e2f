"""Tracker: what is told of a search as it happens. The base of all trackers, and their registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tuner.common.registry import Registry
from tuner.runs.events import Event


class Unavailable(Exception):
    """A tracker's place cannot be reached or written to now: all events are given again later, from the first."""


class Refused(Exception):
    """Some of what was given can never be taken, and has been left out; the rest has been taken."""

    def __init__(self, why: str, number: int = 1) -> None:
        super().__init__(why)
        self.number = number


class Tracker:
    """A program that is told of one search; the base of all.

    It is made before the search begins, on the main thread: what it raises there refuses the search. All else is called
    in a thread of its own.
    """

    place: str = ""
    """Where it keeps what it is told, as it may be printed and remembered: without a password."""

    def __init__(self, place: str | None, run: Path) -> None:
        """Check `place`, and import what is needed; `place` is None where none was given, `run` is the run directory.

        Raises InputError or ImportError: the search is refused with this message.
        """
        raise NotImplementedError

    def take(self, happened: Sequence[Event]) -> None:
        """Take in the next events of the record, in their order.

        A session gives all of them from the first, `StudyCreated`, and so does the thread after Unavailable or an
        OSError: what is there already is to be passed over. Any other exception leaves the event out that causes it.

        Raises:
            Unavailable: it cannot be taken in now.
            Refused: some of it can never be taken in.
        """
        raise NotImplementedError

    def keep(self, files: Mapping[str, Path]) -> None:
        """Keep files of the run, by their places among its artifacts: the model, the report. The last but `close`."""

    def close(self) -> None:
        """Let go of what is open: the session has ended."""


TRACKERS: Registry[type[Tracker]] = Registry("tracker", entry_points="tuner.trackers")
