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
    """Return the images whose own class is least probable, as many as count off the diagonal of the confident joint.

    `probabilities` `[N, K]` are of models that were not trained on the image; those that are not numbers are passed
    over. Counted is an image that looks like another class: of those whose probability is at least what images with
    their label have in the mean, the most probable one. Those counted are not always the surest (benchmarks/LOG.md).
    """
    known = np.flatnonzero(np.isfinite(probabilities).all(axis=1))
    own, given = probabilities[known], labels[known]
    classes = range(own.shape[1])
    thresholds = [own[given == label, label].mean() if (given == label).any() else np.inf for label in classes]
    sure = np.where(own >= np.array(thresholds), own, -1.0)
    number = int(((sure.max(axis=1) >= 0) & (sure.argmax(axis=1) != given)).sum())
    likely, of_given = own.argmax(axis=1), own[np.arange(len(given)), given]
    order = np.argsort(of_given, kind="stable")
    found = order[likely[order] != given[order]][:number]
    return Suspects(known[found], likely[found])
