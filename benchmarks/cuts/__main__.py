"""`python -m benchmarks.cuts`: seconds an epoch from the images and from the cache, cut by cut, and what the rule says.

CIFAR-100 resized, MobileNetV2 of a third of the width with ImageNet weights, a few thousand images, the whole of the
network above the cut trained; both ways in turn. Needs the variables TUNER_DATA and KERAS_HOME (see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

import tuner.training.activations
from tuner.datasets.loading import Dataset, load_dataset, staged_sources
from tuner.datasets.request import DataRequest
from tuner.models.backend import configure_backend
from tuner.models.network import build_model
from tuner.training.activations import Activations, is_worth_keeping
from tuner.training.cut_points import place_below, places
from tuner.training.settings import ActivationSettings, TrialSettings
from tuner.training.trial import Trial


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuts", description=__doc__)
    parser.add_argument("--px", type=int, default=144)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=3, help="after the first, in which step functions are traced")
    parser.add_argument("--depths", type=int, nargs="*", default=[0, 1, 2, 4, 8, 12, 15, 16, 17])
    options = parser.parse_args()
    configure_backend(os.cpu_count() or 1)
    configuration = {
        "architecture": "mobilenet_v2", "alpha": 0.35, "preprocess": f"resize({options.px})|scale(-1,1)",
        "batch_size": 64, "learning_rate": 1e-3,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        request = DataRequest("cifar100", max_train_images=options.images, max_validation_images=200)
        data = load_dataset(
            request, staged=staged_sources(os.environ, {}), seed=0, cache_dir=Path(folder), notify=lambda _text: None
        )
        network = build_model(configuration, data.image_shape, 100, 0)
        known = places(network)
        rule = is_worth_keeping
        print("| depth | cut | KB an image | images, s | cache, s | ratio | rule |\n|---:|---|---:|---:|---:|---:|---|")
        for depth in options.depths:
            place = place_below(network, known, depth)
            if place is None:
                continue
            kept = rule(place, known[-1].multiplications, 32 * 32 * 3, on_gpu=False)
            tuner.training.activations.is_worth_keeping = lambda *_: (
                True
            )  # both ways are measured, whatever the rule says
            slow = epoch_seconds({**configuration, "unfreeze_depth": depth}, data, None, options.epochs)
            settings = ActivationSettings(Path(folder), "float16", 2**36)
            fast = epoch_seconds({**configuration, "unfreeze_depth": depth}, data, settings, options.epochs)
            print(
                f"| {depth} | {place.name} | {place.values * 2 / 1024:.1f} | {slow:.2f} | {fast:.2f} "
                f"| {slow / fast:.2f} | {'cache' if kept else 'images'} |",
                flush=True,
            )


def epoch_seconds(
    configuration: dict[str, object], data: Dataset, kept: ActivationSettings | None, epochs: int
) -> float:
    """The median epoch of the last phase, after one that traces."""
    head_epochs = 0 if configuration["unfreeze_depth"] else 1
    settings = TrialSettings(epochs + 1, head_epochs, None, 0.0, "val_accuracy", "max", 0)
    trial = Trial(configuration, data, settings, Activations(data, kept, print) if kept else None)
    found = [trial.advance() for _ in range(epochs + 1)]
    return median(epoch.seconds for epoch in found[1:] if epoch is not None)


if __name__ == "__main__":
    main()
