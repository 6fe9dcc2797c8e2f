"""Choice of the number of trials at once, with the CPUs and the share of a GPU for each, where the file leaves it open.

More trials at once use the cores better as long as they do not wait for each other's memory; how many is a fact of the
machine and of the networks, so it is measured, for a search that is long enough to pay for it, and remembered.
"""

from __future__ import annotations

import contextlib
import json
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tuner.cluster.ray_session import Capacity, NodeCapacity, concurrent_trials
from tuner.cluster.slots import Packing
from tuner.common.files import write_text
from tuner.common.process import describe_environment, free_memory
from tuner.common.seeds import derive_seed
from tuner.common.words import counted
from tuner.execution.exit_reason import trial_memory_mb
from tuner.execution.packing_probe import GpuMemory, Speed
from tuner.models.architectures import ARCHITECTURES
from tuner.models.parameters import general
from tuner.session._resolved import ResolvedSearch, Shares, Study
from tuner.session.preparation import Prepared, preprocessed_shape
from tuner.spec.space import Configuration, sample

LONG_SEARCH_S = 600.0
LONG_SEARCH_IMAGES = 5_000_000
"""A measurement takes half a minute: from this time budget, or this many images of all planned epochs, it is made."""
NEGLIGIBLE_GAIN = 0.05
"""Fewer trials at once are better guided; so more must gain more than this."""
MOST_CPUS_PER_TRIAL = 8
"""No network of a search on CPUs has gained from more threads than that."""
MOST_TRIALS_PER_GPU = 8
WORKER_MB = 1000.0
"""Memory of a worker that has not been measured (benchmarks/LOG.md)."""
PROBE_MB_PER_IMAGE, PROBED_IMAGES = 0.01, 100_000
"""What a probe holds of an image beside the libraries of a worker: features, and what is solved from them; of so many
images at most."""
SPARE_MEMORY_MB = 1024.0
GPU_CONTEXT_BYTES = 600 * 2**20
"""GPU memory of a process before its first tensor."""
SAMPLES = 9


Measure = Callable[[Configuration, int, float], Speed | None]
"""Trains a configuration in so many processes with so many CPUs each; None: it failed, which has been said."""
MeasureGpu = Callable[[Configuration], GpuMemory | None]


def candidates(capacity: Capacity, cpus_per_trial: float | None, wanted: int | None) -> list[tuple[int, float]]:
    """Return ways to share CPUs (trials at once, CPUs of each), most trials first; one where nothing is left to choose.

    >>> eight = Capacity(8, 0)
    >>> candidates(eight, None, None), candidates(eight, 1.0, None), candidates(eight, None, 3)
    ([(8, 1.0), (4, 2.0), (2, 4.0), (1, 8.0)], [(8, 1.0), (4, 1.0)], [(3, 2.0)])
    """
    cpus = capacity.cpus
    if wanted is not None:
        largest = max((node.cpus for node in capacity.nodes), default=cpus)
        most = min(max(1.0, float(cpus // wanted)), max(1.0, largest))
        fewer = (float(share) for share in range(int(most), 0, -1) if capacity.slots(share, 0.0) >= wanted)
        return [(wanted, next(fewer, most) if cpus_per_trial is None else cpus_per_trial)]
    if cpus_per_trial is not None:
        fit = capacity.slots(cpus_per_trial, 0.0)
        return [(trials, cpus_per_trial) for trials in dict.fromkeys((fit, fit // 2)) if trials] or [
            (1, cpus_per_trial)
        ]
    powers = [
        2**power for power in range(MOST_CPUS_PER_TRIAL.bit_length()) if 2**power <= min(cpus, MOST_CPUS_PER_TRIAL)
    ]
    ways = [(capacity.slots(power, 0.0), float(power)) for power in powers]
    return [way for way in ways if way[0]] or [(1, 1.0)]


def fastest(speeds: Sequence[Speed]) -> Speed:
    """Return the fewest trials at once that train nearly as many images a second as the best.

    >>> fastest([Speed(4, 1, 100.0, 500), Speed(2, 2, 97.0, 500), Speed(1, 4, 60.0, 500)]).trials
    2
    """
    enough = max(speed.images_per_s for speed in speeds) * (1 - NEGLIGIBLE_GAIN)
    return min((speed for speed in speeds if speed.images_per_s >= enough), key=lambda speed: speed.trials)


def within_memory(trials: int, worker_memory_mb: float, available_mb: float) -> int:
    """Return how many of the trials the memory of a machine can hold, at least one.

    >>> within_memory(8, 1000, 5024), within_memory(8, 1000, 500), within_memory(2, 1000, 99_000)
    (4, 1, 2)
    """
    return max(1, min(trials, int((available_mb - SPARE_MEMORY_MB) // worker_memory_mb)))


def trials_per_gpu(memory: GpuMemory, cpus_per_gpu: float) -> int:
    """Return how many trials like the measured one a GPU can hold, each with a CPU to feed it, at least one.

    >>> trials_per_gpu(GpuMemory(3 * 2**30, 16 * 2**30), 16), trials_per_gpu(GpuMemory(3 * 2**30, 16 * 2**30), 2)
    (4, 2)
    """
    fit = int(0.9 * memory.total_bytes // (memory.peak_bytes + GPU_CONTEXT_BYTES))
    return max(1, min(fit, MOST_TRIALS_PER_GPU, int(cpus_per_gpu)))


def is_long(search: ResolvedSearch, train_images: int) -> bool:
    """Return whether a search is long enough for a measurement to pay."""
    if search.budget.time_s is not None and search.budget.time_s < LONG_SEARCH_S:
        return False
    planned = search.budget.trials * search.training.settings.max_epochs * train_images
    return planned >= LONG_SEARCH_IMAGES


def typical_configurations(study: Study, image_shape: tuple[int, int, int]) -> tuple[Configuration, Configuration]:
    """Return the middle one and the last of a few random configurations, by what their training costs and holds."""
    generator = np.random.default_rng(derive_seed(study.seed, "packing"))
    drawn = [sample(study.space, generator) for _ in range(SAMPLES)]
    drawn.sort(key=lambda one: _weight(one, image_shape))
    return drawn[len(drawn) // 2], drawn[-1]


def _weight(configuration: Configuration, image_shape: tuple[int, int, int]) -> tuple[float, float]:
    """Return what configurations are ordered by: by trained blocks, then by the pixels of a batch."""
    if "architecture" not in configuration:  # of a training function of one's own nothing is known
        return 0.0, float(str(general(configuration, "batch_size")))
    height, width, _ = preprocessed_shape(configuration, image_shape)
    is_whole = not ARCHITECTURES[str(configuration["architecture"])].is_backbone
    depth = math.inf if is_whole else float(str(configuration.get("unfreeze_depth") or 0))
    return depth, height * width * float(str(general(configuration, "batch_size")))


def choose_packing(
    search: ResolvedSearch, prepared: Prepared, capacity: Capacity, measure: Measure, measure_gpu: MeasureGpu
) -> Packing:
    """Return how trials share the machines; what the file gives is as it is given.

    Raises:
        InputError: not even one trial fits.
    """
    shares, wanted = search.shares, search.shares.at_once
    memory = Remembered(search, prepared, capacity)
    long_enough = is_long(search, len(prepared.dataset.train))
    middle, largest = typical_configurations(search.study, prepared.dataset.image_shape)
    if capacity.gpus and shares.gpus != 0:
        is_open = shares.gpus is None
        return _pack_gpus(
            shares, capacity, memory.gpu(lambda: measure_gpu(largest) if long_enough else None) if is_open else None
        )
    gpus = shares.gpus or 0.0
    if gpus:
        concurrent_trials(wanted, capacity, 1.0, gpus)  # raises: there is no GPU
    ways = candidates(capacity, shares.cpus, wanted)
    trials, cpus = ways[0]
    available_mb = _available_mb(capacity) - probe_memory_mb(search, prepared)
    if len(ways) > 1:
        speeds = memory.speeds(lambda: [measure(middle, *way) for way in ways] if long_enough else [])
        if speeds:
            return _pack_measured(speeds, available_mb)
    fit = concurrent_trials(trials, capacity, cpus, 0.0)
    if wanted is not None:
        return Packing(fit, cpus, gpus, "")
    held = within_memory(fit, WORKER_MB, available_mb)
    return Packing(held, cpus, gpus, "as many as memory holds" if held < fit else "")


def _pack_measured(speeds: Sequence[Speed], available_mb: float) -> Packing:
    best = fastest(speeds)
    held = within_memory(best.trials, best.worker_memory_mb, available_mb)
    told = ", ".join(
        f"{speed.trials} with {counted(speed.cpus_per_trial, 'CPU')} {speed.images_per_s:,.0f} images/s"
        for speed in speeds
    )
    bound = f"; bounded by memory, {best.worker_memory_mb:,.0f} MB each" if held < best.trials else ""
    return Packing(held, best.cpus_per_trial, 0.0, f"measured: {told}{bound}")


def _pack_gpus(shares: Shares, capacity: Capacity, memory: GpuMemory | None) -> Packing:
    """Return how trials share GPUs: as many on each as its memory holds."""
    gpus, reason = shares.gpus, ""
    if gpus is None:
        share = 1 if memory is None else trials_per_gpu(memory, capacity.cpus / capacity.gpus)
        gpus = math.floor(10_000 / share) / 10_000  # as fine as Ray counts
        if memory is not None:
            gib = f"{memory.peak_bytes / 2**30:.1f} of {memory.total_bytes / 2**30:.1f} GiB"
            reason = f"measured: a large trial takes {gib} of a GPU"
    cpus = shares.cpus
    if cpus is None:
        cpus = _cpus_beside(gpus, capacity, shares.at_once)
    trials = concurrent_trials(shares.at_once, capacity, cpus, gpus)
    return Packing(trials, cpus, gpus, reason)


def _cpus_beside(gpus: float, capacity: Capacity, wanted: int | None) -> float:
    """Return the CPUs of a trial with such GPUs: an even share, on the node that has the fewest for its GPUs.

    >>> one = Capacity(16, 4)
    >>> _cpus_beside(1, one, None), _cpus_beside(2, one, None), _cpus_beside(2, one, 1), _cpus_beside(0.25, one, None)
    (4.0, 8.0, 16.0, 1.0)
    >>> nodes = (NodeCapacity(8, 2, 0), NodeCapacity(6, 3, 0), NodeCapacity(32, 0, 0))
    >>> _cpus_beside(2, Capacity(46, 5, nodes=nodes), None)
    6.0
    """
    nodes = capacity.nodes or (NodeCapacity(capacity.cpus, capacity.gpus, 0.0),)
    fit = [(node.cpus, math.floor(node.gpus / gpus + 1e-9)) for node in nodes]
    shares = [cpus // min(number, wanted or number) for cpus, number in fit if number]
    return max(1.0, float(min(shares, default=1.0)))


def trial_memory(search: ResolvedSearch, prepared: Prepared, capacity: Capacity, trials: int) -> float | None:
    """Return the most host memory of a trial, in MB; on a cluster, if not given, Ray's memory monitors see to it."""
    available = None if capacity.is_cluster else _available_mb(capacity) - probe_memory_mb(search, prepared)
    return trial_memory_mb(search.shares.memory_gb, available, trials)


def probe_memory_mb(search: ResolvedSearch, prepared: Prepared) -> float:
    """Return the host memory of the process that probes frozen features beside the trials, in MB; 0: there is none."""
    if not search.training.probe.value:
        return 0.0
    images = len(prepared.dataset.train) + len(prepared.dataset.validation)
    return WORKER_MB + PROBE_MB_PER_IMAGE * min(PROBED_IMAGES, images)


def _available_mb(capacity: Capacity) -> float:
    """Return the memory that is free for trials now, in MB; of a cluster, what its nodes have in all."""
    if capacity.nodes:  # the driver's own machine may run no trial
        return sum(node.memory_mb for node in capacity.nodes)
    return free_memory() / 2**20


class Remembered:
    """Measurements kept in the cache for the same space, data, versions and machine, and made where there are none."""

    def __init__(self, search: ResolvedSearch, prepared: Prepared, capacity: Capacity) -> None:
        self._path = prepared.cache_dir / "packing.json"
        environment = describe_environment()
        written = search.specification
        facts = {
            "machine": [platform.node(), environment["system"], environment["memory_gb"], capacity.cpus, capacity.gpus],
            "packages": environment["packages"],
            "image_shape": list(prepared.dataset.image_shape),
            "search": [written["space"], written.get("activations"), written["resources"], search.study.seed],
        }
        self._key = json.dumps(facts, sort_keys=True, default=str)
        self._known: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = dict(json.loads(self._path.read_text(encoding="utf-8")))

    def speeds(self, measure: Callable[[], Sequence[Speed | None]]) -> list[Speed]:
        """Return the speeds of all ways that could be measured."""
        with contextlib.suppress(TypeError, KeyError):
            return [Speed(**speed) for speed in self._known[self._key]["speeds"]]
        found = [speed for speed in measure() if speed is not None]
        self._keep({"speeds": [asdict(speed) for speed in found]} if found else None)
        return found

    def gpu(self, measure: Callable[[], GpuMemory | None]) -> GpuMemory | None:
        """Return the memory of a large trial, None if it could not be measured."""
        with contextlib.suppress(TypeError, KeyError):
            return GpuMemory(**self._known[self._key]["gpu"])
        found = measure()
        self._keep({"gpu": asdict(found)} if found else None)
        return found

    def _keep(self, found: dict[str, Any] | None) -> None:
        if found is not None:
            with contextlib.suppress(OSError):  # next time it is measured again
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self._path, json.dumps({**self._known, self._key: found}, indent=1))
