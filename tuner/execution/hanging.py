"""Which trials hang: they have shown nothing for much longer than epochs of this search take. Pure, but for a clock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from tuner.training.failures import HUNG

FLOOR_S = 60.0
"""However short epochs are, nothing hangs before."""
FIRST_FLOOR_S = 600.0
"""The same before the first epoch of a phase: networks are built and compiled, weights and data read."""
REMEMBERED = 1000
"""Epochs of the search, the newest, of which the median is taken."""
LONGEST_STEP_S = 5.0
"""More than this between two looks is no time that trials have had: the whole machine slept, or the driver was held."""


@dataclass
class _Watched:
    silent_since_s: float
    longest_epoch_s: float = 0.0
    is_settled: bool = False
    """Whether the next epoch is like the one before it."""
    epoch: int = 0
    """The last one that was seen."""


class HangWatch:
    """Told of signs of life, says who has given none for too long.

    A trial hangs when it has shown nothing for `epochs` times the median epoch of the search, and as many times its own
    longest one; never, if `epochs` is None. `head_epochs` ends the first phase: the epoch after it is a first one.
    `is_alive` is asked, before that is said, whether a trial has done something since, in an epoch after its last one.
    """

    def __init__(self, epochs: float | None, head_epochs: int, clock: Callable[[], float] = time.monotonic,
                 is_alive: Callable[[str, int], bool] = lambda _trial, _epoch: False) -> None:  # fmt: skip
        self._epochs, self._head_epochs, self._clock, self._is_alive = epochs, head_epochs, clock, is_alive
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._watched: dict[str, _Watched] = {}
        self._looked = clock()
        self._now_s = 0.0  # the time that was watched

    def remember(self, seconds: Iterable[float]) -> None:
        """Take in epochs of earlier sessions."""
        self._seconds.extend(seconds)

    def begin(self, trial: str) -> None:
        """A worker has taken on a trial."""
        self._watched[trial] = _Watched(self._now_s)

    def see(self, trial: str, epoch: int, seconds: float | None) -> None:
        """A trial gave a sign of life: an epoch and its seconds, or (None) something else."""
        watched = self._watched.get(trial)
        if watched is None:
            return
        watched.silent_since_s, watched.epoch = self._now_s, epoch
        if seconds is not None:
            self._seconds.append(seconds)
            watched.longest_epoch_s = max(watched.longest_epoch_s, seconds)
            watched.is_settled = epoch != self._head_epochs

    def end(self, trial: str) -> None:
        """A trial is no longer at work."""
        self._watched.pop(trial, None)

    def hung(self) -> dict[str, float]:
        """The trials that hang, and for how many seconds they have shown nothing; to be asked again and again."""
        now = self._clock()
        self._now_s += min(now - self._looked, LONGEST_STEP_S)
        self._looked = now
        if self._epochs is None:
            return {}
        silent = {trial: self._now_s - watched.silent_since_s for trial, watched in self._watched.items()}
        if max(silent.values(), default=0.0) <= FLOOR_S:
            return {}
        typical_s = median(self._seconds) if self._seconds else 0.0
        limits_s = {trial: self._limit_s(trial, self._epochs, typical_s) for trial in silent}
        suspected = {trial: seconds for trial, seconds in silent.items() if seconds > limits_s[trial]}
        return {trial: seconds for trial, seconds in suspected.items() if not self._has_given_a_sign(trial)}

    def _has_given_a_sign(self, trial: str) -> bool:
        watched = self._watched[trial]
        is_alive = self._is_alive(trial, watched.epoch)
        if is_alive:
            watched.silent_since_s = self._now_s
        return is_alive

    def _limit_s(self, trial: str, epochs: float, typical_s: float) -> float:
        watched = self._watched[trial]
        floor_s = FLOOR_S if watched.is_settled else FIRST_FLOOR_S
        return max(floor_s, epochs * max(typical_s, watched.longest_epoch_s))


def no_epoch_for(seconds: float) -> str:
    """The reason for the tables."""
    return f"{HUNG}: no epoch for {seconds:,.0f} s"
