"""Faults that a trial can have, in trials of the tests' own: tuner itself knows of none.

The number of hidden units says which, so that the search space of a test chooses its faults.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curve_trials import SleepingTrials
from tuner.execution.worker_process import KerasTrials, TrialKind, WorkerContext
from tuner.runs.epoch import Epoch
from tuner.runs.finalists import finalist_seed
from tuner.training.failures import loss_failure
from tuner.training.settings import Ended
from tuner.training.trial_like import TrialLike, TrialMaker

NAN, EXPLODE, CRASH, CRASH_ONCE, HANG, EAT, FULL, SLOW = FAULTS = range(101, 109)
EATEN_AT_MOST_MB = 3000


class FaultyTrial:
    """A trial that does as another one, but for its fault, which comes after the first epoch."""

    def __init__(self, trial: TrialLike, fault: int, on_batch: Callable[[int], None], hangs_at_load: bool) -> None:
        self._trial, self._fault, self._on_batch = trial, fault, on_batch
        self._hangs_at_load, self._was_restored = hangs_at_load, False
        self._ended: Ended | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    @property
    def ended(self) -> Ended | None:
        return self._ended or self._trial.ended

    def advance(self) -> Epoch | None:
        if self._trial.epoch >= 1:
            self._go_wrong()
        return None if self._ended else self._trial.advance()

    def _go_wrong(self) -> None:
        match self._fault:
            case fault if fault == NAN:
                self._diverge(float("nan"))
            case fault if fault == EXPLODE:
                self._diverge(1e9)
            case fault if fault == CRASH or (fault == CRASH_ONCE and not self._was_restored):
                ctypes.string_at(0)  # reads address 0, in native code
            case fault if fault == HANG:
                os.kill(os.getpid(), signal.SIGSTOP)  # with all of its threads, and whatever lock they hold
            case fault if fault == EAT:
                _eat()
            case fault if fault == SLOW and self._trial.epoch == 1:
                self._take_long()

    def _diverge(self, value: float) -> None:
        """Give a network weights of that size; what has none ends as its training would."""
        if not hasattr(self._trial, "model"):
            self._ended = Ended("failed", str(loss_failure({"loss": value}, self._trial.epoch + 1, 10)))
            return
        for variable in self._trial.model.trainable_variables:
            signs = np.sign(np.random.default_rng(0).normal(size=variable.shape))
            variable.assign((value * signs).astype("float32"))

    def _take_long(self) -> None:
        """Train an epoch of many batches, longer than what a trial may be silent."""
        for _ in range(8):
            self._on_batch(2)
            time.sleep(1.5)

    def save(self, directory: Path) -> None:
        if self._fault == FULL and self._trial.epoch >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory / "checkpoint.npz"))
        self._trial.save(directory)

    def load(self, directory: Path) -> None:
        if self._fault == HANG and self._hangs_at_load:  # a second attempt: it does not even begin
            os.kill(os.getpid(), signal.SIGSTOP)
        self._trial.load(directory)
        self._was_restored = True


def _eat() -> None:
    eaten = []
    while 8 * len(eaten) < EATEN_AT_MOST_MB:
        eaten.append(np.ones(2**20))
        time.sleep(0.004)


class FaultyTrials:
    """Makes trials with faults; the others, and those that diverge, train networks if `networks` says so.

    Where `of_finalists` says so, only finalists have their faults.
    """

    def __init__(
        self,
        context: WorkerContext,
        on_batch: Callable[[int], None],
        notify: Callable[[str], None],
        networks: bool,
        of_finalists: bool,
    ) -> None:
        self._sleeping = SleepingTrials(context, on_batch, notify, epoch_s=0.1)
        self._make_networks = partial(KerasTrials, context, on_batch, notify)
        self._networks: TrialMaker | None = None if networks else self._sleeping
        self._on_batch, self._seed_of_finalists = on_batch, finalist_seed(context.settings.seed, 0)
        self._of_finalists = of_finalists

    def prepare(self) -> None:
        """Load nothing: most processes of such a search end before they train a network."""

    def begin(
        self, configuration: Mapping[str, Any], seed: int, batches: int | None = None, fold: int = 0
    ) -> TrialLike:
        fault = int(configuration["dense_units"])
        sleeps = fault in FAULTS and fault not in (NAN, EXPLODE)
        maker: TrialMaker = self._sleeping
        if not sleeps:
            self._networks = maker = self._networks or self._make_networks()
        trial = maker.begin(configuration, seed, batches)
        has_fault = fault in FAULTS and (seed == self._seed_of_finalists or not self._of_finalists)
        return FaultyTrial(trial, fault, self._on_batch, self._of_finalists) if has_fault else trial

    def taken_cache_use(self) -> dict[str, int | None] | None:
        return self._networks.taken_cache_use() if self._networks else None

    def release(self) -> None:
        if self._networks:
            self._networks.release()


def faulty_trials(networks: bool = True, of_finalists: bool = False) -> TrialKind:
    """Make trials with faults, checkpoint after every epoch, and give signs of life within them."""
    make = partial(FaultyTrials, networks=networks, of_finalists=of_finalists)
    return TrialKind(make, checkpoint_every_s=0.0, sign_every_s=1.0)
