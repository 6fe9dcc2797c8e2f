"""What is refused of a cluster before anything is trained; the searches on a real one are in test_lab."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tuner import connection
from tuner.cluster import Capacity, NodeCapacity
from tuner.connection import Sight, check_nodes, check_reachable, cluster_capacity, code_digest, look_from_nodes
from tuner.errors import InputError


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:ray"])
def test_an_address_is_a_host_and_a_port_or_auto(address) -> None:
    with pytest.raises(InputError, match=f"--address must be HOST:PORT or auto; got '{address}'"):
        check_reachable(address)
    check_reachable("auto")


def test_an_address_where_nothing_answers_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        check_reachable(f"127.0.0.1:{port}")
    with pytest.raises(InputError, match=f"--address 127.0.0.1:{port}: nothing answers there"):
        check_reachable(f"127.0.0.1:{port}")


def test_every_node_on_which_a_trial_would_fail_is_named() -> None:
    sights = [
        Sight("10.0.0.1", "", True, True, code_digest()),
        Sight("10.0.0.2", "", False),
        Sight("10.0.0.3", "", True, False),
        Sight("10.0.0.4", "", True, True, "another"),
        Sight("10.0.0.5", "No module named 'tuner'"),
    ]
    check_nodes(sights[:1], Path("/shared/runs"))
    with pytest.raises(InputError) as refusal:
        check_nodes(sights, Path("/shared/runs"))
    assert str(refusal.value).splitlines() == [
        "the cluster cannot run this search:",
        "10.0.0.2: --runs must be a folder that every node sees; /shared/runs is another one there, or none",
        "10.0.0.3: /shared/runs must be writable for the user that runs Ray",
        "10.0.0.4: tuner must be the same version as here; install this one on every node",
        "10.0.0.5: could not be asked: No module named 'tuner'",
    ]


@pytest.mark.usefixtures("local_ray_session")
def test_a_node_that_sees_the_folder_and_has_this_code_is_fine_and_nothing_is_left_in_the_folder(tmp_path) -> None:
    import ray

    sights = look_from_nodes(ray.nodes(), tmp_path / "runs")
    check_nodes(sights, tmp_path / "runs")
    assert len(sights) == 1 and sights[0].code == code_digest()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_of_another_machine_is_not_seen(tmp_path) -> None:
    assert connection._look(str(tmp_path / "mark"), "node") == Sight("node", "", False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_seen_as_such(tmp_path) -> None:
    (tmp_path / "mark").touch()
    tmp_path.chmod(0o500)
    assert connection._look(str(tmp_path / "mark"), "node") == Sight("node", "", True, False)


def test_trials_get_what_workers_have_and_a_head_without_cpus_has_nothing_for_them() -> None:
    head = {"memory": 2.0**34, "node:10.0.0.1": 1.0}
    worker = {"CPU": 3.0, "GPU": 1.0, "memory": 2.0**33}
    capacity = cluster_capacity([head, worker, worker])
    assert (capacity.cpus, capacity.gpus, capacity.is_cluster) == (6.0, 2.0, True)
    assert capacity.nodes == (NodeCapacity(3.0, 1.0, 8192.0),) * 2
    assert capacity.slots(2, 0) == 2  # not 3: a trial is not split across nodes
    assert capacity.slots(1, 0.5) == 4
    assert cluster_capacity([head]) == Capacity(0, 0, is_cluster=True)
