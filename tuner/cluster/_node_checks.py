"""What the nodes of a cluster see of the storage and the code of the driver."""

from __future__ import annotations

import hashlib
import platform
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.common.errors import InputError, first_line, last_line
from tuner.common.locations import Location, exists, probe, remedy, remove, touch

ANSWERED_WITHIN_S = 120.0
"""What a node may take to start a process that looks at its storage."""


@dataclass(frozen=True)
class Sight:
    """What a node sees of the driver's storage and code."""

    node: str
    problem: str = ""
    """Why it could not look at all; empty if it could."""
    unusable: str = ""
    """Why it cannot read or write the storage."""
    sees_file: bool = False
    code: str = ""


def check_nodes(sights: Sequence[Sight], storage: Location) -> None:
    """Refuse nodes on which a trial would fail, all of them at once.

    Raises:
        InputError: a node cannot read or write the storage, sees another folder, or has another tuner.
    """
    problems = [f"{sight.node}: {problem}" for sight in sights if (problem := _problem(sight, storage))]
    if problems:
        raise InputError("the cluster cannot run this search:\n" + "\n".join(problems))


def _problem(sight: Sight, storage: Location) -> str | None:
    if sight.problem:
        return f"could not be asked: {sight.problem}"
    if sight.unusable:
        return f"{storage.address} cannot be used there: {sight.unusable}; {remedy(storage)}"
    if not sight.sees_file:
        return (
            f"--storage (or else --runs) must be a folder that every node sees; {storage.address} is another one "
            "there, or none"
        )
    if sight.code != code_digest():
        return "tuner must be the same version as here; install this one on every node"
    return None


def look_from_nodes(nodes: Sequence[dict[str, Any]], storage: Location) -> list[Sight]:
    """What each of Ray's nodes sees of a storage that the driver can use; a folder is made if it is not there.

    Raises:
        InputError: the driver itself cannot use it.
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
            task = ray.remote(_look).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked.append((node["NodeManagerAddress"], task.remote(mark, node["NodeManagerAddress"])))
        sights = []
        for name, answer in asked:
            try:
                sights.append(ray.get(answer, timeout=ANSWERED_WITHIN_S))
            except RayError as error:
                sights.append(Sight(name, last_line(error)))
        return sights
    finally:
        remove(mark)


def _look(mark: Location, node: str) -> Sight:
    """Runs on a node: whether the driver's file is there, and whether one can be written beside it."""
    try:
        if not exists(mark):
            return Sight(node)
        probe(mark.parent, f"{mark.name}-{platform.node()}")
    except OSError as error:
        return Sight(node, unusable=first_line(error))
    return Sight(node, sees_file=True, code=code_digest())


def code_digest() -> str:
    """A digest of tuner's own source: the same on all nodes, or trials are not comparable."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
