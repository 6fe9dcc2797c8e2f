"""`python -m benchmarks.probe ranking|labels`: how well probes of frozen features rank, and find wrong labels.

*ranking*: for each task of the tables of real fine-tuning (benchmarks/images), what rankers say of each frozen backbone
and preprocessing, against what its trained configurations reach: see benchmarks/probe/ranking.

*labels*: 5% of the labels of a data set changed to another class by chance, then looked for by confident learning from
out-of-fold probabilities of frozen features: precision and recall.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.probe.ranking import features_of, rank
from tuner.common.command_line import run_command

if TYPE_CHECKING:
    from tuner.datasets.loading import Dataset

SETS = ("digits", "fashion_mnist", "hands", "flowers")
NETWORK = {"architecture": "mobilenet_v2", "alpha": 0.35, "unfreeze_depth": 2, "batch_size": 32, "dropout": 0.2}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.probe", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["ranking", "labels"])
    parser.add_argument("sets", nargs="*", help="data sets, or tasks of the tables (default: all)")
    parser.add_argument("--train", type=int, default=400, help="images, of labels")
    parser.add_argument("--validation", type=int, default=400, help="images, of labels")
    parser.add_argument("--px", type=int, default=100, help="of the images with which labels are looked for")
    options = parser.parse_args(arguments)

    def run() -> int:
        from tuner.models.backend import configure_backend

        configure_backend(1)
        with tempfile.TemporaryDirectory() as folder:
            if options.what == "ranking":
                rank(options.sets, Path(folder))
            else:
                look_for_labels(options, Path(folder))
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


def look_for_labels(options: argparse.Namespace, folder: Path) -> None:
    """Change labels of some data sets, look for them, and print precision and recall."""
    from tuner.training.probes.linear import deal_folds, fit
    from tuner.training.probes.suspects import suspects

    print("| data | images | changed | found | right | precision | recall | precision of the first 20 | processor s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in options.sets or SETS:
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
