"""Gaussian-process regression for a sampler: small, deterministic, hyperparameters by their maximum a posteriori.

Rasmussen & Williams 2006, algorithm 2.1; a Matern-5/2 kernel with one length scale per hyperparameter and the priors of
Hvarfner, Hellsten & Nardi 2024 (arXiv:2402.02229), which widen with the number of dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs
from scipy.optimize import minimize
from scipy.special import erfcx, log_ndtr

MODELLED = 140


class CostModel:
    """A Gaussian process for the seconds that an epoch takes.

    Args:
        points: float [n, coordinates]: where epochs were timed.
        seconds: float [n], above 0: what an epoch took there.
        groups: int [coordinates]: as of `GaussianProcess`.
    """

    def __init__(self, points: np.ndarray, seconds: np.ndarray, groups: np.ndarray) -> None:
        kept = np.linspace(0, len(points) - 1, min(MODELLED, len(points))).round().astype(int)
        logarithms = np.log(np.maximum(seconds[kept], 1e-6))
        self._centre, self._spread = float(logarithms.mean()), float(logarithms.std()) or 1.0
        targets = (logarithms - self._centre) / self._spread
        levels = np.zeros(len(kept), int)
        self._process = GaussianProcess(points[kept], levels, targets, groups, prior(int(groups.max()) + 1))

    def log_seconds(self, points: np.ndarray) -> np.ndarray:
        """Return the logarithm of the expected seconds of an epoch at `points`, float [m]."""
        return self._process.mean(points, 0) * self._spread + self._centre


ROOT5 = math.sqrt(5.0)
JITTER = 1e-8
ITERATIONS = 15
"""Iterations of the search for hyperparameters: more change these, but hardly the suggestions."""


@dataclass(frozen=True)
class KernelHyperparameters:
    """The hyperparameters of the kernel, on a log scale."""

    log_scales: np.ndarray
    """float [groups]: one length scale per hyperparameter of the search."""
    log_variance: float
    log_noise: float
    log_forgetting: float
    """Decay of the correlation between levels with the number of levels between them."""
    loss: float = math.nan
    """The negative logarithm of their posterior density with the data that they were fitted to, up to a constant."""

    def packed(self) -> np.ndarray:
        """Return them as one vector."""
        return np.concatenate([self.log_scales, [self.log_variance, self.log_noise, self.log_forgetting]])


def prior(groups: int) -> KernelHyperparameters:
    """Return the most probable hyperparameters before there are data."""
    scales = np.full(groups, math.log(0.5) + 0.25 * math.log(max(1, groups)))
    return KernelHyperparameters(scales, 0.0, math.log(0.05), math.log(0.2))


def fit(points: np.ndarray, levels: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> KernelHyperparameters:
    """Return the most probable hyperparameters with these data; arguments as of `GaussianProcess`."""
    centre = prior(int(groups.max()) + 1)
    pairs = _Pairs.of(points, levels, groups)
    bounds = [(math.log(0.03), math.log(30.0))] * len(centre.log_scales)
    bounds += [(math.log(0.05), math.log(20.0)), (math.log(1e-4), math.log(1.0)), (math.log(0.003), math.log(3.0))]
    packed = centre.packed()
    found = minimize(
        _loss, packed, (pairs, targets, packed), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": ITERATIONS},
    )  # fmt: skip
    variance, noise, forgetting = (float(value) for value in found.x[-3:])
    return KernelHyperparameters(found.x[:-3], variance, noise, forgetting, float(found.fun))


@dataclass(frozen=True)
class _Pairs:
    """Each pair of observations once: all that a kernel looks at."""

    places: tuple[np.ndarray, np.ndarray]
    """int [pairs] each: the later one of a pair and the earlier one."""
    squared_distances: np.ndarray
    """float [groups, pairs]: in the coordinates of each group."""
    apart: np.ndarray
    """float [pairs]: levels between the two."""

    @classmethod
    def of(cls, points: np.ndarray, levels: np.ndarray, groups: np.ndarray) -> _Pairs:
        """Return the pairs of observations; arguments as of `GaussianProcess`."""
        later, earlier = places = np.tril_indices(len(points), -1)
        squares = np.zeros((int(groups.max()) + 1, len(later)))
        for coordinate, group in enumerate(groups):
            squares[group] += (points[later, coordinate] - points[earlier, coordinate]) ** 2
        return cls(places, squares, np.abs(levels[later] - levels[earlier]).astype(float))


class GaussianProcess:
    """A Gaussian process with given hyperparameters, conditioned on data.

    Args:
        points: float [n, coordinates].
        levels: int [n]: the fidelity at which each target was seen.
        targets: float [n], of mean 0 and variance 1, more or less.
        groups: int [coordinates]: the length scale that each coordinate shares.
        hyperparameters: of the kernel.
        prior: (points, levels: int [n] or [1]) -> float [n], the mean before any data; None: 0 everywhere.
    """

    def __init__(
        self,
        points: np.ndarray,
        levels: np.ndarray,
        targets: np.ndarray,
        groups: np.ndarray,
        hyperparameters: KernelHyperparameters,
        prior: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._points, self._levels, self._targets, self._groups = points, levels, targets, groups
        self._hyperparameters, self._prior = hyperparameters, prior
        self._variance, noise = math.exp(hyperparameters.log_variance), math.exp(hyperparameters.log_noise)
        self._scaled = self._scale(points)
        covariance = self._covariance(self._scaled, levels)
        covariance[np.diag_indices_from(covariance)] += noise + JITTER
        self._root = cholesky(covariance, lower=True, check_finite=False)
        residuals = targets if prior is None else targets - prior(points, levels)
        self._weights = cho_solve((self._root, True), residuals, check_finite=False)

    def believing(self, points: np.ndarray, level: int) -> GaussianProcess:
        """Return the process with its own means at `points` added as data (the kriging believer)."""
        return GaussianProcess(
            np.concatenate([self._points, points]),
            np.concatenate([self._levels, np.full(len(points), level)]),
            np.concatenate([self._targets, self.mean(points, level)]),
            self._groups,
            self._hyperparameters,
            self._prior,
        )

    def mean(self, points: np.ndarray, level: int | np.ndarray) -> np.ndarray:
        """Return the expected value at `points`, at one level or at one each (int [m]), float [m]."""
        levels = np.atleast_1d(level)
        return self._mean(points, levels, self._covariance(self._scale(points), levels))

    def _mean(self, points: np.ndarray, levels: np.ndarray, cross: np.ndarray) -> np.ndarray:
        found: np.ndarray = cross @ self._weights
        return found if self._prior is None else found + self._prior(points, levels)

    def predict(self, points: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the function at `points` at a level, float [m] each."""
        levels = np.array([level])
        cross = self._covariance(self._scale(points), levels)
        half = solve_triangular(self._root, cross.T, lower=True, check_finite=False)
        variance = self._variance - np.einsum("ij,ij->j", half, half)
        return self._mean(points, levels, cross), np.sqrt(np.maximum(variance, 1e-12))

    def _scale(self, points: np.ndarray) -> np.ndarray:
        scaled: np.ndarray = points * np.exp(-self._hyperparameters.log_scales)[self._groups]
        return scaled

    def _covariance(self, scaled: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Return the covariance of scaled points (at `levels`, int [m] or [1]) with the data, float [m, n]."""
        radius = scaled @ self._scaled.T  # in place from here on: all candidates by all data
        radius *= -2
        radius += (scaled**2).sum(1)[:, None]
        radius += (self._scaled**2).sum(1)
        np.sqrt(np.maximum(radius, 0.0, out=radius), out=radius)
        radius *= ROOT5
        kernel: np.ndarray = np.exp(-radius)
        kernel *= 1 + radius * (1 + radius / 3)
        apart = np.abs(levels[:, None] - self._levels[None, :])
        kernel *= self._variance * np.exp(-math.exp(self._hyperparameters.log_forgetting) * apart)
        return kernel


def _loss(packed: np.ndarray, pairs: _Pairs, targets: np.ndarray, centre: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the negative logarithm of the posterior density of hyperparameters, and its gradient.

    By LAPACK's own routines, which leave the upper half of a symmetric matrix alone: 0.6 times the time of SciPy's for
    matrices as small as these (benchmarks/LOG.md).
    """
    size = len(targets)
    inverse_squares = np.exp(-2 * packed[:-3])
    variance, noise, forgetting = (math.exp(value) for value in packed[-3:])
    radius = ROOT5 * np.sqrt(inverse_squares @ pairs.squared_distances)
    decay = variance * np.exp(-radius - forgetting * pairs.apart)
    rise = (1 + radius) * decay
    kernel = rise + radius * radius / 3 * decay
    covariance = np.zeros((size, size), order="F")
    covariance[pairs.places] = kernel
    covariance[np.diag_indices(size)] = variance + noise + JITTER
    root, failed = dpotrf(covariance, lower=1, clean=0, overwrite_a=1)
    if failed:
        return 1e10, np.zeros_like(packed)
    weights, _ = dpotrs(root, targets, lower=1)
    loss = 0.5 * float(targets @ weights) + float(np.log(root.diagonal()).sum())
    inverse, _ = dpotri(root, lower=1, overwrite_c=1)
    later, earlier = pairs.places
    slope = inverse[pairs.places] - weights[later] * weights[earlier]  # of the loss by the covariance of each pair
    own_slope = 0.5 * float(inverse.trace() - weights @ weights)  # and by all variances together
    gradient = np.empty_like(packed)
    # d k / d log l = variance * 5/3 * (1 + r) * exp(-r) * (d / l)^2, with r = sqrt(5) times the scaled distance
    gradient[:-3] = inverse_squares * (pairs.squared_distances @ (slope * rise)) * (5.0 / 3.0)
    gradient[-3] = float(slope @ kernel) + variance * own_slope
    gradient[-2] = noise * own_slope
    gradient[-1] = -forgetting * float((slope * kernel) @ pairs.apart)
    spreads = np.concatenate([np.full(len(packed) - 3, 1.0), [1.0, 1.5, 1.0]])
    difference = (packed - centre) / spreads
    return loss + 0.5 * float(difference @ difference), gradient + difference / spreads


def log_expected_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """Return the logarithm of the expected improvement over `best`, float [m] (larger is better).

    Stable where the improvement is very unlikely (Ament et al. 2023, arXiv:2310.20708, equation 9).
    """
    z = (mean - best) / deviation
    near = z > -1.0
    result = np.empty_like(z)
    density = np.exp(-0.5 * z[near] ** 2) / math.sqrt(2 * math.pi)
    result[near] = np.log(density + z[near] * np.exp(log_ndtr(z[near])))
    far = z[~near]
    ratio = 1.0 + far * math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))
    result[~near] = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(ratio, 1e-300))
    return np.asarray(result + np.log(deviation))
