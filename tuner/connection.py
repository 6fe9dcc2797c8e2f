"""Connecting to a Ray cluster that is already there: its address, token and code, and storage that all nodes see."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.cluster import Capacity, NodeCapacity, set_worker_environment
from tuner.errors import InputError, first_line

REACHED_WITHIN_S = 5.0
ANSWERED_WITHIN_S = 120.0
"""What a node may take to start a process that looks at its storage."""


@contextmanager
def cluster_ray(address: str, shared: Path) -> Iterator[Capacity]:
    """The Ray cluster at `HOST:PORT`, or that of this machine (`auto`); left running at the end.

    The token is asked for unless `RAY_AUTH_MODE` says otherwise: who can talk to a cluster can run programs on it.

    Raises:
        InputError: it cannot be reached, does not accept the token, runs other code than this, or has a node that does
            not see the folder `shared`.
    """
    check_reachable(address)
    variables = set_worker_environment()
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray
    from ray.exceptions import AuthenticationError

    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            runtime_env={"env_vars": variables},
        )
    except AuthenticationError:
        raise InputError(
            f"--address {address}: there is no token here; copy the cluster's to ~/.ray/auth_token (mode 0600), "
            "or set RAY_AUTH_MODE=disabled for a cluster without one"
        ) from None
    except ConnectionError as error:
        raise InputError(
            f"--address {address} must be that of a Ray cluster {_hint(address)}; {first_line(error)}"
        ) from None
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        check_nodes(look_from_nodes(nodes, shared), shared)
        yield cluster_capacity([node["Resources"] for node in nodes])
    finally:
        ray.shutdown()


def _hint(address: str) -> str:
    if address == "auto":
        return "that runs on this machine"
    return f"that accepts this machine's token (RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}, ~/.ray/auth_token)"


def check_reachable(address: str) -> None:
    """Refuse an address where nothing answers: Ray would wait 81 seconds for it and end the process.

    Raises:
        InputError: it is no address, or nothing answers there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--address must be HOST:PORT or auto; got {address!r}")
    try:
        socket.create_connection((host, int(port)), REACHED_WITHIN_S).close()
    except OSError as error:
        raise InputError(f"--address {address}: nothing answers there ({error}); the head's port is 6379") from None


def cluster_capacity(resources: Sequence[dict[str, Any]]) -> Capacity:
    """What the nodes of a cluster have to give to trials; a node without CPUs, as the head should be, gives nothing.

    >>> cluster_capacity([{"CPU": 4.0, "GPU": 1.0, "memory": 2.0**30}, {"memory": 2.0**30}]).nodes
    (NodeCapacity(cpus=4.0, gpus=1.0, memory_mb=1024.0),)
    """
    nodes = tuple(
        NodeCapacity(float(node["CPU"]), float(node.get("GPU", 0)), float(node.get("memory", 0)) / 2**20)
        for node in resources
        if node.get("CPU", 0) > 0
    )
    return Capacity(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes), nodes=nodes, is_cluster=True)


@dataclass(frozen=True)
class Sight:
    """What a node sees of the driver's storage and code."""

    node: str
    problem: str
    """Why it could not look at all; empty if it could."""
    sees_file: bool = False
    can_write: bool = False
    code: str = ""


def check_nodes(sights: Sequence[Sight], shared: Path) -> None:
    """Refuse nodes on which a trial would fail, all of them at once.

    Raises:
        InputError: a node does not see or cannot write the shared folder, or has another tuner.
    """
    problems = [f"{sight.node}: {problem}" for sight in sights if (problem := _problem(sight, shared))]
    if problems:
        raise InputError("the cluster cannot run this search:\n" + "\n".join(problems))


def _problem(sight: Sight, shared: Path) -> str | None:
    if sight.problem:
        return f"could not be asked: {sight.problem}"
    if not sight.sees_file:
        return f"--runs must be a folder that every node sees; {shared} is another one there, or none"
    if not sight.can_write:
        return f"{shared} must be writable for the user that runs Ray"
    if sight.code != code_digest():
        return "tuner must be the same version as here; install this one on every node"
    return None


def look_from_nodes(nodes: Sequence[dict[str, Any]], shared: Path) -> list[Sight]:
    """What each of Ray's nodes sees of a folder of the driver's; it is made if it is not there."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    shared = shared.resolve()
    shared.mkdir(parents=True, exist_ok=True)
    mark = shared / f".seen-{uuid.uuid4().hex}"
    mark.touch()
    try:
        asked = []
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(_look).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked.append((node["NodeManagerAddress"], task.remote(str(mark), node["NodeManagerAddress"])))
        sights = []
        for name, answer in asked:
            try:
                sights.append(ray.get(answer, timeout=ANSWERED_WITHIN_S))
            except RayError as error:
                sights.append(Sight(name, _last_line(error)))
        return sights
    finally:
        mark.unlink()


def _look(mark: str, node: str) -> Sight:
    """Runs on a node: whether the driver's file is there, and whether one can be written beside it."""
    path = Path(mark)
    if not path.is_file():
        return Sight(node, "", False)
    beside = path.with_name(f"{path.name}-{platform.node()}")
    try:
        beside.touch()
        beside.unlink()
    except OSError:
        return Sight(node, "", True, False)
    return Sight(node, "", True, True, code_digest())


def code_digest() -> str:
    """A digest of tuner's own source: the same on all nodes, or trials are not comparable."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]
