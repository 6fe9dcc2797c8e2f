"""Which processes of a search are killed and when, and what a power cut leaves on the disk; for test_chaos."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from tests.support.processes import command_of
from tuner.runs.directory import RunDirectory

MARK = "TUNER_CHAOS"
"""A variable in the environment of every process of one search: Ray hands it on, and no other process has its value."""
NO_PROCESS = 2**22 + 1
"""A number that no process has: more than Linux gives out."""
ENDS_SESSION = ("driver", "everything")
TRAINS = ("trial actor", "cache builder", "finalist")
IN_SEARCH = ("everything", "cache builder", "driver", "trial actor", "report writer", "everything", "driver",
             "trial actor", "driver", "cache builder")  # fmt: skip
IN_FINALISTS = ("finalist", "everything", "finalist", "driver", "finalist")
_WORDS = {"trial actor": "ray::OftenSaving.", "finalist": "ray::OftenSavingFinalist", "report writer": "--nice"}
"""In the commands of victims; Ray gives its processes names of what they do."""


@dataclass(frozen=True)
class Planned:
    """A kill that is to come."""

    victim: str
    phase: Literal["trials", "finalists", "end"]
    """The end: when all is trained, and is exported and reported."""
    count: int
    """As soon as so many epochs, or finalists, are in the record."""
    delay_s: float
    """After that, and after the victim is there."""


def plan_kills(kills: int, epochs: int, trainings: int, seed: int) -> list[Planned]:
    """Victims and moments over a search with so many epochs and trainings of finalists; a quarter hit the latter."""
    generator = np.random.default_rng(seed)
    late = max(1, kills // 4)
    early = kills - late
    victims = [IN_SEARCH[number % len(IN_SEARCH)] for number in range(early)]
    if early > len(IN_SEARCH):
        generator.shuffle(victims)
    moments = sorted(generator.integers(epochs, size=early).tolist())
    planned = [Planned(victim, "trials", moment, 0.0) for victim, moment in zip(victims, moments, strict=True)]
    for number in range(late):
        victim = IN_FINALISTS[number % len(IN_FINALISTS)]
        planned.append(Planned(victim, "finalists", number * trainings // late, 0.0))
    if late > 2:
        planned[-1] = Planned("driver", "end", 0, 0.0)
    delays_s = {"cache builder": 0.3, "driver": 6.0, "everything": 6.0}  # a session may be killed before it has begun
    return [replace(one, delay_s=generator.uniform(0, delays_s.get(one.victim, 1.5))) for one in planned]


def marked(mark: str) -> Iterator[psutil.Process]:
    """The processes of the search whose mark this is."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # it has ended meanwhile, or is not ours to look at
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def find_victims(victim: str, mark: str, driver: int, cache: Path) -> list[psutil.Process]:
    """The processes that are this victim now: none, one, or everything."""
    processes = list(marked(mark))
    if victim == "everything":
        return processes
    if victim == "driver":
        return [process for process in processes if process.pid == driver]
    if victim == "cache builder":
        builders = set[int]()
        with contextlib.suppress(FileNotFoundError):  # a build has ended meanwhile, and its folder is gone
            for claims in (cache / "activations").glob("*/claims"):
                users = claims.parent.glob("users/*.lock") if any(claims.iterdir()) else ()
                builders.update(int(path.name.partition("-")[0]) for path in users)
        return [process for process in processes if process.pid in builders][:1]
    return [process for process in processes if _WORDS[victim] in " ".join(command_of(process))][:1]


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL for each; one that has ended meanwhile is let be."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def cut_power(run: RunDirectory, generator: np.random.Generator) -> list[str]:
    """Leave the run as a power cut may have: torn lines, half-written files; says what was done."""
    done = ["half a line more"]
    content = run.record.read_bytes()
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    if last and generator.random() < 0.5:
        run.record.write_bytes(content[: int(generator.integers(last + 1, len(content)))])
        done = ["its last line torn"]
    else:
        run.record.write_bytes(content + b'{"event":"epoch","tr')
    for path in (run.labels, run.specification, Path(run.finalist(0, 0).address, "checkpoint.npz")):
        half = path.with_name(f".{path.name}.{NO_PROCESS}.partial")
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_text('["ha')
    newest = max(run.path.rglob("checkpoint.npz"), key=lambda path: path.stat().st_mtime, default=None)
    if newest is not None and generator.random() < 0.5:
        os.truncate(newest, newest.stat().st_size // 2)
        done.append(f"{newest.parent.name} cut in half")
    return done
