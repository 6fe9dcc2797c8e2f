"""A look at this machine: its processors, its GPUs, the weights that lie on it, and whether others can be fetched."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Callable

from tuner.cluster.ray_session import gpus_here
from tuner.common.files import shown
from tuner.common.process import keras_home, usable_cpus
from tuner.proposals._facts import Machine
from tuner.proposals._pretrained import HOST

_ASKED = f"https://{HOST}/tensorflow/keras-applications/mobilenet_v2/"
_ASKED_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
_PATIENCE_S = 4.0


class Reach:
    """The question whether weights can be fetched, asked beside other work; names may take long to be looked up."""

    def __init__(self, ask: Callable[[], bool] | None = None) -> None:
        self._ask, self._is_reached = ask or _can_fetch, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._is_reached = self._ask()

    def answer(self) -> bool:
        """Return whether they can be fetched; no answer in some seconds is no."""
        self._thread.join(_PATIENCE_S)
        return self._is_reached


def _can_fetch() -> bool:
    """Return whether the file of the smallest weights is offered to this machine; none of it is read."""
    request = urllib.request.Request(_ASKED + _ASKED_FILE, method="HEAD")  # noqa: S310  the address is a constant
    try:
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310  the same
            return bool(answer.status == 200)
    except (OSError, ValueError):  # no network, no such name, a proxy that refuses
        return False


def look_at_machine(reach: Reach) -> Machine:
    """Return the facts of this machine."""
    folder = keras_home() / "models"
    gpus = gpus_here()
    files: frozenset[str] = frozenset()
    with contextlib.suppress(OSError):
        files = frozenset(path.name for path in folder.iterdir() if path.suffix == ".h5" and path.is_file())
    return Machine(usable_cpus(), gpus, _gpu_gb() if gpus else None, files, shown(folder), reach.answer())


def _gpu_gb() -> float | None:
    """Return the memory of the smallest GPU as its driver tells it; None where it tells nothing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
        command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout  # noqa: S603  no input
        return min(float(line) for line in told.split("\n") if line.strip()) / 1024
    return None
