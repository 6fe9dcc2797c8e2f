"""How rankers of frozen features order what is trained: over the tables of real fine-tuning (benchmarks/images).

For each task, the features of each backbone and preprocessing of its space, as the product computes them, are ranked
before anything is trained, and compared with what its configurations reach in the table: the best of five of them, in
expectation, after 20 epochs (equal numbers, since a backbone of many configurations would have the better best one).
Spearman's rank correlation over all, and over those with trained weights; whether all random weights are behind all
others. The interval is of 1,000 draws of tasks, and of the configurations of each, with replacement.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.images.measuring import PLUGINS, write_images
from benchmarks.images.prior import IS_PRETRAINED
from benchmarks.images.tables import TaskTable, read_tables
from benchmarks.images.tasks import TASKS
from tuner.common.seeds import derive_seed

if TYPE_CHECKING:
    from tuner.datasets.loading import Dataset
    from tuner.training.probes.features import Features

DRAWS, BEST_OF = 1000, 5


@dataclass(frozen=True)
class Variant:
    """One frozen backbone with its preprocessing."""

    configuration: Mapping[str, Any]
    reached: np.ndarray
    """float [n]: the best accuracy of each configuration that has it."""
    ranked: Mapping[str, float]
    """What each ranker says."""

    @property
    def is_random(self) -> bool:
        """Whether its weights are."""
        return not IS_PRETRAINED.get(str(self.configuration["architecture"]), False)


def expected_best(values: np.ndarray, number: int = BEST_OF) -> float:
    """Return the mean of the best of `number` values, over all their draws with replacement.

    >>> float(expected_best(np.array([0.0, 1.0]), 2))
    0.75
    """
    shares = (np.arange(len(values) + 1) / len(values)) ** number
    return float(np.sort(values) @ np.diff(shares))


Ranker = Callable[["Features", np.ndarray, np.ndarray, int], float]


def by_ridge(found: Features, train: np.ndarray, validation: np.ndarray, classes: int) -> float:
    from tuner.training.probes.linear import deal_folds, fit

    probe, _ = fit(found.train, train, classes, deal_folds(train, None, 3, 0))
    return float((probe.probabilities(found.validation).argmax(axis=1) == validation).mean())


def by_ridge_loss(found: Features, train: np.ndarray, validation: np.ndarray, classes: int) -> float:
    from tuner.training.probes.linear import deal_folds, fit

    probe, _ = fit(found.train, train, classes, deal_folds(train, None, 3, 0))
    own = probe.probabilities(found.validation)[np.arange(len(validation)), validation]
    return float(np.log(np.maximum(own, 1e-7)).mean())


def by_softmax(found: Features, train: np.ndarray, validation: np.ndarray, classes: int) -> float:
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a few steps are not to the end is meant
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=20))
        model.fit(found.train.astype(np.float32), train)
    return float(model.score(found.validation.astype(np.float32), validation))


def by_class_mean(found: Features, train: np.ndarray, validation: np.ndarray, classes: int) -> float:
    from sklearn.neighbors import NearestCentroid
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), NearestCentroid())
    model.fit(found.train.astype(np.float32), train)
    return float(model.score(found.validation.astype(np.float32), validation))


def by_logme(found: Features, train: np.ndarray, validation: np.ndarray, classes: int) -> float:
    """Return the evidence of You, Liu, Wang & Long 2021 (LogME, algorithm 1), of the training images alone."""
    x = found.train.astype(np.float64)
    number, width = x.shape
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    evidences = []
    for label in range(classes):
        y = (train == label).astype(np.float64)
        z = u.T @ y
        rest = float(y @ y - z @ z)
        alpha, beta = 1.0, 1.0
        for _ in range(20):
            shrunk = beta * s**2 / (alpha + beta * s**2)
            m2 = float(((beta * s / (alpha + beta * s**2) * z) ** 2).sum())
            residual = float(((1 - shrunk) ** 2 * z**2).sum()) + rest
            alpha, beta = shrunk.sum() / max(m2, 1e-12), (number - shrunk.sum()) / max(residual, 1e-12)
        logs = np.log(alpha + beta * s**2).sum() + (width - len(s)) * np.log(alpha)
        evidence = width * np.log(alpha) + number * np.log(beta) - beta * residual - alpha * m2 - logs
        evidences.append(0.5 * (evidence - number * np.log(2 * np.pi)) / number)
    return float(np.mean(evidences))


RANKERS: dict[str, Ranker] = {
    "ridge, accuracy": by_ridge,
    "ridge, cross-entropy": by_ridge_loss,
    "softmax of 20 steps": by_softmax,
    "nearest class mean": by_class_mean,
    "LogME": by_logme,
}


def rank(names: Sequence[str], folder: Path) -> None:
    """Rank the features of tasks, those of `names` or all that are measured, and print what came of it."""
    from tuner.models.own_networks import load_own_code

    load_own_code([str(path) for path in PLUGINS])
    found: dict[str, list[Variant]] = {}
    seconds = dict.fromkeys(RANKERS, 0.0)
    print("| task | backbone | preprocess | best of 5 | " + " | ".join(RANKERS) + " |")
    print("|---|---|---|---:|" + "---:|" * len(RANKERS))
    for name, table in read_tables().items():
        if not names or name in names:
            found[name] = _variants(table, folder, seconds)
    number = sum(len(variants) for variants in found.values())
    print("\n| ranker | all (95%) | trained weights (95%) | random weights last | processor s each |")
    print("|---|---:|---:|---:|---:|")
    for ranker in RANKERS:
        cells = [_correlation_cell(found, ranker, trained_only=only) for only in (False, True)]
        last = sum(is_random_last(variants, ranker) for variants in found.values())
        print(f"| {ranker} | {' | '.join(cells)} | {last} of {len(found)} | {seconds[ranker] / number:.2f} |")


def _variants(table: TaskTable, folder: Path, seconds: dict[str, float]) -> list[Variant]:
    data, rows = _images(table, folder), []
    for probe in table.facts["probes"]:
        configuration = probe["configuration"]
        reached = reached_by(table, configuration)
        if not len(reached):
            continue
        features, values = features_of(configuration, data, folder), {}
        for ranker, by in RANKERS.items():
            began = time.process_time()
            values[ranker] = by(features, data.train.labels, data.validation.labels, len(data.class_names))
            seconds[ranker] += time.process_time() - began
        rows.append(Variant(configuration, reached, values))
        cells = [table.name, configuration["architecture"], configuration["preprocess"].replace("|", "\\|")]
        numbers = [expected_best(reached), *values.values()]
        print("| " + " | ".join([*cells, *(f"{value:.3f}" for value in numbers)]) + " |", flush=True)
    return rows


def reached_by(table: TaskTable, configuration: Mapping[str, Any]) -> np.ndarray:
    """Return the best accuracy of each row of a table with this backbone and preprocessing, float [n]."""
    keys = ("architecture", "preprocess")
    own = [all(one.get(key) == configuration[key] for key in keys) for one in table.configurations]
    best = table.accuracy[np.array(own, bool)].max(axis=1)
    return np.asarray(best[np.isfinite(best)], float)


def _images(table: TaskTable, folder: Path) -> Dataset:
    from tuner.datasets.loading import load_dataset
    from tuner.datasets.request import DataRequest, staged_sources

    path, task = folder / f"{table.name}.npz", TASKS[table.name]
    write_images(task, path, folder / "base", lambda _text: None)
    staged = staged_sources(os.environ, {table.name: f"npz:{path}"})
    request = DataRequest(table.name, image_px=task.px)
    return load_dataset(request, staged=staged, seed=0, cache_dir=folder / "prepared", notify=lambda _text: None)


def features_of(configuration: Mapping[str, Any], data: Dataset, folder: Path) -> Features:
    """Return the frozen features of all images, as the product computes them."""
    from tuner.training.probes.features import frozen_features
    from tuner.training.settings import ActivationSettings

    kept = ActivationSettings(folder / "activations", "float16", 20 * 2**30)
    found = frozen_features(configuration, data, kept, derive_seed(0, "model"), lambda: True)
    if found is None:
        raise ValueError(f"no frozen features of {configuration}")
    return found


def correlation(
    found: Mapping[str, Sequence[Variant]], ranker: str, *, trained_only: bool, draw: np.random.Generator | None = None
) -> float:
    """Return the mean over tasks of the rank correlation with what is trained; NaN where no task has one."""
    every = [[one for one in variants if not (trained_only and one.is_random)] for variants in found.values()]
    if draw is not None:
        every = [every[place] for place in draw.integers(0, len(every), len(every))]
    each = []
    for variants in every:
        reached = [one.reached if draw is None else draw.choice(one.reached, len(one.reached)) for one in variants]
        finals, values = [expected_best(one) for one in reached], [one.ranked[ranker] for one in variants]
        if len(set(finals)) > 1 and len(set(values)) > 1:
            each.append(float(spearmanr(finals, values).statistic))
    return float(np.mean(each)) if each else math.nan


def _correlation_cell(found: Mapping[str, Sequence[Variant]], ranker: str, *, trained_only: bool) -> str:
    draw = np.random.default_rng(0)
    means = [correlation(found, ranker, trained_only=trained_only, draw=draw) for _ in range(DRAWS)]
    low, high = np.nanquantile(means, [0.025, 0.975])
    return f"{correlation(found, ranker, trained_only=trained_only):.2f} ({low:.2f} to {high:.2f})"


def is_random_last(variants: Sequence[Variant], ranker: str) -> bool:
    """Return whether a ranker puts all backbones with random weights behind all others."""
    own, others = ([one.ranked[ranker] for one in variants if one.is_random is random] for random in (True, False))
    return not own or not others or max(own) < min(others)
