"""What a trial needs to know besides its configuration and its data. Light: no Keras, so that a driver can make it."""

from __future__ import annotations

from dataclasses import dataclass
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
