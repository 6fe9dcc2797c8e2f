"""SIGTERM, taken as Ctrl-C: what a service manager, a cluster's job API or `kill` send to end a search gracefully."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


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
