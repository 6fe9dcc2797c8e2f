"""Reasons that a worker process leaves in a file for the driver when it dies in the middle of a trial.

Ray tells no more of a dead process than that it has died. The file is written by the process itself, before it ends
itself (its memory is over the limit) or, by Python's faulthandler, on a signal of native code that has gone wrong.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import re
import threading
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import psutil

from tuner.training.failures import CRASHED, OUT_OF_MEMORY

CHECK_EVERY_S = 0.2
LEFT_TO_OTHERS_MB = 1000.0
"""Memory that must be left to every other trial at the same time (about what a small one takes)."""
SPARE_MB = 1024.0
_MB = 2**20


def trial_memory_mb(wanted_gb: float | None, available_mb: float | None, trials: int) -> float | None:
    """Return the most memory of its own for a trial's process; None: no limit but that of Ray's memory monitor.

    An infinite `wanted_gb` asks for no limit. None asks for what the machine has left when the session begins
    (`available_mb`; None: it is not known), without a little for itself and for each other trial, and at least an equal
    share: nothing that would fit is refused.

    >>> trial_memory_mb(None, 9024.0, 4), trial_memory_mb(2.0, 9024.0, 4), trial_memory_mb(math.inf, 9024.0, 4)
    (5000.0, 2048.0, None)
    """
    if wanted_gb is not None:
        return None if wanted_gb == math.inf else 1024.0 * wanted_gb
    if available_mb is None:
        return None
    left = available_mb - SPARE_MB
    return max(left - (trials - 1) * LEFT_TO_OTHERS_MB, left / trials, LEFT_TO_OTHERS_MB)


def own_memory_mb() -> float:
    """Return this process's own memory in units of 2**20 bytes, without data that are mapped or shared."""
    memory = psutil.Process().memory_info()
    shared = getattr(memory, "shared", None)  # Linux tells it at once; elsewhere every page has to be looked at
    own = psutil.Process().memory_full_info().uss if shared is None else memory.rss - shared
    return float(own) / _MB


def watch_memory(limit_mb: float, leave_reason: Callable[[str], None]) -> None:
    """Start a thread that ends this process above `limit_mb`, after it has given the reason to `leave_reason`."""
    threading.Thread(target=_watch, args=(limit_mb, leave_reason), daemon=True, name="memory limit").start()


def _watch(limit_mb: float, leave_reason: Callable[[str], None]) -> None:
    wait = threading.Event()
    while not wait.wait(CHECK_EVERY_S):
        if (taken_mb := own_memory_mb()) > limit_mb:
            leave_reason(over_limit(taken_mb, limit_mb))
            os._exit(1)  # at once: other threads go on to allocate


def over_limit(taken_mb: float, limit_mb: float) -> str:
    """Return the reason for the tables.

    >>> over_limit(2100.0, 2048.0)
    'out of memory: its process took 2,100 MB, the limit of a trial is 2,048 MB'
    """
    return f"{OUT_OF_MEMORY}: its process took {taken_mb:,.0f} MB, the limit of a trial is {limit_mb:,.0f} MB"


_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?:.*/)?([^"/]+)", line ([0-9]+) in (.+)$', re.MULTILINE)


class ExitReasonFile:
    """The file with the reason, for the current trial of a worker process; without a folder or room, none is left."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: FileIO | None = None

    def begin(self, trial: str) -> None:
        """Open the file for this trial (by Ray's name of it)."""
        self.end()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = _path(self._folder, trial).open("wb", buffering=0)
                faulthandler.enable(self._file, all_threads=False)

    def say(self, text: str) -> None:
        """Write one line into the file; another thread may call this."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(f"{text}\n".encode())

    def end(self) -> None:
        """Remove the file: the trial is over and the process lives."""
        if self._file is not None:
            faulthandler.enable(all_threads=False)  # to standard error again, as Ray has it
            self._file.close()
            with contextlib.suppress(OSError):
                Path(str(self._file.name)).unlink(missing_ok=True)
            self._file = None


def take_exit_reason(folder: Path | None, trial: str) -> str | None:
    """Return, once, why the worker of a trial died, as a reason for the tables; None when it left none."""
    if folder is None:
        return None
    path = _path(folder, trial)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        path.unlink()
    except OSError:
        return None
    fatal, frame = _FATAL.search(text), _FRAME.search(text)
    if fatal is None:
        return text.strip().splitlines()[0][:300] if text.strip() else None
    where = f" in {frame[3]} ({frame[1]}:{frame[2]})" if frame else ""
    return f"{CRASHED}: {fatal[1]}{where}"[:300]


def _path(folder: Path, trial: str) -> Path:
    return folder / f"{trial}.txt"
