"""Linear probes in closed form: ridge regression on one-hot labels, and probabilities from it. Pure.

It is solved from sums over images, so that a fold costs a subtraction: penalty and sharpness of the probabilities are
those with the least cross-entropy for images that were not trained on. Features are any array `[N, F]`, read some rows
at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import reduce

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from tuner.common.errors import DataError
from tuner.datasets.splits import TRAINED, fold_rows, single_unit_classes

PENALTIES = (0.01, 0.1, 1.0, 10.0)
"""Per image, of features of variance 1."""
SHARPNESS = 2.0 ** np.arange(0, 6.5, 0.5)
"""By which scores, between about 0 and 1, are multiplied before the softmax."""
LEAST_DEVIATION = 1e-6
"""Features that differ by less are left as small as they are, and say nothing: of backbones with random weights, whose
activations fade on the way, a linear classifier of scaled features would make much, but no head learns from them."""
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over images, of features `x` and one-hot labels `y`."""

    number: int
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray

    def plus(self, other: _Sums, sign: int = 1) -> _Sums:
        """Return the sums over the images of both; with the other sign, over those that `other` has not."""
        return _Sums(*(getattr(self, each.name) + sign * getattr(other, each.name) for each in fields(self)))

    def solved(self, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Return weights `[F, K]` and offsets `[K]`."""
        mean_x, mean_y = self.x / self.number, self.y / self.number
        products = self.xx - np.outer(self.x, mean_x)
        products[np.diag_indices_from(products)] += penalty * self.number
        weights = cho_solve(cho_factor(products, check_finite=False), self.xy - np.outer(self.x, mean_y))
        return weights, mean_y - mean_x @ weights


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear classifier of features."""

    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    sharpness: float

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class for features `[N, F]`, `[N, K] float32`."""
        parts = [_normal(part, self.mean, self.deviation) for part in _parts(features)]
        return softmax(self.sharpness * np.concatenate([part @ self.weights + self.offsets for part in parts]))


def fit(features: np.ndarray, labels: np.ndarray, classes: int, folds: np.ndarray) -> tuple[Probe, np.ndarray]:
    """Return the probe that is trained on all images, and probabilities `[N, K]` by those trained on other folds.

    `folds` `[N] int64` are numbers from 0; an image of fold -1 is trained on always, and its probabilities are not
    numbers.
    """
    mean, deviation = _scale(features)
    by_fold = [
        _sums(features[folds == fold], labels[folds == fold], classes, mean, deviation) for fold in np.unique(folds)
    ]
    whole = reduce(_Sums.plus, by_fold)
    scores = np.full((len(PENALTIES), len(labels), classes), np.nan, np.float32)
    for fold, held in zip(np.unique(folds), by_fold, strict=True):
        if fold != TRAINED:
            rows, rest = np.flatnonzero(folds == fold), whole.plus(held, -1)
            solved = [rest.solved(penalty) for penalty in PENALTIES]
            for part in np.split(rows, range(ROWS_AT_ONCE, len(rows), ROWS_AT_ONCE)):
                normal = _normal(features[part], mean, deviation)
                for index, (weights, offsets) in enumerate(solved):
                    scores[index, part] = normal @ weights + offsets
    best, sharpness = _least_loss(scores[:, folds != TRAINED], labels[folds != TRAINED])
    weights, offsets = whole.solved(PENALTIES[best])
    return Probe(mean, deviation, weights, offsets, sharpness), softmax(sharpness * scores[best])


def deal_folds(labels: np.ndarray, units: np.ndarray | None, folds: int, seed: int) -> np.ndarray:
    """Return the fold `[N] int64` of each image, the classes in proportion, units whole; -1: always trained on.

    Those are the images of classes that are of one unit, which nothing else could be trained for.

    Raises:
        DataError: there are too few images or units for so many folds.
    """
    dealt = np.full(len(labels), TRAINED, np.int64)
    rows = np.flatnonzero(~np.isin(labels, single_unit_classes(labels, units)))
    if not len(rows):
        raise DataError("features: each class has one image, or images of one group")
    numbered = np.unique(labels[rows], return_inverse=True)[1]
    own = None if units is None else units[rows]
    for fold, (_, held) in enumerate(fold_rows(numbered, own, folds, seed, (), "features")):
        dealt[rows[held]] = fold
    return dealt


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return probabilities `[N, K] float32` of scores `[N, K]`."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: np.ndarray = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def _least_loss(scores: np.ndarray, labels: np.ndarray) -> tuple[int, float]:
    """Return the place of the penalty, and the sharpness, that give the least cross-entropy."""
    rows = np.arange(len(labels))
    losses = [
        [-np.log(np.maximum(softmax(sharpness * one)[rows, labels], 1e-7)).mean() for sharpness in SHARPNESS]
        for one in scores
    ]
    best, sharpest = np.unravel_index(np.argmin(losses), (len(scores), len(SHARPNESS)))
    return int(best), float(SHARPNESS[sharpest])


def _parts(features: np.ndarray) -> list[np.ndarray]:
    return [features[start : start + ROWS_AT_ONCE] for start in range(0, len(features), ROWS_AT_ONCE)]


def _scale(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each feature; 1 for those that hardly differ."""
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in _parts(features)) / len(features)
    square = sum(((part - mean) ** 2).sum(axis=0) for part in _parts(features)) / len(features)
    deviation = np.sqrt(square)
    return mean, np.where(deviation > LEAST_DEVIATION, deviation, 1.0)


def _normal(features: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    found: np.ndarray = ((features - mean) / deviation).astype(np.float32)
    return found


def _sums(features: np.ndarray, labels: np.ndarray, classes: int, mean: np.ndarray, deviation: np.ndarray) -> _Sums:
    width = features.shape[1]
    xx, xy = np.zeros((width, width)), np.zeros((width, classes))
    x, one_hot = np.zeros(width), np.eye(classes, dtype=np.float32)
    for start in range(0, len(labels), ROWS_AT_ONCE):
        normal = _normal(features[start : start + ROWS_AT_ONCE], mean, deviation)
        xx += normal.T @ normal
        xy += normal.T @ one_hot[labels[start : start + ROWS_AT_ONCE]]
        x += normal.sum(axis=0, dtype=np.float64)
    return _Sums(len(labels), x, np.bincount(labels, minlength=classes).astype(np.float64), xx, xy)
