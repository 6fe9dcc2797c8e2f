"""The state of a trial on disk: plain arrays and JSON in one file, never a pickle.

A checkpoint holds what makes the next epoch the same as if there had been no stop: every variable that is not frozen
(with the states of random layers), the optimizer's variables, the best weights so far, and the counters.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.arrays import DAMAGED_ARCHIVE
from tuner.common.errors import RunError
from tuner.common.files import replacing

VERSION = 1
FILE_NAME = "checkpoint.npz"


@dataclass(frozen=True)
class Checkpoint:
    """`counters` are JSON values; each group of `arrays` is a list in the order of the model's variables."""

    counters: Mapping[str, Any]
    arrays: Mapping[str, Sequence[np.ndarray]]


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into `directory`: one file, written aside and then renamed, so it is whole or not there."""
    write_checkpoint(directory / FILE_NAME, checkpoint)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as a file of this name."""
    sizes = {group: len(arrays) for group, arrays in checkpoint.arrays.items()}
    header = json.dumps({"version": VERSION, "groups": sizes, "counters": dict(checkpoint.counters)}).encode()
    flat: dict[str, Any] = {
        f"{group}.{index}": array for group, arrays in checkpoint.arrays.items() for index, array in enumerate(arrays)
    }
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, header=np.frombuffer(header, dtype=np.uint8), **flat)


def load_checkpoint(directory: Path) -> Checkpoint:
    """Return the checkpoint in `directory`; raises RunError when it is missing, damaged or of another version."""
    return read_checkpoint(directory / FILE_NAME)


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in a file; raises RunError as `load_checkpoint` does."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            header = json.loads(stored["header"].tobytes())
            if header["version"] == VERSION:
                arrays = {
                    group: [stored[f"{group}.{index}"] for index in range(size)]
                    for group, size in header["groups"].items()
                }
                return Checkpoint(header["counters"], arrays)
    except FileNotFoundError:
        raise RunError(f"{path}: no checkpoint there") from None
    except DAMAGED_ARCHIVE as error:
        raise RunError(f"{path}: the checkpoint cannot be read: {error}") from None
    raise RunError(f"{path}: checkpoint version must be {VERSION}; got {header['version']!r}")


def earlier_checkpoints(directory: Path) -> list[Path]:
    """Return the older checkpoints of the same trial beside the one in `directory`, the newest first.

    Ray numbers them: they lie beside each other, and their names are in the order of their age.
    """
    prefix = directory.name.rstrip("0123456789")
    beside = directory.parent.glob(f"{prefix}*/{FILE_NAME}") if prefix != directory.name else []
    return sorted((file.parent for file in beside if file.parent.name < directory.name), reverse=True)
