"""Labels that look wrong, by confident learning (Northcutt, Jiang & Chuang 2021, JAIR 70, equations 1 to 3). Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Suspects(NamedTuple):
    """Images whose labels look wrong, the surest first."""

    rows: np.ndarray
    """`[S] int64`, of the labels that were given."""
    likely: np.ndarray
    """`[S] int64`: the classes that they look like."""


def suspects(labels: np.ndarray, probabilities: np.ndarray) -> Suspects:
    """Return the images that count off the diagonal of the confident joint.

    `probabilities` `[N, K]` are of models that were not trained on the image; those that are not numbers are passed
    over. An image looks like a class whose probability is at least what images with its label have in the mean; of
    several such classes, like the most probable one.
    """
    known = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    own, given = probabilities[known], labels[known]
    thresholds = [
        own[given == label, label].mean() if (given == label).any() else np.inf for label in range(own.shape[1])
    ]
    sure = np.where(own >= np.array(thresholds), own, -1.0)
    likely = sure.argmax(axis=1)
    found = np.flatnonzero((sure.max(axis=1) >= 0) & (likely != given))
    margin = own[found, likely[found]] - own[found, given[found]]
    order = found[np.argsort(-margin, kind="stable")]
    return Suspects(known[order], likely[order])
