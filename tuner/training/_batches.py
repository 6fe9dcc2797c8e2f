"""Batches of images and labels of one epoch, as Keras reads them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tuner.common.process import keep_freed_memory
from tuner.common.seeds import derive_seed
from tuner.common.threads import Threads
from tuner.datasets.loading import Split
from tuner.models.augmentation import Augment

_LOOKED_AT = 2


class Batches(keras.utils.PyDataset):
    """Batches of `(images, one-hot labels)`, with `weights` of the images `(images, labels, weights)`, in an order.

    Images are rows of the memory-mapped array, `[B, H, W, C] uint8`, augmented or not; batch `i` is augmented with a
    seed of its own, so that an epoch is the same however often it is read, by however many `threads` (None: one). Where
    labels are mixed, weights are mixed alike. `on_batch` is called whenever one is asked for.

    The first two are made once for the two readings of them: Keras looks at their form before it begins.
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
        weights: np.ndarray | None = None,
        threads: Threads | None = None,
    ) -> None:
        super().__init__()
        keep_freed_memory()  # here, since TensorFlow undoes it when it reads the first of all
        self._on_batch, self._weights, self._threads = on_batch, weights, threads or Threads(1)
        self._split, self._batch_size, self._order = split, batch_size, order
        self._augment, self._seed = augment, seed
        self._one_hot = np.eye(num_classes, dtype=np.float32)
        self._looked_at: dict[int, tuple[Any, ...]] = {}

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        self._on_batch()
        if index in self._looked_at:
            return self._looked_at.pop(index)
        batch = self._make(index)
        if index < _LOOKED_AT:
            self._looked_at[index] = batch
        return batch

    def _make(self, index: int) -> tuple[Any, ...]:
        positions = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images, labels = self._split.batch(positions)
        targets = self._one_hot[labels]
        weights = None if self._weights is None else self._weights[positions]
        if self._augment is not None:
            seed = derive_seed(self._seed, index)
            if weights is not None and self._augment.mixes_labels:
                own = np.eye(len(positions), dtype=np.float32)
                images, shares = self._augment.apply(images, own, seed, self._threads)
                targets, weights = shares @ targets, shares @ weights
            else:
                images, targets = self._augment.apply(images, targets, seed, self._threads)
        return (images, targets) if weights is None else (images, targets, weights)
