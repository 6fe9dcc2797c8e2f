"""Linear probes in closed form: ridge regression on one-hot labels, and probabilities from it. Pure.

It is solved from sums over images, so that a fold costs a subtraction: penalty and sharpness of the probabilities are
those with the least cross-entropy for images that were not trained on. Features are any array `[N, F]`, read some rows
at a time; what is held beside them does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

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
ROWS_AT_ONCE, VALUES_AT_ONCE = 4096, 2**22
"""Rows that are looked at together, at most; fewer where features or classes are many."""
CHOSEN_BY = 5_000_000
"""Penalty and sharpness are chosen by images that have so many scores."""

GoOn = Callable[[], bool]


class TimeSpentError(Exception):
    """Asked whether to go on, somebody has said no."""


def always() -> bool:
    """Return that there is time."""
    return True


@dataclass(frozen=True, eq=False)
class _Rows:
    """Features that are scaled when they are read, as long as `go_on` says yes."""

    features: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    at_once: int
    go_on: GoOn

    @classmethod
    def of(cls, features: np.ndarray, classes: int, go_on: GoOn) -> _Rows:
        """Return features with mean and standard deviation of each; 1 for those that hardly differ."""
        width = features.shape[1]
        at_once = min(ROWS_AT_ONCE, max(1, VALUES_AT_ONCE // max(width, classes)))
        raw = cls(features, np.zeros(width), np.ones(width), at_once, go_on)
        every = np.arange(len(features))
        mean = sum((part.sum(axis=0, dtype=np.float64) for _, part in raw.parts(every)), np.zeros(width)) / len(every)
        squares = (np.square(part - mean).sum(axis=0) for _, part in raw.parts(every))
        deviation = np.sqrt(sum(squares, np.zeros(width)) / len(every))
        return replace(raw, mean=mean, deviation=np.where(deviation > LEAST_DEVIATION, deviation, 1.0))

    def parts(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield some of the rows with their features `float32`, until all are; raises TimeSpentError."""
        for start in range(0, len(rows), self.at_once):
            if not self.go_on():
                raise TimeSpentError
            part = rows[start : start + self.at_once]
            yield part, ((self.features[part] - self.mean) / self.deviation).astype(np.float32)

    def sums(self, rows: np.ndarray, labels: np.ndarray, classes: int) -> _Sums:
        """Return the sums over images, of which `labels` are all labels."""
        width = self.features.shape[1]
        xx, xy, x = np.zeros((width, width)), np.zeros((width, classes)), np.zeros(width)
        for part, normal in self.parts(rows):
            xx += normal.T @ normal
            xy += normal.T @ (labels[part][:, None] == np.arange(classes)).astype(np.float32)
            x += normal.sum(axis=0, dtype=np.float64)
        return _Sums(len(rows), x, np.bincount(labels[rows], minlength=classes).astype(np.float64), xx, xy)


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

    def coarse(self) -> _Sums:
        """Return the same in half the memory: what is taken from the sums over all images may be rounded."""
        return replace(self, xx=self.xx.astype(np.float32), xy=self.xy.astype(np.float32))

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

    scaled: _Rows
    weights: np.ndarray
    offsets: np.ndarray
    sharpness: float

    def parts(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield some of the rows with the probabilities `[P, K] float32` of each class; raises TimeSpentError."""
        for part, normal in self.scaled.parts(rows):
            yield part, softmax(self.sharpness * (normal @ self.weights + self.offsets))

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the probability of each class for other features `[N, F]`, `[N, K] float32`; raises TimeSpentError."""
        other = replace(self, scaled=replace(self.scaled, features=features))
        return np.concatenate([part for _, part in other.parts(np.arange(len(features)))])


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The probes of each fold, trained on the others, with the rows of the fold."""

    by_fold: Sequence[tuple[np.ndarray, Probe]]

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield some rows with the probabilities `[P, K] float32` of each class, until all of all folds are.

        Raises TimeSpentError.
        """
        for rows, probe in self.by_fold:
            yield from probe.parts(rows)


def fit(
    features: np.ndarray, labels: np.ndarray, classes: int, folds: np.ndarray, go_on: GoOn = always
) -> tuple[Probe, OutOfFold]:
    """Return the probe that is trained on all images, and those that are trained on all folds but one.

    `folds` `[N] int64` are numbers from 0; an image of fold -1 is trained on always. Raises TimeSpentError when `go_on`
    says no.
    """
    scaled = _Rows.of(features, classes, go_on)
    numbers = [int(fold) for fold in np.unique(folds[folds != TRAINED])]
    of_fold = {fold: np.flatnonzero(folds == fold) for fold in numbers}
    whole, held = scaled.sums(np.flatnonzero(folds == TRAINED), labels, classes), list[_Sums]()
    for fold in numbers:
        own = scaled.sums(of_fold[fold], labels, classes)
        whole = whole.plus(own)
        held.append(own.coarse())
    step = max(1, -(-sum(map(len, of_fold.values())) * classes // CHOSEN_BY))
    losses = np.zeros((len(PENALTIES), len(SHARPNESS)))
    for fold, sums in zip(numbers, held, strict=True):
        rest = whole.plus(sums, -1)
        solved = [_single(rest.solved(penalty)) for penalty in PENALTIES]
        for part, normal in scaled.parts(of_fold[fold][::step]):
            losses += [_losses(normal @ weights + offsets, labels[part]) for weights, offsets in solved]
    best, sharpest = np.unravel_index(np.argmin(losses), losses.shape)
    penalty, sharpness = PENALTIES[best], float(SHARPNESS[sharpest])
    apart = [Probe(scaled, *_single(whole.plus(sums, -1).solved(penalty)), sharpness) for sums in held]
    return (
        Probe(scaled, *_single(whole.solved(penalty)), sharpness),
        OutOfFold(list(zip(of_fold.values(), apart, strict=True))),
    )


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


def _single(solved: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return solved[0].astype(np.float32), solved[1].astype(np.float32)


def _losses(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return the cross-entropy of images, at most that of 1e-7 for each, summed, for each sharpness."""
    below = scores - scores.max(axis=1, keepdims=True)
    own = below[np.arange(len(labels)), labels]
    of_each = [np.log(np.exp(float(sharp) * below).sum(axis=1)) - float(sharp) * own for sharp in SHARPNESS]
    return [float(np.minimum(loss, -np.log(1e-7)).sum(dtype=np.float64)) for loss in of_each]
