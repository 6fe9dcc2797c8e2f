"""What the exported model says of the test images: confusion, classes, single images. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tuner.common.intervals import wilson_interval
from tuner.reports.results import Results
from tuner.runs.predictions import Variant

CONFUSIONS = 20
"""Pairs of classes that are named."""
EXAMPLES = 16


class Confusion(NamedTuple):
    """How often each class was taken for each other one."""

    class_names: tuple[str, ...]
    """In the order of the matrix."""
    matrix: np.ndarray
    """`[K, K] float64`: row: the true class, column: the predicted one; the shares of a row sum to 1."""
    images: int
    accuracy: float
    pairs: tuple[tuple[str, str, int, int], ...]
    """The most frequent confusions: true class, predicted class, images, images of the true class."""


class ClassAccuracy(NamedTuple):
    """How well each class is told, the worst first."""

    class_names: tuple[str, ...]
    accuracy: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    """95% interval (Wilson)."""
    images: tuple[int, ...]
    mean: float


class Example(NamedTuple):
    """One test image with what the model says of it."""

    pixels: np.ndarray
    """`[H, W, C] uint8`."""
    true: str
    labels: tuple[tuple[str, float], ...]
    """The most probable classes with their probabilities."""

    @property
    def is_right(self) -> bool:
        """Whether the most probable class is the true one."""
        return self.labels[0][0] == self.true


class Examples(NamedTuple):
    """Test images to look at."""

    title: str
    items: tuple[Example, ...]


def confusion(results: Results) -> Confusion | None:
    """The confusion matrix, similar classes side by side; None before the test split was read."""
    found = results.predictions
    names = _class_names(results)
    if found is None or not names:
        return None
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (found.labels, found.classes[:, 0]), 1)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    order = _similar_together(shares)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS]
    pairs = [
        (names[row], names[column], int(wrong[row, column]), int(counts[row].sum()))
        for row, column in zip(*np.unravel_index(largest, wrong.shape), strict=True)
        if wrong[row, column]
    ]
    accuracy = float(np.trace(counts) / max(1, counts.sum()))
    return Confusion(
        tuple(names[index] for index in order), shares[np.ix_(order, order)], int(counts.sum()), accuracy, tuple(pairs)
    )


def _similar_together(shares: np.ndarray) -> np.ndarray:
    """An order in which classes that are taken for each other stand near each other (hierarchical clustering)."""
    if len(shares) < 4:
        return np.arange(len(shares))
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    mixed = (shares + shares.T) / 2
    distance = 1 - mixed / max(float(mixed[~np.eye(len(mixed), dtype=bool)].max()), 1e-9)
    np.fill_diagonal(distance, 0)
    condensed = squareform(np.clip(distance, 0, 1), checks=False)
    return np.asarray(leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed)))


def class_accuracy(results: Results) -> ClassAccuracy | None:
    """How well each class is told on the test images; None before they were read."""
    found, names = results.predictions, _class_names(results)
    if found is None or not names:
        return None
    rows = []
    for index, name in enumerate(names):
        own = found.labels == index
        number = int(own.sum())
        if number:
            share = float((found.classes[own, 0] == index).mean())
            rows.append((share, name, *wilson_interval(share, number), number))
    rows.sort()
    accuracy, ordered, low, high, images = zip(*rows, strict=True)
    mean = float((found.classes[:, 0] == found.labels).mean())
    return ClassAccuracy(ordered, accuracy, low, high, images, mean)


def confident_mistakes(results: Results) -> Examples | None:
    """The wrong answers that the model was most sure of; None before the test split was read, and without any."""
    items = [example for example in _examples(results) if not example.is_right]
    items.sort(key=lambda example: -example.labels[0][1])
    return Examples("The most confident mistakes", tuple(items[:EXAMPLES])) if items else None


def some_predictions(results: Results) -> Examples | None:
    """Test images drawn at random, right and wrong answers in their proportion."""
    everything = _examples(results)
    right = [example for example in everything if example.is_right]
    wrong = [example for example in everything if not example.is_right]
    found = results.predictions
    if found is None or not everything:
        return None
    share = float((found.classes[:, 0] == found.labels).mean())
    number_right = min(len(right), round(share * EXAMPLES))
    # Mistakes from the end: the most confident ones stand first, and are shown elsewhere.
    chosen = right[:number_right] + wrong[::-1][: EXAMPLES - number_right]
    return Examples("Predictions, right and wrong", tuple(chosen))


class Pictures(NamedTuple):
    """What each variant makes of the same images, the images as they are first."""

    rows: tuple[Variant, ...]


def variant_pictures(results: Results) -> Pictures | None:
    """The variants of a search as pictures; None without any."""
    return Pictures(results.variants) if len(results.variants) > 1 else None


def _examples(results: Results) -> list[Example]:
    found, names = results.predictions, _class_names(results)
    if found is None or not names:
        return []
    return [
        Example(
            pixels,
            names[int(found.labels[row])],
            tuple(
                (names[int(index)], float(share))
                for index, share in zip(found.classes[row], found.probabilities[row], strict=True)
            ),
        )
        for row, pixels in zip(found.rows, found.images, strict=True)
    ]


def _class_names(results: Results) -> list[str]:
    """The names of the classes; empty when the record does not fit what was kept of the predictions."""
    names = results.study.data.get("class_names", []) if results.study else []
    found = results.predictions
    if found is None or not isinstance(names, list) or not len(found.labels):
        return []
    largest = max(int(found.labels.max()), int(found.classes.max()))
    return [str(name) for name in names] if largest < len(names) else []
