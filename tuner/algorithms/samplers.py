"""Registry of samplers, which propose the next configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from tuner.algorithms._optuna_samplers import CovarianceSampler, EvolutionSampler, SobolSampler
from tuner.algorithms.tpe import EqualEpochTPESampler, IndependentRandomSampler
from tuner.common.registry import Registry


@dataclass(frozen=True)
class SamplerContext:
    """The facts that a sampler is built from; most use the seed alone."""

    seed: int
    trials: int | None = None
    """Number of planned trials."""
    earlier: Sequence[Sequence[FrozenTrial]] = ()
    """The trials of earlier studies, in terms of this one's space."""
    per_second: bool = False
    """Whether improvement is weighed by the seconds it takes: little and soon may count more than much and late."""
    share_spent: Callable[[], float] = lambda: 0.0
    """Returns the share of the time budget that is over; 0 where there is none."""


@dataclass(frozen=True)
class SamplerEntry:
    """A registered sampler: `build` makes it for Optuna; `description` is shown by --plan."""

    build: Callable[[SamplerContext], BaseSampler]
    description: str
    why: str = ""
    """Why `auto` chooses it."""
    weighs_seconds: bool = False
    """Whether it takes `per_second` into account."""
    tries_all: bool = False
    """Whether every configuration of the space is tried once, in order, so that there must be an end of them."""
    knows_one_metric: bool = False
    """Whether it looks at the first metric only, so that a search for a Pareto front would not be one."""


SAMPLERS: Registry[SamplerEntry] = Registry("sampler", "tuner.samplers")


def _add(name: str, build: Callable[[SamplerContext], BaseSampler], description: str, **facts: Any) -> None:
    SAMPLERS.add(name, SamplerEntry(build, description, **facts))


def _random(context: SamplerContext) -> BaseSampler:
    return IndependentRandomSampler(context.seed)


def _gp(context: SamplerContext) -> BaseSampler:
    from tuner.algorithms._gp_sampler import GaussianProcessSampler  # scipy, which takes its time

    return GaussianProcessSampler(
        context.seed, context.trials, context.earlier, context.per_second, context.share_spent
    )


_add("random", _random, "independent uniform draws")
_add("grid", _random, "every configuration of a finite space, in order", tries_all=True)
_add("tpe", lambda context: EqualEpochTPESampler(context.seed),
     "tree-structured Parzen estimator, compared at equal epochs", knows_one_metric=True)  # fmt: skip
_add("gp", _gp, "our Gaussian process over hyperparameters and epochs, expected improvement", weighs_seconds=True,
     why="best of those measured on LCBench, see benchmarks/LOG.md")  # fmt: skip
_add("cmaes", lambda context: CovarianceSampler(context.seed),
     "covariance matrix adaptation; choices and conditional parameters are drawn at random",
     knows_one_metric=True)  # fmt: skip
_add("qmc", lambda context: SobolSampler(context.seed),
     "scrambled Sobol points; parameters that the first trial has not are drawn at random")  # fmt: skip
_add("nsga2", lambda context: EvolutionSampler(context.seed),
     "evolution of the Pareto front (NSGA-II), also through branches")  # fmt: skip
