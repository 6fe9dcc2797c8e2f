"""What a worker process leaves behind when it dies in the middle of a trial: a file, for the driver.

Ray tells no more of a dead process than that it has died. The file is written by the process itself, before it ends
itself (its memory is over the limit) or, by Python's faulthandler, on a signal of native code that has gone wrong.
"""

from __future__ import annotations

import contextlib
import faulthandler
import re
from io import FileIO
from pathlib import Path

from tuner.training.failures import CRASHED

_FATAL = re.compile(r"^Fatal Python error: (.+)$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?:.*/)?([^"/]+)", line ([0-9]+) in (.+)$', re.MULTILINE)


class LastWords:
    """The file of the trial that a worker process is at; without a folder, or room in it, there are no last words."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._file: FileIO | None = None

    def begin(self, trial: str) -> None:
        """From now on, what kills this process is about this trial (Ray's name of it)."""
        self.end()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                self._file = _path(self._folder, trial).open("wb", buffering=0)
                faulthandler.enable(self._file, all_threads=False)

    def say(self, text: str) -> None:
        """Leave one line; another thread may call this."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write(f"{text}\n".encode())

    def end(self) -> None:
        """The trial is over and the process lives: there is nothing to be told."""
        if self._file is not None:
            faulthandler.enable(all_threads=False)  # to standard error again, as Ray has it
            self._file.close()
            with contextlib.suppress(OSError):
                Path(str(self._file.name)).unlink(missing_ok=True)
            self._file = None


def take_last_words(folder: Path | None, trial: str) -> str | None:
    """Why the worker of a trial died, as a reason for the tables; None when it could not say. They are told once."""
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
