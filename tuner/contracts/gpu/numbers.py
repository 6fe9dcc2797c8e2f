"""The numbers of a small trial, here or in a process without a GPU: `python -m tuner.contracts.gpu.numbers`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tuner.common.errors import RunError, last_line
from tuner.datasets.loading import Dataset, Split
from tuner.training.settings import TrialSettings

Epochs = list[dict[str, float]]
SETTINGS = TrialSettings(
    max_epochs=3, head_epochs=0, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=1
)
_LONGEST_S = 300
_SMALL = {  # no dropout: with XLA, and on another device, other numbers would be drawn
    "architecture": "cnn", "preprocess": "scale(0,1)", "augment": "none", "dropout": 0.0, "batch_size": 64,
    "learning_rate": 0.002,
}  # fmt: skip


def digits(px: int, train_images: int, validation_images: int, threads: int = 1) -> Dataset:
    """Return scikit-learn's digits in colour, as often as it takes for so many images; `px` is a multiple of 8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    number = train_images + validation_images
    rows = np.random.default_rng(0).permutation(len(found.target))[np.arange(number) % len(found.target)]
    plain = np.clip(found.images[rows] * 16, 0, 255).astype(np.uint8)[..., None]
    large = np.repeat(np.repeat(plain, px // 8, axis=1), px // 8, axis=2)
    whole = Split(np.repeat(large, 3, axis=3), np.arange(number), found.target[rows].astype(np.int64))
    parts = whole.take(np.arange(train_images)), whole.take(np.arange(train_images, number))
    nothing: Any = None  # no copy of them is on the disk
    names = tuple("0123456789")
    return Dataset(
        "selftest", "digits", "", names, (px, px, 3), *parts, nothing, lambda _fold: parts, None, "", threads
    )


def trained(images: int) -> Epochs:
    """Return what each epoch of the small trial shows, by name."""
    from tuner.training.trial import Trial

    trial = Trial(_SMALL, digits(16, images, max(64, images // 4)), replace(SETTINGS))
    found = []
    while trial.ended is None:
        if (epoch := trial.advance()) is not None:
            found.append(dict(epoch.metrics))
    if not found:
        raise RunError(f"the small trial failed: {trial.ended.reason}")
    return found


def trained_without_gpu(images: int) -> Epochs:
    """Return the same of a process that sees no GPU and computes in float32; raises RunError where it fails."""
    command = [sys.executable, "-m", "tuner.contracts.gpu.numbers", str(images)]
    hidden = {"CUDA_VISIBLE_DEVICES": "-1", "TUNER_PRECISION": "float32", "TUNER_XLA": "off"}
    try:
        ended = subprocess.run(  # noqa: S603  Python itself, a module of ours and a number
            command, env=os.environ | hidden, capture_output=True, text=True, check=False, timeout=_LONGEST_S
        )
    except subprocess.TimeoutExpired as error:
        raise RunError(f"the same trial had not ended on the CPU after {_LONGEST_S} s") from error
    if ended.returncode:
        raise RunError(f"the same trial failed on the CPU: {last_line(RuntimeError(ended.stderr))}")
    found: Epochs = json.loads(ended.stdout.splitlines()[-1])
    return found


def apart(one: Epochs, other: Epochs, tolerances: Mapping[str, float]) -> list[str]:
    """Return which numbers of the epochs lie further apart than tolerated: losses in shares, others as they are."""
    problems = [] if len(one) == len(other) else [f"{len(one)} epochs in place of {len(other)}"]
    for number, (first, second) in enumerate(zip(one, other, strict=False), 1):
        for name, tolerance in tolerances.items():
            scale = max(abs(second[name]), 1e-3) if name.endswith("loss") else 1.0
            if not abs(first[name] - second[name]) <= tolerance * scale:
                problems.append(f"epoch {number}: {name} is {first[name]:.4f}, and {second[name]:.4f} on the CPU")
    return problems


def main(arguments: Sequence[str]) -> int:
    """Train, and write what was seen as one line of JSON."""
    from tuner.models.backend import configure_backend

    configure_backend()
    sys.stdout.write("\n" + json.dumps(trained(int(arguments[0]))) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
