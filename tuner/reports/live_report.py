"""The report of a search while it runs: written again and again by a process of its own, at the lowest priority."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.common.process import in_background

EVERY_S = 60.0
SHARE = 0.02
"""Of the time that a report takes of the time between two: drawing must not slow the trials down."""
END_S = 10.0


@contextmanager
def reporting(run_path: Path, directory: Path, every_s: float = EVERY_S) -> Iterator[None]:
    """Write the report of a run into `directory` from time to time, until the end of the block."""
    with in_background(lambda ended: _write_until(ended, run_path, directory, every_s)):
        yield


def _write_until(ended: threading.Event, run_path: Path, directory: Path, every_s: float) -> None:
    wait_s = every_s
    while not ended.wait(wait_s):
        started = time.monotonic()
        process = _start(run_path, directory)
        while process.poll() is None and not ended.wait(0.2):
            continue
        _end(process)
        for left in (
            *directory.glob(f".*.{process.pid}.partial"),
            *directory.glob(f"figures/.*.{process.pid}.partial"),
        ):
            left.unlink(missing_ok=True)
        wait_s = max(every_s, (time.monotonic() - started) / SHARE)


def _start(run_path: Path, directory: Path) -> subprocess.Popen[bytes]:
    words = ["-m", "tuner.report", str(run_path), "--output", str(directory), "--format", "png", "--nice"]
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    # S603 asks whether words of others can get into a command: this is our own module, and without a shell the name of
    # a run is one argument, whatever is in it (tests/end_to_end/test_hostile_names.py).
    return subprocess.Popen(  # noqa: S603  our own module, and no shell: a run's name is one argument
        [sys.executable, *words, "--end-with-stdin"],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,  # closed when this process ends, also by a kill
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # the last report of the search is written by itself, and says what is wrong
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a report at once: files are renamed into place, so that one that is cut off leaves the one before it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def end_with_stdin() -> None:
    """End this process as soon as the search that has started it does, however it does.

    What it would write on then could replace the report of the next session by an older one.
    """

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
