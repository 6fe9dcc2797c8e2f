"""Threads of this process for work that leaves Python's lock, as decoding and changing images do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Threads:
    """A number of threads: none beside the caller's where one is enough.

    They are started when they are needed, and started anew in a process that was forked.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> list[Result]:
        """Return the result of each task, in order; raises what the first that failed raised."""
        if self.number <= 1:
            return [work(task) for task in tasks]
        if self._pool is None or self._process != os.getpid():
            self._pool, self._process = ThreadPoolExecutor(self.number, "images"), os.getpid()
        return list(self._pool.map(work, tasks))
