"""Small data sets in real files, and a short way to load them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from tuner.datasets.loading import Dataset, load_dataset
from tuner.datasets.request import DataRequest

ARRAYS = {"x_train": np.zeros((8, 4, 4), np.uint8), "y_train": np.arange(8) % 2}
CLASSES = {"cat": 12, "dog": 18, "été🐟": 10}


def picture(value: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.full((*size, 3), value, dtype=np.uint8))


def make_folder(root: Path, classes: dict[str, int] = CLASSES, suffix: str = "png") -> Path:
    value = 0
    for name, number in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(number):
            picture((value := value + 1) % 256).save(root / name / f"image {index}.{suffix}")
    return root


def load(source: str, cache: Path, seed: int = 0, **options) -> tuple[Dataset, list[str]]:
    said: list[str] = []
    staged = options.pop("staged", {})
    request = DataRequest(source, **{"validation_fraction": 0.25, **options})
    return load_dataset(request, staged=staged, seed=seed, cache_dir=cache, notify=said.append), said


def images_of(dataset: Dataset) -> dict[str, set[bytes]]:
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.load_test()}
    return {
        name: {image.tobytes() for image in split.batch(np.arange(len(split)))[0]} for name, split in splits.items()
    }


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    picture(value).save(file, format="PNG")
    return file.getvalue()


def write_parquet(path: Path, number: int, names: tuple[str, ...] = ("a", "b"), first: int = 0, **options) -> None:
    """Images whose values are their numbers from `first` on, with labels in turn; an option replaces a column."""
    columns = {
        "image": [{"bytes": encoded(first + index), "path": f"{index}.png"} for index in range(number)],
        "label": [index % max(1, len(names)) for index in range(number)],
    }
    row_group_size = options.pop("row_group_size", 1000)
    table = pa.table({**columns, **options})
    if names:
        features = {"features": {"label": {"_type": "ClassLabel", "names": list(names)}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": features})})
    parquet.write_table(table, path, row_group_size=row_group_size)
