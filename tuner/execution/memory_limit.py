"""A limit to the host memory of a trial: what it is, and a thread in the worker that ends its process above it.

Limits of the operating system (RLIMIT_AS, RLIMIT_DATA) are of no use: TensorFlow reserves address space that it never
touches, and dies in native code where an allocation fails.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable

import psutil

from tuner.training.failures import OUT_OF_MEMORY

CHECK_EVERY_S = 0.2
LEFT_TO_OTHERS_MB = 1000.0
"""What every other trial at the same time must be left (about what a small one takes)."""
SPARE_MB = 1024.0
_MB = 2**20


def trial_memory_mb(wanted_gb: float | None, available_mb: float | None, trials: int) -> float | None:
    """Return what a trial's process may take of its own at most; None: no limit but that of Ray's memory monitor.

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
    """What this process takes for itself, in units of 2**20 bytes; data that are mapped or shared do not count."""
    memory = psutil.Process().memory_info()
    shared = getattr(memory, "shared", None)  # Linux tells it at once; elsewhere every page has to be looked at
    own = psutil.Process().memory_full_info().uss if shared is None else memory.rss - shared
    return float(own) / _MB


def watch_memory(limit_mb: float, last_words: Callable[[str], None]) -> None:
    """From now on, end this process when it takes more than `limit_mb`; why is left in `last_words`."""
    threading.Thread(target=_watch, args=(limit_mb, last_words), daemon=True, name="memory limit").start()


def _watch(limit_mb: float, last_words: Callable[[str], None]) -> None:
    wait = threading.Event()
    while not wait.wait(CHECK_EVERY_S):
        if (taken_mb := own_memory_mb()) > limit_mb:
            last_words(over_limit(taken_mb, limit_mb))
            os._exit(1)  # at once: other threads go on to allocate


def over_limit(taken_mb: float, limit_mb: float) -> str:
    """The reason for the tables.

    >>> over_limit(2100.0, 2048.0)
    'out of memory: its process took 2,100 MB, the limit of a trial is 2,048 MB'
    """
    return f"{OUT_OF_MEMORY}: its process took {taken_mb:,.0f} MB, the limit of a trial is {limit_mb:,.0f} MB"
