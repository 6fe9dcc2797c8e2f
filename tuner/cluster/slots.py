"""The resources of each trial, and the number of trials that may run now on a cluster that grows and shrinks."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tuner.cluster import key_value_store
from tuner.cluster._node_checks import inspect_nodes, node_problems
from tuner.cluster.connection import cluster_capacity
from tuner.cluster.ray_session import Capacity
from tuner.common.errors import InputError
from tuner.common.locations import Location
from tuner.common.words import counted

LOOK_EVERY_S = 5.0
GONE_AFTER_S = 30.0
"""A search that has not been heard of for so long has ended, or its driver is lost."""
_KEY = "search-"

Slots = Callable[[], int]
"""Asked whenever a trial could begin; at least 1."""


def share(slots: int, searches: int, position: int) -> int:
    """Return the slots of one of several searches: an even share, at least 1; what is left over goes to the first ones.

    >>> [share(8, 3, position) for position in range(3)], share(1, 2, 1)
    ([3, 3, 2], 1)
    """
    return max(1, slots // searches + (position < slots % searches))


@dataclass
class ActiveSearches:
    """The searches on a cluster, known by the sign of life that each leaves: a text that changes every few seconds.

    Times are of our own clock: the drivers may be on machines whose clocks differ.
    """

    _last: dict[str, tuple[str, float]] = field(default_factory=dict)

    def alive(self, signs: Iterable[tuple[str, str]], now: float) -> list[str]:
        """Return the names, sorted, whose sign is new to us or has changed within `GONE_AFTER_S` seconds."""
        for name, sign in signs:
            if self._last.get(name, ("", 0.0))[0] != sign:
                self._last[name] = (sign, now)
        return sorted(name for name, (_, changed) in self._last.items() if now - changed < GONE_AFTER_S)

    def gone(self, now: float) -> list[str]:
        """Return the names whose sign has not changed for that long, and forget them."""
        found = [name for name, (_, changed) in self._last.items() if now - changed >= GONE_AFTER_S]
        for name in found:
            del self._last[name]
        return found


@dataclass(frozen=True)
class Packing:
    """The number of trials that run at once, the resources of each, and the reason."""

    trials: int
    cpus_per_trial: float
    gpus_per_trial: float
    reason: str = ""
    """The measurement or the limit behind the number; empty where there was nothing to choose."""

    def describe(self) -> str:
        """Return in a few words how trials share the machine.

        >>> Packing(2, 1, 0.25).describe(), Packing(1, 2, 0).describe()
        ('2 at a time with 1 CPU and 0.25 GPU each', '1 at a time with 2 CPUs')
        >>> Packing(2, 4, 2).describe()
        '2 at a time with 4 CPUs and 2 GPUs each'
        """
        gpus = f" and {counted(self.gpus_per_trial, 'GPU')}" if self.gpus_per_trial else ""
        each = " each" if self.trials > 1 else ""
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.trials} at a time with {counted(self.cpus_per_trial, 'CPU')}{gpus}{each}{why}"


class ClusterSlots:
    """The slots of a search on a cluster: they follow the nodes that come and go, and leave other searches a share.

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
        self._active, self._looked, self._slots = ActiveSearches(), -math.inf, 0

    def __call__(self) -> int:
        """Return the slots now; they are counted again when the last count is older than `LOOK_EVERY_S`."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._take(self._cluster.capacity(), now)
            for problem in self._cluster.problems():
                self._notify(problem)
        return self._slots

    def _take(self, capacity: Capacity, now: float) -> None:
        self._cluster.sign(self._name, f"{now:.1f}")
        searches = self._active.alive(self._cluster.signs(), now)
        for name in self._active.gone(now):
            self._cluster.unsign(name)  # else it counts as alive for every search that comes
        position = searches.index(self._name) if self._name in searches else 0
        fit = math.floor(capacity.slots(self._cpus, self._gpus) * self._per_fit + 1e-9)
        slots = share(fit, max(1, len(searches)), position)
        if self._slots and slots != self._slots:
            others = len(searches) - 1
            shared = f", shared with {counted(others, 'other search')}" if others > 0 else ""
            nodes = counted(len(capacity.nodes), "node")
            self._notify(f"{slots} at a time now, {self._slots} before: {nodes} with CPUs{shared}")
        if slots != self._slots:
            self._slots = slots
            self._on_change(slots)

    def close(self) -> None:
        """Give the slots to the other searches at once."""
        self._cluster.unsign(self._name)


class GivenSlots:
    """The slots of a search on a cluster that was given their number; `notify` is told what is wrong with new nodes."""

    def __init__(self, slots: int, cluster: Cluster, notify: Callable[[str], None]) -> None:
        self._slots, self._cluster, self._notify = slots, cluster, notify
        self._looked = -math.inf

    def __call__(self) -> int:
        """Return the number, and look for new nodes when the last look is older than `LOOK_EVERY_S`."""
        now = time.monotonic()
        if now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._cluster.capacity()  # asks nodes that it sees for the first time
            for problem in self._cluster.problems():
                self._notify(problem)
        return self._slots


class Cluster:
    """The Ray cluster that this process is connected to, as `ClusterSlots` sees it."""

    def __init__(self, storage: Location, asked: Iterable[str]) -> None:
        """Begin with the nodes that were `asked` already, by their ids: others have come since, or will come."""
        self._storage = storage
        self._known = set(asked)
        self._problems: list[str] = []

    def capacity(self) -> Capacity:
        """Return the resources of the living nodes; new nodes are asked whether they can run trials."""
        nodes = _nodes()
        new = [node for node in nodes if node["NodeID"] not in self._known]
        self._known |= {node["NodeID"] for node in new}
        if new:  # an answer may take a minute, as long as a node installs what it needs
            threading.Thread(target=self._ask, args=(new,), daemon=True).start()
        return cluster_capacity([node["Resources"] for node in nodes])

    def _ask(self, nodes: Sequence[dict[str, Any]]) -> None:
        try:
            found = node_problems(inspect_nodes(nodes, self._storage), self._storage)
        except (InputError, OSError) as error:
            found = [str(error)]
        self._problems += [f"a node that has joined will fail its trials: {problem}" for problem in found]

    def problems(self) -> list[str]:
        """Return the problems found on new nodes since the last call."""
        found, self._problems = self._problems, []
        return found

    def sign(self, name: str, text: str) -> None:
        """Leave a sign of life for the other searches."""
        key_value_store.put(_KEY + name, text)

    def unsign(self, name: str) -> None:
        """Remove the sign of life."""
        key_value_store.delete(_KEY + name)

    def signs(self) -> list[tuple[str, str]]:
        """Return the signs of life of all searches, this one's too."""
        found = [(key.removeprefix(_KEY), key_value_store.get(key)) for key in key_value_store.keys(_KEY)]
        return [(name, sign) for name, sign in found if sign is not None]


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]
