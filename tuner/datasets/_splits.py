"""Choice of the images to hold out or to keep, every class in proportion: labels in, row numbers out."""

from __future__ import annotations

import math

import numpy as np

from tuner.common.errors import DataError


def split_stratified(
    labels: np.ndarray, fraction: float, seed: int, class_names: tuple[str, ...], source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of `labels` `[N] int64` to keep and to hold out, ascending, the classes in proportion.

    `fraction` of each class is held out.

    Raises:
        DataError: a class has too few images to stand on both sides, or the fraction leaves a class out.
    """
    from sklearn.model_selection import train_test_split

    numbers = np.bincount(labels, minlength=len(class_names))
    few = [class_names[index] for index in np.flatnonzero(numbers < 2)]
    if few:
        more = f" and {len(few) - 10} more" if len(few) > 10 else ""
        raise DataError(
            f"{source}: every class must have at least two images to be split; too few: {', '.join(few[:10])}{more}"
        )
    rows = np.arange(len(labels), dtype=np.int64)
    try:
        kept, held = train_test_split(rows, test_size=fraction, random_state=seed, stratify=labels)
    except ValueError:
        held_images = math.ceil(fraction * len(labels))
        raise DataError(
            f"{source}: {len(labels)} images of {len(class_names)} classes cannot be split by {fraction:g}: both parts "
            f"must hold an image of every class; they would have {len(labels) - held_images} and {held_images} images"
        ) from None
    return np.sort(kept), np.sort(held)


def subset_stratified(labels: np.ndarray, number: int, seed: int, field: str) -> np.ndarray:
    """Return `number` rows of `labels` `[N] int64`, ascending: classes in proportion, at least one image of each.

    Subsets of one seed lie in each other: a larger one has all rows of a smaller one. Each class is shuffled, its k-th
    image of n stands at k/n, and the first `number` of all are taken.

    Raises:
        DataError: there are more classes than `number`.
    """
    classes, numbers = np.unique(labels, return_counts=True)
    if number < len(classes):
        raise DataError(f"{field} must be at least the number of classes, {len(classes)}; got {number}")
    generator = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for name, count in zip(classes, numbers, strict=True):
        place[labels == name] = generator.permutation(count) / count
    return np.sort(np.argsort(place, kind="stable")[:number])
