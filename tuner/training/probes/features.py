"""Pooled features of frozen backbones for the images of a data set, from the cache that trials read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tuner.common.errors import InputError
from tuner.datasets.loading import Dataset, Split
from tuner.models.backend import release_memory
from tuner.training.activations import Activations, FrozenPart
from tuner.training.compiled_models import CompiledModels
from tuner.training.cut_points import places
from tuner.training.probes.linear import ROWS_AT_ONCE
from tuner.training.settings import ActivationSettings

WORK_S = 2.0
"""Seconds of computing between two looks at what has been spent."""


class Features(NamedTuple):
    """The features of both splits, `[N, F]`; those of validation images follow those of training images."""

    together: np.ndarray
    training_images: int

    @property
    def train(self) -> np.ndarray:
        """Those of training images."""
        return self.together[: self.training_images]

    @property
    def validation(self) -> np.ndarray:
        """Those of validation images."""
        return self.together[self.training_images :]


def frozen_features(
    configuration: Mapping[str, Any],
    data: Dataset,
    kept: ActivationSettings,
    seed: int,
    go_on: Callable[[], bool],
    notify: Callable[[str], None] = lambda _text: None,
) -> Features | None:
    """Return what the frozen backbone of a configuration gives of all images; None if `go_on` said no before its end.

    What the cache lacks is computed as for a trial, and kept for the trials: at all places that the space may ask for
    if the weights are pretrained. Those drawn from a seed are no trial's.

    Raises:
        InputError: the network cannot be built, or what it gives is not worth keeping.
        OSError: the disk cannot hold what is computed.
    """
    if configuration.get("weights") == "none":
        kept = replace(kept, depths={})
    structure = CompiledModels().take(configuration, data.image_shape, len(data.class_names), seed)
    if structure.backbone is None:
        return None
    built = structure.trial_model
    part = FrozenPart(built, configuration, structure.backbone.weights, places(built))
    activations = Activations(data, kept, notify)
    try:
        place = activations.place(part, 0)
        if place is None:
            raise InputError("its features are not kept, since they are computed as quickly as they would be read")
        while go_on():
            if activations.work(part, [0], 0, 1, WORK_S).is_finished:
                found = activations.splits(part, place, 1)
                if found is not None:  # else it was damaged, and is computed again
                    return Features(_read(found), len(found[0]))
        return None
    finally:
        activations.release()
        release_memory()


def _read(splits: Sequence[Split]) -> np.ndarray:
    """Return the rows of both splits in one array, read some at a time: they may be half a gigabyte."""
    values = [split.images for split in splits]
    width, dtype = int(np.prod(values[0].shape[1:])), np.result_type(*(one.dtype for one in values))
    together, filled = np.empty((sum(map(len, splits)), width), dtype), 0
    for split in splits:
        for start in range(0, len(split), ROWS_AT_ONCE):
            rows = split.rows[start : start + ROWS_AT_ONCE]
            together[filled : filled + len(rows)] = np.asarray(split.images[rows]).reshape(len(rows), width)
            filled += len(rows)
    return together
