"""Description of the environment of a search: versions, machine, commit. Part of the record and of every report."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("tuner", "ray", "tensorflow", "keras", "optuna", "numpy", "pandas", "pyarrow")


def describe_environment() -> dict[str, Any]:
    """Return the versions that matter, processor, memory, Python, and the commit of the code if it is in git."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the code that runs; None outside a checkout or without git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        # S603 asks whether words of others can get into a command: these are fixed, but for where this package lies.
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603  fixed
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None
