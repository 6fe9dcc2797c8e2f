"""What every leg searches: the images, the space, the first configuration, the longest training. Light at import."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.errors import DataError, InputError

Configuration = Mapping[str, Any]

SIZES: Mapping[str, int] = {"small": 64, "resized": 144}
"""Pixels to which the images of 32 px are resized, by the name of the size."""

MAX_EPOCHS = 9
PATIENCE_EPOCHS = 3
NUM_CLASSES = 100
ALPHA = 0.35

UNFREEZE_DEPTH = (0, 4)
HEAD_UNITS = (0, 128, 256)
DROPOUT = (0.0, 0.6)
LEARNING_RATE = (1e-4, 1e-2)
"""Both ends, on a logarithmic scale."""
BATCH_SIZE = (32, 64, 128)

BASELINE: Configuration = {
    "unfreeze_depth": 0,
    "head_units": 0,
    "dropout": 0.2,
    "learning_rate": 1e-3,
    "batch_size": 32,
}
"""What tuner trains first, and every peer that can be told what to try first."""

TOP_BLOCKS = ("Conv_1", "block_16_", "block_15_", "block_14_")
"""How the names of the layers of MobileNetV2 begin, block by block from the output downwards."""

PER_CLASS: Mapping[str, int] = {"train": 100, "validation": 20, "test": 2}
"""Images of each class by split. Nobody reads the test images; without any, tuner would take its own from training."""
TRAIN_IMAGES, VALIDATION_IMAGES = PER_CLASS["train"] * NUM_CLASSES, PER_CLASS["validation"] * NUM_CLASSES
WEIGHTS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"


def find_parquet(environment: Mapping[str, str]) -> Path:
    """The training images of CIFAR-100; raises InputError saying what is missing."""
    if "TUNER_DATA" not in environment:
        raise InputError("TUNER_DATA must name a folder that holds cifar100/train.parquet; it is not set")
    path = Path(environment["TUNER_DATA"]) / "cifar100" / "train.parquet"
    if not path.is_file():
        raise InputError(f"TUNER_DATA must name a folder that holds cifar100/train.parquet; {path} is not there")
    return path


def check_weights(environment: Mapping[str, str]) -> None:
    """Raise InputError unless the ImageNet weights are on disk: no leg shall spend its time on a download."""
    if "KERAS_HOME" not in environment:
        raise InputError(f"KERAS_HOME must name a folder that holds models/{WEIGHTS}; it is not set")
    path = Path(environment["KERAS_HOME"]) / "models" / WEIGHTS
    if not path.is_file():
        raise InputError(f"KERAS_HOME must name a folder that holds models/{WEIGHTS}; {path} is not there")


def choose_rows(labels: np.ndarray, per_class: Mapping[str, int], seed: int) -> dict[str, np.ndarray]:
    """Rows for each split, disjoint, as many of each class as `per_class` says, in random order.

    Raises:
        DataError: a class has too few images.
    """
    random = np.random.default_rng(seed)
    needed = sum(per_class.values())
    parts: dict[str, list[np.ndarray]] = {split: [] for split in per_class}
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        if len(rows) < needed:
            raise DataError(f"class {label} must have {needed} images; got {len(rows)}")
        for split, number in per_class.items():
            parts[split].append(rows[:number])
            rows = rows[number:]
    return {split: random.permutation(np.concatenate(found)) for split, found in parts.items()}


def prepare_images(parquet: Path, folder: Path) -> Path:
    """The archive that every leg reads: x and y of each split; written once, then found."""
    path = folder / f"cifar100_{'_'.join(f'{number}_{split}' for split, number in PER_CLASS.items())}_per_class.npz"
    if path.exists():
        return path
    import pyarrow.compute
    import pyarrow.parquet
    from PIL import Image

    table = pyarrow.parquet.read_table(parquet, columns=["image", "label"])
    labels = table.column("label").to_numpy().astype(np.int64)
    encoded = pyarrow.compute.struct_field(table.column("image"), "bytes")
    arrays: dict[str, np.ndarray] = {}
    for split, rows in choose_rows(labels, PER_CLASS, seed=0).items():
        decoded = [np.asarray(Image.open(io.BytesIO(encoded[int(row)].as_py())).convert("RGB")) for row in rows]
        arrays[f"x_{split}"], arrays[f"y_{split}"] = np.stack(decoded), labels[rows]
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f"{path.stem}.{os.getpid()}.partial.npz"
    np.savez(aside, **arrays)  # type: ignore[arg-type]  # numpy's stub reads the names as allow_pickle
    aside.replace(path)
    return path


def load_images(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `prepare_images`: images `[N, 32, 32, 3] uint8`, labels `[N] int64`."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
