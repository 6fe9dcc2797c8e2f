"""Registry of schedulers, Ray Tune's, which choose the trials that go on by the best value so far at each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuner.algorithms.halving import METRIC, TIME, Halving
from tuner.common.registry import Registry
from tuner.spec.space import Choice, Dimension, Integer, Real

MUTABLE = (
    "learning_rate",
    "fine_tune_learning_rate_factor",
    "weight_decay",
    "label_smoothing",
    "batch_size",
    "augment",
)
"""Hyperparameters that a population may change in a running trial: the weights fit before and after."""


@dataclass(frozen=True)
class SchedulerContext:
    """The facts that a scheduler is built from; epochs are counted over both phases."""

    mode: Literal["max", "min"]
    max_epochs: int
    grace_epochs: int
    reduction_factor: int
    mutable: Mapping[str, Dimension]
    """The dimensions of the space that a population may change."""
    halving: Halving | None = None
    """For a scheduler that pauses."""


@dataclass(frozen=True)
class SchedulerEntry:
    """`build` makes the Ray scheduler; the flags say what it goes with."""

    build: Callable[[SchedulerContext], Any]
    description: str
    why: str = ""
    """Why `auto` chooses it."""
    halves: bool = False
    """Whether it compares at rungs."""
    pauses: bool = False
    """Whether trials wait at rungs for their promotion (`halving.Halving`)."""
    is_population: bool = False
    """Whether it changes configurations of running trials, and so does without a sampler."""
    sampler: str | None = None
    """The only sampler that it goes with."""


def _none(_context: SchedulerContext) -> Any:
    from ray.tune.schedulers import FIFOScheduler

    return FIFOScheduler()


def _asha(context: SchedulerContext) -> Any:
    from tuner.algorithms._asha import PromotingScheduler

    if context.halving is None:
        raise ValueError("halving must be given to a scheduler that pauses; got None")
    return PromotingScheduler(context.halving)


def _asha_stopping(context: SchedulerContext) -> Any:
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(
        time_attr=TIME,
        metric=METRIC,
        mode=context.mode,
        max_t=context.max_epochs,
        grace_period=context.grace_epochs,
        reduction_factor=context.reduction_factor,
    )


def _hyperband(context: SchedulerContext) -> Any:
    """Return hyperband in the paper's order, largest bracket first; Ray keeps that form under BOHB's name."""
    from ray.tune.schedulers import HyperBandForBOHB

    return HyperBandForBOHB(
        time_attr=TIME,
        metric=METRIC,
        mode=context.mode,
        max_t=context.max_epochs,
        reduction_factor=context.reduction_factor,
    )


def _median(context: SchedulerContext) -> Any:
    from ray.tune.schedulers import MedianStoppingRule

    return MedianStoppingRule(
        time_attr=TIME, metric=METRIC, mode=context.mode, grace_period=context.grace_epochs, min_samples_required=3
    )


def _pbt(context: SchedulerContext) -> Any:
    from ray.tune.schedulers import PopulationBasedTraining

    return PopulationBasedTraining(
        time_attr=TIME,
        metric=METRIC,
        mode=context.mode,
        perturbation_interval=context.grace_epochs,
        hyperparam_mutations={name: _mutations(dimension) for name, dimension in context.mutable.items()},
        custom_explore_fn=lambda config: clip_to_space(config, context.mutable),
    )


def _pb2(context: SchedulerContext) -> Any:
    from ray.tune.schedulers.pb2 import PB2

    return PB2(
        time_attr=TIME,
        metric=METRIC,
        mode=context.mode,
        perturbation_interval=context.grace_epochs,
        hyperparam_bounds={name: [bound.low, bound.high] for name, bound in numeric(context.mutable).items()},
        custom_explore_fn=lambda config: clip_to_space(config, context.mutable),
    )


def _mutations(dimension: Dimension) -> Any:
    """Return a dimension in the form from which Ray's population based training resamples it."""
    from ray import tune

    match dimension:
        case Integer(low, high, _, log):
            return tune.lograndint(low, high + 1) if log else tune.randint(low, high + 1)
        case Real(low, high, log):
            return tune.loguniform(low, high) if log else tune.uniform(low, high)
        case _:
            return list(dimension.values)


def clip_to_space(config: dict[str, Any], mutable: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return `config` with every changed number back in its range: Ray multiplies by 1.2 or 0.8 without looking.

    >>> clip_to_space({"learning_rate": 0.12, "other": 1}, {"learning_rate": Real(0.001, 0.1)})
    {'learning_rate': 0.1, 'other': 1}
    """
    clipped = dict(config)
    for name, dimension in numeric(mutable).items():
        value = min(dimension.high, max(dimension.low, config[name]))
        if isinstance(dimension, Integer):
            value = dimension.low + round((value - dimension.low) / dimension.step) * dimension.step
        clipped[name] = value
    return clipped


def mutable_dimensions(space: Mapping[str, Dimension]) -> dict[str, Dimension]:
    """Return the dimensions of a space that a population may change: those of MUTABLE that leave a choice."""
    return {name: space[name] for name in MUTABLE if name in space and _leaves_choice(space[name])}


def numeric(dimensions: Mapping[str, Dimension]) -> dict[str, Integer | Real]:
    """Return those of `dimensions` that are ranges of numbers."""
    return {name: dimension for name, dimension in dimensions.items() if isinstance(dimension, Integer | Real)}


def _leaves_choice(dimension: Dimension) -> bool:
    match dimension:
        case Choice(values):
            return len(values) > 1
        case Integer(low, high, _, _) | Real(low, high, _):
            return low < high
        case _:
            return False


SCHEDULERS: Registry[SchedulerEntry] = Registry("scheduler")
SCHEDULERS.add("none", SchedulerEntry(_none, "every trial trains to its own end"))
SCHEDULERS.add(
    "asha",
    SchedulerEntry(
        _asha,
        "asynchronous successive halving: pauses at each rung, the best go on",
        why="best with gp on LCBench, see benchmarks/LOG.md",
        halves=True,
        pauses=True,
    ),
)
SCHEDULERS.add(
    "asha_stopping",
    SchedulerEntry(
        _asha_stopping, "Ray's asynchronous successive halving: stops at each rung, never goes back", halves=True
    ),
)
SCHEDULERS.add(
    "hyperband", SchedulerEntry(_hyperband, "brackets of successive halving; trials wait at rungs", halves=True)
)
SCHEDULERS.add(
    "bohb",
    SchedulerEntry(_hyperband, "hyperband with a TPE that compares at equal epochs", halves=True, sampler="tpe"),
)
SCHEDULERS.add("median", SchedulerEntry(_median, "stops what is below the median of running averages"))
SCHEDULERS.add(
    "pbt",
    SchedulerEntry(
        _pbt, "population based training: copies good trials, perturbs them", is_population=True, sampler="random"
    ),
)
SCHEDULERS.add(
    "pb2",
    SchedulerEntry(
        _pb2,
        "population based bandits: copies good trials, a Gaussian process chooses",
        is_population=True,
        sampler="random",
    ),
)
