"""The Gaussian process against the formulas of its sources, written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import multivariate_normal, norm

from tuner.algorithms import _gaussian_process as gaussian_process
from tuner.algorithms._gaussian_process import (
    GaussianProcess,
    KernelHyperparameters,
    fit,
    log_expected_improvement,
    prior,
)


def data(size: int = 40):
    """A function of the first of three hyperparameters, seen at three levels."""
    generator = np.random.default_rng(0)
    points, levels = generator.random((size, 3)), generator.integers(0, 3, size)
    targets = np.sin(6 * points[:, 0]) + 0.1 * levels + generator.normal(0, 0.05, size)
    return points, levels, (targets - targets.mean()) / targets.std(), np.arange(3)


def by_hand(left, right, at_left, at_right, hyper: KernelHyperparameters):
    """The kernel, entry by entry."""
    scales = np.exp(hyper.log_scales)
    kernel = np.empty((len(left), len(right)))
    for row in range(len(left)):
        for column in range(len(right)):
            r = math.sqrt(5 * sum(((left[row] - right[column]) / scales) ** 2))
            matern = (1 + r + r * r / 3) * math.exp(-r)
            between = math.exp(-math.exp(hyper.log_forgetting) * abs(int(at_left[row]) - int(at_right[column])))
            kernel[row, column] = math.exp(hyper.log_variance) * matern * between
    return kernel


def test_predictions_are_those_of_the_textbook() -> None:
    points, levels, targets, groups = data(12)
    hyper = KernelHyperparameters(np.log([0.5, 1.0, 2.0]), math.log(1.3), math.log(0.1), math.log(0.4))
    process = GaussianProcess(points, levels, targets, groups, hyper)
    new = np.random.default_rng(1).random((5, 3))
    covariance = by_hand(points, points, levels, levels, hyper) + (0.1 + gaussian_process.JITTER) * np.eye(12)
    cross = by_hand(new, points, np.full(5, 2), levels, hyper)
    mean, deviation = process.predict(new, 2)
    assert mean == pytest.approx(cross @ np.linalg.solve(covariance, targets))
    expected = 1.3 - np.diag(cross @ np.linalg.solve(covariance, cross.T))
    assert deviation**2 == pytest.approx(expected)
    assert process.mean(new, 2) == pytest.approx(mean)


def test_the_gradient_of_the_posterior_is_right() -> None:
    points, levels, targets, groups = data(25)
    centre = prior(3)
    pairs = gaussian_process._Pairs.of(points, levels, groups)
    generator = np.random.default_rng(2)
    for _ in range(5):
        place = centre.packed() + generator.normal(0, 0.4, 6)
        loss, slope = (
            lambda packed, part=part: gaussian_process._loss(packed, pairs, targets, centre.packed())[part]
            for part in (0, 1)
        )
        assert check_grad(loss, slope, place) < 1e-3 * np.linalg.norm(slope(place))


def test_of_two_hyperparameters_the_loss_differs_as_the_density_of_the_data_and_of_them_does() -> None:
    points, levels, targets, groups = data(12)
    centre, pairs = prior(3), gaussian_process._Pairs.of(points, levels, groups)

    def density(packed: np.ndarray) -> float:
        hyper = KernelHyperparameters(packed[:3], *packed[3:])
        noise = (math.exp(hyper.log_noise) + gaussian_process.JITTER) * np.eye(12)
        covariance = by_hand(points, points, levels, levels, hyper) + noise
        of_data = multivariate_normal(np.zeros(12), covariance).logpdf(targets)
        return float(of_data + norm(centre.packed(), [1, 1, 1, 1, 1.5, 1]).logpdf(packed).sum())

    one, other = centre.packed() + np.random.default_rng(3).normal(0, 0.4, (2, 6))
    losses = [gaussian_process._loss(packed, pairs, targets, centre.packed())[0] for packed in (one, other)]
    assert losses[0] - losses[1] == pytest.approx(density(other) - density(one))


def test_what_matters_gets_a_short_length_scale_and_the_rest_long_ones() -> None:
    scales = np.exp(fit(*data(80)).log_scales)
    assert scales[0] < 0.6 * min(scales[1:])


def test_a_function_is_learnt_and_doubt_grows_away_from_the_data() -> None:
    points, levels, targets, groups = data(80)
    process = GaussianProcess(points, levels, targets, groups, fit(points, levels, targets, groups))
    grid = np.column_stack([np.linspace(0, 1, 50), np.full((50, 2), 0.5)])
    mean, deviation = process.predict(grid, 1)
    truth = np.sin(6 * grid[:, 0])
    assert np.corrcoef(mean, truth)[0, 1] > 0.97
    _, far = process.predict(np.full((1, 3), 5.0), 1)
    assert far[0] > 3 * np.median(deviation)


def test_believing_in_a_point_leaves_the_mean_and_takes_the_doubt() -> None:
    points, levels, targets, groups = data(20)
    process = GaussianProcess(points, levels, targets, groups, prior(3))
    new = np.array([[0.33, 0.9, 0.1]])
    (before,), (doubt,) = process.predict(new, 2)
    (after,), (less,) = process.believing(new, 2).predict(new, 2)
    assert after == pytest.approx(before, abs=1e-6) and less < doubt


def test_a_level_further_away_says_less() -> None:
    hyper = KernelHyperparameters(np.zeros(1), 0.0, math.log(1e-3), math.log(0.5))
    process = GaussianProcess(np.zeros((1, 1)), np.array([0]), np.array([2.0]), np.zeros(1, int), hyper)
    means = [float(process.mean(np.zeros((1, 1)), level)[0]) for level in range(4)]
    assert means == sorted(means, reverse=True) and means[0] > 1.9 > 1.3 > means[1] > means[3] > 0


@pytest.mark.parametrize("z", [3.0, 0.5, -0.5, -2.0, -8.0])
def test_the_expected_improvement_is_the_one_of_the_formula(z) -> None:
    expected = math.log(2.0 * (norm.pdf(z) + z * norm.cdf(z)))
    found = log_expected_improvement(np.array([z * 2.0]), np.array([2.0]), 0.0)[0]
    assert found == pytest.approx(expected, rel=1e-6)


def test_very_unlikely_improvements_are_still_told_apart() -> None:
    found = log_expected_improvement(np.array([-30.0, -40.0, -3000.0]), np.ones(3), 0.0)
    assert np.isfinite(found).all() and found[0] > found[1] > found[2]
