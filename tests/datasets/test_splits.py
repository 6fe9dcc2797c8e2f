"""Stratified splits and subsets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.make_data import load
from tuner.common.errors import DataError
from tuner.datasets.loading import split_stratified, subset_stratified


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
