"""How many trials of a search may run on a cluster whose nodes come and go, and that other searches use too."""

from __future__ import annotations

import pytest
import ray

from tuner.cluster import slots
from tuner.cluster._node_checks import NodeReport
from tuner.cluster.connection import cluster_capacity
from tuner.cluster.ray_session import Capacity
from tuner.cluster.slots import ActiveSearches, Cluster, ClusterSlots, GivenSlots, share
from tuner.common.locations import Location


class FakeCluster(Cluster):
    """Nodes and signs as a test wants them; no Ray."""

    def __init__(self, nodes: int) -> None:
        self.nodes, self.left, self.found = nodes, {}, []

    def capacity(self) -> Capacity:
        return cluster_capacity([{"CPU": 4.0, "memory": 2.0**33}] * self.nodes)

    def problems(self) -> list[str]:
        found, self.found = self.found, []
        return found

    def sign(self, name: str, text: str) -> None:
        self.left[name] = text

    def unsign(self, name: str) -> None:
        self.left.pop(name, None)

    def signs(self) -> list[tuple[str, str]]:
        return list(self.left.items())


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(slots.time, "monotonic", lambda: now[0])
    return now


def test_a_search_uses_a_node_that_joins_and_gives_up_what_is_lost(clock) -> None:
    cluster, said = FakeCluster(nodes=1), []
    search = ClusterSlots(2.0, 0.0, 1.0, cluster, said.append, int)
    assert search() == 2 and not said
    cluster.nodes = 2
    assert search() == 2, "not looked at again at once"
    clock[0] += slots.LOOK_EVERY_S
    assert search() == 4 and said == ["4 at a time now, 2 before: 2 nodes with CPUs"]
    cluster.nodes, clock[0] = 0, clock[0] + slots.LOOK_EVERY_S
    assert search() == 1, "one trial waits for a node"
    assert said[-1] == "1 at a time now, 4 before: 0 nodes with CPUs"


def test_the_number_is_told_from_the_first_on_and_only_when_it_changes(clock) -> None:
    cluster, told = FakeCluster(nodes=2), []
    search = ClusterSlots(1.0, 0.0, 1.0, cluster, print, told.append)
    for nodes in (2, 2, 1, 1, 3):
        cluster.nodes, clock[0] = nodes, clock[0] + slots.LOOK_EVERY_S
        search()
    assert told == [8, 4, 12]


def test_where_memory_holds_fewer_trials_than_cpus_the_same_holds_of_nodes_that_join(clock) -> None:
    cluster = FakeCluster(nodes=1)
    search = ClusterSlots(1.0, 0.0, 0.5, cluster, print, int)
    assert search() == 2
    cluster.nodes, clock[0] = 3, clock[0] + slots.LOOK_EVERY_S
    assert search() == 6


def test_two_searches_share_a_cluster_and_the_one_that_stays_gets_it_all(clock) -> None:
    cluster, said = FakeCluster(nodes=2), []
    first = ClusterSlots(1.0, 0.0, 1.0, cluster, said.append, int)
    assert first() == 8
    clock[0] += slots.LOOK_EVERY_S
    second = ClusterSlots(1.0, 0.0, 1.0, cluster, said.append, int)
    assert second() == 4 and first() == 4
    assert said == ["4 at a time now, 8 before: 2 nodes with CPUs, shared with 1 other search"]
    second.close()
    clock[0] += slots.GONE_AFTER_S
    assert first() == 8


def test_a_search_whose_driver_was_lost_is_forgotten_by_our_own_clock() -> None:
    active = ActiveSearches()
    assert active.alive([("a", "1"), ("b", "9e9")], now=0.0) == ["a", "b"]
    assert active.alive([("a", "2"), ("b", "9e9")], now=20.0) == ["a", "b"]
    assert active.alive([("a", "3"), ("b", "9e9")], now=slots.GONE_AFTER_S) == ["a"]
    assert active.gone(now=slots.GONE_AFTER_S) == ["b"] and active.gone(now=slots.GONE_AFTER_S) == []


def test_no_slot_is_given_twice_or_to_nobody() -> None:
    for searches in range(1, 9):
        for number in range(searches, 40):
            assert sum(share(number, searches, position) for position in range(searches)) == number


def test_what_is_wrong_with_a_node_that_joined_is_said(clock) -> None:
    cluster, said = FakeCluster(nodes=1), []
    cluster.found = ["a node that has joined will fail its trials: ..."]
    ClusterSlots(1.0, 0.0, 1.0, cluster, said.append, int)()
    assert said == ["a node that has joined will fail its trials: ..."]


class AtOnce:
    """A thread that has done its work when it has started."""

    def __init__(self, target, args, daemon) -> None:
        self.start = lambda: target(*args)


def test_nodes_that_come_after_the_first_were_asked_are_asked_and_told_of_in_a_line_each(
    clock, tmp_path, monkeypatch
) -> None:
    nodes = [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1.0}} for name in "abc"]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    asked, said = [], []

    def inspect(nodes, storage) -> list[NodeReport]:
        asked.extend(node["NodeID"] for node in nodes)
        return [NodeReport("10.0.0.2", sees_file=True, code="another"), NodeReport("10.0.0.3", "it is gone")]

    monkeypatch.setattr(slots, "inspect_nodes", inspect)
    monkeypatch.setattr(slots.threading, "Thread", AtOnce)
    search = GivenSlots(4, Cluster(Location(str(tmp_path)), {"a"}), said.append)
    assert search() == 4 and asked == ["b", "c"]
    assert said == [
        "a node that has joined will fail its trials: 10.0.0.2: tuner must be the same version as here; install this "
        "one on every node",
        "a node that has joined will fail its trials: 10.0.0.3: could not be asked: it is gone",
    ]
    clock[0] += slots.LOOK_EVERY_S
    assert search() == 4 and len(asked) == len(said) == 2, "each once"


@pytest.mark.usefixtures("local_ray_session")
def test_a_real_cluster_holds_the_signs_of_its_searches(tmp_path) -> None:
    cluster = Cluster(Location(str(tmp_path)), [node["NodeID"] for node in ray.nodes()])
    search = ClusterSlots(1.0, 0.0, 1.0, cluster, print, int)
    assert search() == int(cluster.capacity().cpus)
    assert len(cluster.signs()) == 1
    search.close()
    assert cluster.signs() == [] and cluster.problems() == []
