"""Registry of schedulers, which choose the trials that go on. Light: Ray is loaded when one is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tuner.algorithms.halving import Halving
from tuner.common.metrics import Mode
from tuner.common.registry import Registry
from tuner.spec.space import Choice, Choose, Dimension, Integer, Real
from tuner.spec.strengths import OWNER

MUTABLE = (
    *("learning_rate", "fine_tune_learning_rate_factor", "weight_decay", "clip_norm", "layer_decay"),
    *("label_smoothing", "class_weight", "loss", "batch_size", "augment"),
)
"""Hyperparameters that a population may change in a running trial: the weights fit before and after. What a training
function of one's own adds to them, or takes away, its author says."""


@dataclass(frozen=True)
class SchedulerContext:
    """The facts that a scheduler is built from; epochs are counted over both phases."""

    mode: Mode
    max_epochs: int
    grace_epochs: int
    reduction_factor: int
    mutable: Mapping[str, Dimension]
    """The dimensions of the space that a population may change."""
    halving: Halving | None = None
    """For a scheduler that pauses."""
    shown: Mapping[int, Mapping[int, float]] = field(default_factory=dict)
    """The best values by epoch of trials of earlier sessions, by number."""


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
    has_brackets: bool = False
    """Whether it compares in brackets of Hyperband, whose epochs follow from the longest training alone."""
    is_population: bool = False
    """Whether it changes configurations of running trials, and so needs a sampler for the first members only."""
    changes_numbers_only: bool = False
    """Whether a population changes ranges of numbers, and no choices."""
    sampler: str | None = None
    """The only sampler that it goes with; that of a population draws at random."""

    def __post_init__(self) -> None:
        if self.is_population and self.sampler is None:
            object.__setattr__(self, "sampler", "random")


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


def mutable_dimensions(space: Mapping[str, Dimension], names: Iterable[str] = MUTABLE) -> dict[str, Dimension]:
    """Return the dimensions of a space that a population may change: those of these names that leave a choice.

    Strengths of `augment` are among them where it has one branch, so that all members have them.
    """
    augment = space.get(OWNER)
    branches = list(augment.branches.values()) if isinstance(augment, Choose) else []
    strengths = branches[0] if len(branches) == 1 else {}
    found = {**{name: space[name] for name in names if name in space}, **strengths}
    return {name: dimension for name, dimension in found.items() if _leaves_choice(dimension)}


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


SCHEDULERS: Registry[SchedulerEntry] = Registry("scheduler", "tuner.schedulers")


def _add(name: str, builder: str, description: str, **facts: Any) -> None:
    """Register what the function `builder` of the module that imports Ray builds.

    By its name alone: reports read the entries, and must not depend on Ray.
    """

    def build(context: SchedulerContext) -> Any:
        return getattr(importlib.import_module("tuner.algorithms._ray_schedulers"), builder)(context)

    SCHEDULERS.add(name, SchedulerEntry(build, description, **facts))


_add("none", "build_none", "every trial trains to its own end")
_add("asha", "build_asha", "asynchronous successive halving: pauses at each rung, the best go on",
     why="best with gp on LCBench, see benchmarks/LOG.md", halves=True, pauses=True)  # fmt: skip
_add("asha_stopping", "build_asha_stopping",
     "Ray's asynchronous successive halving: stops at each rung, never goes back", halves=True)  # fmt: skip
_add("hyperband", "build_hyperband", "brackets of successive halving; trials wait at rungs",
     halves=True, has_brackets=True)  # fmt: skip
_add("bohb", "build_hyperband", "hyperband with a TPE that compares at equal epochs",
     halves=True, has_brackets=True, sampler="tpe")  # fmt: skip
_add("median", "build_median", "stops what is below the median of running averages")
_add("pbt", "build_pbt", "population based training: copies good trials, perturbs them", is_population=True)
_add("pb2", "build_pb2", "population based bandits: copies good trials, a Gaussian process chooses",
     is_population=True, changes_numbers_only=True)  # fmt: skip
