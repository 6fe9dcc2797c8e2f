"""What a trained model says of images: probabilities, losses, and what a report shows of them. Knows Keras only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.files import replacing
from tuner.datasets.loading import Split

BATCH_SIZE = 256
TOP = 5
SHOWN = 24
"""Images of each kind that are kept to be shown."""
SMALLEST_PROBABILITY = 1e-7
"""As Keras' cross-entropy takes it."""


def predict_probabilities(model: Any, split: Split, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """`[N, K] float32`: the probability of each class for each image of a split."""
    found = []
    for start in range(0, len(split), batch_size):
        images, _ = split.batch(np.arange(start, min(start + batch_size, len(split))))
        found.append(np.asarray(model.predict_on_batch(images), dtype=np.float32))
    return np.concatenate(found)


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean loss, as Keras' categorical cross-entropy without label smoothing."""
    of_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(of_true, SMALLEST_PROBABILITY, 1.0)).mean())


def choose_shown(labels: np.ndarray, probabilities: np.ndarray, number: int = SHOWN) -> np.ndarray:
    """Rows worth showing, `[S] int64`: the most confident mistakes, and others drawn at random from right and wrong."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    right = np.flatnonzero(predicted == labels)
    confident = wrong[np.argsort(-confidence[wrong], kind="stable")][:number]
    generator = np.random.default_rng(0)
    drawn = [generator.permutation(rows)[:number] for rows in (right, np.setdiff1d(wrong, confident))]
    return np.concatenate([confident, *drawn]).astype(np.int64)


def save_predictions(path: Path, of: tuple[int, int], probabilities: np.ndarray, split: Split) -> None:
    """Keep what a report shows of a model's predictions; `of` are the finalist and its seed."""
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    rows = choose_shown(split.labels, probabilities)
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez_compressed(
            file,
            of=np.array(of),
            labels=split.labels,
            classes=top,
            probabilities=np.take_along_axis(probabilities, top, axis=1),
            rows=rows,
            images=split.batch(rows)[0],
        )
