"""Values of predictions: scikit-learn's own, wherever it has one; defined and finite where it has none."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from tuner.common.metrics import METRICS, asked_values, epoch_objectives, metric_of

ASKED = asked_values(epoch_objectives())


def value(name: str, labels: np.ndarray, probabilities: np.ndarray) -> float:
    function = metric_of(name).measure
    assert function is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(labels, probabilities)


def predictions(seed: int, images: int, classes: int, values: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels of all classes and probabilities of few different values, so that there are ties."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, images)])
    raw = generator.integers(1, values + 1, (len(labels), classes)).astype(np.float64)
    return labels, raw / raw.sum(axis=1, keepdims=True)


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(2, 9), st.sampled_from([1, 2, 1000]))
def test_all_are_those_of_scikit_learn_with_ties_and_with_two_classes_too(seed, images, classes, values):
    labels, probabilities = predictions(seed, images, classes, values)
    predicted = probabilities.argmax(axis=1)
    scores = probabilities[:, 1] if classes == 2 else probabilities
    expected = {
        "val_accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "val_loss": sklearn_metrics.log_loss(labels, probabilities),
        "val_balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "val_macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
        "val_auc": sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr", average="macro"),
    }
    if classes > 5:
        expected["val_top5_accuracy"] = sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=5)
    for name, other in expected.items():
        assert value(name, labels, probabilities) == pytest.approx(other, abs=1e-12), name


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        # Of four classes, two or one have images; the last image is taken for class 3, which has none.
        ([0, 0, 1, 1], {"balanced_accuracy": 0.75, "macro_f1": (1 + 2 / 3 + 0) / 3, "top5_accuracy": 1.0}),
        ([0, 0, 0, 0], {"balanced_accuracy": 0.5, "auc": math.nan, "accuracy": 0.5}),
        ([2, 2, 2, 2], {"balanced_accuracy": 0.0, "macro_f1": 0.0, "auc": math.nan}),
    ],
    ids=["two of four classes", "one class", "a class that is never predicted"],
)
def test_classes_without_images_are_left_out_of_means_and_cause_no_warning(labels, expected):
    predicted = np.eye(4)[[0, 0, 1, 3]] * 0.8 + 0.05
    for name, number in expected.items():
        assert value(name, np.array(labels), predicted) == pytest.approx(number, nan_ok=True), name


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("majority", [0, 1])
def test_whoever_always_answers_the_same_is_no_better_than_chance(name, majority):
    labels = np.array([majority] * 95 + [1 - majority] * 5)
    constant = np.tile(np.bincount(labels) / 100, (100, 1))
    chance = {"val_balanced_accuracy": 0.5, "val_auc": 0.5, "val_macro_f1": 0.95 / 1.95, "val_top5_accuracy": 1.0}
    assert value(name, labels, constant) == pytest.approx(chance[name])


def test_one_that_is_asked_for_knows_how_many_classes_it_needs():
    assert {name: METRICS[name.removeprefix("val_")].least_classes for name in ASKED} == {
        **dict.fromkeys(ASKED, 2), "val_top5_accuracy": 6,
    }  # fmt: skip
