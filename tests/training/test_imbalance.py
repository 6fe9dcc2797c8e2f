"""What trials measure and train where classes are uneven: whole splits, weights, other losses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

import tuner
from tests.support.cached_training import MOBILENET, epochs_of, kept, numbers
from tuner.common.metrics import asked_values, epoch_objectives, epoch_values
from tuner.datasets.loading import Dataset, Split
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augmentation import parse_augment
from tuner.models.losses import image_weights
from tuner.training._batches import Batches
from tuner.training.compiled_models import CompiledModels
from tuner.training.evaluation import measure, predict_probabilities
from tuner.training.settings import TrialSettings
from tuner.training.trial import Trial

pytestmark = pytest.mark.usefixtures("small_mobilenet")
SETTINGS = TrialSettings(2, 1, None, 0.0, "val_accuracy", "max", 7)
ALL = replace(SETTINGS, metric="val_balanced_accuracy", other_metrics=epoch_objectives())
DENSE = {"architecture": "dense", "hidden_layers": 1, "dense_units": 16, "batch_size": 48, "learning_rate": 0.003}


def part(split: Split, positions: np.ndarray) -> Split:
    return replace(split, rows=split.rows[positions], labels=split.labels[positions])


@pytest.fixture(scope="module")
def uneven(small_digits: Dataset) -> Dataset:
    """Digits of which most are zeros."""
    train, validation = small_digits.train, small_digits.validation
    return replace(
        small_digits,
        train=part(train, np.flatnonzero((train.labels == 0) | (np.arange(len(train)) % 4 == 0))),
        validation=part(validation, np.flatnonzero((validation.labels == 0) | (np.arange(len(validation)) % 2 == 0))),
    )


def scikit_learn(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    predicted, classes = probabilities.argmax(axis=1), np.arange(probabilities.shape[1])
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return {
        "val_accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "val_loss": sklearn_metrics.log_loss(labels, probabilities, labels=classes),
        "val_balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "val_macro_f1": sklearn_metrics.f1_score(labels, predicted, average="macro"),
        "val_auc": sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
        "val_top5_accuracy": sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=classes),
    }


def test_a_trial_measures_what_scikit_learn_does_of_the_whole_validation_split(uneven):
    trial = Trial(DENSE, uneven, ALL)
    epoch = trial.advance()
    assert epoch is not None and tuple(epoch.metrics) == epoch_values(ALL.asked)
    validation = uneven.validation
    expected = scikit_learn(validation.labels, predict_probabilities(trial.model, validation))
    assert {name: epoch.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert epoch.best_so_far == epoch.metrics["val_balanced_accuracy"]


def test_what_is_not_asked_for_is_not_measured_and_the_training_is_the_same(uneven):
    plain, measured = (Trial(DENSE, uneven, settings) for settings in (SETTINGS, ALL))
    one, other = plain.advance(), measured.advance()
    assert one is not None and other is not None
    assert tuple(one.metrics) == ("loss", "accuracy", "val_loss", "val_accuracy")
    assert {name: other.metrics[name] for name in one.metrics} == pytest.approx(one.metrics, rel=1e-5)
    assert other.metrics["loss"] == one.metrics["loss"]


def test_the_validation_split_is_read_no_more_often_than_keras_does_to_evaluate(uneven, monkeypatch):
    read: list[int] = []
    original = Split.batch

    def batch(self: Split, positions: np.ndarray) -> Any:
        if len(self) == len(uneven.validation):
            read.extend(positions.tolist())
        return original(self, positions)

    monkeypatch.setattr(Split, "batch", batch)
    times = []
    for settings in (SETTINGS, ALL):
        read.clear()
        assert Trial(DENSE, uneven, settings).advance() is not None
        times.append(sorted(read))
    assert times[0] == times[1]


@pytest.mark.full
def test_cached_activations_give_the_same_metrics_as_images(uneven, tmp_path):
    from_images = epochs_of(MOBILENET, uneven, None, ALL)
    cached = epochs_of(MOBILENET, uneven, kept(uneven, tmp_path, dtype="float32"), ALL)
    for one, other in zip(numbers(from_images), numbers(cached), strict=True):
        assert other["metrics"] == pytest.approx(one["metrics"], abs=0.02)


LOSSES: list[dict[str, Any]] = [
    {},
    {"class_weight": "balanced"},
    {"loss": "focal", "class_weight": "balanced", "label_smoothing": 0.1},
    {"label_smoothing": 0.3},
    {"loss": "focal"},
    {"class_weight": "balanced", "augment": "mixup(0.3)"},
]
CASES = [
    pytest.param(changes, id=", ".join(map(str, changes.values())) or "plain", marks=[pytest.mark.full][: place != 2])
    for place, changes in enumerate(LOSSES)
]
"""In the quick tier the one that differs most."""


@pytest.mark.parametrize("metric", ["val_accuracy", "val_auc"])
@pytest.mark.parametrize("changes", CASES)
def test_the_validation_loss_is_the_unweighted_cross_entropy_whatever_is_trained(changes, metric, uneven):
    trial = Trial({**DENSE, **changes}, uneven, replace(SETTINGS, metric=metric))
    epoch = trial.advance()
    assert epoch is not None
    labels = uneven.validation.labels
    expected = scikit_learn(labels, predict_probabilities(trial.model, uneven.validation))
    assert epoch.metrics["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)
    assert epoch.metrics["val_accuracy"] == pytest.approx(expected["val_accuracy"])


def test_a_penalty_of_weights_is_not_in_the_validation_loss(uneven, monkeypatch):
    plain = keras.layers.Dense

    def with_penalty(*values: Any, **options: Any) -> Any:
        return plain(*values, **{**options, "kernel_regularizer": keras.regularizers.L2(0.1)})

    monkeypatch.setattr(keras.layers, "Dense", with_penalty)
    trial = Trial(DENSE, uneven, SETTINGS)
    monkeypatch.undo()
    epoch = trial.advance()
    assert epoch is not None and trial.model.losses
    expected = scikit_learn(uneven.validation.labels, predict_probabilities(trial.model, uneven.validation))
    assert epoch.metrics["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)


class Cautious(keras.layers.Layer):
    """A layer of own code that adds to the loss when it is called."""

    def call(self, inputs: Any) -> Any:
        self.add_loss(0.5 + keras.ops.mean(keras.ops.square(inputs)))
        return inputs


@pytest.mark.parametrize(
    "penalty", [lambda: keras.layers.ActivityRegularization(l2=0.1), Cautious], ids=["of Keras", "of own code"]
)
def test_a_penalty_of_what_a_layer_gives_is_not_in_the_validation_loss(uneven, penalty):
    tuner.architecture(lambda images: penalty()(keras.layers.Flatten()(images)), name="cautious")
    try:
        trial = Trial({"architecture": "cautious"}, uneven, SETTINGS)
        epoch = trial.advance()
    finally:
        ARCHITECTURES.remove("cautious")
    assert epoch is not None and epoch.metrics["loss"] > epoch.metrics["val_loss"] + 0.4  # it is trained
    expected = scikit_learn(uneven.validation.labels, predict_probabilities(trial.model, uneven.validation))
    assert epoch.metrics["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-4)


@pytest.mark.full
def test_trials_beside_others_give_the_numbers_that_they_give_alone(uneven):
    bench = CompiledModels()

    def metrics(more: Mapping[str, Any], models: CompiledModels) -> Mapping[str, float]:
        epoch = Trial({**DENSE, **more}, uneven, SETTINGS, compiled_models=models).advance()
        assert epoch is not None
        return epoch.metrics

    for changes in LOSSES:
        assert metrics(changes, bench) == metrics(changes, CompiledModels()), changes
    assert metrics({}, bench) == metrics({}, CompiledModels())


def test_trials_that_differ_in_weights_alone_share_what_is_compiled(small_digits):
    bench = CompiledModels()
    structure = bench.take(DENSE, small_digits.image_shape, 10, 1)
    weighted = {**DENSE, "class_weight": "balanced"}
    assert structure.trainer(DENSE, 0, None).network is structure.trainer(weighted, 0, None).network
    focal = {**DENSE, "loss": "focal"}
    assert structure.trainer(focal, 0, None).network is not structure.trainer(DENSE, 0, None).network


@pytest.mark.parametrize(
    ("given", "class_weight"),
    [(None, "balanced"), ([3.0] * 8 + [6.0] * 4, "none"), ([1.0] * 8 + [0.0] * 4, "none")],
    ids=["of classes", "of images", "none at all"],
)
def test_a_weight_counts_as_so_many_copies_of_an_image(given, class_weight, uneven):
    """One step of gradient descent: the rarer class is repeated as often as it weighs more, or left out."""
    train = uneven.train
    zeros, ones = (np.flatnonzero(train.labels == label)[:number] for label, number in ((0, 8), (1, 4)))
    copies = [] if given is not None and not given[-1] else [ones, ones]
    sgd = {**DENSE, "optimizer": "sgd", "batch_size": 16, "learning_rate": 0.01}
    once = part(train, np.concatenate([zeros, ones]))
    weights = None if given is None else np.array(given, dtype=np.float32)
    data = replace(uneven, train=replace(once, weights=weights))
    repeated = replace(uneven, train=part(train, np.concatenate([zeros, *copies])))
    weighted, copied = Trial({**sgd, "class_weight": class_weight}, data, SETTINGS), Trial(sgd, repeated, SETTINGS)
    one, other = weighted.advance(), copied.advance()
    assert one is not None and other is not None
    assert one.metrics["loss"] == pytest.approx(other.metrics["loss"], rel=1e-5)
    for mine, theirs in zip(weighted.model.weights, copied.model.weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_weights_are_mixed_as_labels_are(uneven):
    train = uneven.train
    weights = image_weights({"class_weight": "balanced"}, train.labels)
    assert weights is not None
    of_class = np.array([weights[train.labels == label][0] for label in range(10)])
    order, augment = np.arange(len(train)), parse_augment("shift(1)|mixup(0.4)")
    plain = Batches(train, 10, 32, order, augment, 3)
    weighted = Batches(train, 10, 32, order, augment, 3, weights=weights)
    for index in range(len(plain)):
        (images, targets), (same_images, same_targets, mixed) = plain[index], weighted[index]
        np.testing.assert_array_equal(images, same_images)
        np.testing.assert_allclose(targets, same_targets, atol=1e-6)
        np.testing.assert_allclose(mixed, targets @ of_class, rtol=1e-5)


def test_probabilities_that_are_no_numbers_make_metrics_that_are_none():
    names = ["val_loss", *asked_values(epoch_objectives())]
    found = measure(names, np.array([0, 1]), np.array([[math.nan, 1.0], [0.0, 1.0]]))
    assert list(found) == names and all(math.isnan(value) for value in found.values())


def test_a_weighted_trial_that_explodes_fails_with_its_reason(uneven):
    run = {**DENSE, "optimizer": "sgd", "preprocess": "scale(-1e30,1e30)", "learning_rate": 10.0}
    trial = Trial({**run, "class_weight": "balanced"}, uneven, ALL)
    assert trial.advance() is None and trial.ended is not None
    assert "not a number" in trial.ended.reason
