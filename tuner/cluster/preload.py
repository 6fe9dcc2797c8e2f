"""Preloading of a trial's libraries in Ray's worker processes, which import this while the driver looks at the data."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from tuner.common.errors import last_line
from tuner.common.process import set_surroundings

READY = "TUNER_READY"
"""Names the folder in which each process leaves a file when it has everything, or with the reason why it cannot."""


def _load() -> None:
    set_surroundings()
    mark = Path(os.environ.get(READY) or os.devnull, str(os.getpid()))
    try:
        for name in ("keras", "ray.tune"):  # their imports take seconds
            importlib.import_module(name)
    except Exception as error:  # two libraries, each with errors of its own; told to the driver, and raised again
        if os.environ.get(READY):
            mark.with_suffix(".aside").write_text(f"{type(error).__name__}: {last_line(error)}")
            mark.with_suffix(".aside").rename(mark.with_suffix(".failed"))
        raise
    if os.environ.get(READY):
        mark.with_suffix(".loaded").touch()


_load()
