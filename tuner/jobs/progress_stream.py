"""The progress of a search as lines of JSON, and the replay of these lines on the console of another machine.

A search that a cluster runs as a job prints them (`ProgressStream`); they lie in the log of the job, can be read again
from the beginning at any time, and are the same to whoever reads them (`Replay`).
"""

from __future__ import annotations

import io
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from tuner.common.errors import RunError
from tuner.common.process import in_background
from tuner.reports.console import Limits, SearchConsole, Watched
from tuner.runs.events import Event
from tuner.runs.record import Record, event_of, read_events
from tuner.runs.state import RunState

ALIVE_S = 30.0
"""A line at least this often: a reader can tell silence from a connection that is dead."""
BUILDING_S = 5.0
RAW_LINES = 40
"""Number of other last lines of a log that are kept, to be shown if the job fails."""
_KIND = "tuner"


class ProgressStream(SearchConsole):
    """A console that writes every message and event as a line of JSON."""

    stop_hint = "it goes on when nobody watches"
    quit_hint = ""

    def __init__(
        self, write: Callable[[str], None], resume_command: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(Console(file=io.StringIO()), clock)
        self._write, self._resume_command = write, resume_command
        self._lock = threading.Lock()
        self._building_sent: dict[int, float] = {}

    def send(self, kind: str, **values: Any) -> None:
        """Write one line of this kind."""
        line = json.dumps({_KIND: kind, **values}) + "\n"
        with self._lock:  # what is measured and what lives are said from threads
            self._write(line)

    def say(self, text: str) -> None:
        """Write one line of text for the user."""
        self.send("say", text=text)

    def building(self, trial: int, done: int, total: int) -> None:
        """Write how many images have their activations, at most once every few seconds."""
        if self._clock() - self._building_sent.get(trial, -math.inf) >= BUILDING_S or done >= total:
            self._building_sent[trial] = self._clock()
            self.send("building", trial=trial, done=done, total=total)

    def resume_command(self, run: Path, more: Sequence[str] = ()) -> str:
        """Return the command with which the user who sent the search resumes it."""
        return self._resume_command

    def recording(self, record: Record) -> None:
        """Write all events of the record so far, and from now on each that is appended."""
        self.send("recording", run=str(record.path.parent.resolve()))
        for event in read_events(record.path):
            self._event(event)
        record.listen(self._event, "the progress cannot be sent")

    def _event(self, event: Event) -> None:
        self.send("event", event=event.model_dump(mode="json"))

    @contextmanager
    def preparing(self, what: str) -> Iterator[None]:
        """Write what is being prepared, and when that is done."""
        self.send("preparing", what=what)
        try:
            yield
        finally:
            self.send("prepared", what=what)

    @contextmanager
    def watching(self, record: Watched, limits: Limits) -> Iterator[None]:
        """Write that the search is to be shown until the end of the block; its events are sent in any case."""
        self._tells_notices = True
        self.send("watching", limits=asdict(limits))
        try:
            yield
        finally:
            self.send("watched")

    @contextmanager
    def beating(self, every_s: float = ALIVE_S) -> Iterator[None]:
        """Write a sign of life from time to time, until the end of the block."""

        def beat(ended: threading.Event) -> None:
            while not ended.wait(every_s):
                self.send("alive")

        with in_background(beat):
            yield


@dataclass
class RemoteRecord:
    """The record of a search elsewhere, as far as its events have arrived."""

    clock: Callable[[], float] = time.time
    state: RunState = field(default_factory=RunState)
    _listeners: list[Callable[[Event], None]] = field(default_factory=list)
    _last: Event | None = None

    def elapsed_s(self) -> float:
        """Return the seconds that the study has run, by the clock of this machine since the last event."""
        last = self._last
        return 0.0 if last is None else last.elapsed_s + max(0.0, self.clock() - last.time)

    def listen(self, listener: Callable[[Event], None], side_matter: str = "") -> None:
        """Call `listener` with each event that arrives from now on."""
        self._listeners.append(listener)

    def take_in(self, event: Event) -> None:
        """Update the state with an event; raises RunError when it does not follow from those before."""
        self._last = event
        try:
            is_new = self.state.apply(event)
        except KeyError as error:
            raise RunError(f"trial {error} has events but never started") from None
        for listener in self._listeners if is_new else []:
            listener(event)


class Replay:
    """A replay of a job's log on a console here, piece by piece as it arrives."""

    def __init__(self, console: SearchConsole) -> None:
        self.console, self.mirror = console, RemoteRecord()
        self.taken = 0
        """Characters of the log that have been taken in."""
        self.run: Path | None = None
        """The run directory, on the cluster."""
        self.limits: Limits | None = None
        """The limits of the search, once it has begun."""
        self.status: int | None = None
        """The exit status that the search gave itself."""
        self.errors: list[str] = []
        """Lines of a deliberate error."""
        self.error: dict[str, Any] = {}
        """All that is said of it."""
        self.plan = ""
        """The plan of a search, where that was asked for."""
        self.raw: deque[str] = deque(maxlen=RAW_LINES)
        """The last lines that were not ours."""
        self._partial = ""
        self._open: dict[str, AbstractContextManager[None]] = {}

    def feed(self, text: str) -> None:
        """Show the next piece of the log; raises RunError when another version of tuner wrote it."""
        self.taken += len(text)
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._line(line)

    def feed_from_start(self, log: str) -> None:
        """Show the new part of a log that was read from its beginning."""
        self.feed(log[self.taken :])

    def close(self) -> None:
        """End everything that is still being shown."""
        for name in [*self._open]:
            self._end(name)

    def _line(self, line: str) -> None:
        values = _values(line)
        if values is None:
            self.raw.append(line)
            return
        match values:
            case {"tuner": "say", "text": str(text)}:
                self.console.say(text)
            case {"tuner": "event", "event": event}:
                self.mirror.take_in(event_of(event))
            case {"tuner": "recording", "run": str(run)}:
                self.run = Path(run)
            case {"tuner": "preparing", "what": str(what)}:
                self._begin("preparing", self.console.preparing(what))
            case {"tuner": "prepared"}:
                self._end("preparing")
            case {"tuner": "watching", "limits": dict(limits)}:
                self.limits = _limits(limits)
                self._begin("watching", self.console.watching(self.mirror, self.limits))
            case {"tuner": "watched"}:
                self._end("watching")
            case {"tuner": "building", "trial": int(trial), "done": int(done), "total": int(total)}:
                self.console.building(trial, done, total)
            case {"tuner": "error", "lines": list(lines)}:
                self.errors, self.error = [str(one) for one in lines], values
            case {"tuner": "plan", "text": str(text)}:
                self.plan = text
            case {"tuner": "ended", "status": int(status)}:
                self.status = status
            case _:  # a sign of life, or of a newer tuner: nothing to show
                pass

    def _begin(self, name: str, block: AbstractContextManager[None]) -> None:
        self._end(name)
        block.__enter__()
        self._open[name] = block

    def _end(self, name: str) -> None:
        block = self._open.pop(name, None)
        if block is not None:
            block.__exit__(None, None, None)


def _values(line: str) -> dict[str, Any] | None:
    """Return the values of a line that a search wrote with `ProgressStream`; None for any other line."""
    if not line.startswith(f'{{"{_KIND}": '):
        return None
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _limits(values: dict[str, Any]) -> Limits:
    try:
        budget = values["time_budget_s"]
        counts = [int(values[name]) for name in ("max_concurrent", "finalists", "trainings_each")]
        return Limits(int(values["trials"]), None if budget is None else float(budget), *counts)
    except (KeyError, TypeError, ValueError):
        problem = "another version of tuner runs on the cluster: what it says of a search is not known here"
        raise RunError(problem) from None
