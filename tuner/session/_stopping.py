"""What ends a session before its trials are used up: Ctrl-C, the budget, first trials that fail alike, a full disk."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from tuner.reports.console import SearchConsole
from tuner.runs.events import Event, TrialEnded, TrialResumed, TrialStarted
from tuner.runs.record import Record
from tuner.training.failures import kind_of

FIRST_TRIALS = 10
"""Of a session. More than half of them must fail for the same reason; a search of five trials is never given up."""


class FirstTrials:
    """Told of every event of a session; `reason` says why the search is to be given up, once it is.

    The trials are those that begin or go on first, so that a session that is resumed after the cause is gone is not
    held up by what an earlier one saw.
    """

    def __init__(self) -> None:
        self._first: dict[int, str] = {}
        self.reason: str | None = None

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case TrialStarted() | TrialResumed() if len(self._first) < FIRST_TRIALS:
                self._first.setdefault(event.trial, "")
            case TrialEnded(status="failed") if event.trial in self._first:
                self._first[event.trial] = event.reason
                self._judge(kind_of(event.reason), event.reason)

    def _judge(self, kind: str, latest: str) -> None:
        number = Counter(kind_of(reason) for reason in self._first.values() if reason)[kind]
        if self.reason is None and number > FIRST_TRIALS // 2:
            self.reason = (
                f"{number} of the first {FIRST_TRIALS} trials failed for the same reason, the latest with: {latest}"
            )


Reason = Literal["finished", "time_budget", "interrupted", "given_up"]


class Stopping:
    """Asked at every step of a session whether it is to end."""

    def __init__(self, record: Record, budget_s: float | None, interrupted: threading.Event) -> None:
        self._record, self._budget_s, self._interrupted = record, budget_s, interrupted
        self._first_trials = FirstTrials()
        self.disk_full: str | None = None
        record.listen(self._first_trials)

    def on_disk_full(self, loss: str) -> None:
        """A trial was lost because a disk is full: that of the run, or of its node; `loss` says it in words."""
        self.disk_full = loss

    def is_interrupted(self) -> bool:
        """Return whether Ctrl-C was pressed."""
        return self._interrupted.is_set()

    @property
    def message(self) -> str | None:
        """Why the search is given up; None as long as it is not."""
        return self._first_trials.reason

    @property
    def is_broken(self) -> bool:
        """Whether something has gone wrong from which no later trial is safe."""
        return self.disk_full is not None or self.message is not None or self._record.broken is not None

    def should_stop(self) -> bool:
        """Whether no more trials are to run."""
        return self.is_broken or self.reason != "finished"

    @property
    def reason(self) -> Reason:
        """Why trials run no more; `finished` if nothing of this has happened."""
        if self._interrupted.is_set():
            return "interrupted"
        if self.message is not None:
            return "given_up"
        is_spent = self._budget_s is not None and self._record.elapsed_s() >= self._budget_s
        return "time_budget" if is_spent else "finished"


@contextmanager
def interruptible(console: SearchConsole) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts at once."""
    event = threading.Event()

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, previous)
        words = f"stopping: running epochs are let go, checkpoints are kept{console.quit_hint}"
        # not from here: what is interrupted may be in the middle of saying something else, and hold its lock
        threading.Thread(target=console.say, args=(words,), daemon=True).start()

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
