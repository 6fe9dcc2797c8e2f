"""Measurement of how fast trials train side by side, in processes like those of the search."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import ray
from ray.exceptions import RayError

from tuner.cluster.ray_session import Capacity
from tuner.common.errors import last_line
from tuner.common.words import counted
from tuner.execution.worker_process import WorkerContext
from tuner.models.backend import gpu_memory
from tuner.spec.space import Configuration
from tuner.training.trial_like import TrialLike

FIRST_BATCHES, MOST_BATCHES = 2, 64
EPOCH_S = 1.0
"""Length of the timed epochs, about."""
MEASURED_S = 4.0
GIVE_UP_S = 90.0
CLOSED_WITHIN_S = 10.0
"""Time to remove what was kept on disk, also for what has failed, or may hang."""


@dataclass(frozen=True)
class Speed:
    """The measured speed of one way to pack."""

    trials: int
    cpus_per_trial: float
    images_per_s: float
    """Images per second of all trials together."""
    worker_memory_mb: float
    """Memory of the largest worker, without what workers share."""


@dataclass(frozen=True)
class GpuMemory:
    """The memory that one trial took of a GPU."""

    peak_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Trained:
    """The training of one process in the measured time."""

    images_per_s: float
    memory_mb: float
    gpu: GpuMemory | None


class Probe:
    """A Ray actor that trains one configuration on a part of the data, until it is told to stop."""

    def __init__(self, context: WorkerContext, configuration: Configuration) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tuner-")
        self._configuration, self._seed = configuration, context.settings.seed
        self._trials = _endless(context, Path(self._folder.name)).trials()
        self._trial: TrialLike | None = None

    def warm_up(self) -> None:
        """Compile, and choose the number of batches in an epoch."""
        trial = self._begin(FIRST_BATCHES)
        trial.advance()
        epoch = trial.advance()
        per_batch_s = (epoch.seconds if epoch else EPOCH_S) / FIRST_BATCHES
        self._trial = self._begin(max(FIRST_BATCHES, min(MOST_BATCHES, int(EPOCH_S / per_batch_s))))
        self._trial.advance()

    def _begin(self, batches: int) -> TrialLike:
        return self._trials.begin(self._configuration, self._seed, batches)

    def measure(self, seconds: float) -> Trained:
        """Train for about so long, and return what was measured."""
        trial = self._trial
        if trial is None:
            raise RuntimeError("warm_up must be called before measure")
        images, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds and trial.ended is None:
            images += trial.images_per_epoch if trial.advance() else 0
        speed = images / (time.perf_counter() - started)
        held = gpu_memory()
        memory_mb = psutil.Process().memory_full_info().uss / 2**20
        return Trained(speed, memory_mb, GpuMemory(*held) if held is not None else None)

    def close(self) -> None:
        """Remove what was kept on disk."""
        self._folder.cleanup()


def _endless(context: WorkerContext, cache_dir: Path) -> WorkerContext:
    """Return the context of trials in their last phase from the first epoch on, without an end, with a cache there."""
    settings = replace(context.settings, max_epochs=10**9, head_epochs=0, patience=None)
    kept = context.activations
    activations = replace(kept, cache_dir=cache_dir, depths={}) if kept is not None else None
    return replace(context, settings=settings, activations=activations)


@dataclass(frozen=True)
class Probing:
    """The measurements for `packing`, in actors of the Ray that is connected."""

    context: WorkerContext
    capacity: Capacity
    say: Callable[[str], None]
    preparing: Callable[[str], AbstractContextManager[None]]
    """Shows a line while a block of code runs."""

    def speed(self, configuration: Configuration, trials: int, cpus: float) -> Speed | None:
        """Measure how fast so many trials, each with so many CPUs, train side by side; None if that failed."""
        with self.preparing(f"measuring how fast trials train, {trials} at a time with {counted(cpus, 'CPU')} each"):
            found = self._train(configuration, trials, cpus, 0.0)
        if found is None:
            return None
        return Speed(trials, cpus, sum(one.images_per_s for one in found), max(one.memory_mb for one in found))

    def gpu_memory(self, configuration: Configuration) -> GpuMemory | None:
        """Measure the GPU memory of a trial that runs alone; None where it cannot be told."""
        cpus = self.capacity.cpus_beside_gpu()
        with self.preparing("measuring how much of a GPU a large trial takes"):
            found = self._train(configuration, 1, cpus, 1.0)
        return found[0].gpu if found else None

    def _train(self, configuration: Configuration, trials: int, cpus: float, gpus: float) -> list[Trained] | None:
        actor = ray.remote(Probe).options(num_cpus=cpus, num_gpus=gpus)
        probes = [actor.remote(replace(self.context, cpus=cpus, gpus=gpus), configuration) for _ in range(trials)]
        try:
            ray.get([probe.warm_up.remote() for probe in probes], timeout=GIVE_UP_S)
            found: list[Trained] = ray.get([probe.measure.remote(MEASURED_S) for probe in probes], timeout=GIVE_UP_S)
        except RayError as error:
            self.say(f"{counted(trials, 'trial')} at a time could not be measured: {last_line(error)}")
            return None
        finally:
            closed = [probe.close.remote() for probe in probes]  # killed, they would leave what they keep on disk
            ray.wait(closed, num_returns=len(closed), timeout=CLOSED_WITHIN_S)
            for probe in probes:
                ray.kill(probe)
        return found
