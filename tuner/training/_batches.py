"""Batches of images and labels of one epoch, made by threads ahead of the device that trains on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import keras
import numpy as np

from tuner.common.process import keep_freed_memory
from tuner.common.seeds import derive_seed
from tuner.datasets.loading import Split
from tuner.models import backend
from tuner.models.augmentation import Augment

_LOOKED_AT = 2
_LEAST_WEIGHT = 1e-20
"""What a weight of 0 is where own code looks at weighed labels: it finds the class still."""
AHEAD_BYTES = 2**28
"""The most memory of batches that are ready before they are asked for, but for one for each thread."""


class Batches(keras.utils.PyDataset):
    """Batches of `(images, one-hot labels)`, with `weights` of the images `(images, labels, weights)`, in an order.

    Images are rows of the memory-mapped array, `[B, H, W, C] uint8`, augmented or not; batch `i` is augmented with a
    seed of its own, so that an epoch is the same however often it is read, by however many `threads`. Where labels are
    mixed, weights are mixed alike. Augmented images are of a height and width of `size_px`, if given. `on_batch` is
    called whenever a batch is asked for.

    Where images are augmented, each thread makes a whole batch, the next ones while the device works on one; one thread
    is that in which Keras reads ahead. They begin with the first batch and end with the block `with Batches(...) as
    batches:`, which raises what making a batch raised, and not what Keras makes of it.

    The first two are made once for the two readings of them: `Stream`, or Keras, looks at their form before it begins.
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
        threads: int = 1,
        size_px: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        keep_freed_memory()  # here, since TensorFlow undoes it when it reads the first of all
        self._on_batch, self._weights = on_batch, weights
        self._split, self._batch_size, self._order = split, batch_size, order
        self._augment, self._seed, self._size_px = augment, seed, size_px
        self._one_hot = np.eye(num_classes, dtype=np.float32)
        self._looked_at: dict[int, tuple[Any, ...]] = {}
        # Without augmentation, a batch is read under Python's lock, or decoded by threads of its own.
        self._pool = ThreadPoolExecutor(threads, "batches") if augment is not None and threads > 1 else None
        self._threads = threads
        self._coming: dict[int, Future[tuple[Any, ...]]] = {}
        self._failure: Exception | None = None

    def __len__(self) -> int:
        return math.ceil(len(self._order) / self._batch_size)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, _kind: type | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        failure = self._failure  # of now: what is still read ahead fails as soon as the threads end
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        if failure is not None and isinstance(error, Exception) and error is not failure:
            raise failure from None

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        self._on_batch()
        if index in self._looked_at:
            return self._looked_at.pop(index)
        try:
            batch = self._make(index) if self._pool is None else self._made_ahead(index, self._pool)
        except Exception as error:  # kept for the end of the block, since Keras tells another; raised as it is
            self._failure = error
            raise
        if index < _LOOKED_AT:
            self._looked_at[index] = batch
        return batch

    def _made_ahead(self, index: int, pool: ThreadPoolExecutor) -> tuple[Any, ...]:
        """Return a batch, and let the next ones be made."""
        window = range(index, min(index + 1 + self._ahead(), len(self)))
        self._coming = {each: self._coming.get(each) or pool.submit(self._make, each) for each in window}
        return self._coming.pop(index).result()

    def _ahead(self) -> int:
        batch_bytes = self._batch_size * math.prod(self._split.images.shape[1:]) * self._split.images.dtype.itemsize
        return min(2 * self._threads, max(self._threads, AHEAD_BYTES // max(1, batch_bytes)))

    def _make(self, index: int) -> tuple[Any, ...]:
        positions = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images, labels = self._split.batch(positions)
        targets = self._one_hot[labels]
        weights = None if self._weights is None else self._weights[positions]
        if self._augment is not None:
            seed = derive_seed(self._seed, index)
            if weights is not None and self._augment.mixes_labels:
                images, targets, weights = self._mixed(self._augment, images, targets, weights, seed)
            else:
                images, targets = self._augment.apply(images, targets, seed, self._size_px)
        return (images, targets) if weights is None else (images, targets, weights)

    def _mixed(
        self, augment: Augment, images: np.ndarray, targets: np.ndarray, weights: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return augmented images, and labels and weights `[B]` mixed alike."""
        if augment.mixes_rows:
            images, shares = augment.apply(images, np.eye(len(targets), dtype=np.float32), seed, self._size_px)
            return images, shares @ targets, shares @ weights
        # Own code may look at the classes, and does not say by which shares it mixes: it is asked twice.
        mixed, labels = augment.apply(images, targets, seed, self._size_px)
        shown = np.maximum(weights, _LEAST_WEIGHT)[:, None] * targets
        weighed = augment.apply(images, shown, seed, self._size_px)[1]
        return mixed, labels, weighed.sum(axis=1)


class Stream:
    """Batches for Keras, epoch after epoch, by a pipeline of TensorFlow that is made once for those of one form.

    Of `Batches` themselves, Keras makes and traces one in every `fit`, which may take as long as a small epoch.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], Any] = {}
        self._batches: Batches | None = None

    def of(self, batches: Batches) -> Any:
        """Return what to give to `fit` or `predict` in place of batches; it is theirs until it is asked for others."""
        self._batches = batches
        form = tuple((part.shape[1:], str(part.dtype)) for part in batches[0])
        if form not in self._made:
            self._made[form] = backend.pipeline(self._read, form)
        return backend.read_ahead(self._made[form], len(batches))

    def _read(self) -> Iterator[tuple[Any, ...]]:
        batches = self._batches
        return iter(()) if batches is None else (batches[index] for index in range(len(batches)))
