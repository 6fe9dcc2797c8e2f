"""What some tests need and cannot bring along. Only here is a test skipped, and the reason tells how to have it run.

All that Python's package registry has is in the lock, and its tests run everywhere. What is left belongs to the machine
(its system, root's rights, programs that it alone can install) or is too large for a repository (images, weights).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from filelock import FileLock

from tests.support import ROOT
from tuner.datasets.loading import staged_sources

KUBERAY = "TUNER_KUBERAY"
LCBENCH = "TUNER_LCBENCH"
MLFLOW = "TUNER_MLFLOW"


def _lacking(what: str) -> NoReturn:
    pytest.skip(what)  # what is lacking belongs to the machine, and no file of the project can install it (see above)


def linux() -> None:
    """Names of files that are not text: other systems refuse to make them, so that there is nothing to be tested."""
    if sys.platform != "linux":
        _lacking("file names that are not text can be made on Linux only")


def program(name: str, *others: str) -> str:
    """The path of a program that the system's packages bring and Python's do not, by any of its names."""
    found = next((path for each in (name, *others) if (path := shutil.which(each))), None)
    if found is None:
        _lacking(f"{name} is not installed (Debian: apt-get install {name})")
    return found


def without_roots_rights() -> list[str]:
    """What to put before a command so that root, too, is refused what a file's rights refuse."""
    if os.geteuid() != 0:
        return []
    command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*command, "true"], check=False).returncode:
        # a container may forbid it, and then no folder is closed to these tests
        _lacking("root may read and write everything, and setpriv cannot take that right away here")
    return command


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A disk of its own in `folder`, of that size: how a full one behaves cannot be had without making one."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        _lacking("mounting a small disk needs root, outside containers that forbid it")
    yield
    subprocess.run(["umount", str(folder)], check=True)


def staged_images(name: str) -> dict[str, str]:
    """Staged copies by name, with that of `name` (CIFAR-100 is 127 MB, and comes from a host of its own)."""
    staged = staged_sources(os.environ, {})
    if name not in staged:
        _lacking(f"TUNER_DATA must name a folder with the images of {name}")
    return staged


def keras_home(*needed: str) -> Path:
    """Keras's folder, with these of its files (weights trained on ImageNet, data sets): Keras would download them."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    missing = [name for name in needed if not (home / name).exists()]
    if missing:
        _lacking(f"KERAS_HOME must name a folder with {', '.join(missing)}")
    return home


def folder_named_by(variable: str, holding: str) -> Path:
    """The folder with another project's files, which are megabytes."""
    if variable not in os.environ:
        _lacking(f"{variable} must name a folder with {holding}")
    return Path(os.environ[variable])


def mlflow() -> Path:
    """The program of all of MLflow, from the environment that TUNER_MLFLOW names, or from one that is made here once.

    Its libraries do not go with ours: that one is kept in pytest's folder of the checkout.
    """
    folder = Path(os.environ.get(MLFLOW) or ROOT / ".pytest_cache" / "mlflow")
    if MLFLOW not in os.environ:
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.parent / "mlflow.lock"):  # tests run two at a time
            _make_mlflow(folder)
    program = folder / "bin" / "mlflow"
    if not program.exists():
        _lacking(f"{MLFLOW} must name an environment with MLflow; there is no {program}")
    return program


def _make_mlflow(folder: Path) -> None:
    made = folder / "made"
    if made.exists():
        return
    # Python compiles what a server imports, a part of all that is installed.
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile", "mlflow"]
    for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            _lacking(f"all of MLflow cannot be installed here ({said}); {MLFLOW} may name an environment that has it")
    made.touch()


def at_hand(reason: str | None) -> None:
    """That there is no reason why something cannot be had here: an environment of a peer's own, hosts of a lab."""
    if reason is not None:
        _lacking(reason)
