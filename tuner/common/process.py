"""This process: work beside a block of code, standard error turned to a file, and SIGTERM taken as Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO


@contextmanager
def beside(work: Callable[[threading.Event], None]) -> Iterator[None]:
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
    """Send all that this process writes to standard error to an open file, Python's and native code's alike."""
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
    """Call what Ctrl-C would; SIGINT itself may be blocked, as it is in the jobs of Ray, or ignored, as after nohup."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt


@contextmanager
def terminating_as_interrupt() -> Iterator[None]:
    """Let SIGTERM do in this block what Ctrl-C does at that moment; nothing in a thread that is not the first."""
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
    """Undo what the block asks of SIGTERM: `ray.init` has it end the process."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)
