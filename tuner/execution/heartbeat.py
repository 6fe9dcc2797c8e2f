"""Signs of life within an epoch, from the process of a trial to the driver, through the store that a cluster shares.

The driver reads them only of trials that it would otherwise take for hung: an epoch may take hours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tuner.cluster import key_value_store
from tuner.common.process import in_background

GIVE_EVERY_S = 5.0
GIVEN_AT_MOST_S = 600.0
"""While a checkpoint is written: the storage may be slow, or may never answer."""
_KEY = "alive-"


class Pulse:
    """A giver of signs of life for the current trial of this process; called for every batch, from any thread."""

    def __init__(self, every_s: float = GIVE_EVERY_S) -> None:
        self._every_s = every_s
        self._name: str | None = None
        self._epoch, self._given, self._done = 0, 0.0, 0
        self._leaves_something = False

    def begin(self, name: str) -> None:
        """Give signs of this trial from now on."""
        self.end()
        self._name, self._epoch = name, 0

    def __call__(self, epoch: int) -> None:
        """Note that something of the current `epoch` has been done."""
        now = time.monotonic()
        self._done += 1
        if epoch != self._epoch:  # that the one before has ended, was told
            self._epoch, self._given, self._done = epoch, now, 0
        elif self._name is not None and now - self._given >= self._every_s:
            self._given, self._leaves_something = now, True
            key_value_store.put(_KEY + self._name, f"{epoch} {self._done}")

    @contextmanager
    def during(self, epoch: int) -> Iterator[None]:
        """Give signs as long as the block lasts, but not for ever."""
        started = time.monotonic()

        def give(ended: threading.Event) -> None:
            self(epoch)
            while not ended.wait(self._every_s) and time.monotonic() - started < GIVEN_AT_MOST_S:
                self(epoch)

        with in_background(give):
            yield

    def end(self) -> None:
        """Give no more signs: the trial is over."""
        if self._name is not None and self._leaves_something:
            key_value_store.delete(_KEY + self._name)
        self._name, self._leaves_something = None, False


class Signs:
    """The signs that the driver has read."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def is_new(self, name: str, epoch: int) -> bool:
        """Return whether a trial has given a sign of an epoch after `epoch`, since this was last asked."""
        sign = key_value_store.get(_KEY + name)
        if sign is None or int(sign.split()[0]) <= epoch or self._last.get(name) == sign:
            return False
        self._last[name] = sign
        return True


def batches_done(name: str) -> int:
    """Return how many batches of its first epoch a trial has begun after the first, as far as it has said so."""
    epoch, done = (int(word) for word in (key_value_store.get(_KEY + name) or "0 0").split())
    return done if epoch == 1 else 0
