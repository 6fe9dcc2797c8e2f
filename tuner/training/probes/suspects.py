"""Labels that look wrong, by confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70, equations 1 to 3). Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

Parts = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
"""Called twice, it gives all rows with their probabilities `[P, K]`, some at a time: never all `[N, K]` together."""


class Suspects(NamedTuple):
    """Images whose labels look wrong, the surest first."""

    rows: np.ndarray
    """`[S] int64`, of the labels that were given."""
    likely: np.ndarray
    """`[S] int64`: the classes that they look like."""
    label_probability: np.ndarray
    """`[S] float32`, of the label that was given."""
    likely_probability: np.ndarray
    """`[S] float32`, of the class that it looks like."""
    images: int
    """So many labels were looked at."""
    accuracy: float
    """Of what was most probable, by the labels that were given."""


def suspects(labels: np.ndarray, classes: int, parts: Parts) -> Suspects:
    """Return the images whose own class is least probable, as many as count off the diagonal of the confident joint.

    Probabilities are of models that were not trained on the image; images without any are passed over. Counted is an
    image that looks like another class: of those whose probability is at least what images with their label have in the
    mean, the most probable one. Those counted are not always the surest (benchmarks/LOG.md).
    """
    own, highest = np.full(len(labels), np.nan, np.float32), np.full(len(labels), np.nan, np.float32)
    likely = np.full(len(labels), -1, np.int64)
    for rows, found in parts():
        likely[rows], highest[rows] = found.argmax(axis=1), found.max(axis=1)
        own[rows] = found[np.arange(len(rows)), labels[rows]]
    known = np.flatnonzero(likely >= 0)
    numbers = np.bincount(labels[known], minlength=classes)
    sums = np.bincount(labels[known], own[known].astype(np.float64), minlength=classes)
    thresholds = np.where(numbers > 0, sums / np.maximum(numbers, 1), np.inf)
    number = 0
    for rows, found in parts():
        sure = np.where(found >= thresholds, found, -1.0)
        number += int(((sure.max(axis=1) >= 0) & (sure.argmax(axis=1) != labels[rows])).sum())
    order = known[np.argsort(own[known], kind="stable")]
    told = order[likely[order] != labels[order]][:number]
    accuracy = float((likely[known] == labels[known]).mean())
    return Suspects(told, likely[told], own[told], highest[told], len(known), accuracy)
