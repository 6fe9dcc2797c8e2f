"""What a trial needs to know besides its configuration and its data. Light: no Keras, so that a driver can make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
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


@dataclass(frozen=True)
class TrialSettings:
    """What a trial needs to know besides its configuration and its data."""

    max_epochs: int
    head_epochs: int
    patience: int | None
    """Epochs of the last phase without improvement after which the trial ends; None: never."""
    min_delta: float
    metric: Literal["val_accuracy", "val_loss"]
    mode: Literal["max", "min"]
    seed: int
    times_inference: bool = False
    """Whether a worker measures after a trial's first epoch how long an image takes."""


@dataclass(frozen=True)
class ActivationSettings:
    """Where and how activations of frozen layers are kept."""

    cache_dir: Path
    dtype: Literal["float16", "float32"]
    max_bytes: int
    """Of all cached activations of the machine together."""
    views: int | None = None
    """Augmented variants of each image that are kept, one per epoch in turn; None: augmented trials keep nothing."""
    depths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The unfreeze depths that the space holds, by architecture: what one pass over the images fills."""
