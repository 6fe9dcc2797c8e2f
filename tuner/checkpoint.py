"""The state of a trial on disk: plain arrays and JSON, never a pickle.

A checkpoint holds what makes the next epoch the same as if there had been no stop: every variable that is not frozen
(with the states of random layers), the optimizer's variables, the best weights so far, and the counters.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import RunError

VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """`counters` are JSON values; each group of `arrays` is a list in the order of the model's variables."""

    counters: Mapping[str, Any]
    arrays: Mapping[str, Sequence[np.ndarray]]


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint into `directory`, each file aside and then renamed, the JSON last: without it there is none."""
    directory.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{group}.{index}": array for group, arrays in checkpoint.arrays.items() for index, array in enumerate(arrays)
    }
    aside = directory / "arrays.npz.partial"
    with aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **flat)  # type: ignore[arg-type]  # the stub takes **kwds for arrays only
    aside.replace(directory / "arrays.npz")
    sizes = {group: len(arrays) for group, arrays in checkpoint.arrays.items()}
    text = json.dumps({"version": VERSION, "groups": sizes, "counters": dict(checkpoint.counters)}, indent=1)
    aside = directory / "state.json.partial"
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, directory / "state.json")


def load_checkpoint(directory: Path) -> Checkpoint:
    """The checkpoint in `directory`.

    Raises:
        RunError: there is none, it is damaged, or another version wrote it.
    """
    try:
        state = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        with np.load(directory / "arrays.npz", allow_pickle=False) as stored:
            arrays = {
                group: [stored[f"{group}.{index}"] for index in range(size)] for group, size in state["groups"].items()
            }
    except FileNotFoundError as error:
        raise RunError(f"{directory}: no checkpoint there ({Path(error.filename).name} is missing)") from None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise RunError(f"{directory}: the checkpoint cannot be read: {error}") from None
    if state.get("version") != VERSION:
        raise RunError(f"{directory}: checkpoint version must be {VERSION}; got {state.get('version')}")
    return Checkpoint(state["counters"], arrays)
