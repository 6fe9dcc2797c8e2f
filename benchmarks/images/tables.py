"""The tables of what was measured: one compact file without pickles, a part for each task. Pure but for the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images.tasks import Task, class_sizes
from tuner.common.errors import InputError, RunError
from tuner.common.files import replacing
from tuner.runs.events import StudyCreated
from tuner.runs.state import RunState, TrialState
from tuner.spec.space import Configuration

TABLES = Path(__file__).with_name("tables.npz")
METRIC = "val_accuracy"


@dataclass(frozen=True, eq=False)
class TaskTable:
    """The learning curves of one task; a trial that failed has no values (NaN) from there on."""

    name: str
    facts: Mapping[str, Any]
    """Of the data (base, split, classes, class_images, px, channels, train_images, validation_images), `space` as a
    search-space file has it, `probes`, and of the machine."""
    configurations: list[Configuration]
    accuracy: np.ndarray
    """Validation accuracy, float32 [configurations, epochs], of each epoch by itself."""
    loss: np.ndarray
    """Validation loss, as above."""
    seconds: np.ndarray
    """Training and validation of each epoch, as above."""
    repeated: np.ndarray
    """int64 [repeats]: rows of configurations that were trained with a second seed."""
    repeat_accuracy: np.ndarray
    """float32 [repeats, epochs]: then."""
    repeat_seconds: np.ndarray
    """float32 [repeats, epochs]: then."""

    @property
    def noise(self) -> float:
        """Standard deviation of the best accuracy of a configuration from seed to seed; NaN without repeats."""
        first, second = (np.max(one, axis=1) for one in (self.accuracy[self.repeated], self.repeat_accuracy))
        differences = (first - second)[np.isfinite(first - second)]
        return float(np.sqrt(np.mean(differences**2) / 2)) if len(differences) else float("nan")


ARRAYS = ("accuracy", "loss", "seconds", "repeated", "repeat_accuracy", "repeat_seconds")


def table_of(task: Task, state: RunState, first_of: Mapping[int, int]) -> TaskTable:
    """Return the table of a task from the record of its search.

    `first_of` has the trial whose configuration each trial has, itself or another one.

    Raises:
        RunError: the record has no beginning.
    """
    study = state.study
    if study is None:
        raise RunError(f"{task.name}: the record must begin with a study")
    ended = [trial for trial in state.trials.values() if trial.ended is not None]
    rows = {trial.number: row for row, trial in enumerate(one for one in ended if first_of[one.number] == one.number)}
    own = [trial for trial in ended if trial.number in rows]
    again = [trial for trial in ended if trial.number not in rows and first_of[trial.number] in rows]
    return TaskTable(
        name=task.name,
        facts=_facts(task, state, study),
        configurations=[dict(trial.configuration) for trial in own],
        accuracy=_by_epoch(own, METRIC, study.max_epochs),
        loss=_by_epoch(own, "val_loss", study.max_epochs),
        seconds=_by_epoch(own, "seconds", study.max_epochs),
        repeated=np.array([rows[first_of[trial.number]] for trial in again], np.int64),
        repeat_accuracy=_by_epoch(again, METRIC, study.max_epochs),
        repeat_seconds=_by_epoch(again, "seconds", study.max_epochs),
    )


def _by_epoch(trials: list[TrialState], name: str, epochs: int) -> np.ndarray:
    """Return what epochs measured, float32 [trials, epochs]; NaN for epochs that there are not."""
    found = np.full((len(trials), epochs), np.nan, np.float32)
    for row, trial in enumerate(trials):
        for epoch in trial.epochs:
            found[row, epoch.epoch - 1] = epoch.seconds if name == "seconds" else epoch.metrics[name]
    return found


def _facts(task: Task, state: RunState, study: StudyCreated) -> dict[str, Any]:
    data, environment = study.data, study.environment
    class_names = list(data["class_names"])
    return {
        "base": task.base,
        "split": task.split,
        "classes": len(class_names),
        "class_images": class_sizes(task.most, task.fewest, len(class_names)),
        "px": data["image_shape"][0],
        "channels": data["image_shape"][2],
        "train_images": data["train_images"],
        "validation_images": data["validation_images"],
        "space": study.specification["space"],
        "probes": [
            {"configuration": probe.configuration, "metrics": probe.metrics, "images": probe.images}
            | {"seconds": round(probe.seconds, 3), "reason": probe.reason}
            for probe in state.probes
        ],
        "own_code": {one.name: one.sha256 for one in study.own_code},
        "environment": {key: environment.get(key) for key in ("cpus", "commit", "packages")},
        "slots": [session.max_concurrent for session in state.sessions],
    }


def read_tables(path: Path = TABLES) -> dict[str, TaskTable]:
    """Return the tables of a file by the names of their tasks, in its order.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise InputError(
            f"{path} must hold tables of trainings, which python -m benchmarks.images makes; it is not there"
        )
    with np.load(path, allow_pickle=False) as file:
        names = [str(name) for name in file["tasks"]]
        return {name: _read_table(name, file) for name in names}


def _read_table(name: str, file: Any) -> TaskTable:
    return TaskTable(
        name,
        json.loads(str(file[f"{name}/facts"])),
        json.loads(str(file[f"{name}/configurations"])),
        **{array: file[f"{name}/{array}"] for array in ARRAYS},
    )


def write_tables(tables: Iterable[TaskTable], path: Path = TABLES) -> None:
    """Write tables into one file, aside first: a kill leaves the earlier one."""
    parts: dict[str, Any] = {}
    for table in tables:
        parts[f"{table.name}/facts"] = np.array(json.dumps(table.facts))
        parts[f"{table.name}/configurations"] = np.array(json.dumps(table.configurations))
        parts |= {f"{table.name}/{array}": getattr(table, array) for array in ARRAYS}
    names = np.array([key.removesuffix("/facts") for key in parts if key.endswith("/facts")], dtype=str)
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, tasks=names, **parts)


def merged(kept: Mapping[str, TaskTable], new: Mapping[str, TaskTable], order: Iterable[str]) -> list[TaskTable]:
    """Return the tables of both, of a task in both the one with more configurations, the new one of equals."""
    found = {**kept, **{name: one for name, one in new.items() if _is_longer(one, kept.get(name))}}
    return [found[name] for name in order if name in found]


def _is_longer(table: TaskTable, other: TaskTable | None) -> bool:
    return other is None or len(table.configurations) >= len(other.configurations)
