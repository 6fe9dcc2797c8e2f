"""The limit: the trials that tuner chose, in its order, by a bare Keras loop in one process over tuner's own cache.

No search, no Ray, no early stopping, no checkpoints, no reporting: a network, `compile`, `fit`, the next. From tuner
come the record (which trials, how many epochs of each phase), the images and labels as it split them (`load_dataset`),
the arrays in its cache, and the layers above a cut (`build_model`, `above`): the same networks on the same numbers.
TensorFlow has all cores, as it takes them by itself. What the cache does not hold is trained from the images.

As such a loop does, it builds, compiles and traces each phase of each trial anew; the backbone is loaded once.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.race.peer import Search
from tuner.common.errors import InputError, RunError
from tuner.common.seeds import trial_seed
from tuner.runs.record import read_state
from tuner.runs.state import RunState
from tuner.training.activation_store import ARRAY, META, list_entries

if TYPE_CHECKING:
    import keras

    from tuner.datasets.loading import Dataset
    from tuner.models.network import TrialModel
    from tuner.training.cut_points import Place

VALIDATION_BATCH_SIZE = 256
STEPS_PER_EXECUTION = 32


@dataclass(frozen=True)
class Planned:
    """What tuner trained of one trial."""

    number: int
    configuration: Mapping[str, Any]
    head_epochs: int
    fine_tune_epochs: int


def plan(state: RunState) -> list[Planned]:
    """The trials of a search that finished an epoch, in the order in which they were started.

    Raises:
        InputError: a trial has neither phase of a backbone, so there is no cut to train from.
    """
    found = []
    for trial in state.trials.values():  # in the order of their first events
        phases = [epoch.phase for epoch in trial.epochs]
        if "scratch" in phases:
            raise InputError(f"trial {trial.number} must have a backbone; its phase is scratch")
        if phases:
            found.append(Planned(trial.number, trial.configuration, phases.count("head"), phases.count("fine_tune")))
    return found


def find_entry(cache: Path, place: str, images: int, array: str = "train") -> Path | None:
    """The array of a cut in the cache, of the images that the validation split has for itself or of others; or None.

    Raises:
        RunError: there are several (the cache has served another search too), or it is of other images.
    """
    whole = [entry for entry in list_entries(cache / "activations") if entry.status == "whole"]
    fitting = [entry for entry in whole if (entry.identity["array"], entry.identity["place"]) == (array, place)]
    if not fitting:
        return None
    if len(fitting) > 1:
        raise RunError(f"{cache}: must hold one entry of {place!r}, of one search; got {len(fitting)}")
    array = np.load(fitting[0].folder / ARRAY, mmap_mode="r", allow_pickle=False)
    if len(array) != images:
        raise RunError(f"{fitting[0].folder / META}: must be of {images} images; got {len(array)}")
    return fitting[0].folder / ARRAY


class Arrays:
    """What the phases read, each loaded once and kept in memory."""

    def __init__(self, data: Dataset, cache: Path) -> None:
        self._splits = {"train": data.train, "validation": data.validation}
        self._cache = cache
        self._loaded: dict[tuple[str, str], np.ndarray | None] = {}

    def is_kept(self, place: Place) -> bool:
        """Whether both splits are in the cache at this place."""
        return all(self._at(split, place.name) is not None for split in self._splits)

    def read(self, split: str, place: Place | None) -> tuple[np.ndarray, np.ndarray]:
        """Activations at a place (None: the images) `[N, ...]`, and the labels `[N] int64`."""
        images = self._at(split, "" if place is None else place.name)
        if images is None:
            raise RunError(f"{self._cache}: no entry of {place} for {split}")
        return images, self._splits[split].labels

    def _at(self, split: str, name: str) -> np.ndarray | None:
        if (split, name) not in self._loaded:
            self._loaded[split, name] = self._load(split, name)
        return self._loaded[split, name]

    def _load(self, split: str, name: str) -> np.ndarray | None:
        rows = self._splits[split]
        if not name:
            return rows.batch(np.arange(len(rows)))[0]
        array = "train" if rows.images is self._splits["train"].images else "validation"
        path = find_entry(self._cache, name, len(rows.images), array)
        # Keras would make float32 of float16 at every call of `fit`; once is enough.
        return None if path is None else np.load(path, mmap_mode="r", allow_pickle=False)[rows.rows].astype(np.float32)


class Loop:
    """The bare loop: one backbone, built once and set back after a trial that has trained some of it."""

    def __init__(self, arrays: Arrays, data: Dataset, search: Search) -> None:
        self._arrays, self._data, self._search = arrays, data, search
        self._backbone: keras.Model | None = None
        self._initial: list[np.ndarray] = []

    def train(self, trial: Planned) -> None:
        """All epochs of a trial, its head first."""
        from tuner.models.parameters import general

        built = self._build(trial)
        rate, epochs = float(general(trial.configuration, "learning_rate")), trial.head_epochs
        self._fit(trial, built, 0, rate, 0, epochs)
        if trial.fine_tune_epochs:
            rate *= float(general(trial.configuration, "fine_tune_learning_rate_factor"))
            depth = int(trial.configuration["unfreeze_depth"])
            self._fit(trial, built, depth, rate, epochs, epochs + trial.fine_tune_epochs)
            built.backbone.set_weights(self._initial)  # type: ignore[union-attr]  # plan() refuses what has none

    def _build(self, trial: Planned) -> TrialModel:
        from tuner.models.network import build_model

        seed = trial_seed(self._search.seed, trial.number)
        shape, num_classes = self._data.image_shape, len(self._data.class_names)
        built = build_model(trial.configuration, shape, num_classes, seed, self._backbone)
        if self._backbone is None and built.backbone is not None:
            self._backbone, self._initial = built.backbone, built.backbone.get_weights()
        return built

    def _fit(self, trial: Planned, built: TrialModel, depth: int, rate: float, begin: int, end: int) -> None:
        """One phase: epochs `begin` + 1 to `end`, with so many blocks unfrozen."""
        import keras

        from benchmarks.race.peer_model import EpochLog
        from tuner.models.network import freeze
        from tuner.training.cut_points import above, place_below, places

        freeze(built, depth)
        place = place_below(built, places(built), depth)
        if place is not None and not self._arrays.is_kept(place):
            place = None
        network = above(built, place, lambda layer: layer)
        network.compile(
            optimizer=keras.optimizers.Adam(rate),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=STEPS_PER_EXECUTION,
            jit_compile=False,
        )
        images, labels = self._arrays.read("train", place)
        network.fit(
            images,
            labels,
            batch_size=int(trial.configuration["batch_size"]),
            initial_epoch=begin,
            epochs=end,
            validation_data=self._arrays.read("validation", place),
            validation_batch_size=VALIDATION_BATCH_SIZE,
            callbacks=[EpochLog(self._search, str(trial.number), trial.configuration)],
            verbose=0,
        )


def run(search: Search, record: Path, cache: Path) -> None:
    """Train what the record holds, trial by trial, until all are done (or the harness ends this process)."""
    from tuner.datasets.images import AskedSize
    from tuner.datasets.loading import load_dataset
    from tuner.datasets.request import DataRequest

    state = read_state(record)
    if state.study is None:
        raise RunError(f"{record}: must begin with what was searched")
    trials = plan(state)
    height, width, _ = state.study.data["image_shape"]
    request = DataRequest(**state.study.specification["data"], asked=AskedSize(height, width, False))
    staged = {request.source: str(state.study.data["source"])}
    data = load_dataset(request, staged=staged, seed=state.study.seed, cache_dir=cache, notify=print)
    loop = Loop(Arrays(data, cache), data, search)
    for trial in trials:
        loop.train(trial)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race.limit", description=__doc__)
    for name in ("record", "cache", "data", "epochs-file", "scratch"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--launched", type=float, required=True)
    parser.add_argument("--image-px", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    told = vars(parser.parse_args())
    record, cache = told.pop("record"), told.pop("cache")
    run(Search(**told), record, cache)


if __name__ == "__main__":
    main()
