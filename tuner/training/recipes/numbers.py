"""The numbers of a recipe in one epoch: what the variables of a compiled optimizer are set to before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.common.errors import InputError
from tuner.models.parameters import general
from tuner.training.recipes.schedules import IN_STEPS, PLATEAU_FACTOR, RISE, factor

MOMENTUM = {"sgd": 0.9, "muon": 0.95, "rmsprop": None}
"""What optimizers that can have a momentum have unless it is given."""
SCHEDULE_FREE = ("schedule_free_adamw",)
"""Optimizers whose rate has no schedule: they average weights instead, as `ema` does for others."""


@dataclass(frozen=True)
class Position:
    """The place of an epoch in its phase."""

    epoch: int
    """Epochs of the phase before it."""
    epochs: int
    """Of the phase, as far as the trial may go."""
    steps: int
    """Batches of an epoch."""
    reductions: int = 0
    """How often no improvement was seen for long enough to reduce the rate, if the schedule is `plateau`."""
    depth: int = 0
    """Unfrozen blocks."""


def is_scheduled(configuration: Mapping[str, Any]) -> bool:
    """Return whether the rate changes from step to step."""
    return schedule_of(configuration) in IN_STEPS or bool(_warm_up(configuration))


def base_rate(configuration: Mapping[str, Any], rate: float, position: Position) -> float:
    """Return the rate that a schedule multiplies, given that of the phase."""
    is_plateau = schedule_of(configuration) == "plateau"
    return rate * PLATEAU_FACTOR**position.reductions if is_plateau else rate


def mean_rate(configuration: Mapping[str, Any], rate: float, position: Position) -> float:
    """Return the mean of the rates of an epoch's steps, given that of its phase."""
    base = base_rate(configuration, rate, position)
    if not is_scheduled(configuration):
        return base
    numbers = numbers_of(configuration, position)
    steps = numbers["first_step"] + np.arange(position.steps)
    factors = factor(schedule_of(configuration), steps, numbers["steps"], numbers["warm_up"])
    return base * float(np.mean(factors))


def numbers_of(configuration: Mapping[str, Any], position: Position) -> dict[str, Any]:
    """Return each number but the rate that an optimizer may have as a variable, by name.

    Raises:
        InputError: so many gradients are accumulated that the phase makes no step.
    """
    steps = position.epochs * position.steps
    accumulated = int(general(configuration, "gradient_accumulation"))
    if accumulated > steps:
        told = f"must be at most the batches of a phase, {steps}, or it trains nothing; got {accumulated}"
        raise InputError(f"gradient_accumulation {told}")
    warm_up = _warm_up(configuration) * position.steps
    if schedule_of(configuration) == "one_cycle" and not warm_up:
        warm_up = RISE * steps
    return {
        "first_step": position.epoch * position.steps,
        "steps": steps,
        "warm_up": warm_up,
        "weight_decay": float(general(configuration, "weight_decay")),
        "clip_norm": float(general(configuration, "clip_norm")),
        "momentum": momentum_of(configuration) or 0.0,
        "ema": ema_of(configuration),
        "scales": scales(configuration, position),
    }


def scales(configuration: Mapping[str, Any], position: Position) -> np.ndarray:
    """Return what the rate is multiplied by for the head, and for each unfrozen block from the output.

    A block that is unfrozen later has 0: the optimizer knows its gradients, and does not leap when it begins.

    >>> scales({"layer_decay": 0.5, "unfreeze": "gradual"}, Position(1, 9, 10, depth=3))
    array([1.  , 0.5 , 0.25, 0.  ])
    """
    depths = np.arange(position.depth + 1)
    decayed = float(general(configuration, "layer_decay")) ** depths
    if general(configuration, "unfreeze") == "gradual":
        return np.where(depths <= position.epoch + 1, decayed, 0.0)
    return np.asarray(decayed)


def momentum_of(configuration: Mapping[str, Any]) -> float | None:
    """Return the momentum of an optimizer that has one; None: it has none, or none is asked for."""
    optimizer, given = general(configuration, "optimizer"), general(configuration, "momentum")
    if optimizer not in MOMENTUM:
        return None
    return MOMENTUM[optimizer] if given is None else float(given)


def schedule_of(configuration: Mapping[str, Any]) -> str:
    """Return the schedule of a configuration, which its optimizer may do without."""
    is_free = general(configuration, "optimizer") in SCHEDULE_FREE
    return "constant" if is_free else str(general(configuration, "schedule"))


def ema_of(configuration: Mapping[str, Any]) -> float:
    """Return the share of an average that each step keeps; 0: there is none, or it is the optimizer's own."""
    return 0.0 if general(configuration, "optimizer") in SCHEDULE_FREE else float(general(configuration, "ema"))


def is_scaled(configuration: Mapping[str, Any], depth: int) -> bool:
    """Return whether blocks have rates of their own while so many are unfrozen."""
    gradual = general(configuration, "unfreeze") == "gradual"
    return depth > 0 and (gradual or general(configuration, "layer_decay") != 1.0)


def _warm_up(configuration: Mapping[str, Any]) -> float:
    return float(general(configuration, "warmup_epochs"))
