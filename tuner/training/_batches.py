"""Batches of a split, for Keras: rows of the memory-mapped images in a given order, augmented by a given seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tuner.common.seeds import derive_seed
from tuner.datasets.loading import Split
from tuner.models.augmentation import Augment


class Batches(keras.utils.PyDataset):
    """Batches of `(images, one-hot labels)` in a given order.

    Images are rows of the memory-mapped array, `[B, H, W, C] uint8`, or float32 after augmentation; batch `i` is
    augmented with a seed of its own, so that an epoch is the same however often it is read. `on_batch` is called
    whenever one is asked for.
    """

    def __init__(
        self,
        split: Split,
        num_classes: int,
        batch_size: int,
        order: np.ndarray,
        augment: Augment | None,
        seed: int,
        on_batch: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._on_batch = on_batch
        self._split, self._batch_size, self._order = split, batch_size, order
        self._augment, self._seed = augment, seed
        self._one_hot = np.eye(num_classes, dtype=np.float32)

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self._on_batch()
        positions = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images, labels = self._split.batch(positions)
        targets = self._one_hot[labels]
        if self._augment is None:
            return images, targets
        return self._augment.apply(images, targets, derive_seed(self._seed, index))
