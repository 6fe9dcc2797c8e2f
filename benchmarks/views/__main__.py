"""`python -m benchmarks.views`: one configuration, augmented, trained from the images and from 1, 2, 4, 8 cached views.

CIFAR-100, 10,000 training and 2,000 validation images at 64 px, MobileNetV2 of a third of the width with ImageNet
weights; the same seeds for every way. Needs the variables TUNER_DATA and KERAS_HOME (see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean

from tuner.datasets.loading import Dataset, load_dataset, staged_sources
from tuner.datasets.request import DataRequest
from tuner.models.backend import configure_backend
from tuner.training.activations import Activations
from tuner.training.settings import ActivationSettings, TrialSettings
from tuner.training.trial import run_trial

CONFIGURATION = {
    "architecture": "mobilenet_v2", "alpha": 0.35, "preprocess": "resize(64)|scale(-1,1)", "unfreeze_depth": 1,
    "head_units": 128, "dropout": 0.2, "batch_size": 64, "learning_rate": 2e-3,
}  # fmt: skip
SETTINGS = TrialSettings(9, 2, None, 0.0, "val_accuracy", "max", 0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--views", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--augment", default="flip|shift(4)")
    options = parser.parse_args()
    configure_backend(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        request = DataRequest("cifar100", max_train_images=10_000, max_validation_images=2_000)
        data = load_dataset(
            request, staged=staged_sources(os.environ, {}), seed=0, cache_dir=cache, notify=lambda _text: None
        )
        print("| way | val_accuracy, mean over seeds | each seed | last val_loss | seconds a trial |")
        print("|---|---:|---|---:|---:|")
        measure("no augmentation, cached", "none", data, ActivationSettings(cache, "float16", 2**34), options.seeds)
        for views in options.views:
            kept = ActivationSettings(cache, "float16", 2**34, views=views)
            measure(f"{views} cached views", options.augment, data, kept, options.seeds)
        measure("augmented in every epoch, from the images", options.augment, data, None, options.seeds)


def measure(way: str, augment: str, data: Dataset, kept: ActivationSettings | None, seeds: int) -> None:
    """Train with every seed and print a row."""
    best, losses, seconds = [], [], []
    for seed in range(seeds):
        started = time.perf_counter()
        activations = Activations(data, kept, print) if kept else None
        epochs = []
        trial = run_trial(
            {**CONFIGURATION, "augment": augment},
            data,
            settings=replace(SETTINGS, seed=seed),
            report=epochs.append,
            activations=activations,
        )
        best.append(trial.best or 0.0)
        losses.append(epochs[-1].metrics["val_loss"])
        seconds.append(time.perf_counter() - started)
    each = ", ".join(f"{value:.4f}" for value in best)
    print(f"| {way} | {mean(best):.4f} | {each} | {mean(losses):.3f} | {mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()
