"""What each trial gets of the machines, and how many may run now: as a cluster that changes has room for."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.cluster import key_value_store
from tuner.cluster._node_checks import check_nodes, look_from_nodes
from tuner.cluster.connection import cluster_capacity
from tuner.cluster.ray_session import Capacity
from tuner.common.errors import InputError
from tuner.common.locations import Location

LOOK_EVERY_S = 5.0
GONE_AFTER_S = 30.0
"""A search that has not been heard of for so long has ended, or its driver is lost."""
_KEY = "search-"

Slots = Callable[[], int]
"""Asked whenever a trial could begin; at least 1."""


def share(slots: int, searches: int, position: int) -> int:
    """The slots of one of several searches: as even as can be, what is left over to the first ones; at least one.

    >>> [share(8, 3, position) for position in range(3)], share(1, 2, 1)
    ([3, 3, 2], 1)
    """
    return max(1, slots // searches + (position < slots % searches))


@dataclass
class Heard:
    """The searches on a cluster, by the signs of life that each leaves: a text that it changes every few seconds.

    By our own clock: the drivers may be on machines whose clocks differ.
    """

    _last: dict[str, tuple[str, float]] = field(default_factory=dict)

    def alive(self, signs: Iterable[tuple[str, str]], now: float) -> list[str]:
        """The names, sorted, whose sign is new to us or has changed within `GONE_AFTER_S` seconds."""
        for name, sign in signs:
            if self._last.get(name, ("", 0.0))[0] != sign:
                self._last[name] = (sign, now)
        return sorted(name for name, (_, changed) in self._last.items() if now - changed < GONE_AFTER_S)

    def gone(self, now: float) -> list[str]:
        """Those whose sign has not changed for that long; they are forgotten."""
        found = [name for name, (_, changed) in self._last.items() if now - changed >= GONE_AFTER_S]
        for name in found:
            del self._last[name]
        return found


@dataclass(frozen=True)
class Packing:
    """What each trial gets, how many run at once, and why."""

    trials: int
    cpus_per_trial: float
    gpus_per_trial: float
    reason: str = ""
    """What was measured or what bounds it; empty where there was nothing to choose."""

    def describe(self) -> str:
        """How trials share the machine, in a few words.

        >>> Packing(2, 1, 0.25).describe(), Packing(1, 2, 0).describe()
        ('2 at a time with 1 CPU and 0.25 GPU each', '1 at a time with 2 CPUs')
        """
        gpus = f" and {self.gpus_per_trial:g} GPU" if self.gpus_per_trial else ""
        each = " each" if self.trials > 1 else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.trials} at a time with {cpu_words(self.cpus_per_trial)}{gpus}{each}{why}"


def cpu_words(number: float) -> str:
    """So many CPUs in words."""
    return f"{number:g} CPU" + ("" if number == 1 else "s")


class ClusterSlots:
    """The slots of a search on a cluster: follows the nodes that come and go, and leaves other searches their share.

    `per_fit` is how many trials run for each that fits by CPUs and GPUs: memory may allow fewer. Trials that run are
    never taken back: a smaller share is reached as they end or pause. `notify` is told in words of every change,
    `on_change` of the number, the first one too.
    """

    def __init__(
        self,
        cpus_per_trial: float,
        gpus_per_trial: float,
        per_fit: float,
        cluster: Cluster,
        notify: Callable[[str], None],
        on_change: Callable[[int], None],
    ) -> None:
        self._cpus, self._gpus, self._per_fit = cpus_per_trial, gpus_per_trial, per_fit
        self._cluster, self._notify, self._on_change = cluster, notify, on_change
        self._name = f"{time.time():.3f}-{uuid.uuid4().hex}"  # the first that came is the first by name
        self._heard, self._looked, self._slots = Heard(), -math.inf, 0

    def __call__(self) -> int:
        """The slots now; looked up again when they are older than `LOOK_EVERY_S`."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._take(self._cluster.capacity(), now)
            for problem in self._cluster.problems():
                self._notify(problem)
        return self._slots

    def _take(self, capacity: Capacity, now: float) -> None:
        self._cluster.sign(self._name, f"{now:.1f}")
        searches = self._heard.alive(self._cluster.signs(), now)
        for name in self._heard.gone(now):
            self._cluster.unsign(name)  # else it counts as alive for every search that comes
        position = searches.index(self._name) if self._name in searches else 0
        fit = math.floor(capacity.slots(self._cpus, self._gpus) * self._per_fit + 1e-9)
        slots = share(fit, max(1, len(searches)), position)
        if self._slots and slots != self._slots:
            others = len(searches) - 1
            shared = f", shared with {others} other search{'es' if others > 1 else ''}" if others > 0 else ""
            nodes = f"{len(capacity.nodes)} node{'' if len(capacity.nodes) == 1 else 's'}"
            self._notify(f"{slots} at a time now, {self._slots} before: {nodes} with CPUs{shared}")
        if slots != self._slots:
            self._slots = slots
            self._on_change(slots)

    def close(self) -> None:
        """Leave the slots to others at once."""
        self._cluster.unsign(self._name)


class Cluster:
    """The Ray cluster that this process is connected to, as `ClusterSlots` sees it."""

    def __init__(self, storage: Location) -> None:
        self._storage = storage
        self._known = {node["NodeID"] for node in _nodes()}  # asked when the session began
        self._problems: list[str] = []

    def capacity(self) -> Capacity:
        """What the nodes that are alive can give; those that are new are asked whether they can run trials."""
        nodes = _nodes()
        new = [node for node in nodes if node["NodeID"] not in self._known]
        self._known |= {node["NodeID"] for node in new}
        if new:  # an answer may take a minute, as long as a node installs what it needs
            threading.Thread(target=self._ask, args=(new,), daemon=True).start()
        return cluster_capacity([node["Resources"] for node in nodes])

    def _ask(self, nodes: Sequence[dict[str, Any]]) -> None:
        try:
            check_nodes(look_from_nodes(nodes, self._storage), self._storage)
        except (InputError, OSError) as error:
            self._problems.append(f"a node that has joined will fail its trials: {error}")

    def problems(self) -> list[str]:
        """What was found of new nodes since the last call."""
        found, self._problems = self._problems, []
        return found

    def sign(self, name: str, text: str) -> None:
        """Leave a sign of life for the other searches."""
        key_value_store.put(_KEY + name, text)

    def unsign(self, name: str) -> None:
        """Take the sign back."""
        key_value_store.delete(_KEY + name)

    def signs(self) -> list[tuple[str, str]]:
        """The signs of all searches, this one's too."""
        found = [(key.removeprefix(_KEY), key_value_store.get(key)) for key in key_value_store.keys(_KEY)]
        return [(name, sign) for name, sign in found if sign is not None]


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]
