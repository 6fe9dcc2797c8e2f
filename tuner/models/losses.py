"""Losses that are trained, the weights of images in them, and what Keras measures beside; validation has no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tuner.models.parameters import general

FOCUS = 2.0
"""The power with which sure answers count less; 2 is best in the paper."""


def build_loss(configuration: Mapping[str, Any]) -> keras.losses.Loss:
    """Return the loss of a configuration.

    Focal loss (Lin et al. 2017, arXiv:1708.02002, equation 4) is the cross-entropy times `(1 - p) ** FOCUS`; the
    weights of classes that the paper multiplies it with are `class_weight`'s.
    """
    smoothing = float(general(configuration, "label_smoothing"))
    if general(configuration, "loss") == "focal":
        return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=FOCUS, label_smoothing=smoothing)
    return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)


def is_plain(configuration: Mapping[str, Any]) -> bool:
    """Return whether the loss is the cross-entropy, but for weights of images."""
    return general(configuration, "loss") == "cross_entropy" and not general(configuration, "label_smoothing")


def image_weights(
    configuration: Mapping[str, Any], labels: np.ndarray, given: np.ndarray | None = None
) -> np.ndarray | None:
    """Return the weights of training images, `[N] float32` with a mean of 1, so that rates mean the same; None: all 1.

    Those that were given times those of the classes, by which all classes count alike however many images they have.
    """
    weights = None if given is None else given.astype(np.float64)
    if general(configuration, "class_weight") == "balanced":
        from sklearn.utils.class_weight import compute_sample_weight

        balanced = compute_sample_weight("balanced", labels)
        weights = balanced if weights is None else balanced * weights
    if weights is None or np.all(weights == weights[0]):
        return None
    return np.asarray(weights / weights.mean(), dtype=np.float32)


def keras_metric(identifier: str) -> keras.metrics.Metric:
    """Return a new metric of Keras by its name, or by that of a function of targets and predictions."""
    made = keras.metrics.get(identifier)
    return made if isinstance(made, keras.metrics.Metric) else keras.metrics.MeanMetricWrapper(made)
