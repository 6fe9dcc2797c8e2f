"""Reasons to end a session early: Ctrl-C, the budget, first trials that fail alike, a full disk."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Literal, NamedTuple

from tuner.reports.console import SearchConsole
from tuner.runs.events import Event, Notice, TrialEnded, TrialResumed, TrialStarted
from tuner.runs.record import Record
from tuner.training.failures import kind_of

FIRST_TRIALS = 10
"""Trials at the start of a session. A search is given up if more than half of them fail for the same reason, and more
than half in each branch that was tried; one of five trials never is."""


class _First(NamedTuple):
    """One of the first trials of a session."""

    branch: str
    reason: str = ""
    """Why it failed; empty if it has not."""


class FirstTrials:
    """A watch over the first trials of a session; `reason` tells why to give up the search, once that is so.

    The trials are those that begin or go on first, so that a session that is resumed after the cause is gone is not
    held up by what an earlier one saw. Trials of another architecture, or of another branch of a `choose`, are counted
    by themselves: where one branch works, `notices` say which one does not, and the search goes on.
    """

    def __init__(self, branching: Sequence[str] = ("architecture",)) -> None:
        self._branching = branching
        self._branches: dict[int, str] = {}
        self._first: dict[int, _First] = {}
        self._noted: set[str] = set()
        self.reason: str | None = None
        self.notices: list[str] = []
        """Whoever tells of them takes them away."""

    def know(self, trial: int, configuration: Mapping[str, object]) -> None:
        """Remember the branch of a trial, for when the trial resumes."""
        named = [f"{name} {configuration[name]}" for name in self._branching if name in configuration]
        self._branches[trial] = ", ".join(named)

    def __call__(self, event: Event) -> None:
        """Count an event of the session."""
        if isinstance(event, TrialStarted):
            self.know(event.trial, event.configuration)
        match event:
            case TrialStarted() | TrialResumed() if len(self._first) < FIRST_TRIALS:
                self._first.setdefault(event.trial, _First(self._branches.get(event.trial, "")))
            case TrialEnded(status="failed") if event.trial in self._first:
                self._first[event.trial] = self._first[event.trial]._replace(reason=event.reason)
                self._judge(kind_of(event.reason), event.reason)

    def _judge(self, kind: str, latest: str) -> None:
        alike = [trial for trial in self._first.values() if trial.reason and kind_of(trial.reason) == kind]
        if self.reason is not None or len(alike) <= FIRST_TRIALS // 2:
            return
        failed, tried = (Counter(trial.branch for trial in some) for some in (alike, self._first.values()))
        failing = [branch for branch in tried if failed[branch] > tried[branch] / 2]
        if len(failing) == len(tried):
            self.reason = (
                f"{len(alike)} of the first {FIRST_TRIALS} trials failed for the same reason, the latest with: {latest}"
            )
            return
        for branch in [branch for branch in failing if branch not in self._noted]:
            self._noted.add(branch)
            self.notices.append(
                f"{failed[branch]} of the first {tried[branch]} trials with {branch} failed for the same reason; the "
                f"search goes on for what else it tries; the latest with: {latest}"
            )


Reason = Literal["finished", "time_budget", "interrupted", "given_up"]


class Stopping:
    """The decision, at every step of a session, whether to end it."""

    def __init__(
        self, record: Record, budget_s: float | None, interrupted: threading.Event, branching: Sequence[str]
    ) -> None:
        self._record, self._budget_s, self._interrupted = record, budget_s, interrupted
        self._first_trials = FirstTrials(branching)
        for number, trial in record.state.trials.items():
            self._first_trials.know(number, trial.configuration)
        self.disk_full: str | None = None
        record.listen(self._take_in)

    def _take_in(self, event: Event) -> None:
        self._first_trials(event)
        while self._first_trials.notices:
            self._record.append(Notice(text=self._first_trials.notices.pop(0)))

    def on_disk_full(self, loss: str) -> None:
        """Note that a full disk, of the run or of its node, lost a trial; `loss` says it in words."""
        self.disk_full = loss

    def is_interrupted(self) -> bool:
        """Return whether Ctrl-C was pressed."""
        return self._interrupted.is_set()

    @property
    def message(self) -> str | None:
        """The reason to give the search up; None as long as there is none."""
        return self._first_trials.reason

    @property
    def is_broken(self) -> bool:
        """Whether something has gone wrong from which no later trial is safe."""
        return self.disk_full is not None or self.message is not None or self._record.broken is not None

    def should_stop(self) -> bool:
        """Return whether no more trials are to run."""
        return self.is_broken or self.reason != "finished"

    @property
    def reason(self) -> Reason:
        """The reason why trials run no more; `finished` if nothing of this has happened."""
        if self._interrupted.is_set():
            return "interrupted"
        if self.message is not None:
            return "given_up"
        is_spent = self._budget_s is not None and self._record.elapsed_s() >= self._budget_s
        return "time_budget" if is_spent else "finished"


@contextmanager
def interruptible(console: SearchConsole) -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second one interrupts at once."""
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
