"""The record of a run: one appended file of JSON lines, from which everything else is derived.

The Parquet tables, the sampler's study, the report and the live console all come from `RunState`, and `RunState` comes
from the events below and nothing else, whether they were read from the file or have just been written to it.

Every event is handed to the operating system before the search goes on, so `kill -9` of any process loses nothing;
at the end of a trial it is also forced to the disk. A torn last line (power cut) is dropped on reading and cut off
before the next write; a torn line anywhere else is refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from tuner.errors import RunError
from tuner.events import (
    SCHEMA_VERSION,
    CheckpointSaved,
    Configuration,
    ConfigurationChanged,
    Epoch,
    EpochReported,
    Event,
    FinalistsStarted,
    FinalistTested,
    FinalistTrained,
    Notice,
    SessionEnded,
    SessionStarted,
    Status,
    StudyCreated,
    TrialEnded,
    TrialMeasured,
    TrialPaused,
    TrialResumed,
    TrialStarted,
)

_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


@dataclass
class TrialState:
    """All that is known of one trial."""

    number: int
    configuration: Configuration
    origin: str
    started_s: float
    """Elapsed seconds of the study when it first got a slot."""
    status: Status = "running"
    reason: str = ""
    epochs: list[Epoch] = field(default_factory=list)
    measured: TrialMeasured | None = None
    ended: TrialEnded | None = None
    paused: TrialPaused | None = None
    """The last time that it had to wait at a rung."""
    checkpoint: CheckpointSaved | None = None
    resumed: int = 0
    """How often it went on from a checkpoint after it was lost or interrupted; promotions do not count."""

    @property
    def best(self) -> float | None:
        """Best value of the metric so far; None before the first epoch."""
        return self.epochs[-1].best_so_far if self.epochs else None


@dataclass
class FinalistState:
    """One training of a finalist."""

    trained: FinalistTrained
    tested: FinalistTested | None = None


@dataclass
class RunState:
    """The state of a study after a sequence of events."""

    study: StudyCreated | None = None
    sessions: list[SessionStarted] = field(default_factory=list)
    session_ended: SessionEnded | None = None
    """How the latest session ended; None while it runs, or after a kill."""
    trials: dict[int, TrialState] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    finalists_started: FinalistsStarted | None = None
    finalists: dict[tuple[int, int], FinalistState] = field(default_factory=dict)
    """By trial and number of the seed."""
    elapsed_s: float = 0.0

    def apply(self, event: Event) -> bool:
        """Take in one event; False if it says nothing new (an epoch trained again after a restart, a size)."""
        self.elapsed_s = max(self.elapsed_s, event.elapsed_s)
        match event:
            case EpochReported():  # first: nearly all events are
                return _apply_to_trial(self.trials[event.trial], event)
            case StudyCreated():
                self.study = event
            case Notice():
                if event.text in self.notices:
                    return False
                self.notices.append(event.text)
            case SessionStarted():
                self.sessions.append(event)
                self.session_ended = None
            case SessionEnded():
                self.session_ended = event
            case FinalistsStarted():
                self.finalists_started = event
            case FinalistTrained():
                self.finalists[event.trial, event.seed_number] = FinalistState(event)
            case FinalistTested():
                self.finalists[event.trial, event.seed_number].tested = event
            case TrialStarted():
                self.trials[event.trial] = TrialState(
                    event.trial, dict(event.configuration), event.origin, event.elapsed_s
                )
            case _:
                return _apply_to_trial(self.trials[event.trial], event)
        return True

    @property
    def maximise(self) -> bool:
        """Whether larger values of the metric are better."""
        return self.study is None or self.study.mode == "max"

    def best_trial(self) -> TrialState | None:
        """The trial with the best value so far (the earliest of equals); None before any epoch."""
        sign = 1.0 if self.maximise else -1.0
        scored = [trial for trial in self.trials.values() if trial.best is not None and trial.status != "failed"]
        return max(scored, key=lambda trial: (sign * (trial.best or 0.0), -trial.number), default=None)

    def with_status(self, status: Status) -> list[TrialState]:
        """Trials of one status, by number."""
        return [trial for trial in self.trials.values() if trial.status == status]


def _apply_to_trial(
    trial: TrialState,
    event: TrialMeasured
    | TrialPaused
    | TrialResumed
    | ConfigurationChanged
    | EpochReported
    | CheckpointSaved
    | TrialEnded,
) -> bool:
    match event:
        case TrialMeasured():
            if trial.measured is not None:
                return False
            trial.measured = event
        case TrialPaused():
            trial.status, trial.paused = "paused", event
        case TrialResumed():
            trial.resumed += trial.status != "paused"  # a promotion is no loss
            trial.status = "running"
        case ConfigurationChanged():
            trial.configuration = dict(event.configuration)
        case EpochReported():
            if trial.epochs and event.epoch <= trial.epochs[-1].epoch:
                return False
            trial.epochs.append(event.compact())
        case CheckpointSaved():
            trial.checkpoint = event
        case TrialEnded():
            trial.status, trial.reason, trial.ended = event.status, event.reason, event
    return True


class Record:
    """An open record: appends events to its file, keeps the state, tells listeners (the console, the sampler).

    `clock` is an argument so that tests need not sleep.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.state = RunState()
        self._clock = clock
        self._listeners: list[Callable[[Event], None]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _cut_torn_line(path)
            self.state = read_state(path)
        self._elapsed_before_s = self.state.elapsed_s
        self._opened = clock()
        self._file = path.open("ab")

    def append(self, event: Event) -> bool:
        """Write `event` with its times, update the state, tell the listeners; False if it said nothing new."""
        now = self._clock()
        stamped = event.model_copy(update={"time": now, "elapsed_s": self.elapsed_s(now)})
        if not self.state.apply(stamped):
            return False
        self._file.write(stamped.model_dump_json().encode() + b"\n")
        self._file.flush()
        if isinstance(stamped, StudyCreated | TrialEnded | SessionEnded | FinalistTrained | FinalistTested):
            os.fsync(self._file.fileno())
        for listener in self._listeners:
            listener(stamped)
        return True

    def elapsed_s(self, now: float | None = None) -> float:
        """Seconds that the study has run over all sessions, this one included."""
        return self._elapsed_before_s + max(0.0, (self._clock() if now is None else now) - self._opened)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with each event appended from now on."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Force everything to the disk and close the file."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """The events of a record; a last line without its end is left out.

    Raises:
        RunError: there is no such file, a line cannot be read, or another version of tuner wrote it.
    """
    try:
        if not path.is_file():
            raise RunError(f"{path}: no record there; a run directory holds one file record.jsonl")
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    return
                event = _read_event(path, number, line)
                if number == 1 and not isinstance(event, StudyCreated):
                    raise RunError(f"{path}:1: must begin with a study; got {line[:80]!r}")
                yield event
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_event(path: Path, number: int, line: bytes) -> Event:
    try:
        event = _EVENT.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        raise RunError(
            f"{path}:{number}: not an event of record version {SCHEMA_VERSION}: {first['msg']}; got {line[:80]!r}"
        ) from None
    if isinstance(event, StudyCreated) and event.schema_version != SCHEMA_VERSION:
        raise RunError(
            f"{path}:{number}: record version must be {SCHEMA_VERSION}; got {event.schema_version}, "
            "which another version of tuner wrote"
        )
    return event


def read_state(path: Path) -> RunState:
    """The state of the run whose record is at `path`; raises RunError as `read_events` does."""
    return replay(read_events(path), str(path))


def replay(events: Iterable[Event], name: str = "record") -> RunState:
    """The state after `events`; raises RunError when an event names a trial that never started."""
    state = RunState()
    for event in events:
        if wrong := _misplaced(state, event):
            raise RunError(f"{name}: {wrong}")
        try:
            state.apply(event)
        except KeyError as error:
            raise RunError(f"{name}: trial {error} has events but never started") from None
    return state


def _misplaced(state: RunState, event: Event) -> str | None:
    """Why an event cannot be the next one after a state: two searches have written to one file, or lines are lost."""
    if isinstance(event, StudyCreated) and state.study is not None:
        return "must be of one study; it begins another one"
    if isinstance(event, TrialStarted) and event.trial in state.trials:
        return f"trial {event.trial} must start once; it starts again"
    if isinstance(event, FinalistTested):
        others = {one.tested.images for one in state.finalists.values() if one.tested is not None}
        if others - {event.images}:
            return f"finalists must be tested on the same images; got {event.images} and {others.pop()} images"
    return None


def _cut_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        content_end = file.seek(0, os.SEEK_END)
        position = content_end
        while position > 0:
            step = min(4096, position)
            file.seek(position - step)
            newline = file.read(step).rfind(b"\n")
            if newline >= 0:
                keep = position - step + newline + 1
                break
            position -= step
        else:
            keep = 0
        if keep < content_end:
            file.truncate(keep)
