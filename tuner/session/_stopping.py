"""Reasons to end a session early: Ctrl-C, budget, little more to gain, first trials that fail alike, a full disk."""

from __future__ import annotations

import math
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Literal, NamedTuple

import psutil

from tuner.common.termination import ignore_hangup
from tuner.reports.console import SearchConsole
from tuner.reports.formatting import format_seconds
from tuner.runs.events import EpochReported, Event, Notice, TrialEnded, TrialResumed, TrialStarted
from tuner.runs.expected_gain import ExpectedGain, expected_gain, is_gain_below
from tuner.runs.forecast import Costs, costs_of, share_out, wanted_trainings
from tuner.runs.record import Record
from tuner.session._resolved import Budget
from tuner.spec.schema import StopWhenSection
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


class TimeBudget:
    """The promise that a search ends in time with all that belongs to it: when its parts have to end for that."""

    LOOK_EVERY_S = 1.0
    """The forecast is as old as that, at most."""

    def __init__(
        self, budget: Budget, record: Record, slots: Callable[[], int], contention: Callable[[], float] = lambda: 1.0
    ) -> None:
        self.budget, self._record, self._slots, self._contention = budget, record, slots, contention
        self._trials_until_s, self._looked_s = math.inf, -math.inf
        self.pace = 1.0
        """Factor by which all takes longer now than was forecast: finalists that are timed say so."""

    @property
    def total_s(self) -> float:
        """All that may be spent; infinite without a budget."""
        return math.inf if self.budget.time_s is None else self.budget.time_s

    def elapsed_s(self) -> float:
        """Return what the search has taken so far, in all its sessions."""
        return self._record.elapsed_s()

    def left_s(self) -> float:
        """Return what is left of the budget."""
        return self.total_s - self.elapsed_s()

    def costs(self, chosen: Sequence[int] = ()) -> Costs:
        """Return what the parts of the search cost, as it looks now; `chosen` are the finalists."""
        return costs_of(self._record.state, self.budget.time_s, chosen, self._contention())

    def left_before_closing_s(self) -> float:
        """Return what is left until export and report have to begin."""
        closing_s = self.costs().closing_s
        return self.left_s() - closing_s * min(MOST_PACE, max(1.0, self.pace))

    def left_for_trials_s(self) -> float:
        """Return what is left for trials: all but the rest as it is forecast now, which is none before an epoch is."""
        now_s = self._record.elapsed_s()
        if self.budget.time_s is not None and now_s - self._looked_s >= self.LOOK_EVERY_S:
            self._looked_s, self._trials_until_s = now_s, self._trials_until(self.budget.time_s)
        return self._trials_until_s - now_s

    def share_spent_on_trials(self) -> float:
        """Return the share of the time for trials that is over; 0 without a budget."""
        left_s, elapsed_s = max(0.0, self.left_for_trials_s()), self.elapsed_s()
        return 0.0 if math.isinf(left_s) else elapsed_s / max(elapsed_s + left_s, 1e-9)

    def _trials_until(self, total_s: float) -> float:
        state = self._record.state
        wanted = (
            wanted_trainings(state, self.budget.finalists, self.budget.trainings_each) if self.budget.finalists else []
        )
        costs = self.costs([one.trial for one in wanted])
        began_s = state.sessions[0].elapsed_s if state.sessions else 0.0
        return began_s + share_out(total_s - began_s, wanted, self._slots(), costs).trials


MOST_PACE = 1.5
"""Most by which export and report are expected to take longer: the trainings that compete with them have ended."""


def processes_per_core() -> float:
    """Return how many processes of this machine have wanted a core for the last minute."""
    return psutil.getloadavg()[0] / (psutil.cpu_count() or 1)


class FirstEpoch:
    """A watch over the first epochs of a search: whether one of them can end in time, by their first batches.

    An epoch that reads cached activations begins when these are computed; so long, their first images tell.
    """

    def __init__(self, time: TimeBudget, batches: Callable[[Mapping[str, object]], int | None]) -> None:
        self._time, self._batches = time, batches
        self._seen: dict[tuple[int, int], tuple[float, int]] = {}
        self._built: dict[int, tuple[int, int]] = {}
        self.message: str | None = None

    def build(self, trial: int, done: int, total: int) -> None:
        """Take in how many of the images whose activations a trial reads are done."""
        self._built[trial] = (done, total)

    def see(self, running: Sequence[tuple[int, Mapping[str, object], int]]) -> None:
        """Take in the trials that run: number, configuration and the batches begun after the first."""
        needed_s = [self._needed_s(*trial) for trial in running]
        soonest_s = min((seconds for seconds in needed_s if seconds is not None), default=None)
        left_s = self._time.left_for_trials_s()
        if soonest_s is None or None in needed_s or DOUBT * soonest_s <= left_s:
            return
        is_built = any(batches for *_, batches in running)
        seen = "its first batches the first one takes" if is_built else "the first images its activations alone take"
        self.message = too_short(
            self._time.total_s,
            f"by {seen} {format_seconds(soonest_s)} more, and {format_seconds(max(0.0, left_s))} are left for it",
            self._time.total_s - left_s + 1.5 * soonest_s,
        )

    def _needed_s(self, number: int, configuration: Mapping[str, object], batches: int) -> float | None:
        """Return the seconds until the epoch ends, or at least its activations; None: that cannot be told yet."""
        done, total = (batches, self._batches(configuration)) if batches else self._built.get(number, (0, 0))
        if total is None:
            return None
        now_s = self._time.elapsed_s()
        # Batches and images are counted apart, and so are the images of each split.
        since_s, before = self._seen.setdefault((number, 0 if batches else total), (now_s, done)) if done else (0.0, 0)
        if not before or done <= before:
            return None
        return (total - done) * (now_s - since_s) / (done - before)


DOUBT = 0.8
"""A forecast by first batches that is too long by less than that is no reason to give up."""


def too_short(budget_s: float, why: str, enough_s: float | None = None) -> str:
    """Return what to say of a time budget in which not even one epoch can be trained."""
    minutes = "" if enough_s is None else f"; {math.ceil(enough_s / 60)}m or more would do"
    return f"search.time_budget ({format_seconds(budget_s)}) is too short for one epoch: {why}{minutes}"


class LittleGain:
    """A watch over what the search is expected to gain: whether it is so little that the search ends."""

    def __init__(self, stop: StopWhenSection | None, record: Record) -> None:
        self._stop, self._record = stop, record
        self._has_news, self._looked_s = True, -math.inf

    def __call__(self, event: Event) -> None:
        """Take in an event of the session."""
        self._has_news = self._has_news or isinstance(event, EpochReported)

    def is_seen(self) -> bool:
        """Return whether it is so by the epochs so far, and note it in the record."""
        stop, now_s, state = self._stop, self._record.elapsed_s(), self._record.state
        if stop is None or not self._has_news or now_s - self._looked_s < TimeBudget.LOOK_EVERY_S:
            return False
        self._has_news, self._looked_s = False, now_s
        gain = expected_gain(state, stop.within)
        if gain is None or not is_gain_below(state, stop.expected_gain_below, stop.within):
            return False
        self._record.append(Notice(text=little_gain(stop, gain, state.metric)))
        return True


def little_gain(stop: StopWhenSection, gain: ExpectedGain, metric: str) -> str:
    """Return what to say of a search that ends because little more is to be gained."""
    return (
        f"search.stop_when: another {format_seconds(stop.within)} are expected to gain {gain.mean:.2g} of {metric} "
        f"(80% interval {gain.low:.2g} to {gain.high:.2g}), less than {stop.expected_gain_below:g}; no more trials are "
        "trained"
    )


Reason = Literal["finished", "time_budget", "expected_gain", "interrupted", "given_up"]


class Stopping:
    """The decision, at every step of a session, whether to end it."""

    def __init__(
        self,
        record: Record,
        time: TimeBudget,
        interrupted: threading.Event,
        branching: Sequence[str],
        batches: Callable[[Mapping[str, object]], int | None],
    ) -> None:
        self._record, self.time, self._interrupted = record, time, interrupted
        self.first_epoch = FirstEpoch(time, batches)
        self._first_trials = FirstTrials(branching)
        for number, trial in record.state.trials.items():
            self._first_trials.know(number, trial.configuration)
        self._little_gain = LittleGain(time.budget.stop_when, record)
        self.disk_full: str | None = None
        self._time_is_over = self._gain_is_little = False
        record.listen(self._take_in)

    def _take_in(self, event: Event) -> None:
        self._first_trials(event)
        self._little_gain(event)
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
        if self._first_trials.reason or self.first_epoch.message:
            return self._first_trials.reason or self.first_epoch.message
        if self._time_is_over and self.lacks_an_epoch():
            used_s = self._record.state.sessions[0].elapsed_s if self._record.state.sessions else 0.0
            return too_short(self.time.total_s, f"none has ended, and preparation took {format_seconds(used_s)}")
        return None

    def lacks_an_epoch(self) -> bool:
        """Return whether a budget is being spent and no epoch has ended yet."""
        return self.time.budget.time_s is not None and not any(
            trial.epochs for trial in self._record.state.trials.values()
        )

    @property
    def is_broken(self) -> bool:
        """Whether something has gone wrong from which no later trial is safe."""
        return self.disk_full is not None or self.message is not None or self._record.broken is not None

    def should_stop(self) -> bool:
        """Return whether no more trials are to run; that time is over stays so, whatever is forecast later."""
        self._time_is_over = self._time_is_over or self.time.left_for_trials_s() <= 0
        self._gain_is_little = self._gain_is_little or self._little_gain.is_seen()
        return self.is_broken or self.reason != "finished"

    @property
    def reason(self) -> Reason:
        """The reason why trials run no more; `finished` if nothing of this has happened."""
        if self._interrupted.is_set():
            return "interrupted"
        if self.message is not None:
            return "given_up"
        if self._time_is_over:
            return "time_budget"
        return "expected_gain" if self._gain_is_little else "finished"


@contextmanager
def interruptible(console: SearchConsole) -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second one interrupts at once.

    In a thread of a program no Ctrl-C arrives.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # the only one that may ask for signals
        yield event
        return

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        event.set()
        ignore_hangup()
        signal.signal(signal.SIGINT, previous)
        words = f"stopping: running epochs are let go, checkpoints are kept{console.quit_hint}"
        # not from here: what is interrupted may be in the middle of saying something else, and hold its lock
        threading.Thread(target=console.say, args=(words,), daemon=True).start()

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
