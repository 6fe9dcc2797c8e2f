"""Arrays that a run keeps for its report: predictions for the test images, pictures of variants. Light: numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tuner.common.arrays import DAMAGED_ARCHIVE
from tuner.common.files import replacing

LARGEST_PX = 160
"""Pictures of more are thinned out: they stand side by side in a page."""


class Predictions(NamedTuple):
    """The predictions of a model for the test images, as much as a report shows."""

    of: np.ndarray
    """`[2] int64`: the trial and the number of the training of the finalist that predicts."""
    labels: np.ndarray
    """`[N] int64`."""
    classes: np.ndarray
    """`[N, T] int64`: the most probable classes, the first of them first; T is at most 5."""
    probabilities: np.ndarray
    """`[N, T] float32` of them."""
    rows: np.ndarray
    """`[S] int64`: the images that are kept."""
    images: np.ndarray
    """`[S, H, W, C] uint8`."""


def load_predictions(path: Path) -> Predictions | None:
    """Return the predictions in a file; None when there is none, or none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Predictions(*(stored[name] for name in Predictions._fields))
    except DAMAGED_ARCHIVE:
        return None


def thinned(images: np.ndarray) -> np.ndarray:
    """Return images `[N, H, W, C]` with pixels left out, so that they are no larger than is shown."""
    step = max(1, -(-max(images.shape[1:3]) // LARGEST_PX))
    return images[:, ::step, ::step]


def save_pictures(path: Path, pictures: np.ndarray) -> None:
    """Write pictures `[S, H, W, C] uint8` of images that a report shows."""
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, pictures=pictures)


def load_pictures(path: Path) -> np.ndarray:
    """Return the pictures in a file; none when there is no file, or none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return np.asarray(stored["pictures"])
    except DAMAGED_ARCHIVE:
        return np.zeros((0, 1, 1, 1), np.uint8)


class Variant(NamedTuple):
    """One variant of preprocessing or augmentation: its text, and the images after it `[E, H, W, 1 or 3] uint8`."""

    text: str
    images: np.ndarray


def save_variants(path: Path, variants: Sequence[Variant]) -> None:
    """Write variants for the report."""
    arrays = {f"images_{index}": variant.images for index, variant in enumerate(variants)}
    with replacing(path) as aside, aside.open("wb") as file:
        texts = np.array([variant.text for variant in variants])
        np.savez_compressed(file, allow_pickle=False, texts=texts, **arrays)


def load_variants(path: Path) -> tuple[Variant, ...]:
    """Return the variants in a file; empty when there is none, or none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return tuple(Variant(str(text), stored[f"images_{index}"]) for index, text in enumerate(stored["texts"]))
    except DAMAGED_ARCHIVE:
        return ()
