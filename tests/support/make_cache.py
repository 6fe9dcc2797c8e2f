"""Small caches with real entries, for the tests of `python -m tuner.cache`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.training.test_activation_store import build, key_of
from tuner.api._data import encoded, source_of
from tuner.api.study import Study
from tuner.cache import main
from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest
from tuner.training.activation_store import Store
from tuner.training.cache_contents import list_items


def fill(cache: Path, *names: str) -> list[Path]:
    """Whole entries that no process uses; their folders."""
    store = Store(cache)
    for name in names:
        build(store, key_of(name))
    store.release()
    return [store.folder(key_of(name)) for name in names]


def prepare_digits(cache: Path) -> Path:
    load_dataset(DataRequest("digits"), staged={}, seed=0, cache_dir=cache, notify=lambda _text: None)
    return next(path for path in (cache / "datasets").iterdir() if path.is_dir())


def bring(cache: Path, form: str) -> Path:
    """The file of what a program gives to a study: arrays, a table, or a space as a dictionary."""
    images = np.random.default_rng(0).integers(0, 255, (12, 9, 8, 3), np.uint8)
    if form == "arrays":
        source_of(((images[:8], [0, 1] * 4), (images[8:], [0, 1] * 2)), cache)
    elif form == "table":
        contents = [encoded(Image.fromarray(image)) for image in images]
        source_of(pd.DataFrame({"image": contents, "label": ["a", "b"] * 6}), cache)
    else:
        Study({"study": "small"}, cache=str(cache))
    (path,) = (cache / "brought").iterdir()
    return path


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def run(capsys: pytest.CaptureFixture[str], cache: Path, *arguments: str) -> tuple[int, str]:
    """The exit status and what was printed."""
    status = main([*arguments, "--cache", str(cache)])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def statuses(cache: Path) -> list[str]:
    return sorted(item.status for item in list_items(cache))
