"""Folders of small images, and data sets loaded from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tuner.datasets.loading import Dataset, load_dataset
from tuner.datasets.request import DataRequest


def picture(value: int) -> Image.Image:
    return Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8))


def make_folder(root: Path, classes: dict[str, int]) -> Path:
    """Images of one colour each; the colour says to which class it belongs: 100 x class + number."""
    for label, (name, number) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for index in range(number):
            picture(100 * label + index % 100).save(root / name / f"image {index}.png")
    return root


def load(source: str, cache: Path, **options) -> tuple[Dataset, list[str]]:
    said: list[str] = []
    request = DataRequest(source, **{"validation_fraction": 0.25, **options})
    return load_dataset(request, staged={}, seed=0, cache_dir=cache, notify=said.append), said
