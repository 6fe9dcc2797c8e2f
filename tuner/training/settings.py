"""The settings of a trial besides its configuration and its data. Light: no Keras, so that a driver can make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tuner.common.metrics import Mode, asked_values
from tuner.runs.epoch import Phase


@dataclass(frozen=True)
class Ended:
    """The end of a trial by itself."""

    status: Literal["completed", "failed"]
    reason: str


VALIDATION_BATCH_SIZE = 256
"""No gradients are kept, so it may be larger than a training batch."""


def phase_of(epoch: int, has_backbone: bool, unfreeze_depth: int, head_epochs: int) -> Phase:
    """Return the phase of an epoch (from 1): first the head, then unfrozen blocks too; `scratch` without a backbone.

    Without a backbone it is `scratch`.

    >>> [phase_of(epoch, True, 2, 3) for epoch in (1, 3, 4)]
    ['head', 'head', 'fine_tune']
    """
    if not has_backbone:
        return "scratch"
    return "head" if unfreeze_depth == 0 or epoch <= head_epochs else "fine_tune"


@dataclass(frozen=True)
class TrialSettings:
    """The settings of a trial besides its configuration and its data."""

    max_epochs: int
    head_epochs: int
    patience: int | None
    """Epochs of the last phase without improvement after which the trial ends; None: never."""
    min_delta: float
    metric: str
    """The metric of every epoch that makes an epoch the best."""
    mode: Mode
    seed: int
    times_inference: bool = False
    """Whether a worker measures after a trial's first epoch how long an image takes."""
    other_metrics: tuple[str, ...] = ()
    """Those of the study beside `metric`."""
    augments_on_device: bool = False
    """Whether images are augmented where the network trains, if all operations can be done there."""

    @property
    def asked(self) -> tuple[str, ...]:
        """Metrics of the predictions for the validation split that are measured beside those of Keras."""
        return asked_values((self.metric, *self.other_metrics))


def phase_span(phase: Phase, unfreeze_depth: int, settings: TrialSettings) -> tuple[int, int]:
    """Return the epochs before a phase, and those that it has at most: what schedules stretch over."""
    if phase == "fine_tune":
        return settings.head_epochs, settings.max_epochs - settings.head_epochs
    is_whole = phase == "scratch" or unfreeze_depth == 0
    return 0, settings.max_epochs if is_whole else min(settings.head_epochs, settings.max_epochs)


@dataclass(frozen=True)
class ActivationSettings:
    """The place, the form and the limits of cached activations of frozen layers."""

    cache_dir: Path
    dtype: Literal["float16", "float32"]
    max_bytes: int
    """Most bytes of all cached activations of the machine together."""
    views: int | None = None
    """Augmented variants of each image that are kept, one per epoch in turn; None: augmented trials keep nothing."""
    depths: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The unfreeze depths that the space holds, by architecture: what one pass over the images fills."""
