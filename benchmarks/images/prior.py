"""The prior that comes with the product, from the tables: each task as a search of the product leaves it. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np

from benchmarks.images.tables import METRIC, TaskTable
from tuner import __version__
from tuner.algorithms.halving import rung_epochs
from tuner.algorithms.prior import PriorStudy
from tuner.algorithms.study_file import ClassSizes, DataFacts, ShownTrial, StudyFile, rounded
from tuner.models.architectures import PRETRAINED
from tuner.spec.space import Configuration

IS_PRETRAINED: Mapping[str, bool] = {
    "mobilenet_v2": True,
    "small_residual": True,
    "small_separable": True,
    "cnn": False,
}
"""Of the architectures that a user's can be like; the others have random weights, for comparison."""
REDUCTION_FACTOR, GRACE_EPOCHS = 2, 1
"""Of the rungs at which trials are left behind: what comes after one is kept of the better half."""
DIGITS = 4


def prior_of(tables: Iterable[TaskTable]) -> list[PriorStudy]:
    """Return the studies of a prior, one for each task."""
    return [prior_study(table) for table in tables]


def prior_study(table: TaskTable) -> PriorStudy:
    """Return one task as a study of the prior.

    It holds what `asha` would have seen of its trials, so that it says what the first epochs tell of the last ones.
    """
    kept = [row for row, one in enumerate(table.configurations) if one["architecture"] in IS_PRETRAINED]
    kept = [row for row in kept if np.isfinite(table.accuracy[row]).all() and np.isfinite(table.loss[row]).all()]
    accuracy = np.maximum.accumulate(table.accuracy[kept], axis=1)
    loss = np.minimum.accumulate(table.loss[kept], axis=1)
    epochs = accuracy.shape[1]
    levels = [*rung_epochs(epochs, GRACE_EPOCHS, REDUCTION_FACTOR), epochs]
    lasts = _lasts(accuracy, levels)
    names = {str(table.configurations[row]["architecture"]) for row in kept}
    facts, sizes = table.facts, table.facts["class_images"]
    return PriorStudy(
        base=facts["base"],
        pretrained={name: known for name, known in IS_PRETRAINED.items() if name in names},
        study=StudyFile(
            tuner=__version__,
            data=DataFacts(
                classes=facts["classes"],
                train_images=facts["train_images"],
                validation_images=facts["validation_images"],
                images_per_class=ClassSizes(smallest=min(sizes), median=int(np.median(sizes)), largest=max(sizes)),
                height_px=facts["px"],
                width_px=facts["px"],
                channels=facts["channels"],
            ),
            metrics={METRIC: "max", "val_loss": "min"},
            trials=[
                _trial(table, row, [level for level in levels if level <= last], accuracy[place], loss[place], epochs)
                for place, (row, last) in enumerate(zip(kept, lasts, strict=True))
            ],
        ),
    )


def _lasts(accuracy: np.ndarray, levels: list[int]) -> list[int]:
    """Return the last epoch that is kept of each trial: of those at a level, the better ones reach the next."""
    lasts = np.full(len(accuracy), levels[0])
    alive = np.arange(len(accuracy))
    for level, after in itertools.pairwise(levels):
        order = np.argsort(-accuracy[alive, level - 1], kind="stable")
        alive = np.sort(alive[order[: max(1, len(alive) // REDUCTION_FACTOR)]])
        lasts[alive] = after
    return [int(last) for last in lasts]


def _trial(
    table: TaskTable, row: int, epochs: list[int], accuracy: np.ndarray, loss: np.ndarray, full: int
) -> ShownTrial:
    configuration: Configuration = {
        name: rounded(value, DIGITS) if isinstance(value, float) else value
        for name, value in table.configurations[row].items()
    }
    if IS_PRETRAINED[str(configuration["architecture"])]:
        configuration["weights"] = PRETRAINED
    return ShownTrial(
        configuration=configuration,
        status="completed" if epochs[-1] == full else "stopped",
        epochs=epochs,
        seconds=[rounded(float(table.seconds[row][epoch - 1]), DIGITS) for epoch in epochs],
        best={
            name: [rounded(float(values[epoch - 1]), DIGITS) for epoch in epochs]
            for name, values in ((METRIC, accuracy), ("val_loss", loss))
        },
    )
