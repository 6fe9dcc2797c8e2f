"""The legs of the race: one entry each. A leg is a command and a way to read its epochs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.race.results import Run, epochs_of_events, parse_epochs
from benchmarks.race.workload import SIZES, TRAIN_IMAGES, VALIDATION_IMAGES
from tuner.common.errors import RunError
from tuner.common.registry import Registry
from tuner.reports.figures.style import BLUE, GREEN, GREY, ORANGE, VERMILLION
from tuner.runs.events import StudyCreated
from tuner.runs.record import read_events


@dataclass(frozen=True)
class Start:
    """One run of one leg, as its command is told."""

    leg: str
    size: str
    round: int
    budget_s: float
    launched: float
    """Unix time just before the process is started."""
    data: Path
    """The archive of images."""
    scratch: Path
    """An empty folder, removed afterwards."""
    results: Path
    """What was kept of finished runs: a later leg can read what an earlier one of the round did."""

    @property
    def epochs_file(self) -> Path:
        """Where a leg without a record of its own writes its epochs."""
        return self.scratch / "epochs.jsonl"

    @property
    def cache(self) -> Path:
        """Where a leg that keeps something for a later leg of its round keeps it."""
        return self.scratch / "cache"


@dataclass(frozen=True)
class Leg:
    """A competitor."""

    label: str
    colour: str
    command: Callable[[Start], list[str]]
    read_epochs: Callable[[Start], Run]
    """The epochs so far; also called while the leg runs."""
    line: Literal["-"] | tuple[float, tuple[float, ...]] = "-"
    """How its line is drawn, so that legs are told apart without colour as well."""
    needs: str = ""
    """A module without which it cannot run, and which tuner does not need."""
    package: str = ""
    """What to install for it."""
    is_peer: bool = True
    follows: str = ""
    """A leg whose record and cache of the same round it reads; that cache is kept until this leg is finished."""
    is_drawn: bool = True
    """Whether it is in the picture."""
    grace_s: float = 1.0
    """How long it may take to end by itself after the budget; nothing of that counts."""


def _read_lines(start: Start) -> Run:
    path = start.epochs_file
    return parse_epochs(path.read_text(), str(path)) if path.exists() else ()


def _told(start: Start) -> list[str]:
    """What a process that writes its own epochs has to know."""
    return [
        *("--data", str(start.data), "--image-px", str(SIZES[start.size]), "--seed", str(start.round)),
        *("--launched", repr(start.launched), "--epochs-file", str(start.epochs_file)),
        *("--scratch", str(start.scratch)),
    ]


def _peer_command(start: Start) -> list[str]:
    return [sys.executable, "-m", "benchmarks.race.peer", f"peer_{start.leg}", *_told(start)]


def _limit_command(start: Start) -> list[str]:
    """Raises RunError when tuner has left nothing of this round."""
    before = start.results / "tuner"
    record, cache = before / f"round_{start.round}.record.jsonl", before / f"round_{start.round}.cache"
    for path in (record, cache):
        if not path.exists():
            raise RunError(
                f"the leg {start.leg} must follow the leg tuner of its round, which keeps its cache for it; "
                f"{path} is not there: run both (--legs tuner,{start.leg}) into an --out without that round of tuner"
            )
    return [
        sys.executable,
        "-m",
        "benchmarks.race.limit",
        *_told(start),
        "--record",
        str(record),
        "--cache",
        str(cache),
    ]


def _tuner_command(start: Start) -> list[str]:
    return [
        *(sys.executable, "-m", "tuner.search", str(Path(__file__).parent / f"{start.size}.yaml")),
        "--no-finalists",  # peers have none
        *("--data", f"cifar100=npz:{start.data}"),
        *("--set", f"search.time_budget={start.budget_s:g}s", "--set", f"search.seed={start.round}"),
        *("--cache", str(start.cache), "--runs", str(start.scratch / "runs")),
        *("--reports", str(start.scratch / "reports")),
    ]


def tuner_record(start: Start) -> Path:
    """The record of tuner's search."""
    return start.scratch / "runs" / f"race_{start.size}" / "record.jsonl"


def _read_record(start: Start) -> Run:
    path = tuner_record(start)
    if not path.exists():
        return ()
    events = list(read_events(path))
    created = next((event for event in events if isinstance(event, StudyCreated)), None)
    counts = None if created is None else (created.data["train_images"], created.data["validation_images"])
    if counts not in (None, (TRAIN_IMAGES, VALIDATION_IMAGES)):
        raise RunError(f"{path}: tuner must search the images of the other legs; got {counts[0]} and {counts[1]}")
    return epochs_of_events(events, start.launched)


LEGS: Registry[Leg] = Registry("leg")
LEGS.add(
    "keras_tuner",
    Leg(
        *("KerasTuner Hyperband", ORANGE, _peer_command, _read_lines),
        line=(0, (1, 1)),
        needs="keras_tuner",
        package="keras-tuner==1.4.8 tensorboard",
    ),
)
LEGS.add("ray_optuna", Leg("Ray Tune, OptunaSearch, ASHA", BLUE, _peer_command, _read_lines, line=(0, (5, 2))))
LEGS.add("optuna", Leg("Optuna, Hyperband pruner", GREEN, _peer_command, _read_lines, line=(0, (5, 1.5, 1, 1.5))))
LEGS.add("tuner", Leg("tuner", VERMILLION, _tuner_command, _read_record, is_peer=False, grace_s=90.0))
LEGS.add(
    "limit",
    Leg(
        *("the limit: a bare Keras loop", GREY, _limit_command, _read_lines),
        is_peer=False,
        follows="tuner",
        is_drawn=False,
    ),
)
