"""What a trial needs to know besides its configuration and its data. Light: no Keras, so that a driver can make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


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
