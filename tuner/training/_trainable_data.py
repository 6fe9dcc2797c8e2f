"""The data that a trainable is given: the images that are trained on and those of validation, and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tuner.datasets.loading import Dataset, Split

Read = Callable[[np.ndarray], np.ndarray]
"""Returns the images at positions `[B] int64` of a split, `[B, H, W, C] uint8`."""


class Images(NDArrayOperatorsMixin):
    """The images of a split, read where they are asked for as from an array `[N, H, W, C] uint8`.

    `images[3]`, `images[10:20]`, `images[positions]` and `images[mask]` read these alone, and give arrays of their own;
    `numpy.asarray(images)` reads all, and so does whatever else an array can do (`images / 255`, `images.mean()`).
    Every reading is a sign of life.
    """

    __slots__ = ("_read", "shape")
    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, read: Read, shape: tuple[int, ...]) -> None:
        self._read, self.shape = read, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if first is None or first is Ellipsis or not all(isinstance(one, slice | int) for one in rest):
            found: np.ndarray = np.asarray(self)[index]
            return found
        positions = np.arange(len(self))[first]
        images = self._read(positions.reshape(-1)).reshape(*positions.shape, *self.shape[1:])
        return images[(slice(None),) * positions.ndim + tuple(rest)] if rest else images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("images are read from the disk: there is no array of all of them that could be given")
        return self._read(np.arange(len(self))).astype(dtype or np.uint8, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = (np.asarray(one) if isinstance(one, Images) else one for one in inputs)
        return getattr(ufunc, method)(*arrays, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"images have no {name!r}; they are read as an array of numpy")
        return getattr(np.asarray(self), name)

    def __repr__(self) -> str:
        return f"Images(shape={self.shape}, dtype=uint8)"


class Part:
    """One part of the data: `images`, `labels` `[N] int64` and, where the source has them, `weights` `[N] float32`."""

    __slots__ = ("images", "labels", "weights")

    def __init__(self, split: Split, image_shape: tuple[int, int, int], on_read: Callable[[], None]) -> None:
        read = split.batch

        def read_images(positions: np.ndarray) -> np.ndarray:
            on_read()
            return read(positions)[0]

        self.images = Images(read_images, (len(split), *image_shape))
        self.labels = _fixed(split.labels)
        self.weights = None if split.weights is None else _fixed(split.weights)

    def __len__(self) -> int:
        return len(self.labels)


def _fixed(values: np.ndarray) -> np.ndarray:
    """Return a copy that cannot be written to: all trials of a process share it."""
    copy = np.array(values)
    copy.flags.writeable = False
    return copy


class Facts:
    """The facts of the data that are known without their images: all that `predict` is given."""

    def __init__(self, class_names: tuple[str, ...], image_shape: tuple[int, int, int], seed: int) -> None:
        self.class_names, self.image_shape, self.seed = class_names, image_shape, seed
        self.num_classes = len(class_names)

    def __getattr__(self, name: str) -> Any:
        if name in ("train", "validation"):
            raise AttributeError(
                f"data.{name} is not there when predict is called, which may be long after the training: keep in the "
                "state what predict needs of it"
            )
        if name == "test" or name.startswith("test_"):
            raise AttributeError(f"data.{name} does not exist: no training function sees the test split")
        raise AttributeError(f"data has no {name!r}; it has class_names, image_shape, num_classes and seed")


class TrainingData(Facts):
    """The data of one training: the facts, with the parts `train` and `validation`, and the `seed` of the trial."""

    def __init__(self, data: Dataset, seed: int, on_read: Callable[[], None]) -> None:
        super().__init__(data.class_names, data.image_shape, seed)
        self.train = Part(data.train, self.image_shape, on_read)
        self.validation = Part(data.validation, self.image_shape, on_read)
