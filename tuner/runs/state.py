"""The state of a run after a sequence of events, whether they were just written or are read again."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from tuner.common.metrics import DEFAULT_METRIC, Mode, metric_of, oriented
from tuner.runs import events
from tuner.runs.epoch import Epoch


@dataclass
class TrialState:
    """The state of one trial."""

    number: int
    configuration: events.Configuration
    origin: str
    started_s: float
    """Elapsed seconds of the study when it first got a slot."""
    status: events.Status = "running"
    reason: str = ""
    epochs: list[Epoch] = field(default_factory=list)
    measured: events.TrialMeasured | None = None
    ended: events.TrialEnded | None = None
    paused: events.TrialPaused | None = None
    """The last time that it had to wait at a rung."""
    checkpoint: events.CheckpointSaved | None = None
    resumed: int = 0
    """Number of times it went on, or began anew, after a loss or an interruption; promotions do not count."""
    is_changed: bool = False
    """Whether a population has given it another configuration, and the weights of another trial."""

    @property
    def is_baseline(self) -> bool:
        """Whether this is the configuration that the search is measured against."""
        return self.origin == "baseline" and not self.is_changed

    @property
    def best(self) -> float | None:
        """Best value of the metric so far; None before the first epoch."""
        return self.epochs[-1].best_so_far if self.epochs else None


@dataclass
class FinalistState:
    """One training of a finalist."""

    trained: events.FinalistTrained
    tested: events.FinalistTested | None = None


class Span(NamedTuple):
    """A part of the time that a study has run, in elapsed seconds."""

    began_s: float
    end_s: float


def seconds_outside(spans: Iterable[Span], elapsed_s: float) -> float:
    """Return the seconds of the first `elapsed_s` that are in none of the spans.

    >>> [seconds_outside([Span(10, 30), Span(50, 60)], moment) for moment in (5, 20, 40, 100)]
    [5, 10, 20, 70]
    """
    return elapsed_s - sum(max(0, min(span.end_s, elapsed_s) - span.began_s) for span in spans)


def moment_outside(spans: Iterable[Span], seconds: float) -> float:
    """Return the earliest moment at which so many seconds were in none of the spans, which are in their order.

    >>> [moment_outside([Span(10, 30), Span(50, 60)], seconds) for seconds in (5, 20, 35)]
    [5, 40, 65]
    """
    for span in spans:
        seconds += span.end_s - span.began_s if seconds > span.began_s else 0
    return seconds


@dataclass
class RunState:
    """The state of a study after a sequence of events."""

    study: events.StudyCreated | None = None
    sessions: list[events.SessionStarted] = field(default_factory=list)
    session_ended: events.SessionEnded | None = None
    """End of the latest session; None while it runs, or after a kill."""
    trials: dict[int, TrialState] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    finalists_started: events.FinalistsStarted | None = None
    finalists: dict[tuple[int, int], FinalistState] = field(default_factory=dict)
    """By trial and number of the training."""
    guess_tested: events.GuessTested | None = None
    """What is reached on the test split without looking at an image; None in records of earlier versions."""
    probes: list[events.Probed] = field(default_factory=list)
    probe_cut_s: float = 0.0
    """Processor time of probes of earlier sessions that were cut short."""
    probe_under_way_s: float = 0.0
    """Processor time of what has given no result in this session, as far as it was told."""
    doubted: events.LabelsDoubted | None = None
    """Labels that look wrong; None: they were not looked at."""
    tested_in: set[int] = field(default_factory=set)
    """The sessions, from 1, that read the test split."""
    elapsed_s: float = 0.0
    finalists_spans: list[Span] = field(default_factory=list)
    """Parts of it in which finalists were trained and tested, over all sessions, in their order."""
    _is_at_finalists: bool = False
    _latest_notices: dict[str, str] = field(default_factory=dict)
    """By kind: every worker process says for itself what it has found, that the cache cannot be used for example."""

    def apply(self, event: events.Event) -> bool:
        """Update the state with one event; return False if it says nothing new, as an epoch trained again does.

        A notice says nothing new if it is the last of its kind: what was otherwise meanwhile is so again, and is new.
        """
        self._take_in_time(event)
        match event:
            case events.EpochReported():  # first: nearly all events are
                return _apply_to_trial(self.trials[event.trial], event)
            case events.StudyCreated():
                self.study = event
            case events.Notice():
                kind = _notice_kind(event.text)
                if self._latest_notices.get(kind) == event.text:
                    return False
                self._latest_notices[kind] = event.text
                self.notices.append(event.text)
            case events.SessionStarted():
                self.sessions.append(event)
                self.session_ended = None
                self.probe_cut_s, self.probe_under_way_s = self.probe_cut_s + self.probe_under_way_s, 0.0
            case events.SessionEnded():
                self.session_ended = event
            case events.FinalistsStarted():
                self.finalists_started = event
            case events.FinalistTrained():
                self.finalists[event.trial, event.number] = FinalistState(event)
            case events.FinalistTested():
                self.finalists[event.trial, event.number].tested = event
                self.tested_in.add(len(self.sessions))
            case events.GuessTested() | events.Probed() | events.ProbeWorked() | events.LabelsDoubted():
                self._take_in_measure(event)
            case events.TrialStarted():
                started = TrialState(event.trial, dict(event.configuration), event.origin, event.elapsed_s)
                self.trials[event.trial] = started
            case _:
                return _apply_to_trial(self.trials[event.trial], event)
        return True

    def _take_in_time(self, event: events.Event) -> None:
        """Update the time that the study has run; a session need not say that its finalists begin."""
        self._is_at_finalists &= not isinstance(event, events.SessionStarted)
        self._is_at_finalists |= isinstance(event, events.FinalistTrained | events.Tested)
        if self._is_at_finalists and event.elapsed_s > self.elapsed_s:
            goes_on = bool(self.finalists_spans) and self.finalists_spans[-1].end_s == self.elapsed_s
            began_s = self.finalists_spans.pop().began_s if goes_on else self.elapsed_s
            self.finalists_spans.append(Span(began_s, event.elapsed_s))
        self._is_at_finalists |= isinstance(event, events.FinalistsStarted)
        self.elapsed_s = max(self.elapsed_s, event.elapsed_s)

    def _take_in_measure(
        self, event: events.GuessTested | events.Probed | events.ProbeWorked | events.LabelsDoubted
    ) -> None:
        """Update the state with what is measured beside the trials."""
        match event:
            case events.GuessTested():
                self.guess_tested = event
            case events.Probed():
                self.probes.append(event)
                self.probe_under_way_s = 0.0
            case events.ProbeWorked():
                self.probe_under_way_s = event.seconds
            case events.LabelsDoubted():
                self.doubted = event

    @property
    def probe_s(self) -> float:
        """Processor time that all probes have taken, with those that were cut short."""
        return sum(one.seconds for one in self.probes) + self.probe_cut_s + self.probe_under_way_s

    @property
    def metric(self) -> str:
        """The metric that makes a trial the winner."""
        return self.study.metric if self.study is not None else DEFAULT_METRIC

    @property
    def mode(self) -> Mode:
        """Whether the largest or the smallest value of the metric is the best."""
        return self.study.mode if self.study is not None else metric_of(DEFAULT_METRIC).mode

    @property
    def folds(self) -> int:
        """The folds on which finalists are trained; 0: they are trained with several seeds."""
        return self.finalists_started.folds if self.finalists_started is not None else 0

    @property
    def finalists_s(self) -> float:
        """Seconds in which finalists were trained and tested, over all sessions."""
        return sum(span.end_s - span.began_s for span in self.finalists_spans)

    @property
    def finalists_from_s(self) -> float | None:
        """Elapsed seconds when the trials were done and their finalists began; None: none has begun.

        A search that has gone on after its finalists may have the same again, of which there is no event.
        """
        if self.finalists_started is None:
            return None
        latest_s = (trial.epochs[-1].elapsed_s for trial in self.trials.values() if trial.epochs)
        return max(self.finalists_started.elapsed_s, max(latest_s, default=0.0))

    def session_of(self, number: int) -> events.SessionStarted:
        """Return the session that trained the last epoch of a trial; the latest, where it has none.

        A resumed session may give its trials other CPUs and GPUs. There must have been a session.
        """
        epochs = self.trials[number].epochs
        until_s = epochs[-1].elapsed_s if epochs else math.inf
        began = [session for session in self.sessions if session.elapsed_s <= until_s]
        return (began or self.sessions)[-1]

    def best_of(self, trials: Iterable[TrialState]) -> TrialState | None:
        """Return the trial with the best value, the earliest of equals; None where none has a value."""
        scored = [(oriented(trial.best, self.mode), -trial.number) for trial in trials if trial.best is not None]
        return self.trials[-max(scored)[1]] if scored else None

    def best_trial(self) -> TrialState | None:
        """Return the trial with the best value so far, the earliest of equals; None before any epoch."""
        return self.best_of(trial for trial in self.trials.values() if trial.status != "failed")

    def with_status(self, status: events.Status) -> list[TrialState]:
        """Return the trials of one status, by number."""
        return [trial for trial in self.trials.values() if trial.status == status]


def best_probe(state: RunState) -> events.Probed | None:
    """Return the probe with the best value of the metric, the earliest of equals; None where none has one."""
    values = [one.metrics.get(state.metric, math.nan) for one in state.probes]
    known = [(oriented(value, state.mode), -place) for place, value in enumerate(values) if math.isfinite(value)]
    return state.probes[-max(known)[1]] if known else None


def _notice_kind(text: str) -> str:
    """Return the subject of a notice: its beginning, without figures.

    >>> _notice_kind("4 at a time now, 8 before: 2 nodes with CPUs")
    ' at a time now,  before'
    """
    return re.sub("[0-9]+", "", text.partition(":")[0])


def _apply_to_trial(trial: TrialState, event: events.Event) -> bool:
    match event:
        case events.TrialMeasured():
            if trial.measured is not None:
                return False
            trial.measured = event
        case events.TrialPaused():
            trial.status, trial.paused = "paused", event
        case events.TrialResumed():
            trial.resumed += trial.status != "paused"  # a promotion is no loss
            trial.status = "running"
        case events.ConfigurationChanged():
            trial.configuration, trial.is_changed = dict(event.configuration), True
        case events.EpochReported():
            if trial.epochs and event.epoch <= trial.epochs[-1].epoch:
                return False
            trial.epochs.append(event.compact())
        case events.CheckpointSaved():
            trial.checkpoint = event
        case events.TrialEnded():
            trial.status, trial.reason, trial.ended = event.status, event.reason, event
    return True
