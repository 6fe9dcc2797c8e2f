"""Probes of a study's data, as the record tells of them: what frozen backbones give, and the labels that they doubt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tuner.common.errors import DataError
from tuner.common.metrics import DEFAULT_METRIC
from tuner.common.seeds import derive_seed
from tuner.datasets.copies import keep_together
from tuner.datasets.loading import Dataset, Split
from tuner.datasets.splits import subset_stratified
from tuner.runs.events import LabelsDoubted, Probed, Suspect
from tuner.runs.predictions import thinned
from tuner.training.evaluation import measure
from tuner.training.failures import NOT_A_NUMBER, attempt
from tuner.training.probes.features import Features, frozen_features
from tuner.training.probes.linear import TimeSpentError, deal_folds, fit
from tuner.training.probes.suspects import Suspects, suspects
from tuner.training.settings import ActivationSettings, TrialSettings

METHOD = "ridge"
TRAIN_IMAGES, VALIDATION_IMAGES, IMAGES_PER_CLASS = 1000, 1000, 10
"""A probe looks at so many, or at so many of each class where that is more."""
MOST_SCORES = 50_000_000
"""Of many classes a probe looks at fewer images of each: so that it has no more probabilities than that."""
MOST_LABELS, MOST_FEATURES = 100_000, 200_000_000
"""So many labels are looked at; fewer where images have many features, of which so many are held."""
MOST_WEIGHTS = 20_000_000
"""Nothing is probed, and no label looked at, where a linear classifier has more: features by classes."""
PROBE_FOLDS, LABEL_FOLDS = 3, 5
MOST_SUSPECTS, MOST_PICTURES = 200, 40


class Doubts(NamedTuple):
    """Labels that look wrong, with pictures `[S, H, W, C] uint8` of the first of them."""

    event: LabelsDoubted
    pictures: np.ndarray


class Prober:
    """The probes of one process; `go_on` is asked while features are computed whether there is time left."""

    def __init__(
        self, data: Dataset, settings: TrialSettings, kept: ActivationSettings | None, notify: Callable[[str], None]
    ) -> None:
        if kept is None:
            raise ValueError("probes read cached activations, which are not kept")
        self._data, self._settings, self._kept, self._notify = data, settings, kept, notify
        self._seed = derive_seed(settings.seed, "probe")

    def probe(self, configuration: Mapping[str, Any], go_on: Callable[[], bool]) -> Probed | None:
        """Return what a probe of one backbone shows; None if there was no time for it."""
        classes = len(self._data.class_names)
        number = min(IMAGES_PER_CLASS * classes, MOST_SCORES // classes)
        part = replace(
            self._data,
            train=self._some(self._data.train, max(TRAIN_IMAGES, number), "train"),
            validation=self._some(self._data.validation, max(VALIDATION_IMAGES, number), "validation"),
        )
        found, failure = attempt(lambda: self._measured(configuration, part, go_on))
        if found is None and failure is None:
            return None
        measured, width = found or ({}, 0)
        metrics = {name: value for name, value in measured.items() if math.isfinite(value)}
        if measured and not metrics:
            failure = f"{NOT_A_NUMBER}: what a linear classifier makes of its features"
        return Probed(
            configuration=dict(configuration),
            method=METHOD,
            metrics=metrics,
            reason=failure,
            features=width,
            images=len(part.train),
            validation_images=len(part.validation),
            seconds=0.0,
        )

    def _measured(
        self, configuration: Mapping[str, Any], part: Dataset, go_on: Callable[[], bool]
    ) -> tuple[dict[str, float], int] | None:
        classes = len(part.class_names)
        if classes * len(part.validation) > MOST_SCORES:
            raise DataError(f"{classes:,} classes are too many to hold their probabilities for an image of each")
        labels, units = _labels(part), _units(part)
        own = None if units is None else units[: len(part.train)]
        folds = deal_folds(part.train.labels, own, PROBE_FOLDS, self._seed)
        found = self._features(configuration, part, go_on)
        if found is None:
            return None
        if classes * found.train.shape[1] > MOST_WEIGHTS:
            raise DataError(f"{classes:,} classes by {found.train.shape[1]:,} features are too many to hold in memory")
        try:
            probe, _ = fit(found.train, part.train.labels, classes, folds, go_on)
            probabilities = probe.probabilities(found.validation)
        except TimeSpentError:
            return None
        names = dict.fromkeys((self._settings.metric, DEFAULT_METRIC))
        return measure(names, labels[len(part.train) :], probabilities), found.train.shape[1]

    def doubt(
        self,
        configuration: Mapping[str, Any],
        features: int,
        name: Callable[[str, int], str],
        go_on: Callable[[], bool],
    ) -> Doubts | None:
        """Return the labels that look wrong by the features of one backbone; None if there was no time for it.

        Training and validation images are looked at, never those of the test split: a part of them, where all would
        take much memory. An image has so many `features`; `name` returns what it is called, by the split and the row as
        prepared.

        Raises:
            DataError: there are too few images, or too many classes.
        """
        classes, splits = len(self._data.class_names), (self._data.train, self._data.validation)
        if features * classes > MOST_WEIGHTS:
            raise DataError(f"{classes:,} classes by {features:,} features are too many to hold in memory")
        share = min(1.0, min(MOST_LABELS, MOST_FEATURES // max(1, features)) / sum(map(len, splits)))
        train, validation = (self._some(split, int(share * len(split)), "labels") for split in splits)
        part = replace(self._data, train=train, validation=validation)
        labels = _labels(part)
        folds = deal_folds(labels, _units(part), LABEL_FOLDS, self._seed)
        found = self._features(configuration, part, go_on)
        if found is None:
            return None
        try:
            looked = suspects(labels, classes, fit(found.together, labels, classes, folds, go_on)[1].parts)
        except TimeSpentError:
            return None
        event = LabelsDoubted(
            configuration=dict(configuration),
            images=looked.images,
            suspects=[self._suspect(part, looked, one, name) for one in range(len(looked.rows[:MOST_SUSPECTS]))],
            found=len(looked.rows),
            accuracy=looked.accuracy,
        )
        return Doubts(event, self._pictures(part, looked.rows[:MOST_PICTURES]))

    def _suspect(self, part: Dataset, looked: Suspects, number: int, name: Callable[[str, int], str]) -> Suspect:
        split, of, place = _place(part, int(looked.rows[number]))
        prepared, given = int(of.rows[place]), int(of.labels[place])
        return Suspect(
            split="train" if split == 0 else "validation",
            row=prepared,
            name=name("train" if of.images is part.train.images else "validation", prepared),
            label=part.class_names[given],
            label_probability=float(looked.label_probability[number]),
            likely=part.class_names[looked.likely[number]],
            likely_probability=float(looked.likely_probability[number]),
        )

    def _pictures(self, part: Dataset, rows: np.ndarray) -> np.ndarray:
        found = [_place(part, int(row)) for row in rows]
        pictures = [of.batch(np.array([place]))[0][0] for _, of, place in found]
        return thinned(np.array(pictures, np.uint8).reshape(-1, *part.image_shape))

    def _features(self, configuration: Mapping[str, Any], part: Dataset, go_on: Callable[[], bool]) -> Features | None:
        return frozen_features(configuration, part, self._kept, self._seed, go_on, self._notify)

    def _some(self, split: Split, number: int, name: str) -> Split:
        number = max(number, len(np.unique(split.labels)))
        if number >= len(split):
            return split
        return split.take(subset_stratified(split.labels, number, derive_seed(self._seed, name), "probe"))


def _labels(data: Dataset) -> np.ndarray:
    """Return the labels `[N] int64` of training and validation images."""
    return np.concatenate([data.train.labels, data.validation.labels])


def _units(data: Dataset) -> np.ndarray | None:
    """Return the units of training and validation images, equal for those of a group and for copies."""
    columns = [_column(data, name) for name in ("groups", "copies")]
    return keep_together(_labels(data), *columns)[0]


def _column(data: Dataset, name: str) -> np.ndarray | None:
    arrays = ("train", "train" if data.validation.images is data.train.images else "validation")
    found = [data.prepared.column(array, name) for array in arrays]
    parts = [
        np.full(len(split), -1, np.int64) if column is None else column[split.rows]
        for column, split in zip(found, (data.train, data.validation), strict=True)
    ]
    return None if all(column is None for column in found) else np.concatenate(parts)


def _place(data: Dataset, row: int) -> tuple[int, Split, int]:
    """Return the split of an image of both splits together, by its number, and its place there."""
    if row < len(data.train):
        return 0, data.train, row
    return 1, data.validation, row - len(data.train)
