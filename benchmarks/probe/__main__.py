"""`python -m benchmarks.probe ranking|labels`: how well probes of frozen features rank, and find wrong labels.

*ranking*: for each data set, short real trainings (some learning rates, the best one counts) of MobileNetV2 with
ImageNet weights and with random ones under several preprocessings, against what rankers say before them: Spearman's
rank correlation over all, and over those with ImageNet weights; and whether all random weights are behind all others.
The interval is of 1,000 draws of the configurations of each set, with replacement.

*labels*: 5% of the labels of a data set changed to another class by chance, then looked for by confident learning from
out-of-fold probabilities of frozen features: precision and recall.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

from tuner.common.command_line import run_command
from tuner.common.seeds import derive_seed

if TYPE_CHECKING:
    from tuner.datasets.loading import Dataset
    from tuner.training.probes.features import Features
    from tuner.training.settings import ActivationSettings

SETS = ("digits", "fashion_mnist", "hands", "flowers")
PREPROCESSING = ("resize(32)", "resize(64)", "resize(100)", "grayscale|resize(64)")
OF_RANDOM = ("resize(64)", "resize(100)")
NETWORK = {"architecture": "mobilenet_v2", "alpha": 0.35, "unfreeze_depth": 2, "batch_size": 32, "dropout": 0.2}
DRAWS = 1000


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["ranking", "labels"])
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--train", type=int, default=400, help="images")
    parser.add_argument("--validation", type=int, default=400, help="images")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rates", type=float, nargs="*", default=[0.001, 0.005], help="of learning; the best counts")
    parser.add_argument("--px", type=int, default=100, help="of the images with which labels are looked for")
    options = parser.parse_args(arguments)

    def run() -> int:
        from tuner.models.backend import configure_backend

        configure_backend(1)
        with tempfile.TemporaryDirectory() as folder:
            (rank if options.what == "ranking" else look_for_labels)(options, Path(folder))
        return 0

    return run_command(run)


def load(name: str, train: int, validation: int, folder: Path) -> Dataset:
    import os

    from tuner.datasets.loading import load_dataset
    from tuner.datasets.request import DataRequest, staged_sources

    request = DataRequest(
        name,
        image_px=None if name in ("digits", "fashion_mnist") else 100,
        validation_fraction=0.5 if name in ("digits", "hands", "flowers") else 0.1,
        max_train_images=train,
        max_validation_images=validation,
    )
    staged = staged_sources(os.environ, {})
    return load_dataset(request, staged=staged, seed=0, cache_dir=folder, notify=lambda _text: None)


def kept_in(folder: Path) -> ActivationSettings:
    from tuner.training.settings import ActivationSettings

    return ActivationSettings(folder, "float16", 20 * 2**30)


def features_of(configuration: dict[str, Any], data: Dataset, folder: Path) -> Features:
    from tuner.training.probes.features import frozen_features

    found = frozen_features(configuration, data, kept_in(folder), derive_seed(0, "model"), lambda: True)
    if found is None:
        raise ValueError(f"no frozen features of {configuration}")
    return found


# --- ranking ---


def variants(data: Dataset) -> list[dict[str, Any]]:
    """Return the configurations of a data set: grey images stay as they are."""
    texts = [text for text in PREPROCESSING if data.image_shape[2] == 3 or "grayscale" not in text]
    of_weights = {"imagenet": texts, "none": OF_RANDOM}
    return [
        {**NETWORK, "weights": weights, "preprocess": f"{text}|scale(-1,1)"}
        for weights, own in of_weights.items()
        for text in own
    ]


def trained(configuration: dict[str, Any], data: Dataset, folder: Path, options: argparse.Namespace) -> float:
    """Return the best validation accuracy of short trainings of a configuration."""
    from tuner.models.backend import release_memory
    from tuner.training.activations import Activations
    from tuner.training.settings import TrialSettings
    from tuner.training.trial import run_trial

    settings = TrialSettings(options.epochs, 2, None, 0.0, "val_accuracy", "max", 0)
    depths = {"mobilenet_v2": (0, 2)}
    best = 0.0
    for rate in options.rates:
        activations = Activations(data, replace(kept_in(folder), depths=depths), lambda _text: None)
        trial = run_trial(
            {**configuration, "learning_rate": rate, "fine_tune_learning_rate_factor": 0.3},
            data, settings=settings, report=lambda _epoch: None, activations=activations,
        )  # fmt: skip
        best = max(best, trial.best or 0.0)
        activations.release()
        release_memory()
    return best


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


def rank(options: argparse.Namespace, folder: Path) -> None:
    """Train and probe all configurations of some data sets, and print what came of it."""
    told: dict[str, list[tuple[str, float, dict[str, float]]]] = {}
    seconds = dict.fromkeys(RANKERS, 0.0)
    print("| data | weights | preprocess | trained | " + " | ".join(RANKERS) + " |")
    print("|---|---|---|---:|" + "---:|" * len(RANKERS))
    for name in options.sets:
        data = load(name, options.train, options.validation, folder)
        told[name] = []
        for configuration in variants(data):
            found, values = features_of(configuration, data, folder), {}
            for ranker, by in RANKERS.items():
                began = time.process_time()
                values[ranker] = by(found, data.train.labels, data.validation.labels, len(data.class_names))
                seconds[ranker] += time.process_time() - began
            final = trained(configuration, data, folder, options)
            told[name].append((configuration["weights"], final, values))
            cells = [name, configuration["weights"], configuration["preprocess"].replace("|", "\\|"), f"{final:.3f}"]
            print("| " + " | ".join([*cells, *(f"{values[one]:.3f}" for one in RANKERS)]) + " |", flush=True)
    number = sum(len(rows) for rows in told.values())
    print("\n| ranker | all: mean over sets (95%) | ImageNet weights alone | random weights last | processor s each |")
    print("|---|---:|---:|---:|---:|")
    for ranker in RANKERS:
        every, pretrained = [correlation(told, ranker, weights, None) for weights in (None, "imagenet")]
        low, high = interval(told, ranker)
        last = sum(is_random_last(rows, ranker) for rows in told.values())
        print(
            f"| {ranker} | {every:.2f} ({low:.2f} to {high:.2f}) | {pretrained:.2f} | {last} of {len(told)} sets "
            f"| {seconds[ranker] / number:.2f} |"
        )


Rows = Sequence[tuple[str, float, dict[str, float]]]


def correlation(told: dict[str, Any], ranker: str, weights: str | None, draw: np.random.Generator | None) -> float:
    """Return the mean over data sets of the rank correlation with what was trained."""
    found = []
    for rows in told.values():
        chosen = [row for row in rows if weights in (None, row[0])]
        if draw is not None:
            chosen = [chosen[place] for place in draw.integers(0, len(chosen), len(chosen))]
        finals, values = [row[1] for row in chosen], [row[2][ranker] for row in chosen]
        if len(set(finals)) > 1 and len(set(values)) > 1:
            found.append(float(spearmanr(finals, values).statistic))
    return float(np.mean(found))


def interval(told: dict[str, Any], ranker: str) -> tuple[float, float]:
    draw = np.random.default_rng(0)
    means = [correlation(told, ranker, None, draw) for _ in range(DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def is_random_last(rows: Rows, ranker: str) -> bool:
    own, others = ([row[2][ranker] for row in rows if (row[0] == "none") is random] for random in (True, False))
    return max(own) < min(others)


# --- labels ---


def look_for_labels(options: argparse.Namespace, folder: Path) -> None:
    """Change labels of some data sets, look for them, and print precision and recall."""
    from tuner.training.probes.linear import deal_folds, fit
    from tuner.training.probes.suspects import suspects

    print("| data | images | changed | found | right | precision | recall | precision of the first 20 | processor s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in options.sets:
        data = load(name, options.train, options.validation, folder)
        configuration = {**NETWORK, "weights": "imagenet", "preprocess": f"resize({options.px})|scale(-1,1)"}
        features = features_of(configuration, data, folder).together
        labels, classes = np.concatenate([data.train.labels, data.validation.labels]), len(data.class_names)
        draw = np.random.default_rng(0)
        changed = draw.choice(len(labels), round(0.05 * len(labels)), replace=False)
        given = labels.copy()
        given[changed] = (labels[changed] + draw.integers(1, classes, len(changed))) % classes
        began = time.process_time()
        rows = suspects(given, classes, fit(features, given, classes, deal_folds(given, None, 5, 0))[1].parts).rows
        spent, is_right = time.process_time() - began, np.isin(rows, changed)
        print(
            f"| {name} | {len(labels)} | {len(changed)} | {len(rows)} | {is_right.sum()} | {is_right.mean():.2f} "
            f"| {is_right.sum() / len(changed):.2f} | {is_right[:20].mean():.2f} | {spent:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    raise SystemExit(main())
