"""Drawn images and data for checks, and comparisons of what comes of them. Light: no Keras."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tuner.datasets.loading import Dataset, Split

NUM_CLASSES = 3
_IMAGES = 24


def drawn_images(shape: tuple[int, int, int], count: int = 4, seed: int = 0) -> np.ndarray:
    """Return different raw images: soft shapes of many brightnesses and some noise, as photos have them."""
    height, width, channels = shape
    generator = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    images = []
    for _ in range(count):
        angle, phase = generator.uniform(0.5, 4, 2), generator.uniform(0, 2 * np.pi, channels)
        waves = np.sin(2 * np.pi * (angle[0] * rows + angle[1] * columns) + phase)
        level, contrast = generator.uniform(60, 200), generator.uniform(30, 60)
        images.append(level + contrast * waves + generator.normal(0, 12, (height, width, channels)))
    found: np.ndarray = np.clip(np.stack(images), 0, 255).astype(np.uint8)
    return found


def drawn_dataset(shape: tuple[int, int, int]) -> Dataset:
    """Return some drawn images of three classes as a data set."""
    split = Split(drawn_images(shape, _IMAGES, seed=4), np.arange(_IMAGES), np.arange(_IMAGES) % NUM_CLASSES)
    names = tuple(f"class {number}" for number in range(NUM_CLASSES))
    parts = (split, split.take(np.arange(NUM_CLASSES * 3)))
    nothing: Any = None  # no copy of them is on the disk
    return Dataset("selftest", "drawn", "", names, shape, *parts, nothing, lambda _fold: parts, None)


def digest(values: np.ndarray) -> str:
    """Return a digest of an array: equal where shape and every bit are."""
    return hashlib.sha256(repr(values.shape).encode() + np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def is_close(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two results are the same but for the order of adding."""
    if one.shape != other.shape:
        return False
    scale = max(float(np.abs(one[np.isfinite(one)]).max(initial=0.0)), 1e-6)
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-4 * scale, equal_nan=True))
