"""The preprocessing and augmentation variants of a search as pictures: what a network saw of a few images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tuner.common.files import replacing
from tuner.datasets.loading import Dataset, Split
from tuner.models.augmentation import parse_augment
from tuner.models.preprocessing import parse_preprocess
from tuner.runs.predictions import Variant
from tuner.spec.space import Space, flatten

IMAGES = 8
MOST_VARIANTS = 12
LARGEST_PX = 160
"""Pictures of more are thinned out: they stand side by side in a page."""


def variant_texts(space: Space) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The preprocessing and the augmentation texts of a space."""
    found: dict[str, tuple[str, ...]] = {}
    for parameter in flatten(space):
        if parameter.name in ("preprocess", "augment"):
            values = tuple(str(value) for value in getattr(parameter.dimension, "values", ()))
            found[parameter.name] = tuple(dict.fromkeys((*found.get(parameter.name, ()), *values)))
    return found.get("preprocess", ()), found.get("augment", ())


def build_variants(space: Space, dataset: Dataset, seed: int) -> tuple[Variant, ...]:
    """The images as they are, then after each variant; validation images of different classes."""
    raw = dataset.validation.batch(_of_different_classes(dataset.validation))[0]
    preprocessing, augmentations = variant_texts(space)
    found = [Variant("as they are", raw)]
    found += [Variant(text, _preprocessed(text, raw)) for text in preprocessing if text != "none"]
    found += [Variant(text, _augmented(text, raw, seed)) for text in augmentations if text != "none"]
    return tuple(Variant(text, _thinned(images)) for text, images in found[:MOST_VARIANTS])


def _of_different_classes(split: Split) -> np.ndarray:
    """Positions of a few images, each of another class as long as there are."""
    _, first = np.unique(split.labels, return_index=True)
    rest = np.setdiff1d(np.arange(len(split)), first)
    return np.concatenate([first, rest])[:IMAGES]


def _preprocessed(text: str, raw: np.ndarray) -> np.ndarray:
    """What comes out, from black to white; without a value range, from the least value of an image to its largest."""
    import keras

    preprocess = parse_preprocess(text)
    values = keras.ops.convert_to_numpy(preprocess.apply(keras.ops.convert_to_tensor(raw.astype("float32"))))
    if preprocess.value_range is not None:
        low, high = (np.float32(bound) for bound in preprocess.value_range)
    else:
        low, high = (edge(values, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    scaled = (values - low) / np.maximum(high - low, 1e-9)
    return np.asarray((255 * np.clip(scaled, 0, 1)).round(), dtype=np.uint8)


def _augmented(text: str, raw: np.ndarray, seed: int) -> np.ndarray:
    images, _ = parse_augment(text).apply(raw.astype("float32"), np.ones((len(raw), 1), dtype=np.float32), seed)
    return np.clip(images, 0, 255).round().astype(np.uint8)


def _thinned(images: np.ndarray) -> np.ndarray:
    step = max(1, -(-max(images.shape[1:3]) // LARGEST_PX))
    return images[:, ::step, ::step]


def save_variants(path: Path, variants: Sequence[Variant]) -> None:
    """Keep variants for the report."""
    arrays = {f"images_{index}": variant.images for index, variant in enumerate(variants)}
    with replacing(path) as aside, aside.open("wb") as file:
        texts = np.array([variant.text for variant in variants])
        np.savez_compressed(file, allow_pickle=False, texts=texts, **arrays)
