"""This process: threads beside a block, standard error in a file, SIGTERM as Ctrl-C, versions and machine."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import IO, Any

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


@contextmanager
def in_background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` until the end of the block, which waits for it; it must return soon after the event is set.

    The thread does not keep a process alive that ends without leaving the block.
    """
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def standard_error_to(file: IO[bytes]) -> Iterator[None]:
    """Send standard error of this process to an open file within the block, Python's and native code's alike."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _interrupt(_signal: int, frame: FrameType | None) -> None:
    """Call the handler of Ctrl-C directly: SIGINT may be blocked, as in Ray's jobs, or ignored, as after nohup."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt


@contextmanager
def terminating_as_interrupt() -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C within the block; has no effect in a thread other than the main one."""
    if threading.current_thread() is not threading.main_thread():  # the only one that may ask for signals
        yield
        return
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def keeping_termination() -> Iterator[None]:
    """Restore the handler of SIGTERM after the block: `ray.init` sets one that ends the process."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)
