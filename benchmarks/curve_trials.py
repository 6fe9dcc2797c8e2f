"""Trials that train nothing: they follow a curve, at once or asleep. To all that drives trials they are like any other.

Benchmarks and tests run searches of them where Ray, searcher, scheduler and record are what matters, not a network.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tuner.common.errors import RunError
from tuner.execution.worker_process import WorkerContext
from tuner.runs.epoch import Epoch
from tuner.training.checkpoint import FILE_NAME
from tuner.training.settings import Ended
from tuner.training.trial_like import ModelCost, Progress


class CurveTrial:
    """A trial of which every epoch is known beforehand: the accuracy that it shows and the seconds that it takes."""

    def __init__(self, values: Sequence[float], seconds: Sequence[float]) -> None:
        self.values, self.epoch_seconds = values, seconds
        self.epoch, self.seconds = 0, 0.0
        self.best: float | None = None
        self.ended: Ended | None = None
        self.setup_s, self.cut = 0.0, None
        self.parameters = self.trainable_parameters = 1000
        self.batch_size_used = self.images_per_epoch = 32

    def work_on_activations(self, seconds: float) -> Progress:
        """Do nothing: there is no cache."""
        return Progress(0, 0)

    def advance(self) -> Epoch:
        """Show the next epoch, without waiting for it."""
        value, seconds = float(self.values[self.epoch]), float(self.epoch_seconds[self.epoch])
        self.epoch, self.seconds = self.epoch + 1, self.seconds + seconds
        self.best = value if self.best is None else max(self.best, value)
        self._see_end()
        metrics = {"loss": 1.0, "accuracy": value, "val_loss": 1.0, "val_accuracy": value}
        return Epoch(self.epoch, "scratch", seconds, 0.001, self.best, metrics)

    def _see_end(self) -> None:
        self.ended = Ended("completed", "max_epochs") if self.epoch >= len(self.values) else None

    def measure(self) -> ModelCost:
        """Return the cost of a network of a megabyte."""
        return ModelCost(1.0, 0.001)

    def save(self, directory: Path) -> None:
        """Write a checkpoint, of a few bytes."""
        (directory / FILE_NAME).write_text(json.dumps([self.epoch, self.seconds, self.best]))

    def load(self, directory: Path) -> None:
        """Go on from a checkpoint; raises RunError when it is damaged."""
        try:
            self.epoch, self.seconds, self.best = json.loads((directory / FILE_NAME).read_text())
        except (OSError, ValueError) as error:
            raise RunError(f"{directory}: the checkpoint cannot be read: {error}") from None
        self._see_end()


class SleepingTrial(CurveTrial):
    """A trial that sleeps for as long as its curve says, and tells of every epoch as a network would of a batch."""

    def __init__(
        self, values: Sequence[float], seconds: Sequence[float], on_batch: Callable[[int], None] = lambda _epoch: None
    ) -> None:
        super().__init__(values, seconds)
        self._on_batch = on_batch

    def advance(self) -> Epoch:
        """Sleep for an epoch."""
        self._on_batch(self.epoch + 1)
        time.sleep(self.epoch_seconds[self.epoch])
        self._on_batch(self.epoch + 1)
        return super().advance()


class SleepingTrials:
    """Makes trials that sleep in a process; loads neither data nor TensorFlow."""

    def __init__(
        self,
        context: WorkerContext,
        on_batch: Callable[[int], None],
        notify: Callable[[str], None],
        epoch_s: float = 0.01,
    ) -> None:
        self._max_epochs, self._epoch_s, self._on_batch = context.settings.max_epochs, epoch_s, on_batch

    def prepare(self) -> None:
        """Do nothing: trials share nothing."""

    def begin(
        self, configuration: Mapping[str, Any], seed: int, batches: int | None = None, fold: int = 0
    ) -> SleepingTrial:
        """Make a trial; how good it is and how long it takes follow from its configuration."""
        drawn = draw(configuration)
        values = [(0.3 + 0.6 * drawn) * (1 - math.exp(-epoch / 3)) for epoch in range(1, self._max_epochs + 1)]
        # Those of one trial are equally long, between 0.75 and 1.25 of the mean.
        epoch_s = self._epoch_s * (0.75 + 0.5 * (drawn * 97 % 1))
        return SleepingTrial(values, [epoch_s] * self._max_epochs, self._on_batch)

    def taken_cache_use(self) -> None:
        """Return None: there is no cache."""

    def release(self) -> None:
        """Do nothing: a trial reads nothing."""


def draw(configuration: Mapping[str, Any]) -> float:
    """Return a number from [0, 1) that follows from a configuration, in every process the same."""
    return zlib.crc32(json.dumps(dict(configuration), sort_keys=True).encode()) / 2**32
