"""Values of whole sets of predictions, computed by scikit-learn over all images at once. Pure; it is loaded when asked.

Labels are `[N] int64`, probabilities `[N, K]`; what is predicted is the most probable class, the first of equals. Where
a class has no image, its recall and its curve do not exist, and the means are over the others.
"""

from __future__ import annotations

import math

import numpy as np

SMALLEST_PROBABILITY = 1e-7
"""As Keras' cross-entropy takes it."""
TOP = 5


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose class is predicted."""
    return float((probabilities.argmax(axis=1) == labels).mean())


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean loss, as Keras' categorical cross-entropy without weights or label smoothing."""
    of_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(of_true, SMALLEST_PROBABILITY, 1.0)).mean())


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean recall of the classes: `balanced_accuracy_score`, without its warnings.

    >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([[0.9, 0.1]] * 4))
    0.5
    """
    from sklearn.metrics import recall_score

    present = np.unique(labels)
    return float(recall_score(labels, probabilities.argmax(axis=1), labels=present, average="macro", zero_division=0))


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the mean F1 of the classes that have an image or are predicted: `f1_score` with `average="macro"`."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, probabilities.argmax(axis=1), average="macro", zero_division=0))


def auc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the area under the ROC curve, one class against the rest, their mean: `roc_auc_score`.

    Not a number where all images are of one class. With two classes the curve is that of the second.

    >>> auc(np.array([0, 1, 0, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]))
    0.75
    """
    from sklearn.metrics import roc_auc_score

    present = np.unique(labels)
    if len(present) < 2:
        return math.nan
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(roc_auc_score(labels[:, None] == present, probabilities[:, present], average="macro"))


def top5_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose class is among the five most probable: `top_k_accuracy_score`."""
    from sklearn.metrics import top_k_accuracy_score

    classes = probabilities.shape[1]
    return 1.0 if classes <= TOP else float(top_k_accuracy_score(labels, probabilities, k=TOP, labels=range(classes)))
