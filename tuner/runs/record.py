"""The record of a run: one appended file of JSON lines, from which everything else is derived.

The Parquet tables, the sampler's study, the report and the live console all come from `RunState`, and `RunState` comes
from the events below and nothing else, whether they were read from the file or have just been written to it.

Every event is handed to the operating system before the search goes on, so `kill -9` of any process loses nothing;
at the end of a trial it is also forced to the disk. A torn last line (power cut) is dropped on reading and cut off
before the next write; a torn line anywhere else is refused.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from tuner.common.errors import RunError, TunerError
from tuner.common.files import disk_full_error, is_disk_full, write_text
from tuner.common.metrics import epoch_objectives
from tuner.runs import events
from tuner.runs.state import RunState

_ENDS = (events.TrialEnded, events.SessionEnded, events.FinalistTrained, events.FinalistTested)
_FORCED = (events.StudyCreated, *_ENDS)
"""Events after which the file is forced to the disk."""
BEATS = "elapsed_s.txt"
BEAT_EVERY_S = 10.0
_EVENT: TypeAdapter[events.Event] = TypeAdapter(Annotated[events.Event, Field(discriminator="event")])


class Record:
    """An open record, which appends events to its file, keeps the state and tells listeners (the console, the sampler).

    `clock` is an argument so that tests need not sleep; `began` is when the session did, by this clock, which prepares
    before it opens the record; `beside` makes a block that keeps a side matter from ending the search, given what has
    failed if it fails.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        began: float | None = None,
        beside: Callable[[str], AbstractContextManager[None]] | None = None,
    ) -> None:
        self.path = path
        self.state = RunState()
        self._clock = clock
        self._beside = beside
        self._listeners: list[tuple[Callable[[events.Event], None], str]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _cut_torn_line(path)
            self.state = read_state(path)
        self._beats = path.with_name(BEATS)
        self._elapsed_before_s = max(self.state.elapsed_s, _read_beat(self._beats))
        self._last_beat = clock()
        self._opened = self._last_beat if began is None else min(began, self._last_beat)
        self._file = path.open("ab", buffering=0)
        self.broken: TunerError | None = None
        """Why nothing can be written any more, once that is so."""

    def append(self, event: events.Event) -> bool:
        """Write `event` with its times, update the state, tell the listeners; return False if it said nothing new.

        Raises TunerError when it could not be written whole (DiskFullError: for want of room), or an earlier one could
        not. The file ends with the last whole event.
        """
        if self.broken is not None:
            raise self.broken
        now = self._clock()
        stamped = event.model_copy(update={"time": now, "elapsed_s": self.elapsed_s(now)})
        if not self.state.apply(stamped):
            return False
        self._write(stamped.model_dump_json().encode() + b"\n", is_forced=isinstance(stamped, _FORCED))
        for listener, side_matter in self._listeners:
            with self._beside(side_matter) if side_matter and self._beside else nullcontext():
                listener(stamped)
        return True

    def _write(self, line: bytes, *, is_forced: bool) -> None:
        end = self._file.seek(0, os.SEEK_END)
        try:
            while line:  # a disk that becomes full takes a part of it first
                line = line[self._file.write(line) :]
            if is_forced:
                os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            full = is_disk_full(error)
            self.broken = disk_full_error(self.path) if full else TunerError(f"{self.path}: cannot be written: {error}")
            raise self.broken from error

    def elapsed_s(self, now: float | None = None) -> float:
        """Return the seconds that the study has run over all sessions, this one included."""
        return self._elapsed_before_s + max(0.0, (self._clock() if now is None else now) - self._opened)

    def beat(self) -> None:
        """Write the elapsed time into a file beside the record, at most every few seconds.

        After a kill, the time since the last event was spent, too, and an epoch can be long.
        """
        now = self._clock()
        if now - self._last_beat >= BEAT_EVERY_S:
            self._last_beat = now
            with contextlib.suppress(OSError):  # a full disk is told of by the next event
                write_text(self._beats, f"{self.elapsed_s(now):.1f}\n")

    def listen(self, listener: Callable[[events.Event], None], side_matter: str = "") -> None:
        """Call `listener` with each event from now on; one for a side matter, said if it fails, ends nothing."""
        self._listeners.append((listener, side_matter))

    def close(self) -> None:
        """Force everything to the disk and close the file."""
        if not self._file.closed:
            with contextlib.suppress(OSError):  # the last event is there; a full disk has been told of
                os.fsync(self._file.fileno())
            self._file.close()


def beat_after(record: Path, state: RunState) -> None:
    """Write the elapsed time of a closed record: export and report were spent, too."""
    ended = state.session_ended
    if ended is not None:
        with contextlib.suppress(OSError):
            elapsed_s = ended.elapsed_s + max(0.0, time.time() - ended.time)
            write_text(record.with_name(BEATS), f"{elapsed_s:.1f}\n")


def _read_beat(path: Path) -> float:
    """Return the seconds that `beat` wrote last; 0 when there is nothing that can be read."""
    try:
        seconds = float(path.read_text())
    except (OSError, ValueError):
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0


def read_events(path: Path) -> Iterator[events.Event]:
    """Yield the events of a record; a last line without its end is left out.

    Raises RunError when there is no such file, a line cannot be read, or another version of tuner wrote it.
    """
    try:
        if not path.is_file():
            raise RunError(f"{path}: no record there; a run directory holds one file record.jsonl")
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    return
                event = _read_event(path, number, line)
                if number == 1 and not isinstance(event, events.StudyCreated):
                    raise RunError(f"{path}:1: must begin with a study; got {line[:80]!r}")
                yield event
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_on(path: Path, start: int, most: int) -> tuple[list[events.Event], int]:
    """Return at most so many events of a record that grows, from byte `start` on, and the byte after the last of them.

    A last line without its end is still being written; a record that is not there yet has no events.

    Raises RunError when a line cannot be read, OSError when the file cannot.
    """
    happened: list[events.Event] = []
    if not path.exists():
        return happened, start
    with path.open("rb") as lines:
        lines.seek(start)
        for line in itertools.islice(lines, most):
            if not line.endswith(b"\n"):
                break
            happened.append(_read_event(path, 1 + len(happened), line))
            start += len(line)
    return happened, start


def _read_event(path: Path, number: int, line: bytes) -> events.Event:
    try:
        event = _EVENT.validate_json(line)
    except ValidationError as error:
        _refuse_version(path, number, _version_in(line))  # of which other fields are the consequence
        first = error.errors()[0]
        known = f"not an event of record version {events.SCHEMA_VERSION}"
        raise RunError(f"{path}:{number}: {known}: {first['msg']}; got {line[:80]!r}") from None
    if isinstance(event, events.StudyCreated):
        _refuse_version(path, number, event.schema_version)
    return event


def _refuse_version(path: Path, number: int, version: int | None) -> None:
    if version is not None and version not in events.READABLE_VERSIONS:
        raise RunError(
            f"{path}:{number}: record version must be {' or '.join(map(str, events.READABLE_VERSIONS))}; got "
            f"{version}, which another version of tuner wrote"
        )


def _version_in(line: bytes) -> int | None:
    """Return the record version in a line that cannot be read as an event; None if it is no study's."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    version = values.get("schema_version") if isinstance(values, dict) else None
    return version if isinstance(version, int) else None


def event_of(values: object) -> events.Event:
    """Return the event with these plain values; raises RunError when they are none of this version of the record."""
    try:
        return _EVENT.validate_python(values)
    except ValidationError as error:
        raise RunError(f"not an event of record version {events.SCHEMA_VERSION}: {error.errors()[0]['msg']}") from None


def read_state(path: Path) -> RunState:
    """Return the state of the run whose record is at `path`; raises RunError as `read_events` does."""
    return replay(read_events(path), str(path))


def replay(happened: Iterable[events.Event], name: str = "record") -> RunState:
    """Return the state after all that `happened`; raises RunError when an event names a trial that never started."""
    state = RunState()
    for event in happened:
        if wrong := _misplaced(state, event):
            raise RunError(f"{name}: {wrong}")
        try:
            state.apply(event)
        except KeyError as error:
            raise RunError(f"{name}: trial {error} has events but never started") from None
    return state


def _misplaced(state: RunState, event: events.Event) -> str | None:
    """Return why an event cannot follow this state, as when two searches write to one file; None if it can."""
    if isinstance(event, events.StudyCreated) and state.study is not None:
        return "must be of one study; it begins another one"
    if isinstance(event, events.TrialStarted) and event.trial in state.trials:
        return f"trial {event.trial} must start once; it starts again"
    if isinstance(event, events.EpochReported) and state.metric in {*epoch_objectives()}.difference(event.metrics):
        return f"epochs must measure {state.metric}, which the study compares; got {', '.join(event.metrics) or 'none'}"
    if isinstance(event, events.Tested):
        others = {one.tested.images for one in state.finalists.values() if one.tested is not None}
        if others - {event.images}:
            return f"finalists must be tested on the same images; got {event.images} and {others.pop()} images"
    return None


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        end = keep = file.seek(0, os.SEEK_END)
        while keep > 0:
            start = max(0, keep - 4096)
            file.seek(start)
            found = file.read(keep - start).rfind(b"\n")
            if found >= 0:
                keep = start + found + 1
                break
            keep = start
        if keep < end:
            file.truncate(keep)
