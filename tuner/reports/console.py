"""The console of a search: a live picture on a terminal, plain lines elsewhere, both drawn from the record's state."""

from __future__ import annotations

import logging
import math
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.status import Status as Spinner
from rich.table import Table
from rich.text import Text

from tuner.common.errors import cause_of, printable
from tuner.common.metrics import short_number
from tuner.common.process import LenientOutput
from tuner.common.words import counted
from tuner.reports.formatting import describe_configuration, format_seconds, reason_words
from tuner.runs.events import EpochReported, Event, Notice, Status, TrialEnded, TrialPaused, TrialResumed
from tuner.runs.expected_gain import HORIZONS_S, expected_gain
from tuner.runs.forecast import rest_s
from tuner.runs.pareto import comparable_values, metrics_of, other_values, pareto_front
from tuner.runs.record import Record
from tuner.runs.state import RunState, TrialState

HEARTBEAT_S = 30.0
"""Plain lines: at least one this often while trials run."""
ROWS = 12
"""Running trials shown at the same time; more would not fit a terminal."""
_PROGRESS = "the progress cannot be shown"
_LOG = logging.getLogger(__name__)
_HIDDEN = ("architecture", "preprocess")


@dataclass(frozen=True)
class Limits:
    """Trials and time that a search may spend: shown as what is left."""

    trials: int
    time_budget_s: float | None
    max_concurrent: int
    finalists: int = 0
    trainings_each: int = 1


class Watched(Protocol):
    """Source of what is shown: a record that is written here, or the copy of one that is written elsewhere."""

    state: RunState

    def elapsed_s(self) -> float:
        """Return the seconds that the study has run."""

    def listen(self, listener: Callable[[Event], None], side_matter: str = "") -> None:
        """Call `listener` with each event from now on; one for a side matter, named if it fails, ends nothing."""


def time_left_s(state: RunState, limits: Limits, elapsed_s: float) -> float | None:
    """Estimate the seconds until all is done: trials to come at the pace so far, finalists, export and report.

    At most what is left to spend.
    None while nothing has ended and there is no budget.
    """
    by_budget = None if limits.time_budget_s is None else max(0.0, limits.time_budget_s - elapsed_s)
    ended = [trial for trial in state.trials.values() if trial.status != "running"]
    if not ended:
        return by_budget
    rest = rest_s(state, limits.time_budget_s, limits.finalists, limits.trainings_each)
    by_trials = max(0.0, (limits.trials - len(ended)) * elapsed_s / len(ended)) + rest
    return by_trials if by_budget is None else min(by_trials, by_budget)


def describe_trial(trial: TrialState) -> str:
    """Describe the configuration of a trial in a few words."""
    listed = describe_configuration(trial.configuration, [each for each in trial.configuration if each not in _HIDDEN])
    name = str(trial.configuration.get("architecture", ""))
    return f"{name} ({listed})" if name and listed else name or listed


def _best_words(state: RunState) -> str:
    best = state.best_trial()
    if best is None or state.study is None:
        return "best so far: none yet"
    words = f"best so far: {state.study.metric} {best.best:.4f}, trial {best.number}, {describe_trial(best)}"
    return f"{words}{_front_words(state)}"


def _front_words(state: RunState) -> str:
    """Say how many trials are on the Pareto front; nothing with one metric."""
    metrics = metrics_of(state)
    if len(metrics) < 2:
        return ""
    return f"; {counted(len(pareto_front(comparable_values(state), metrics)), 'trial')} on the Pareto front"


def _left_words(seconds: float | None) -> str:
    return "time left not known yet" if seconds is None else f"about {format_seconds(seconds)} left"


_COUNTED: tuple[Status, ...] = ("running", "paused", "completed", "stopped", "failed")


def _counts(state: RunState, limits: Limits) -> str:
    numbers = {status: len(state.with_status(status)) for status in _COUNTED}
    words = ", ".join(f"{number} {status}" for status, number in numbers.items() if number or status != "paused")
    return f"{words} of {limits.trials} trials"


def describe_search(state: RunState, limits: Limits, elapsed_s: float | None) -> str:
    """Say in a line where a search stands; `elapsed_s` is None when it has ended."""
    if elapsed_s is None:
        return f"{_counts(state, limits)}; {_best_words(state)}"
    left = _left_words(time_left_s(state, limits, elapsed_s))
    parts = _counts(state, limits), _best_words(state), _gain_words(state), left
    return "; ".join(part for part in parts if part)


def _gain_words(state: RunState) -> str:
    """Say what another ten minutes, and another hour, are expected to gain; nothing of what is not known."""
    gains = {name: expected_gain(state, seconds) for name, seconds in HORIZONS_S.items()}
    words = [
        f"another {name} {gain.mean:.4f} (80% interval {gain.low:.4f} to {gain.high:.4f})"
        for name, gain in gains.items()
        if gain is not None
    ]
    return f"expected to gain: {', '.join(words)}" if words else ""


class SearchConsole:
    """Console that says what is being prepared, then shows the search while it runs."""

    stop_hint = "Ctrl-C once stops and keeps everything"
    quit_hint = "; Ctrl-C again quits at once"

    def __init__(
        self,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        began: float | None = None,
    ) -> None:
        self.console = console or Console(file=cast(IO[str], LenientOutput()), soft_wrap=True, highlight=False)
        self._clock = clock
        self.began = time.time() if began is None else began
        """The start of the session: from here on time is spent."""
        self._failed: set[str] = set()
        self._building: dict[int, str] = {}
        self._built_said = -math.inf
        self._tells_notices = False
        """Whether what is noted in the record is said by itself."""

    def building(self, trial: int, done: int, total: int) -> None:
        """Note that activations are being computed for a trial: so many images of so many."""
        self._building[trial] = f"computing activations, {done:,} of {total:,} images"
        if not self.console.is_terminal and self._clock() - self._built_said >= HEARTBEAT_S:
            self._built_said = self._clock()
            self.say(f"trial {trial}: {self._building[trial]}")

    def resume_command(self, run: Path, more: Sequence[str] = ()) -> str:
        """Return the command that goes on with an interrupted run, with the words that it needs beside the run."""
        return shlex.join(["python", "-m", "tuner.search", "--resume", str(run), *more])

    def recording(self, record: Record) -> None:
        """Take the record of the search, now that it is open: of interest to a console that is elsewhere."""

    def say(self, text: str) -> None:
        """Print one line."""
        with self.beside("the console cannot be written"):
            self.console.print(Text(printable(text)))

    @contextmanager
    def beside(self, what: str, then: str = "the search goes on") -> Iterator[None]:
        """Keep a side matter in this block from ending the search: that it failed is said once, the log tells more."""
        try:
            yield
        # A side matter may fail in whatever way its libraries know, and none of them is worth a search.
        except Exception as error:  # noqa: BLE001  whatever a side matter raises, it must not end the search
            if what not in self._failed:
                self._failed.add(what)
                _LOG.warning("%s", what, exc_info=True)
                self.say(f"{what}: {cause_of(error)}; {then}")

    def note(self, record: Record, text: str) -> None:
        """Record a notice, and say it once."""
        if record.append(Notice(text=text)) and not self._tells_notices:
            self.say(text)

    @contextmanager
    def preparing(self, what: str) -> Iterator[None]:
        """Say what is being prepared, and how long it took if that was noticeable."""
        started = self._clock()
        if self.console.is_terminal:
            with self._live(self.console.status(f"{what} ...")):
                yield
        else:
            self.say(f"{what} ...")
            yield
        took_s = self._clock() - started
        if took_s >= 1 and self.console.is_terminal:
            self.say(f"{what}: {format_seconds(took_s)}")

    @contextmanager
    def watching(self, record: Watched, limits: Limits) -> Iterator[None]:
        """Show the search from here to the end of the block, and go on saying what is noted."""
        self._tells_notices = True
        if self.console.is_terminal:
            live = Live(
                console=self.console,
                get_renderable=lambda: self._drawn(record, limits),
                refresh_per_second=2,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,  # it goes to the log file (`log`)
            )
            with self._live(live):
                record.listen(self._said_live, _PROGRESS)
                yield
            return
        lines = _Lines(self, record, limits, self._clock)
        record.listen(lines, _PROGRESS)
        yield

    @contextmanager
    def _live(self, picture: Live | Spinner) -> Iterator[None]:
        """Show a picture that moves until the end of the block, if it can be shown."""
        with self.beside(_PROGRESS):
            picture.start()
        try:
            yield
        finally:
            with self.beside(_PROGRESS):
                picture.stop()

    def _drawn(self, record: Watched, limits: Limits) -> RenderableType:
        with self.beside(_PROGRESS):
            return draw_search(record.state, limits, record.elapsed_s(), self._building)
        return Text("")

    def _said_live(self, event: Event) -> None:
        if isinstance(event, EpochReported):
            self._building.pop(event.trial, None)
        elif isinstance(event, Notice):
            self.say(event.text)


class _Lines:
    """Plain lines: one for each trial that paused or ended, and a sign of life in between."""

    def __init__(self, console: SearchConsole, record: Watched, limits: Limits, clock: Callable[[], float]) -> None:
        self._console, self._record, self._limits, self._clock = console, record, limits, clock
        self._said = clock()
        self._paused: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        state = self._record.state
        if isinstance(event, TrialPaused):
            self._paused.add(event.trial)
            self._say(describe_end(state, event))
        elif isinstance(event, TrialResumed):
            self._paused.discard(event.trial)
        elif isinstance(event, TrialEnded) and event.trial not in self._paused:  # of those it has been said
            self._say(describe_end(state, event))
        elif isinstance(event, Notice):
            self._say(event.text)
        elif isinstance(event, EpochReported) and self._clock() - self._said >= HEARTBEAT_S:
            self._say(describe_search(state, self._limits, event.elapsed_s))

    def _say(self, text: str) -> None:
        with self._lock:
            self._said = self._clock()
            self._console.say(text)


def describe_end(state: RunState, event: TrialEnded | TrialPaused) -> str:
    """Say in a line how a trial ended, or that it waits at a rung."""
    trial, best = state.trials[event.trial], state.best_trial()
    metric = state.study.metric if state.study else "metric"
    value = "no epoch"
    if trial.best is not None:
        value = f"{metric} {trial.best:.4f} after {counted(trial.epochs[-1].epoch, 'epoch')}"
    others = other_values(trial, metrics_of(state)[1:]) if trial.best is not None else {}
    value += "".join(f", {name} {short_number(shown)}" for name, shown in others.items())
    star = ", the best so far" if best is not None and best.number == event.trial else ""
    fate = "paused" if isinstance(event, TrialPaused) else f"{event.status} ({reason_words(event.reason)})"
    return f"trial {event.trial} {fate}: {value}{star}; {describe_trial(trial)}"


def draw_search(
    state: RunState, limits: Limits, elapsed_s: float, building: Mapping[int, str] | None = None
) -> RenderableType:
    """Draw the live picture: running trials with their epochs, the best so far, the counts, the time left."""
    head = Text(
        f"{format_seconds(elapsed_s)} elapsed, {_left_words(time_left_s(state, limits, elapsed_s))}; "
        f"{_counts(state, limits)}"
    )
    title = state.study.study if state.study else "search"
    gain = [Text(words)] if (words := _gain_words(state)) else []
    return Panel(
        Group(head, Text(_best_words(state), style="bold green"), *gain, _running_table(state, building or {})),
        title=Text(title),
    )


def _running_table(state: RunState, building: Mapping[int, str]) -> Table:
    table = Table(box=None, expand=True, pad_edge=False)
    for name in ("trial", "epoch", "", "phase", "last", "best", "configuration"):
        table.add_column(name, no_wrap=True, ratio=3 if name == "configuration" else None, overflow="ellipsis")
    running = state.with_status("running")
    if not running and not state.trials:
        table.caption = "starting workers"
    max_epochs = state.study.max_epochs if state.study else 1
    for trial in running[-ROWS:]:
        table.add_row(*_row(state, trial, max_epochs, building))
    if len(running) > ROWS:
        table.caption = f"and {len(running) - ROWS} more"
    return table


def _row(state: RunState, trial: TrialState, max_epochs: int, building: Mapping[int, str]) -> list[RenderableType]:
    last = trial.epochs[-1] if trial.epochs else None
    value = "" if last is None or state.study is None else f"{last.metrics[state.metric]:.4f}"
    epoch = last.epoch if last else 0
    return [
        str(trial.number),
        f"{epoch}/{max_epochs}",
        ProgressBar(total=max_epochs, completed=epoch, width=20),
        last.phase.replace("_", " ") if last else "starting",
        value,
        "" if trial.best is None else f"{trial.best:.4f}",
        Text(building.get(trial.number) or describe_trial(trial)),
    ]
