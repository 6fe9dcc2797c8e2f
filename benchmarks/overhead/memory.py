"""Memory of the workers of a search, seen from outside while it runs: what each has for itself alone (USS)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

WORKER, TRAINS = "ray::", ("Trainable", "TrialActor")
"""How Ray names its worker processes, and in the names of those that run trials (`ray::ResourceTrainable.train`)."""
CLAIMED_MB = 1024.0
"""What a further worker is said to need at most."""


@dataclass(frozen=True)
class Sample:
    """What one worker process held at one time."""

    time: float
    pid: int
    own_mb: float


def is_trial_worker(title: str) -> bool:
    """Whether a process of this title runs trials; others of Ray's are idle or run its own small tasks.

    >>> [is_trial_worker(title) for title in ("ray::ResourceTrainable.train", "ray::IDLE", "raylet")]
    [True, False, False]
    """
    return title.startswith(WORKER) and any(name in title for name in TRAINS)


def sample_workers(pid: int) -> list[Sample]:
    """The trial-running processes below process `pid`, each with the memory that it shares with no other."""
    found = []
    try:
        processes = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    for process in processes:
        try:
            title = " ".join(process.cmdline())
            if is_trial_worker(title):
                found.append(Sample(time.time(), process.pid, process.memory_full_info().uss / 2**20))
        except psutil.Error:  # it has ended meanwhile
            continue
    return found


def largest_by_worker(samples: Iterable[Sample]) -> list[float]:
    """The most that each worker held, MiB, in the order in which they first ran a trial.

    A worker that took the place of another (they are replaced when they have grown) is a worker of its own.
    """
    largest: dict[int, float] = {}
    for sample in sorted(samples, key=lambda sample: sample.time):
        largest[sample.pid] = max(sample.own_mb, largest.get(sample.pid, 0.0))
    return list(largest.values())


def render_memory(samples: Iterable[Sample], at_once: int) -> str:
    """What each worker adds, in Markdown."""
    largest = largest_by_worker(samples)
    lines = [
        "## Memory\n",
        f"{at_once} trials at once. What a worker adds is what it alone holds (USS); mapped data are shared.\n",
        "| worker | most that it held, MB |\n|---|---:|",
    ]
    lines += [f"| {number} | {own_mb:.0f} |" for number, own_mb in enumerate(largest, start=1)]
    if len(largest) > 1:
        worst = max(largest[1:])
        kept = "below" if worst < CLAIMED_MB else "not below"
        lines += ["", f"Each worker after the first adds at most **{worst:.0f} MB**: {kept} 1 GB."]
    return "\n".join(lines) + "\n"
