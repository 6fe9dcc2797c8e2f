"""The phases of a trial, and what its epochs and its end say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["head", "fine_tune", "scratch"]


@dataclass(frozen=True)
class EpochResult:
    """What one epoch showed; `best_so_far` is the best value of the metric up to here, the rest is this epoch's."""

    epoch: int
    phase: Phase
    seconds: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    best_so_far: float
    learning_rate: float


@dataclass(frozen=True)
class Ended:
    """How a trial ended by itself."""

    status: Literal["completed", "failed"]
    reason: str


def phase_of(epoch: int, has_backbone: bool, unfreeze_depth: int, head_epochs: int) -> Phase:
    """The phase of an epoch (from 1): the head first, then the unfrozen blocks with it; `scratch` without a backbone.

    >>> [phase_of(epoch, True, 2, 3) for epoch in (1, 3, 4)]
    ['head', 'head', 'fine_tune']
    """
    if not has_backbone:
        return "scratch"
    return "head" if unfreeze_depth == 0 or epoch <= head_epochs else "fine_tune"
