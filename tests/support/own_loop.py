"""A training function of one's own: softmax regression on pixels, by hand in numpy; a plugin for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tuner.api.trainable import Epoch, trainable
from tuner.models.parameters import Parameter

PARAMETERS = {
    "learning_rate": Parameter("float", low=1e-4, high=10.0, default=0.1),
    "momentum": Parameter("float", low=0.0, high=0.99, default=0.9),
    "batch_size": Parameter("int", low=1, high=512, default=32),
}


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) / 255


def shares(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    scores = values @ weights[:-1] + weights[-1]
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


@trainable(parameters=PARAMETERS)
def softmax_regression(configuration: dict[str, Any], data: Any, state: Any = None) -> Iterator[Epoch]:
    """Softmax regression on the pixels."""
    values, labels = flat(np.asarray(data.train.images)), data.train.labels
    shape = (values.shape[1] + 1, data.num_classes)
    state = state or {"epoch": 0, "weights": np.zeros(shape), "velocity": np.zeros(shape)}
    weights, velocity = state["weights"], state["velocity"]
    for epoch in range(state["epoch"], 1000):
        order = np.random.default_rng([data.seed, epoch]).permutation(len(labels))
        for rows in np.array_split(order, max(1, len(order) // configuration["batch_size"])):
            wrong = shares(weights, values[rows]) - np.eye(data.num_classes)[labels[rows]]
            slope = np.vstack([values[rows].T @ wrong, wrong.sum(axis=0)]) / len(rows)
            velocity *= configuration["momentum"]
            velocity -= configuration["learning_rate"] * slope
            weights += velocity
        told = shares(weights, flat(np.asarray(data.validation.images)))
        own = told[np.arange(len(told)), data.validation.labels]
        metrics = {
            "accuracy": (shares(weights, values).argmax(axis=1) == labels).mean(),
            "val_accuracy": (told.argmax(axis=1) == data.validation.labels).mean(),
            "val_loss": -np.log(np.maximum(own, 1e-12)).mean(),
        }
        yield Epoch(metrics, {"epoch": epoch + 1, "weights": weights, "velocity": velocity})


@softmax_regression.predict
def predict(configuration: dict[str, Any], data: Any, state: Any, images: np.ndarray) -> np.ndarray:
    return shares(state["weights"], flat(images))
