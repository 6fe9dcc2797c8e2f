"""Domination, fronts, hypervolume, scalarisation: against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tuner.common.metrics import (
    chebyshev,
    epoch_objectives,
    front,
    hypervolume,
    most_volume,
    objectives,
    oriented_points,
    shares_beaten,
)

POINTS = st.tuples(st.integers(0, 9), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5).map(float))
)
"""Few values, so that there are equals and ties."""


def volume_by_counting(points: np.ndarray) -> float:
    """Of whole numbers: how many unit cubes lie below a point."""
    cubes = itertools.product(range(5), repeat=points.shape[1])
    return float(sum(any((point >= np.array(cube) + 1).all() for point in points) for cube in cubes))


def dominates(one: np.ndarray, other: np.ndarray) -> bool:
    return bool((one >= other).all() and (one > other).any())


@given(POINTS)
def test_the_front_is_what_no_point_dominates(points):
    expected = {
        place for place, point in enumerate(points) if not any(dominates(other, point) for other in points)
    }  # fmt: skip
    found = front(points)
    assert set(found.tolist()) == expected and len(found) == len(expected)
    assert list(points[found, 0]) == sorted(points[found, 0], reverse=True)


@given(POINTS)
def test_the_hypervolume_is_that_of_the_cubes_below(points):
    assert hypervolume(points, np.zeros(points.shape[1])) == pytest.approx(volume_by_counting(points))


@given(POINTS, st.integers(0, 5))
def test_a_point_more_makes_no_hypervolume_smaller(points, value):
    more = np.concatenate([points, np.full((1, points.shape[1]), float(value))])
    reference = np.zeros(points.shape[1])
    assert hypervolume(more, reference) >= hypervolume(points, reference) - 1e-9


def test_what_is_not_above_the_reference_adds_nothing():
    points = np.array([[2.0, 2.0], [9.0, 1.0]])
    assert hypervolume(points, np.array([1.0, 1.0])) == 1.0
    assert hypervolume(points, np.array([9.0, 9.0])) == 0.0


def test_what_is_minimised_changes_its_sign():
    values = np.array([[0.9, 0.3, 1000.0]])
    assert oriented_points(values, ("val_accuracy", "val_loss", "parameters")).tolist() == [[0.9, -0.3, -1000.0]]
    assert oriented_points(np.array([]), ("val_accuracy", "parameters")).shape == (0, 2)
    assert set(epoch_objectives()) < set(objectives())


@given(POINTS.filter(len))
def test_shares_do_not_depend_on_units_and_keep_domination(points):
    shares = shares_beaten(points)
    assert (shares == shares_beaten(np.exp(points) * 1000)).all()
    assert ((shares > 0) & (shares <= 1)).all()
    assert set(front(shares).tolist()) == set(front(points).tolist())


@given(POINTS.filter(len), st.integers(1, 5))
def test_what_is_chosen_begins_with_the_first_and_adds_volume_each_time(points, number):
    chosen = most_volume(points, number)
    assert chosen[0] == 0 and len(set(chosen)) == len(chosen) <= number
    reference = np.zeros(points.shape[1])
    volumes = [hypervolume(points[chosen[:count]], reference) for count in range(1, len(chosen) + 1)]
    assert volumes == sorted(set(volumes))
    if len(chosen) < number:
        assert volumes[-1] == pytest.approx(hypervolume(points, reference))


def test_a_near_copy_is_chosen_last():
    points = np.array([[1.0, 0.2], [0.98, 0.21], [0.6, 0.6], [0.1, 1.0]])
    assert most_volume(points, 4) == [0, 2, 3, 1]


@given(POINTS.filter(len), st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4))
def test_what_scalarises_best_is_dominated_by_nothing(points, weights):
    utilities = chebyshev(points, np.array(weights[: points.shape[1]]))
    assert set(np.flatnonzero(utilities == utilities.max()).tolist()) & set(front(points).tolist())


def test_a_dent_of_the_front_is_found_by_chebyshev_and_by_no_weighted_sum():
    points = np.array([[3.0, 0.0], [1.2, 1.2], [0.0, 3.0]])
    weights = np.array([0.5, 0.5])
    assert int(chebyshev(points, weights).argmax()) == 1
    assert int((points @ weights).argmax()) != 1
