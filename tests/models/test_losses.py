"""Losses and the weights of images: against the formulas of their papers, and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from tuner.models.losses import build_loss, image_weights, is_plain

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.3, 0.4]], dtype=np.float32)
LABELS = np.array([0, 1, 2])
UNEVEN = np.array([0] * 16 + [1] * 3 + [2])


def loss_of(configuration, labels=LABELS, probabilities=PROBABILITIES):
    return float(build_loss(configuration)(np.eye(3, dtype=np.float32)[labels], probabilities))


def test_focal_loss_is_the_formula_of_its_paper_and_cross_entropy_is_what_is_trained_unless_said():
    of_true = PROBABILITIES[np.arange(3), LABELS]
    assert loss_of({}) == loss_of({"loss": "cross_entropy"}) == pytest.approx(-np.log(of_true).mean(), rel=1e-5)
    assert loss_of({"loss": "focal"}) == pytest.approx(((1 - of_true) ** 2 * -np.log(of_true)).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [({}, True), ({"class_weight": "balanced"}, True), ({"loss": "focal"}, False), ({"label_smoothing": 0.1}, False)],
)
def test_only_the_cross_entropy_itself_can_be_compared(configuration, expected):
    assert is_plain(configuration) is expected


@pytest.mark.parametrize("classes", [3, 5], ids=["all classes have images", "two have none"])
def test_balanced_weights_are_those_of_scikit_learn_and_all_classes_count_alike(classes):
    weights = image_weights({"class_weight": "balanced"}, UNEVEN)
    assert weights is not None and weights.dtype == np.float32
    expected = compute_class_weight("balanced", classes=np.unique(UNEVEN), y=UNEVEN)
    np.testing.assert_allclose(weights, expected[UNEVEN], rtol=1e-6)
    np.testing.assert_allclose(np.bincount(UNEVEN, weights, minlength=classes)[:3], len(UNEVEN) / 3, rtol=1e-6)
    assert weights.mean() == pytest.approx(1)


@pytest.mark.parametrize(
    ("configuration", "labels", "given"),
    [
        ({}, UNEVEN, None),
        ({"class_weight": "none"}, UNEVEN, None),
        ({"class_weight": "balanced"}, np.array([0, 1, 2, 0, 1, 2]), None),
        ({"class_weight": "balanced"}, np.zeros(4, dtype=int), None),
        ({}, UNEVEN, np.ones(20, dtype=np.float32)),
        ({}, UNEVEN, np.full(20, 5.0, dtype=np.float32)),
    ],
    ids=["none", "said", "even", "one class", "all 1", "all 5"],
)
def test_there_are_no_weights_where_all_images_weigh_the_same(configuration, labels, given):
    assert image_weights(configuration, labels, given) is None


@pytest.mark.parametrize("scale", [1, 1e-6, 1e6])
def test_weights_that_were_given_multiply_those_of_the_classes_whatever_their_scale(scale):
    given = np.linspace(0.0, 2.0, 20).astype(np.float32)
    classes = image_weights({"class_weight": "balanced"}, UNEVEN)
    alone, both = (image_weights({"class_weight": kind}, UNEVEN, scale * given) for kind in ("none", "balanced"))
    assert classes is not None
    np.testing.assert_allclose(alone, given / given.mean(), rtol=1e-5)
    np.testing.assert_allclose(both, given * classes / (given * classes).mean(), rtol=1e-5)
