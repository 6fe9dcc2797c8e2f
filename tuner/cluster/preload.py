"""Preloading of a trial's libraries in Ray's worker processes, which import this while the driver looks at the data."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

for _name in ("keras", "ray.tune"):  # their imports take seconds
    importlib.import_module(_name)

READY = "TUNER_READY"
"""Names the folder in which each process leaves a file when it has everything."""

if os.environ.get(READY):
    Path(os.environ[READY], str(os.getpid())).touch()
