"""tuner's arithmetic of augmentation of commit 51df595, in numpy, kept to be compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tuner.models.augmentation import parse_augment

Batch = tuple[np.ndarray, np.ndarray]
"""Images `[N, H, W, C] float32` in 0..255 and labels `[N, K] float32` that add up to 1."""
Effect = Callable[[Mapping[str, Any], np.ndarray, np.ndarray, np.random.Generator], Batch]


def augmented(text: str, images: np.ndarray, labels: np.ndarray, seed: int) -> Batch:
    """Return images and labels as they were augmented then."""
    batch = np.asarray(images, dtype=np.float32), np.asarray(labels, dtype=np.float32)
    for place, call in enumerate(parse_augment(text).calls):
        batch = EFFECTS[call.name](call.values, *batch, np.random.default_rng([seed, place]))
    return batch


def _flip(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    flipped = images.copy()
    for axis, name in ((2, "horizontal"), (1, "vertical")):
        if values["direction"] in (name, "both"):
            chosen = generator.random(len(images)) < 0.5
            flipped[chosen] = np.flip(flipped[chosen], axis=axis)
    return flipped, labels


def _shift(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    """Shift by whole pixels in both directions; the edge is repeated where nothing is left."""
    number, height, width, _ = images.shape
    down, right = generator.integers(-values["px"], values["px"] + 1, size=(2, number, 1))
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return images[np.arange(number)[:, None, None], rows[:, :, None], columns[:, None, :]], labels


def _rotate(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    angles = np.deg2rad(generator.uniform(-values["degrees"], values["degrees"], len(images)))
    cosine, sine = np.cos(angles), np.sin(angles)
    return _transform(images, np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)), labels


def _zoom(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    factors = 1.0 / generator.uniform(1 - values["fraction"], 1 + values["fraction"], len(images))
    return _transform(images, factors[:, None, None] * np.eye(2)), labels


def _transform(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return each image sampled at `matrix @ (row, column)` around its centre, bilinear, the edge repeated."""
    number, height, width, channels = images.shape
    linear = matrices.astype(np.float32)[..., None, None]
    down = np.arange(height, dtype=np.float32)[None, :, None] - (height - 1) / 2
    right = np.arange(width, dtype=np.float32)[None, None, :] - (width - 1) / 2
    rows = np.clip(linear[:, 0, 0] * down + linear[:, 0, 1] * right + (height - 1) / 2, 0, height - 1)
    columns = np.clip(linear[:, 1, 0] * down + linear[:, 1, 1] * right + (width - 1) / 2, 0, width - 1)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    row_share, column_share = ((at - np.floor(at))[..., None] for at in (rows, columns))
    # One index into all pixels, and float32: 128 images of 32 px take 4 ms; by image, row and column in float64, 33 ms.
    corner = (np.arange(number)[:, None, None] * height + top) * width + left
    to_right, to_bottom = left < width - 1, np.where(top < height - 1, width, 0)
    pixels = images.reshape(-1, channels)

    def between(here: np.ndarray) -> np.ndarray:
        values: np.ndarray = np.take(pixels, here, axis=0)
        values += (np.take(pixels, here + to_right, axis=0) - values) * column_share
        return values

    upper = between(corner)
    upper += (between(corner + to_bottom) - upper) * row_share
    return upper


def _mixup(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    """Mix pairs of images, and their labels, by convex combinations (Zhang et al. 2018, arXiv:1710.09412)."""
    share = generator.beta(values["alpha"], values["alpha"], len(images)).astype(np.float32)
    partner = generator.permutation(len(images))
    of_images, of_labels = share[:, None, None, None], share[:, None]
    mixed = of_images * images + (1 - of_images) * images[partner]
    return mixed, of_labels * labels + (1 - of_labels) * labels[partner]


def _erase(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    """Fill a rectangle with noise in half of the images (Zhong et al. 2020, arXiv:1708.04896)."""
    number, height, width, channels = images.shape
    area = generator.uniform(0.02, max(0.02, values["fraction"]), number) * height * width
    ratio = np.exp(generator.uniform(np.log(0.3), np.log(1 / 0.3), number))
    rows = np.clip(np.sqrt(area * ratio), 1, height).astype(int)
    columns = np.clip(np.sqrt(area / ratio), 1, width).astype(int)
    top = (generator.random(number) * (height - rows + 1)).astype(int)
    left = (generator.random(number) * (width - columns + 1)).astype(int)
    down, right = np.arange(height)[None, :], np.arange(width)[None, :]
    inside_rows = (down >= top[:, None]) & (down < (top + rows)[:, None])
    inside_columns = (right >= left[:, None]) & (right < (left + columns)[:, None])
    chosen = np.less(generator.random(number), 0.5)[:, None, None]
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :] & chosen)[..., None]
    noise = generator.uniform(0, 255, (number, height, width, channels)).astype(np.float32)
    return np.where(inside, noise, images), labels


def _brightness(
    values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> Batch:
    change = generator.uniform(-values["fraction"], values["fraction"], (len(images), 1, 1, 1)) * 255
    return np.clip(images + change.astype(np.float32), 0, 255), labels


def _contrast(
    values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> Batch:
    factor = generator.uniform(1 - values["fraction"], 1 + values["fraction"], (len(images), 1, 1, 1))
    mean = images.mean(axis=(1, 2), keepdims=True)
    return np.clip(mean + (images - mean) * factor.astype(np.float32), 0, 255), labels


def _noise(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    noise = generator.standard_normal(images.shape, dtype=np.float32) * (values["stddev"] * 255)
    return np.clip(images + noise, 0, 255).astype(np.float32), labels


EFFECTS: dict[str, Effect] = {
    "flip": _flip,
    "shift": _shift,
    "rotate": _rotate,
    "zoom": _zoom,
    "erase": _erase,
    "brightness": _brightness,
    "contrast": _contrast,
    "noise": _noise,
    "mixup": _mixup,
}
