"""Samplers by name: what proposes the next configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from optuna.samplers import BaseSampler, CmaEsSampler, QMCSampler, RandomSampler

from tuner.equal_epochs import EqualEpochTPESampler
from tuner.registry import Registry


@dataclass(frozen=True)
class SamplerEntry:
    """`build(seed)` makes the Optuna sampler; `description` is shown by --plan."""

    build: Callable[[int], BaseSampler]
    description: str


SAMPLERS: Registry[SamplerEntry] = Registry("sampler")
SAMPLERS.add("random", SamplerEntry(lambda seed: RandomSampler(seed=seed), "independent uniform draws"))
SAMPLERS.add(
    "grid", SamplerEntry(lambda seed: RandomSampler(seed=seed), "every configuration of a finite space, in order")
)
SAMPLERS.add("tpe", SamplerEntry(EqualEpochTPESampler, "tree-structured Parzen estimator, compared at equal epochs"))
SAMPLERS.add(
    "cmaes",
    SamplerEntry(
        lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False, consider_pruned_trials=True),
        "covariance matrix adaptation; choices and conditional parameters are drawn at random",
    ),
)
SAMPLERS.add(
    "qmc",
    SamplerEntry(
        lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
        "scrambled Sobol points; choices and conditional parameters are drawn at random",
    ),
)
AUTO = "tpe"
"""What `auto` means until the defaults have been measured."""


def sampler_name(name: str, is_population: bool = False) -> str:
    """The sampler that a file's name stands for; a population has its first members drawn at random."""
    if name != "auto":
        return name
    return "random" if is_population else AUTO
