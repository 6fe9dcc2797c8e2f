"""Events as trackers show them: the runs that a search is made of, with parameters, values and states."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from tuner.common.metrics import VALIDATION, oriented
from tuner.runs import events
from tuner.runs.finalists import summarise_finalists, value_on_test
from tuner.runs.state import RunState

SEARCH = "search"
"""The run that stands for the whole search; all others are parts of it."""
ENDED: tuple[events.Status, ...] = ("completed", "stopped", "failed")
_SESSION_STATUS: Mapping[str, events.Status] = {"interrupted": "paused", "error": "failed"}


@dataclass(frozen=True)
class Entry:
    """Addition of one event to one run."""

    run: str
    """SEARCH, or the name of a trial or of a finalist's training."""
    time_s: float
    """Unix time."""
    parameters: Mapping[str, events.Scalar] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    step: int = 0
    """Of the measures: the epoch, or whatever grows from one value of a name to the next."""
    tags: Mapping[str, str] = field(default_factory=dict)
    status: events.Status | None = None
    """None: as it was."""


def search_digest(study: events.StudyCreated) -> str:
    """Return the same for all sessions of a search, and another for every other search: 64 hexadecimal digits."""
    return sha256(f"{study.study} {study.time:.6f} {study.seed}".encode()).hexdigest()


def trial_name(number: int) -> str:
    """Return the name of a trial's run."""
    return f"trial-{number:05d}"


def finalist_name(trial: int, number: int, folds: int) -> str:
    """Return the name of the run of a finalist's training."""
    return f"finalist-{trial:05d}-{'fold' if folds else 'seed'}-{number}"


class Story:
    """Teller of a record: it turns events, from the first on, into what they add to the runs of a tracker."""

    def __init__(self) -> None:
        self.state = RunState()
        self._ended = 0
        self._best: float | None = None
        """Of the trials that have ended."""

    def go_on(self, event: events.Event) -> Iterator[Entry]:
        """Take in the next event, and yield what it adds."""
        state = self.state
        state.apply(event)
        match event:
            case events.StudyCreated():
                tags = {"command": " ".join(event.command)}
                yield Entry(SEARCH, event.time, _study(event), tags=tags, status="running")
            case events.SessionStarted():
                rules = {"sampler": event.sampler, "scheduler": event.scheduler}
                yield Entry(SEARCH, event.time, rules, tags={"sessions": str(len(state.sessions))}, status="running")
            case events.SessionEnded():
                yield from _session_ended(event, state)
            case events.FinalistsStarted():
                yield Entry(SEARCH, event.time, tags={"finalists": ", ".join(map(str, event.trials))})
            case events.FinalistTrained() | events.FinalistTested():
                yield _finalist(event, state)
            case events.GuessTested():
                measures = {"guess_test_accuracy": event.test_accuracy, "guess_test_loss": event.test_loss}
                yield Entry(SEARCH, event.time, measures=measures)
            case events.TrialEnded():
                yield _trial_ended(event)
                yield self._best_so_far(event)
            case (
                events.Notice()
                | events.Probed()
                | events.ProbeWorked()
                | events.LabelsDoubted()
                | events.CheckpointSaved()
            ):
                return
            case _:
                yield _of_trial(event, state.metric)

    def _best_so_far(self, event: events.TrialEnded) -> Entry:
        self._ended += 1
        best, mode = self.state.trials[event.trial].best, self.state.mode
        if event.status != "failed" and best is not None and not math.isnan(best):
            known = self._best
            self._best = best if known is None or oriented(best, mode) > oriented(known, mode) else known
        measures = {"trials_ended": float(self._ended)}
        measures |= {} if self._best is None else {f"best_{self.state.metric}": self._best}
        return Entry(SEARCH, event.time, measures=measures, step=self._ended)


def _study(event: events.StudyCreated) -> dict[str, events.Scalar]:
    names = ("name", "source", "fingerprint", "train_images", "validation_images")
    data = {f"data.{name}": event.data[name] for name in names if isinstance(event.data.get(name), str | int | float)}
    metrics = ", ".join(event.all_metrics)
    return {"study": event.study, "metric": metrics, "seed": event.seed, "max_epochs": event.max_epochs, **data}


def _of_trial(
    event: events.TrialStarted
    | events.TrialMeasured
    | events.TrialPaused
    | events.TrialResumed
    | events.ConfigurationChanged
    | events.EpochReported,
    metric: str,
) -> Entry:
    name = trial_name(event.trial)
    match event:
        case events.TrialStarted():
            return Entry(name, event.time, event.configuration, tags={"origin": event.origin}, status="running")
        case events.TrialMeasured():
            return Entry(name, event.time, measures=_known(event, "parameters", "model_mb", "seconds_per_image"))
        case events.TrialPaused():
            return Entry(name, event.time, status="paused")
        case events.TrialResumed():
            return Entry(name, event.time, status="running")
        case events.ConfigurationChanged():
            changed = {
                f"hyperparameter.{one}": float(value)
                for one, value in event.configuration.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
            tags = {"configuration": json.dumps(event.configuration, ensure_ascii=False)}
            return Entry(name, event.time, measures=changed, step=event.epoch, tags=tags)
        case events.EpochReported():
            measures = {**event.compact().values, "seconds": event.seconds, f"best_{metric}": event.best_so_far}
            return Entry(name, event.time, measures=measures, step=event.epoch)


def _trial_ended(event: events.TrialEnded) -> Entry:
    facts = _known(event, "parameters", "trainable_parameters", "batch_size_used", "setup_s")
    tags = {"reason": event.reason, **{one: getattr(event, one) for one in ("cut", "node") if getattr(event, one)}}
    return Entry(trial_name(event.trial), event.time, measures=facts, tags=tags, status=event.status)


def _known(event: events.Event, *names: str) -> dict[str, float]:
    return {name: float(getattr(event, name)) for name in names if getattr(event, name) is not None}


def _finalist(event: events.FinalistTrained | events.FinalistTested, state: RunState) -> Entry:
    trained = state.finalists[event.trial, event.number].trained
    name = finalist_name(event.trial, event.number, state.folds)
    if isinstance(event, events.FinalistTested):
        wanted = {"accuracy", "loss", *event.metrics, state.metric.removeprefix(VALIDATION)}
        values = {f"test_{metric}": value_on_test(event, metric) for metric in sorted(wanted)}
        shown = {metric: value for metric, value in values.items() if value is not None}
        return Entry(name, event.time, measures=shown, step=trained.epochs)
    which = {"trial": event.trial, "fold" if state.folds else "seed_number": event.number}
    measures = {"seconds": event.seconds} | ({} if event.best is None else {f"best_{state.metric}": event.best})
    return Entry(
        name,
        event.time,
        {**state.trials[event.trial].configuration, **which},
        measures,
        event.epochs,
        {"reason": event.reason},
        event.status,
    )


def _session_ended(event: events.SessionEnded, state: RunState) -> Iterator[Entry]:
    """Yield the end of the search for now, after those of the trials that wait for another session."""
    for trial in state.with_status("running"):
        yield Entry(trial_name(trial.number), event.time, status="paused")
    best, finalists = state.best_trial(), summarise_finalists(state)
    tags = {"ended": event.reason, **({"message": event.message} if event.message else {})}
    tags |= {"best_trial": str(best.number)} if best is not None else {}
    measures: dict[str, float] = {}
    if finalists:
        winner = finalists[0]
        tags["winner"] = str(winner.trial)
        measures[f"winner_{state.metric}"] = winner.validation.mean
        if winner.test is not None:
            bounds = {"": winner.test.mean, "_low": winner.test.low, "_high": winner.test.high}
            metric = f"winner_test_{state.metric.removeprefix(VALIDATION)}"
            measures |= {f"{metric}{end}": value for end, value in bounds.items() if value is not None}
    shown = {name: value for name, value in measures.items() if not math.isnan(value)}
    status = _SESSION_STATUS.get(event.reason, "completed")
    yield Entry(SEARCH, event.time, measures=shown, step=len(state.sessions), tags=tags, status=status)
