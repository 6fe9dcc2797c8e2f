"""Checks that every node of a cluster sees the storage of the driver and runs the same code."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.common.errors import InputError, first_line, last_line, printable
from tuner.common.locations import Location, exists, probe, remedy, remove, touch

ANSWERED_WITHIN_S = 120.0
"""Time for a node to start a process that looks at its storage."""


class _NodesError(InputError):
    """The nodes of a cluster on which a trial would fail, one a line."""

    def lines(self) -> list[str]:
        return [printable(line) for line in str(self).split("\n")]


@dataclass(frozen=True)
class NodeReport:
    """The result of looking, on one node, at the driver's storage and at tuner's code."""

    node: str
    problem: str = ""
    """Why it could not look at all; empty if it could."""
    unusable: str = ""
    """Why it cannot read or write the storage."""
    sees_file: bool = False
    code: str = ""


def check_nodes(reports: Sequence[NodeReport], storage: Location) -> None:
    """Refuse nodes on which a trial would fail, all of them at once.

    Raises:
        InputError: a node cannot read or write the storage, sees another folder, or has another tuner.
    """
    if problems := node_problems(reports, storage):
        raise _NodesError("\n".join(["the cluster cannot run this search:", *problems]))


def node_problems(reports: Sequence[NodeReport], storage: Location) -> list[str]:
    """Return a line about each node on which a trial would fail, after the node's address."""
    return [f"{report.node}: {problem}" for report in reports if (problem := _problem(report, storage))]


def _problem(report: NodeReport, storage: Location) -> str | None:
    if report.problem:
        return f"could not be asked: {report.problem}"
    if report.unusable:
        return f"{storage.address} cannot be used there: {report.unusable}; {remedy(storage)}"
    if not report.sees_file:
        return (
            f"--storage (or else --runs) must be a folder that every node sees; {storage.address} is another one "
            "there, or none"
        )
    if report.code != code_digest():
        return "tuner must be the same version as here; install this one on every node"
    return None


def inspect_nodes(nodes: Sequence[dict[str, Any]], storage: Location) -> list[NodeReport]:
    """Return what each node finds of a storage that the driver can use; a missing folder is made.

    Raises InputError when the driver itself cannot use it.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    mark = storage.child(f".seen-{uuid.uuid4().hex}")
    try:
        touch(mark)
    except OSError as error:
        raise InputError(f"{storage.address} cannot be used: {first_line(error)}; {remedy(storage)}") from None
    try:
        asked = []
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(_inspect).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked.append((node["NodeManagerAddress"], task.remote(mark, node["NodeManagerAddress"])))
        reports = []
        for name, answer in asked:
            try:
                reports.append(ray.get(answer, timeout=ANSWERED_WITHIN_S))
            except RayError as error:
                reports.append(NodeReport(name, last_line(error)))
        return reports
    finally:
        remove(mark)


def _inspect(mark: Location, node: str) -> NodeReport:
    """Report, on a node, whether the driver's file is there and another one can be written beside it."""
    try:
        if not exists(mark):
            return NodeReport(node)
        probe(mark.parent, f"{mark.name}-{uuid.uuid4().hex}")  # other nodes may be called as this one
    except OSError as error:
        return NodeReport(node, unusable=first_line(error))
    return NodeReport(node, sees_file=True, code=code_digest())


def code_digest(package: Path = Path(__file__).parents[1]) -> str:
    """Return a digest of tuner's own source, of all its rooms: the same on all nodes, or trials are not comparable."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
