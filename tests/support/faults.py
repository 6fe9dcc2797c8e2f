"""Faults that a trial can have, in a subclass of the actor that Ray's workers import: tuner itself knows of none.

The number of hidden units says which, so that the search space of a test chooses its faults.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.locations import Location, exists
from tuner.execution import finalist_actor, heartbeat, trial_actor
from tuner.runs.finalists import Training
from tuner.training.checkpoint import FILE_NAME
from tuner.training.trial import Trial

NAN, EXPLODE, CRASH, CRASH_ONCE, HANG, EAT, FULL, SLOW = 101, 102, 103, 104, 105, 106, 107, 108
EATEN_AT_MOST_MB = 3000


class FaultyActor(trial_actor.TrialActor):
    """Trains as its parent does, but for the fault of its trial, which comes after the first epoch.

    It checkpoints after every epoch.
    """

    def setup(self, config: dict[str, Any], **more: Any) -> None:
        trial_actor.CHECKPOINT_EVERY_S = 0.0
        heartbeat.GIVE_EVERY_S = 1.0
        self.was_restored = False
        super().setup(config, **more)

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self.was_restored = True
        super().load_checkpoint(checkpoint_dir)

    def _advance(self, trial: Trial) -> dict[str, Any]:
        fault = self._fault() if trial.epoch >= 1 else None
        if fault == NAN:
            _fill(trial, float("nan"))
        elif fault == EXPLODE:
            _fill(trial, 1e9)
        elif fault == CRASH or (fault == CRASH_ONCE and not self.was_restored):
            ctypes.string_at(0)  # reads address 0, in native code
        elif fault == HANG:
            os.kill(os.getpid(), signal.SIGSTOP)  # with all of its threads, and whatever lock they hold
        elif fault == EAT:
            _eat()
        elif fault == SLOW and trial.epoch == 1:
            _slow_down(trial)
        return super()._advance(trial)

    def _fault(self) -> int:
        return int(self.config["configuration"].get("dense_units") or 0)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        if self._fault() == FULL and self._trial is not None and self._trial.epoch >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(Path(checkpoint_dir, "checkpoint.npz")))
        super().save_checkpoint(checkpoint_dir)


class FaultyFinalist(finalist_actor.FinalistActor):
    """Trains as its parent does, but for the fault of its finalist, which comes after the first epoch."""

    def begin(self, training: Training, location: Location) -> None:
        finalist_actor.CHECKPOINT_EVERY_S = 0.0
        heartbeat.GIVE_EVERY_S = 1.0
        self._fault = int(str(training.configuration["dense_units"]))
        if self._fault == HANG and exists(location.child(FILE_NAME)):  # a second attempt: it does not even begin
            os.kill(os.getpid(), signal.SIGSTOP)
        super().begin(training, location)

    def step(self) -> finalist_actor.Step:
        if self._trial is not None and self._trial.epoch >= 1:
            if self._fault == HANG:
                os.kill(os.getpid(), signal.SIGSTOP)
            elif self._fault == CRASH:
                ctypes.string_at(0)
            elif self._fault == EAT:
                _eat()
        return super().step()


def _fill(trial: Trial, value: float) -> None:
    for variable in trial.model.trainable_variables:
        signs = np.sign(np.random.default_rng(0).normal(size=variable.shape))
        variable.assign((value * signs).astype("float32"))


def _slow_down(trial: Trial) -> None:
    """Let every batch of the second epoch take so long that it is longer than what a trial may be silent."""
    tell = trial._on_batch

    def wait_and_tell(epoch: int) -> None:
        time.sleep(1.5 if epoch == 2 else 0)
        tell(epoch)

    trial._on_batch = wait_and_tell


def _eat() -> None:
    eaten = []
    while 8 * len(eaten) < EATEN_AT_MOST_MB:
        eaten.append(np.ones(2**20))
        time.sleep(0.004)
