"""Trackers as the options of a command name them: made before a search begins, remembered for the sessions to come."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuner.common.errors import InputError, RunError, TunerError, cause_of, printable, without_passwords
from tuner.common.files import write_text
from tuner.runs.directory import RunDirectory
from tuner.trackers._mlflow import MlflowTracker
from tuner.trackers._tensorboard import TensorboardTracker
from tuner.trackers.feed import REPORT_PAGE, Told, following
from tuner.trackers.tracker import TRACKERS, Tracker

TRACKERS.add("mlflow", MlflowTracker)
TRACKERS.add("tensorboard", TensorboardTracker)


def make_trackers(asked: Sequence[str] | None, run: RunDirectory, *, goes_on: bool) -> tuple[Told, ...]:
    """Return the trackers asked for; if nothing is said of any, those that a run that goes on had before.

    Raises:
        UnknownNameError: no package offers one of this name.
        InputError: one refuses its place, or needs a package that is not installed.
    """
    if asked is not None:
        return tuple(_make(one, run.path) for one in dict.fromkeys(asked))
    try:
        return tuple(_make(one, run.path) for one in _remembered(run)) if goes_on else ()
    except InputError as error:
        raise InputError(f"{error}; the run had this tracker before, and --tracker none goes on without it") from None


def _make(asked: str, run: Path) -> Told:
    name, _, place = asked.partition("=")
    kind = TRACKERS[name]
    if not (isinstance(kind, type) and issubclass(kind, Tracker)):
        raise InputError(f"tracker {name!r} must be a class derived from tuner.trackers.tracker.Tracker")
    try:
        tracker = kind(place or None, run)
    except TunerError:
        raise
    except ImportError as error:
        raise InputError(f"--tracker {name} needs a package that is not installed: {cause_of(error)}") from None
    except Exception as error:
        said = without_passwords(cause_of(error))
        raise InputError(f"--tracker {name} cannot be used: {said}") from error
    shown = printable(without_passwords(tracker.place))
    return Told(f"{name} ({shown})" if shown else name, f"{name}={shown}" if place else name, tracker)


def _remembered(run: RunDirectory) -> list[str]:
    if not run.trackers.is_file():
        return []
    try:
        asked: Any = json.loads(run.trackers.read_text(encoding="utf-8"))
        if not (isinstance(asked, list) and all(isinstance(one, str) for one in asked)):
            raise ValueError("must be a list of texts")
    except (OSError, ValueError) as error:
        raise RunError(f"{run.trackers}: cannot be read: {cause_of(error)}") from None
    return asked


def kept_files(run: RunDirectory, report: Path) -> Mapping[str, Path]:
    """Return the files of a run that trackers may keep, by their places there; not all need be there."""
    exported = (run.best_model, run.best_state, run.labels, run.about_best)
    model = {f"model/{path.name}": path for path in exported}
    return {**model, run.specification.name: run.specification, REPORT_PAGE: report / "index.html"}


@contextmanager
def tracking(trackers: Sequence[Told], run: RunDirectory, report: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Tell trackers of the search in this block, and remember them for its next sessions."""
    if trackers or run.trackers.exists():
        write_text(run.trackers, json.dumps([one.asked for one in trackers], ensure_ascii=False) + "\n")
    if trackers:
        say(f"shown by {', '.join(one.label for one in trackers)}")
    with following(trackers, run.record, kept_files(run, report), say):
        yield
