"""Pictures for the report of what preprocessing and augmentation make of a few images."""

from __future__ import annotations

import numpy as np

from tuner.datasets.loading import Dataset, Split
from tuner.models.augmentation import augment_of, parse_augment
from tuner.models.preprocessing import parse_preprocess
from tuner.runs.predictions import Variant, thinned
from tuner.spec.space import Choose, Space, flatten

IMAGES = 8
MOST_VARIANTS = 12


def variant_texts(space: Space) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the preprocessing and the augmentation texts of a space; of strengths, the strongest of each branch."""
    found: dict[str, dict[str, None]] = {"preprocess": {}, "augment": {}}
    for parameter in flatten(space):
        if parameter.name in found:
            texts = [str(value) for value in getattr(parameter.dimension, "values", ())]
            if isinstance(parameter.dimension, Choose):
                texts = [_strongest(branch) for branch in parameter.dimension.branches.values()]
            found[parameter.name] |= dict.fromkeys(texts)
    return tuple(found["preprocess"]), tuple(found["augment"])


def _strongest(branch: Space) -> str:
    ends = {name: getattr(one, "values", None) or (getattr(one, "high", 0),) for name, one in branch.items()}
    return augment_of({name: values[-1] for name, values in ends.items()}).text


def build_variants(space: Space, dataset: Dataset, seed: int) -> tuple[Variant, ...]:
    """Return the images as they are, then after each variant; validation images of different classes."""
    raw = dataset.validation.batch(_of_different_classes(dataset.validation))[0]
    preprocessing, augmentations = variant_texts(space)
    found = [Variant("as they are", raw)]
    found += [Variant(text, _preprocessed(text, raw)) for text in preprocessing if text != "none"]
    found += [Variant(text, _augmented(text, raw, seed)) for text in augmentations if text != "none"]
    return tuple(Variant(text, thinned(images)) for text, images in found[:MOST_VARIANTS])


def _of_different_classes(split: Split) -> np.ndarray:
    """Return the positions of a few images, each of another class as long as there are."""
    _, first = np.unique(split.labels, return_index=True)
    rest = np.setdiff1d(np.arange(len(split)), first)
    return np.concatenate([first, rest])[:IMAGES]


def _preprocessed(text: str, raw: np.ndarray) -> np.ndarray:
    """Return preprocessed images from black to white; without a range, from each one's least value to its largest."""
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
