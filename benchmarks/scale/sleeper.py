"""Trials that sleep instead of training, in the product's own actor: Ray, searcher, scheduler and record are real."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.execution.exit_reason import LastWords
from tuner.execution.heartbeat import Pulse
from tuner.execution.trial_actor import TrialActor
from tuner.execution.worker_process import Guard, WorkerContext
from tuner.training.activation_build import Progress
from tuner.training.checkpoint import FILE_NAME
from tuner.training.settings import Ended, EpochResult


@dataclass(frozen=True)
class SleepingContext(WorkerContext):
    """What every trial shares, and how long its mean epoch takes."""

    epoch_s: float = 1.0


class SleepingActor(TrialActor):
    """The product's actor, with a process that loads neither data nor TensorFlow."""

    def setup(self, config: dict[str, Any], context: WorkerContext | None = None, guard: Guard | None = None) -> None:
        if not isinstance(context, SleepingContext):
            raise TypeError(f"context must be that of sleeping trials; got {context!r}")
        self._process: Any = SleepingProcess(context)
        self._last_words = LastWords(guard.last_words if guard else None)
        self._trial = self._failure = self._resume_from = None
        self._measured = {}

    def _measure(self, trial: Any) -> dict[str, float]:
        return {"model_mb": 1.0}


class SleepingProcess:
    """Makes trials that sleep."""

    def __init__(self, context: SleepingContext) -> None:
        self.context = context
        self.notices: list[str] = []
        self.pulse = Pulse()

    def begin(self, configuration: Mapping[str, Any], seed: int) -> SleepingTrial:
        return SleepingTrial(draw(configuration), self.context.epoch_s, self.context.settings.max_epochs)

    def taken_cache_use(self) -> None:
        return None

    def release(self) -> None:
        return None


def draw(configuration: Mapping[str, Any]) -> float:
    """A number from [0, 1) that follows from a configuration, in every process the same."""
    return zlib.crc32(json.dumps(dict(configuration), sort_keys=True).encode()) / 2**32


@dataclass
class SleepingTrial:
    """Looks like a trial to the actor; how good it is and how long it takes follow from `drawn`."""

    drawn: float
    epoch_s: float
    max_epochs: int
    epoch: int = 0
    best: float | None = None
    ended: Ended | None = None
    parameters: int = 1000
    trainable_parameters: int = 1000
    batch_size_used: int = 32
    setup_s: float = 0.0
    cut: None = None

    def work_on_activations(self, seconds: float) -> Progress:
        return Progress(0, 0)

    def advance(self) -> EpochResult:
        """Sleep for an epoch: those of one trial are equally long, between 0.75 and 1.25 of the mean."""
        started = time.perf_counter()
        time.sleep(self.epoch_s * (0.75 + 0.5 * (self.drawn * 97 % 1)))
        seconds = time.perf_counter() - started
        self.epoch += 1
        value = (0.3 + 0.6 * self.drawn) * (1 - math.exp(-self.epoch / 3))
        self.best = value if self.best is None else max(self.best, value)
        if self.epoch == self.max_epochs:
            self.ended = Ended("completed", "max_epochs")
        return EpochResult(self.epoch, "scratch", seconds, 1.0, value, 1.0, value, self.best, 0.001)

    def save(self, folder: Path) -> None:
        (folder / FILE_NAME).write_text(json.dumps([self.epoch, self.best]))

    def load(self, folder: Path) -> None:
        self.epoch, self.best = json.loads((folder / FILE_NAME).read_text())
