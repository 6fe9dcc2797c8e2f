"""Archives of which a few bits have flipped, for everyone who reads one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tuner.common.errors import DataError, RunError
from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest
from tuner.runs.predictions import load_predictions, load_variants
from tuner.training.checkpoint import FILE_NAME, load_checkpoint

FLAGS_AT, METHOD_AT = 8, 10
"""In the entry of a member in the directory of a zip file (APPNOTE 4.3.12)."""


@pytest.fixture(params=[(FLAGS_AT, 0x01), (METHOD_AT, 0x63)], ids=["encrypted", "packed in an unknown way"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An archive whose every member is said to be so."""
    path, (place, value) = tmp_path / FILE_NAME, request.param
    np.savez(path, header=np.zeros(3, np.uint8), x_train=np.zeros((4, 2, 2)), y_train=np.zeros(4, int), of=np.zeros(2))
    content = bytearray(path.read_bytes())
    entry = content.find(b"PK\x01\x02")
    while entry >= 0:
        content[entry + place] = value
        entry = content.find(b"PK\x01\x02", entry + 4)
    path.write_bytes(content)
    return path


def test_such_an_archive_is_refused_in_one_line_or_counts_as_none(damaged: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the checkpoint cannot be read"):
        load_checkpoint(damaged.parent)
    request = DataRequest(f"npz:{damaged}")
    with pytest.raises(DataError, match="cannot be read as a numpy archive"):
        load_dataset(request, staged={}, seed=0, cache_dir=tmp_path / "cache", notify=print)
    assert load_predictions(damaged) is None and load_variants(damaged) == ()
