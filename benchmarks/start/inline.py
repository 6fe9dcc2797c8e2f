"""`python -m benchmarks.start.inline`: epochs of `--inline` beside those of a bare `fit`, in turn, in one process.

Both train the same network on the same images in as large batches, and validate it: *inline* as `train_inline` does,
*bare* by `fit` over the whole array in memory; of a frozen backbone, both from its pooled features. Seconds are medians
of rounds, after one that traces.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import platformdirs

from tuner.common.command_line import run_command
from tuner.common.process import usable_cpus

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "mobilenet_v2, 64 px, head": {
        "architecture": "mobilenet_v2",
        "alpha": 0.35,
        "unfreeze_depth": 0,
        "preprocess": "resize(64)|scale(-1,1)",
        "batch_size": 32,
    },
    "cnn, 32 px": {"architecture": "cnn", "blocks": 3, "filters": 32, "batch_size": 32},
    "mobilenet_v2, 64 px, 4 blocks trained": {
        "architecture": "mobilenet_v2",
        "alpha": 0.35,
        "unfreeze_depth": 4,
        "preprocess": "resize(64)|scale(-1,1)",
        "batch_size": 32,
    },
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start.inline", description=__doc__)
    parser.add_argument("--images", type=int, default=4000, help="training images (default: 4000)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    return run_command(lambda: measure(options))


def measure(options: argparse.Namespace) -> int:
    """Print a row for each network."""
    from benchmarks.race.workload import find_parquet, prepare_images
    from tuner.datasets.request import DataRequest
    from tuner.execution.worker_process import WorkerContext
    from tuner.training.settings import ActivationSettings, TrialSettings

    cache = Path(platformdirs.user_cache_dir("tuner-race"))
    source = f"npz:{prepare_images(find_parquet(os.environ), cache)}"
    request = DataRequest(source, max_train_images=options.images, max_validation_images=options.images // 5)
    settings = TrialSettings(options.rounds + 1, 0, None, 0.0, "val_accuracy", "max", 0)
    kept = ActivationSettings(cache, "float16", 2**34)
    print(f"{options.images} images, {usable_cpus()} CPUs\n")
    print(
        "| network | inline, s | bare, s | inline, CPUs | bare, CPUs | inline / bare |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, configuration in NETWORKS.items():
        is_frozen = configuration.get("unfreeze_depth") == 0
        context = WorkerContext(request, {}, cache, settings, kept if is_frozen else None, usable_cpus())
        trial = context.trials().begin(configuration, 0)
        bare = bare_fit(trial, configuration)
        rounds = [(timed(trial.advance), timed(bare)) for _ in range(options.rounds + 1)][1:]
        ours, theirs = ([one[at] for one in rounds] for at in (0, 1))
        seconds = [median(wall for wall, _ in way) for way in (ours, theirs)]
        cpus = [median(cpu / wall for wall, cpu in way) for way in (ours, theirs)]
        ratio = median(our[0] / their[0] for our, their in rounds)
        print(f"| {name} | {seconds[0]:.2f} | {seconds[1]:.2f} | {cpus[0]:.2f} | {cpus[1]:.2f} | {ratio:.2f} |")
    return 0


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds, and the processor seconds, that it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def bare_fit(trial: Any, configuration: Mapping[str, Any]) -> Callable[[], object]:
    """Return an epoch of a network like a trial's own, over arrays in memory."""
    import keras

    from tuner.models.network import build_model, freeze
    from tuner.training.cut_points import above, places

    data = trial.data
    built = build_model(configuration, data.image_shape, len(data.class_names), 0)
    freeze(built, int(configuration.get("unfreeze_depth", 0)))
    one_hot = np.eye(len(data.class_names), dtype=np.float32)
    (images, labels), validation = (part.batch(np.arange(len(part))) for part in (data.train, data.validation))
    network, inputs = built.model, [images, validation[0]]
    if trial.cut is not None:
        network = above(built, places(built)[-1], lambda layer: layer)
        features = keras.Model(built.model.inputs, built.pooled)
        inputs = [features.predict(array, batch_size=256, verbose=0) for array in inputs]
    network.compile(
        optimizer=keras.optimizers.Adam(),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=32,
        jit_compile=False,
    )
    return lambda: network.fit(
        inputs[0],
        one_hot[labels],
        batch_size=trial.batch_size_used,
        validation_data=(inputs[1], one_hot[validation[1]]),
        validation_batch_size=256,
        verbose=0,
    )


if __name__ == "__main__":
    raise SystemExit(main())
