"""Export of a search as Ray metrics, which Prometheus collects for those who watch from elsewhere.

They follow from the record's events, in the driver. Only what is read from the cache is known to the workers alone: it
comes with their results. Ray hands metrics to the agent of the driver's node, with the prefix `ray_`; where there is no
agent (Ray without its dashboard's libraries) they go nowhere. cluster/monitoring/ has what collects and shows them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from ray.tune import Callback
from ray.util import metrics

from tuner.common.metrics import is_better
from tuner.common.process import in_background
from tuner.execution.lost_workers import NotPickled
from tuner.runs import events
from tuner.runs.epoch import StepResult
from tuner.runs.record import Record
from tuner.training.failures import KINDS, WORKER_LOST

REFRESH_S = 5.0
FAILURES = (*KINDS, WORKER_LOST)
"""Beginnings of the reasons of failures that have a kind of their own; all others are of the kind `error`."""


@dataclass(frozen=True)
class Metric:
    """A metric as it is exported; counters get the suffix `_total` from Ray, all of them the prefix `ray_`."""

    kind: Literal["gauge", "counter"]
    description: str
    labels: tuple[str, ...] = ()
    """Beside `study`, which all of them have."""


METRICS = {
    "tuner_trials": Metric("gauge", "Trials by status", ("status",)),
    "tuner_trials_planned": Metric("gauge", "Trials that the search is to run"),
    "tuner_best_metric": Metric("gauge", "Best value of the study's metric so far", ("metric",)),
    "tuner_slots": Metric("gauge", "Trials that can run at the same time"),
    "tuner_slots_busy": Metric("gauge", "Trials that are running"),
    "tuner_epochs": Metric("counter", "Epochs of trials in this session"),
    "tuner_images": Metric("counter", "Training images seen by trials in this session, each once per epoch"),
    "tuner_failures": Metric("counter", "Trials that failed in this session", ("reason",)),
    "tuner_resumed": Metric("counter", "Trials that went on, or began anew, after an interruption or a lost worker"),
    "tuner_finalist_trainings": Metric("gauge", "Trainings of finalists by status", ("status",)),
    "tuner_cache_hits": Metric("counter", "Activations that lay in the cache when a trial needed them", ("node",)),
    "tuner_cache_misses": Metric("counter", "Activations that had to be computed first", ("node",)),
    "tuner_cache_bytes": Metric("gauge", "Size of the cached activations of a node", ("node",)),
}
"""Every metric by its name."""

_FAILED = "the metrics cannot be exported"
Beside = Callable[[str], AbstractContextManager[None]]
"""Makes a block of a side matter, which ends no search; given what has failed if it fails."""

Sink = Callable[[str, float, Mapping[str, str]], None]
"""Takes the name of a metric, its new value (of a counter: what is to be added), and its labels."""


class RayMetrics:
    """The sink that gives values to Ray, those of gauges repeatedly: Ray forgets a gauge after 20 s."""

    def __init__(self) -> None:
        self._gauges: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def __call__(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Set a gauge, or add to a counter."""
        if METRICS[name].kind == "gauge":
            self._gauges[name, frozenset(labels.items())] = value
            _ray_metric(name).set(value, dict(labels))
        else:
            _ray_metric(name).inc(value, dict(labels))

    def refresh(self) -> None:
        """Set all gauges in Ray again."""
        for (name, labels), value in self._gauges.copy().items():
            _ray_metric(name).set(value, dict(labels))


@cache
def _ray_metric(name: str) -> Any:
    metric = METRICS[name]
    make = metrics.Gauge if metric.kind == "gauge" else metrics.Counter
    return make(name, metric.description, ("study", *metric.labels))


@contextmanager
def monitoring(record: Record, trials_planned: int, beside: Beside) -> Iterator[Monitor]:
    """Keep Ray's metrics of a search up to date from here to the end of the block."""
    exporter = RayMetrics()

    def refresh(ended: threading.Event) -> None:
        while not ended.wait(REFRESH_S):
            with beside(_FAILED):
                exporter.refresh()

    with in_background(refresh):
        yield Monitor(record, trials_planned, exporter, beside)


def failure_kind(reason: str) -> str:
    """Return the kind of a failure, one of a few words, where `reason` is a text of its own.

    >>> failure_kind("out of memory: cannot hold [128, 64]"), failure_kind("ValueError: no such layer")
    ('out of memory', 'error')
    """
    return next((kind for kind in FAILURES if reason.startswith(kind)), "error")


def _unguarded(_what: str) -> AbstractContextManager[None]:
    return nullcontext()


class Monitor(NotPickled, Callback):
    """A callback that keeps the metrics of a search up to date, from the record's events and Ray Tune's results."""

    def __init__(self, record: Record, trials_planned: int, sink: Sink, beside: Beside = _unguarded) -> None:
        self._state, self._sink, self._beside = record.state, sink, beside
        self._study = record.state.study.study if record.state.study else ""
        self._statuses: dict[int, events.Status] = {trial.number: trial.status for trial in self._state.trials.values()}
        self._counts = Counter(self._statuses.values())
        self._best: float | None = None
        self._shown_finalists: set[str] = set()
        for status in get_args(events.Status):
            self._send("tuner_trials", self._counts[status], status=status)
        self._send("tuner_trials_planned", trials_planned)
        self._show_best()
        self._show_finalists()
        record.listen(self.take, _FAILED)

    def take(self, event: events.Event) -> None:
        """Update the metrics with an event of the record, which the state has applied before."""
        match event:
            case events.EpochReported():
                self._take_epoch(event)
            case events.TrialStarted():
                self._move(event.trial, "running")
            case events.TrialPaused():
                self._move(event.trial, "paused")
            case events.TrialResumed():
                if self._statuses.get(event.trial) == "running":
                    self._send("tuner_resumed", 1)
                self._move(event.trial, "running")
            case events.TrialEnded():
                self._move(event.trial, event.status)
                if event.status == "failed":
                    self._send("tuner_failures", 1, reason=failure_kind(event.reason))
                    self._show_best()
            case events.FinalistsStarted() | events.FinalistTrained():
                self._show_finalists()
            case events.SessionStarted():
                self.show_slots(event.max_concurrent)
                self._send("tuner_slots_busy", self._counts["running"])

    def show_slots(self, slots: int) -> None:
        """Set the number of trials that can run, which changes on a cluster while a search runs."""
        self._send("tuner_slots", slots)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: StepResult, **info: Any) -> None:
        """Add a worker's use of its node's cache since its last result."""
        read = result["cache"]
        if read is None:
            return
        node = str(result.get("node_ip", ""))
        for name in ("hits", "misses"):
            if number := read[name]:
                self._send(f"tuner_cache_{name}", number, node=node)
        if (size_bytes := read["size_bytes"]) is not None:
            self._send("tuner_cache_bytes", size_bytes, node=node)

    def _take_epoch(self, event: events.EpochReported) -> None:
        self._send("tuner_epochs", 1)
        images = self._state.study.data.get("train_images") if self._state.study else None
        if images:
            self._send("tuner_images", images)
        if self._best is None or is_better(event.best_so_far, self._best, self._state.mode):
            self._show_best(event.best_so_far)

    def _show_best(self, value: float | None = None) -> None:
        """Set the best value, found among all trials unless it is known; a failed trial does not count."""
        best = None if value is not None else self._state.best_trial()
        self._best = value if best is None else best.best
        if self._best is not None and self._state.study is not None:
            self._send("tuner_best_metric", self._best, metric=self._state.study.metric)

    def _show_finalists(self) -> None:
        """Count the trainings of the finalists as they are now: earlier sessions may have chosen and trained some."""
        chosen = self._state.finalists_started
        if chosen is None:
            return
        trained = (one.trained for one in self._state.finalists.values() if one.trained.trial in chosen.trials)
        counts = Counter[str](one.status for one in trained)
        counts["planned"] = len(chosen.trials) * chosen.trainings
        self._shown_finalists |= set(counts)
        for status in sorted(self._shown_finalists):
            self._send("tuner_finalist_trainings", counts[status], status=status)

    def _move(self, trial: int, status: events.Status) -> None:
        """Count a trial under another status."""
        before = self._statuses.get(trial)
        if before is not None:
            self._counts[before] -= 1
            self._send("tuner_trials", self._counts[before], status=before)
        self._statuses[trial] = status
        self._counts[status] += 1
        self._send("tuner_trials", self._counts[status], status=status)
        self._send("tuner_slots_busy", self._counts["running"])

    def _send(self, name: str, value: float, **labels: str) -> None:
        with self._beside(_FAILED):
            self._sink(name, value, {"study": self._study, **labels})
