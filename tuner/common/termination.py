"""SIGTERM, a closed terminal and Ctrl-C: what they do to this process, whoever else asks for the signals."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_HANGUP = {signal.SIGHUP} if hasattr(signal, "SIGHUP") else set[signal.Signals]()


def ignore_hangup() -> None:
    """Let no closed terminal disturb what is left to do: a shell and the system may both send SIGHUP, after Ctrl-C."""
    if threading.current_thread() is threading.main_thread():
        for hangup in _HANGUP:
            signal.signal(hangup, signal.SIG_IGN)


@contextmanager
def outliving_hangup() -> Iterator[None]:
    """Let the processes that are started in this block outlive a closed terminal: they inherit what is blocked.

    This process tells them when to end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANGUP) if _HANGUP else set()
    try:
        yield
    finally:
        if _HANGUP:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


_AGAIN_S = 0.05


def _interrupt(_signal: int, frame: FrameType | None) -> None:
    """Call the handler of Ctrl-C directly: SIGINT may be blocked, as in Ray's jobs, or ignored, as after nohup."""
    if hasattr(signal, "alarm"):
        signal.alarm(0)  # set by a handler of Ray's (Abseil's) that came first, to end the process in 3 s
    ignore_hangup()
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt


@contextmanager
def terminating_as_interrupt() -> Iterator[None]:
    """Make SIGTERM and a closed terminal act like Ctrl-C within the block; has no effect in a thread.

    After nohup, SIGHUP stays ignored. An interrupt of any kind that came where Python can only print it, as in a weak
    reference's callback while a module is imported, is sent again.
    """
    if threading.current_thread() is not threading.main_thread():  # the only one that may ask for signals
        yield
        return
    heeded = {signal.SIGTERM} | {one for one in _HANGUP if signal.getsignal(one) is not signal.SIG_IGN}
    previous = {one: signal.signal(one, _interrupt) for one in heeded}
    tell = sys.unraisablehook

    def unraisable(what: Any) -> None:
        if isinstance(what.exc_value, KeyboardInterrupt) and hasattr(signal, "setitimer"):  # in the main thread
            previous.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, _interrupt))
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
        else:
            tell(what)

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = tell
        if hasattr(signal, "SIGALRM") and signal.SIGALRM in previous:
            signal.setitimer(signal.ITIMER_REAL, 0)  # nothing is left to interrupt
        for one, handler in previous.items():
            signal.signal(one, handler)


@contextmanager
def keeping_termination() -> Iterator[None]:
    """Restore the handler of SIGTERM after the block: `ray.init` sets some that end the process, also in a thread."""
    previous = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, previous)
