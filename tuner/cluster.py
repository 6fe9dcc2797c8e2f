"""Connecting to Ray, and what a trial occupies there."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import InputError


@dataclass(frozen=True)
class Capacity:
    """What Ray has to give: CPUs and GPUs of all nodes."""

    cpus: float
    gpus: float

    def slots(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """How many trials fit at the same time (on paper: across nodes a trial is not split).

        >>> Capacity(8, 1).slots(2, 0.5)
        2
        """
        by_gpu = math.floor(self.gpus / gpus_per_trial + 1e-9) if gpus_per_trial else math.inf
        return int(min(math.floor(self.cpus / cpus_per_trial + 1e-9), by_gpu))


@contextmanager
def local_ray() -> Iterator[Capacity]:
    """A Ray of its own on this machine, quiet, with no open port beyond loopback, gone at the end."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "KERAS_HOME" in os.environ:  # workers inherit it, and run in other folders
        os.environ["KERAS_HOME"] = str(Path(os.environ["KERAS_HOME"]).expanduser().absolute())
    import ray

    if ray.is_initialized():  # in a notebook or a test: use what is there, and leave it there
        yield _capacity()
        return
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
    )
    try:
        yield _capacity()
    finally:
        ray.shutdown()


def _capacity() -> Capacity:
    import ray

    resources = ray.cluster_resources()
    return Capacity(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))


def concurrent_trials(wanted: int | str, capacity: Capacity, cpus_per_trial: float, gpus_per_trial: float) -> int:
    """How many trials run at once: what was asked for, within what fits.

    Raises:
        InputError: not even one trial fits.
    """
    fit = capacity.slots(cpus_per_trial, gpus_per_trial)
    if fit < 1:
        raise InputError(
            f"resources must fit the machines: a trial asks for {cpus_per_trial:g} CPUs and {gpus_per_trial:g} GPUs; "
            f"there are {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"
        )
    return fit if wanted == "auto" else min(int(wanted), fit)


def trial_resources(cpus: float, gpus: float) -> Any:
    """The resource request of a trial as a function of its config.

    Reused workers grow by some megabytes with every model. Ray reuses a worker only for an equal request, and for the
    single bundle of a trial all placement strategies mean the same: so another strategy is the way to ask for a new
    process without refusing a reuse, which makes Ray hang.
    """
    from ray.tune import PlacementGroupFactory

    strategies = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
    bundle = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}

    def request(config: dict[str, Any]) -> Any:
        return PlacementGroupFactory([bundle], strategy=strategies[int(config.get("generation", 0)) % len(strategies)])

    return request
