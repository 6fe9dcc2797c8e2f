"""Stratified splits and subsets."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.make_data import load
from tuner.common.errors import DataError
from tuner.datasets.splits import (
    fold_rows,
    hold_out,
    join_units,
    single_unit_classes,
    split_stratified,
    subset_stratified,
)


def test_subsets_are_of_the_size_asked_for_and_keep_the_classes_in_proportion(cache_dir) -> None:
    dataset, _ = load("digits", cache_dir, max_train_images=200, max_validation_images=50)
    assert len(dataset.train) == 200 and len(dataset.validation) == 50
    assert np.bincount(dataset.train.labels).min() >= 19
    images, labels = dataset.train.batch(np.array([3, 7]))
    assert images.shape == (2, 8, 8, 1) and labels.tolist() == dataset.train.labels[[3, 7]].tolist()


some_labels = st.lists(st.integers(1, 60), min_size=2, max_size=8).map(
    lambda numbers: np.repeat(np.arange(len(numbers)), numbers)
)


@given(labels=some_labels, seed=st.integers(0, 99), data=st.data())
def test_a_subset_has_every_class_nearly_in_proportion_and_lies_in_every_larger_one(labels, seed, data) -> None:
    classes = labels.max() + 1
    number = data.draw(st.integers(int(classes), len(labels)))
    taken = subset_stratified(labels, number, seed, "data.max_train_images")
    assert len(taken) == number == len(np.unique(taken)) and (np.diff(taken) > 0).all()
    found, all_of_them = np.bincount(labels[taken], minlength=classes), np.bincount(labels)
    assert found.min() >= 1
    share = found / all_of_them  # the k-th of n stands at k/n, so that no class is more than one image ahead
    assert ((found - 1) / all_of_them).max() <= share.min()
    larger = subset_stratified(labels, data.draw(st.integers(number, len(labels))), seed, "data.max_train_images")
    assert set(taken) <= set(larger)


def test_a_subset_smaller_than_the_number_of_classes_is_refused(cache_dir) -> None:
    with pytest.raises(DataError, match=r"data.max_train_images must be at least the number of classes, 10; got 9"):
        load("digits", cache_dir, max_train_images=9)


@given(labels=some_labels.filter(lambda labels: np.bincount(labels).min() >= 10), seed=st.integers(0, 99))
def test_a_split_parts_all_rows_and_every_class_in_proportion(labels, seed) -> None:
    names = tuple(str(label) for label in range(labels.max() + 1))
    kept, held = split_stratified(labels, 0.2, seed, names, "mine")
    assert sorted([*kept, *held]) == list(range(len(labels))) and (np.diff(kept) > 0).all()
    assert (np.abs(np.bincount(labels[held]) - 0.2 * np.bincount(labels)) <= 1).all()


def test_a_stratified_split_is_refused_when_it_would_leave_out_a_class() -> None:
    labels = np.repeat(np.arange(10), 4)
    with pytest.raises(DataError, match=r"40 images of 10 classes cannot be split by 0.1"):
        split_stratified(labels, 0.1, 0, tuple("abcdefghij"), "mine")


# --- units stay together ---


@st.composite
def labelled_units(draw) -> tuple[np.ndarray, np.ndarray]:
    """Labels of 2 to 5 classes, with units of any sizes, one or several classes each, as they come or alone."""
    classes, number = draw(st.integers(2, 5)), draw(st.integers(8, 120))
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, number - classes)])
    units = generator.integers(0, draw(st.integers(2, 40)), number)
    if draw(st.booleans()):  # each unit of one class, as copies and most patients are
        units = units * classes + labels
    units[generator.random(number) < draw(st.sampled_from([0, 0.3, 0.95]))] = -1
    return labels, units


def sides_of(units: np.ndarray, *parts: np.ndarray) -> int:
    return sum(len(np.unique(units[part][units[part] >= 0])) for part in parts)


@pytest.mark.full
@settings(max_examples=1000)
@given(
    data=labelled_units(), fraction=st.sampled_from([0.01, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.8]), seed=st.integers(0, 99)
)
def test_no_unit_is_on_two_sides_and_every_class_is_trained_on(data, fraction, seed) -> None:
    labels, units = data
    names = tuple(map(str, range(labels.max() + 1)))
    try:
        kept, held = hold_out(labels, units, fraction, seed, names, "mine")
    except DataError as error:
        assert re.search("at least two images|cannot be split", str(error))
        return
    assert sorted([*kept, *held]) == list(range(len(labels))) and len(held)
    assert sides_of(units, kept, held) == sides_of(units, np.arange(len(units)))
    assert set(labels[kept]) == set(labels)
    assert not set(single_unit_classes(labels, units)) & set(labels[held])


@pytest.mark.full
@settings(max_examples=1000)
@given(data=labelled_units(), folds=st.integers(2, 6), seed=st.integers(0, 99))
def test_folds_part_units_and_every_fold_is_trained_on_every_class(data, folds, seed) -> None:
    labels, units = data
    names = tuple(map(str, range(labels.max() + 1)))
    try:
        found = fold_rows(labels, units, folds, seed, names, "mine")
    except DataError as error:
        assert re.search("at least two images|too few for", str(error))
        return
    held_rows = np.concatenate([held for _, held in found])
    assert len(found) == folds and len(np.unique(held_rows)) == len(held_rows)
    always = np.setdiff1d(np.arange(len(labels)), held_rows)
    assert not len(always) or len(single_unit_classes(labels, units)) or len(np.unique(labels)) > 2
    for kept, held in found:
        assert sorted([*kept, *held]) == list(range(len(labels))) and len(held)
        assert sides_of(units, kept, held) == sides_of(units, np.arange(len(units)))
        assert set(labels[kept]) == set(labels)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.25, 0.5])
@pytest.mark.parametrize("largest", [1, 3, 10, 40])
def test_about_the_fraction_is_held_out_of_many_units_the_classes_in_proportion(fraction, largest) -> None:
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, largest + 1, 3000 // largest)
    labels = np.repeat(generator.choice(3, len(sizes), p=[0.6, 0.3, 0.1]), sizes)
    units = np.repeat(np.arange(len(sizes)), sizes)
    held = hold_out(labels, units, fraction, 1, ("a", "b", "c"), "mine")[1]
    assert abs(len(held) / len(labels) - fraction) < 0.02
    shares = np.bincount(labels[held]) / np.bincount(labels)
    assert np.abs(shares - fraction).max() < 0.08 + 2 * largest / np.bincount(labels).min()


@pytest.mark.parametrize(("fraction", "held_out"), [(0.001, 0.005), (0.002, 0.005), (0.004, 0.005), (0.998, 0.995)])
def test_a_tiny_fraction_of_units_is_not_half_of_them(fraction, held_out) -> None:
    labels, units = np.repeat([0, 1], 2000), np.full(4000, -1)
    units[:2] = 0  # one pair of copies is enough
    held = hold_out(labels, units, fraction, 0, ("a", "b"), "mine")[1]
    assert len(held) / len(labels) == pytest.approx(held_out, abs=0.001)


@pytest.mark.parametrize("fraction", [0.6, 0.8, 0.9])
def test_a_large_fraction_leaves_an_image_of_every_class_to_train_on(fraction) -> None:
    labels = np.repeat([0, 1, 2, 3], [98, 2, 3, 7])
    for seed in range(5):
        kept, held = split_stratified(labels, fraction, seed, tuple("abcd"), "mine")
        assert set(labels[kept]) == {0, 1, 2, 3} and (np.diff(kept) > 0).all() and (np.diff(held) > 0).all()
        assert sorted([*kept, *held]) == list(range(110)) and abs(len(held) - fraction * 110) <= 3


def test_folds_of_single_images_are_of_one_size_with_the_classes_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [500, 95, 7])
    found = fold_rows(labels, None, 5, 0, ("a", "b", "c"), "mine")
    assert {len(held) for _, held in found} <= {120, 121}
    assert np.ptp([np.bincount(labels[held], minlength=3) for _, held in found], axis=0).max() <= 1
    assert all((np.diff(held) > 0).all() for _, held in found)
    again, other = (fold_rows(labels, None, 5, seed, ("a", "b", "c"), "mine") for seed in (0, 1))
    assert (again[0][1] == found[0][1]).all() and not np.array_equal(other[0][1], found[0][1])


@pytest.mark.parametrize("groups", [None, np.arange(20), np.full(20, -1)])
def test_rows_are_those_of_data_without_groups_where_no_image_hangs_together_with_another(groups) -> None:
    labels = np.repeat([0, 1], 10)
    plain = split_stratified(labels, 0.2, 3, ("a", "b"), "mine")
    assert all(map(np.array_equal, plain, hold_out(labels, groups, 0.2, 3, ("a", "b"), "mine")))


@pytest.mark.parametrize(
    ("numbers", "units"),
    [
        ([[0, 0, 1, 1]], [0, 0, 1, 1]),
        ([[5, -1, 5, -1]], [0, 1, 0, 2]),
        ([[0, 0, 1, 1], [-1, 7, 7, -1]], [0, 0, 0, 0]),
        ([[0, 0, 1, 1], [7, -1, -1, -1], None], [0, 0, 1, 1]),
        ([[3, 2, 1, 0]], None),
        ([[-1, -1, -1, -1]], None),
        ([None, None], None),
    ],
)
def test_images_that_hang_together_in_any_respect_are_one_unit(numbers, units) -> None:
    found = join_units(*(None if each is None else np.array(each) for each in numbers))
    assert (None if found is None else found.tolist()) == units


@pytest.mark.parametrize(
    ("labels", "units", "words"),
    [
        ([0, 0, 1, 1], [0, 0, 0, 0], "4 images in one group that stays together cannot be split"),
        ([0, 0, 1, 1], [0, 0, 1, 1], "4 images in 2 groups that stay together cannot be split: every group has"),
    ],
)
def test_units_that_leave_nothing_to_hold_out_are_refused(labels, units, words) -> None:
    with pytest.raises(DataError, match=words):
        hold_out(np.array(labels), np.array(units), 0.2, 0, ("a", "b"), "mine")


def test_more_folds_than_units_are_refused() -> None:
    with pytest.raises(DataError, match=r"mine: 6 images in 3 groups .* too few for 4 folds: 1 would be without any"):
        fold_rows(np.array([0, 1] * 3), np.repeat([0, 1, 2], 2), 4, 0, ("a", "b"), "mine")
    with pytest.raises(DataError, match="mine: 6 images are too few for 7 folds: 1 would be without any"):
        fold_rows(np.array([0, 1] * 3), None, 7, 0, ("a", "b"), "mine")
    with pytest.raises(DataError, match="every class must have at least two images to be split; too few: b"):
        fold_rows(np.array([0, 0, 1]), None, 2, 0, ("a", "b"), "mine")
