"""Connection to a Ray cluster that is already there: its address, its token, and whether it asks for one."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tuner.cluster._node_checks import check_nodes, inspect_nodes
from tuner.cluster.ray_session import Capacity, NodeCapacity, job_config, keep_off_console
from tuner.cluster.token_probe import ENDED_WITHIN_S, TokenAnswer, ended_probe, start_probe
from tuner.common.errors import InputError, first_line
from tuner.common.locations import Location
from tuner.common.process import set_surroundings
from tuner.common.termination import keeping_termination

REACHED_WITHIN_S = 3.0


@contextmanager
def cluster_ray(address: str, storage: Location, insecure: bool = False) -> Iterator[Capacity]:
    """Connect to the Ray cluster at `HOST:PORT`, or on this machine (`auto`); it is left running at the end.

    Raises InputError when it cannot be reached, does not accept the token, asks for none (if not `insecure`), runs
    another Ray, Python or tuner, or has a node that cannot use the storage.
    """
    check_reachable(address)
    variables = set_surroundings()
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    check_token(address, insecure)
    import ray

    # It has read the environment when it was imported, perhaps before the mode was settled.
    ray._raylet.Config.initialize("")
    try:
        with keeping_termination():
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
                runtime_env={"env_vars": variables},
                job_config=job_config(storage.name),
            )
    except ConnectionError as error:
        raise InputError(f"--address {address} must be that of a Ray cluster; {first_line(error)}") from None
    except RuntimeError as error:
        if "Version mismatch" not in str(error):
            raise
        said = " ".join(str(error).split())
        raise InputError(f"--address {address} must run the Ray and Python of here; {said}") from None
    keep_off_console()
    try:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        check_nodes(inspect_nodes(nodes, storage), storage)
        asked = frozenset(str(node["NodeID"]) for node in nodes)
        yield replace(cluster_capacity([node["Resources"] for node in nodes]), asked=asked)
    finally:
        ray.shutdown()


def check_token(address: str, insecure: bool = False) -> None:
    """Check within seconds that a cluster accepts this machine's token, and refuses those without one.

    Ray itself takes 21 s for a wrong token, and does not tell a cluster that accepts everyone.

    Raises InputError when one of both is not so, or the second cannot be seen; that one only counts if not `insecure`.
    """
    mode = os.environ["RAY_AUTH_MODE"]
    answers = _probes(address, mode, "disabled")
    ours, without = answers[mode], answers["disabled"]
    if without.answer == "silent" and ours.answer == "answered" and not insecure:
        without = _probes(address, "disabled")["disabled"]  # a machine that is busy may have been too slow for one
    if without.answer == "answered":
        if insecure:
            return
        raise InputError(
            f"--address {address}: this cluster asks for no token, so that whoever reaches it can run programs on it; "
            "start it with RAY_AUTH_MODE=token (cluster/SECURITY.md), or add --insecure"
        )
    if ours.answer == "refused":
        raise InputError(
            f"--address {address}: the cluster does not accept the token of this machine (RAY_AUTH_MODE={mode}); copy "
            "that of the cluster to ~/.ray/auth_token (mode 0600)"
        )
    if ours.answer == "silent":
        raise InputError(f"--address {address} must be that of a Ray cluster; {ours.reason}")
    if without.answer == "silent" and not insecure:
        raise InputError(
            f"--address {address}: whether this cluster refuses those without a token could not be seen "
            f"({without.reason}); try again, or add --insecure"
        )


def _probes(address: str, *modes: str) -> dict[str, TokenAnswer]:
    """Return the cluster's answer for each of these values of RAY_AUTH_MODE, all asked at the same time."""
    asked = {mode: start_probe(address, mode) for mode in dict.fromkeys(modes)}
    deadline = time.monotonic() + ENDED_WITHIN_S
    return {mode: ended_probe(process, deadline) for mode, process in asked.items()}


def check_reachable(address: str) -> None:
    """Refuse an address where nothing answers: Ray would wait 81 seconds for it and end the process.

    Raises InputError when it is no address, or nothing answers there.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InputError(f"--address must be HOST:PORT or auto; got {address!r}")
    try:
        socket.create_connection((host, int(port)), REACHED_WITHIN_S).close()
    except (OSError, UnicodeError) as error:  # the second of a host that can be no name
        raise InputError(f"--address {address}: nothing answers there ({error}); the head's port is 6379") from None


def cluster_capacity(resources: Sequence[dict[str, Any]]) -> Capacity:
    """Return the CPUs, GPUs and memory of a cluster's nodes; one without CPUs, as a head should be, gives nothing.

    >>> cluster_capacity([{"CPU": 4.0, "GPU": 1.0, "memory": 2.0**30}, {"memory": 2.0**30}]).nodes
    (NodeCapacity(cpus=4.0, gpus=1.0, memory_mb=1024.0),)
    """
    nodes = tuple(
        NodeCapacity(float(node["CPU"]), float(node.get("GPU", 0)), float(node.get("memory", 0)) / 2**20)
        for node in resources
        if node.get("CPU", 0) > 0
    )
    return Capacity(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes), nodes=nodes, is_cluster=True)
