"""One task measured: its images made, and the product's own search run over them, which can go on at any time."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tuner
from benchmarks.images.repeats import EVERY, first_of
from benchmarks.images.tables import TaskTable, table_of
from benchmarks.images.tasks import Task, chosen, sizes, specification, trials_for
from tuner.api.running import RunningSearch
from tuner.common.errors import InputError, RunInUseError, TunerError
from tuner.common.files import replacing, write_text
from tuner.common.seeds import derive_seed
from tuner.datasets.loading import Split, load_dataset
from tuner.datasets.request import DataRequest, staged_sources
from tuner.runs.record import read_state
from tuner.runs.state import RunState
from tuner.spec.spec import dump_spec

HERE = Path(__file__).parent
PLUGINS = (HERE / "small_networks.py", HERE / "repeats.py")
WEIGHTS = HERE / "networks.npz"
HELD_OUT = 0.4
"""Share of a base set's training images that validation images are taken from."""
STOPS_S, IN_USE_S = 180.0, 120.0
"""Within so many seconds a search that is asked to has stopped, and an earlier one of a killed program has ended."""


@dataclass(frozen=True)
class Places:
    """The folders of a working folder."""

    folder: Path

    def images(self, task: Task) -> Path:
        """The file of a task's images."""
        return self.folder / "images" / f"{task.name}.npz"

    def run(self, task: Task) -> Path:
        """The run of a task's search."""
        return self.folder / "runs" / task.name

    def cache(self, task: Task) -> Path:
        """What is kept for a task's search."""
        return self.folder / "cache" / task.name

    def state(self, task: Task) -> RunState:
        """Return what is recorded of a task so far."""
        record = self.run(task) / "record.jsonl"
        return read_state(record) if record.is_file() else RunState()


def write_images(task: Task, path: Path, cache: Path, notify: Callable[[str], None]) -> None:
    """Write the images of a task as numpy's archive: part of the training images of its base set.

    Images of the test split are one of each class, since a source has some; nothing looks at them.

    Raises:
        DataError: the base set is not at hand.
        InputError: it has too few images.
    """
    request = DataRequest(task.base, validation_fraction=HELD_OUT, image_px=task.px, colour=task.colour)
    staged = staged_sources(os.environ, {})
    data = load_dataset(request, staged=staged, seed=0, cache_dir=cache, notify=notify)
    names = task.classes or data.class_names
    labels = [data.class_names.index(name) for name in names]
    train, validation = sizes(task, len(names))
    numbers = {"train": train, "validation": validation, "test": [1] * len(names)}
    splits = {"train": data.train, "validation": data.validation, "test": data.load_test()}
    arrays: dict[str, np.ndarray] = {"class_names": np.array(names, dtype=str)}
    for name, split in splits.items():
        generator = np.random.default_rng(derive_seed(0, "images", task.name, name))
        wanted = dict(zip(labels, numbers[name], strict=True))
        arrays[f"x_{name}"], arrays[f"y_{name}"] = _taken(split, wanted, generator)
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def _taken(split: Split, wanted: dict[int, int], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return images `[N, H, W, C] uint8` and the places of their labels among those that are wanted."""
    images, labels = split.batch(chosen(split.labels, wanted, generator))
    places = {label: place for place, label in enumerate(wanted)}
    return images, np.array([places[int(label)] for label in labels], np.int64)


def trials_done(state: RunState) -> int:
    """Return how many trials have ended."""
    return sum(trial.ended is not None for trial in state.trials.values())


def is_complete(state: RunState, configurations: int) -> bool:
    """Return whether so many configurations were trained, and those repeated that belong to them."""
    return trials_done(state) >= trials_for(configurations, EVERY)


def measured(task: Task, places: Places) -> TaskTable:
    """Return the table of what is recorded of a task."""
    state = places.state(task)
    return table_of(task, state, {number: first_of(number) for number in state.trials})


def keep_to_networks(folder: Path, weights: Path = WEIGHTS) -> None:
    """Remember the networks that a working folder was begun with.

    Raises:
        InputError: they are not there, or are others now: tables of one folder would be of different networks.
    """
    if not weights.is_file():
        raise InputError(f"{weights} must hold the small networks: python -m benchmarks.images networks makes it")
    digest, known = hashlib.sha256(weights.read_bytes()).hexdigest(), folder / "networks.sha256"
    if not known.is_file():
        write_text(known, digest)
    elif known.read_text() != digest:
        raise InputError(f"{weights} must be what {folder} was begun with; it is not: take another folder")


def measure(task: Task, places: Places, configurations: int, slots: int, ends_at: float) -> bool:
    """Train configurations of a task until all are done or a moment (`time.monotonic()`) has come.

    Returns whether all are done. What the search has kept for itself is removed then.

    Raises:
        TunerError: what the search cannot do.
    """
    state = places.state(task)
    if not is_complete(state, configurations):
        if not places.images(task).is_file():
            write_images(task, places.images(task), places.folder / "cache" / "base", print)
        _search(task, places, trials_for(configurations, EVERY), slots, ends_at)
        state = places.state(task)
    if is_done := is_complete(state, configurations):
        shutil.rmtree(places.cache(task), ignore_errors=True)
    return is_done


def _search(task: Task, places: Places, trials: int, slots: int, ends_at: float) -> None:
    """Begin the search of a task, or go on with it, and stop it when the moment has come."""
    file = write_text(
        places.folder / "specifications" / f"{task.name}.yaml", dump_spec(specification(task, trials, slots))
    )
    study = tuner.Study(file, plugins=PLUGINS, cache=places.cache(task))
    gives_up_at = time.monotonic() + IN_USE_S
    while True:
        search = study.run(
            background=True,
            resume=str(places.run(task)) if places.state(task).study is not None else None,
            runs=places.folder / "runs",
            reports=places.folder / "reports",
            data=[f"{task.name}=npz:{places.images(task)}"],
        )
        try:
            _wait(search, task, ends_at)
        except RunInUseError:  # one of a program that was killed has not ended yet
            if time.monotonic() >= gives_up_at:
                raise
            time.sleep(2.0)
        else:
            return


def _wait(search: RunningSearch, task: Task, ends_at: float) -> None:
    """Wait for a search, and stop it when the moment has come or this program is interrupted."""
    told = ""
    try:
        while True:
            try:
                search.wait(min(10.0, max(0.0, ends_at - time.monotonic())))
                return
            except TimeoutError:
                if (said := f"{task.name}: {search.progress.text}") != told:
                    told = said
                    print(said, flush=True)
                if time.monotonic() >= ends_at:
                    break
    except KeyboardInterrupt:
        _stop(search)
        raise
    _stop(search)


def _stop(search: RunningSearch) -> None:
    """Stop a search as Ctrl-C does, and at once where it takes its time."""
    for timeout_s in (STOPS_S, None):
        search.stop()
        try:
            search.wait(timeout_s)
        except TimeoutError:
            continue
        except TunerError:
            if search.run is not None:  # else it had not begun: that is no mistake
                raise
        return
