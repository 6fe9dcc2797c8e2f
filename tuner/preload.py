"""Imported by Ray's worker processes as they begin: what a trial needs is loaded while the driver looks at the data."""

from __future__ import annotations

import os
from pathlib import Path

import keras  # noqa: F401  for the seconds that its import takes
from ray import tune  # noqa: F401  the same

READY = "TUNER_READY"
"""Names the folder in which each process leaves a file when it has everything."""

if os.environ.get(READY):
    Path(os.environ[READY], str(os.getpid())).touch()
