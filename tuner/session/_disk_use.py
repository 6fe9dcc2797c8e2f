"""The disk that the checkpoints of a search take: forecast by `--plan`, and compared with its room while it runs.

Of every trial that may go on, the newest checkpoints are kept; a scheduler that pauses keeps most trials so to the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.algorithms.schedulers import SCHEDULERS
from tuner.common.errors import InputError
from tuner.common.files import format_size, free_bytes
from tuner.common.process import usable_cpus
from tuner.common.seeds import derive_seed
from tuner.models.architectures import ARCHITECTURES
from tuner.models.backend import configure_backend, release_memory
from tuner.runs.checkpoint_retention import CHECKPOINTS_KEPT
from tuner.runs.events import CheckpointSaved, Event, TrialEnded
from tuner.runs.state import RunState
from tuner.session._plan import most_epochs, planned_rungs
from tuner.session._resolved import ResolvedSearch, Study
from tuner.session.preparation import backbone_configurations
from tuner.spec.space import Configuration, sample
from tuner.training.checkpoint import FILE_NAME

if TYPE_CHECKING:
    from tuner.datasets.prepared import PreparedCopy

BYTES_PER_TRAINED_PARAMETER = 16
"""In a checkpoint: its value, its value in the best epoch, and two moments of the optimizer, each in float32."""
SAMPLES = 8
"""Random configurations whose networks are built to see how large a checkpoint is."""
SEEN = 3
"""Checkpoints of the search itself, after which its own size is taken for theirs."""


def checkpoints_at_once(search: ResolvedSearch, slots: int) -> int:
    """Return the largest number of checkpoints that a search has at a time, if halving goes as on paper."""
    scheduler = SCHEDULERS[search.policy.scheduler.value]
    if scheduler.is_population:  # members go on from each other's: all are kept
        return most_epochs(search)
    open_trials = CHECKPOINTS_KEPT * min(slots, search.budget.trials) + 1  # and the best of those that are over
    if not scheduler.pauses:
        return open_trials
    reach = [rung.trials for rung in planned_rungs(search)]
    waiting = [here - further for here, further in pairwise(reach)]
    return sum(waiting[:1]) + CHECKPOINTS_KEPT * sum(waiting[1:]) + open_trials  # the first is one


def checkpoint_bytes(study: Study, image_shape: tuple[int, int, int], num_classes: int) -> float:
    """Return the mean size of a checkpoint over a few random configurations.

    Their networks are built to count their weights. Nothing is fetched: pretrained weights are as many as random ones.
    """
    configure_backend()  # first: it keeps TensorFlow from telling of itself
    from tuner.models.network import build_model, freeze, parameter_counts

    generator = np.random.default_rng(derive_seed(study.seed, "disk use"))
    sizes = []
    for configuration in (sample(study.space, generator) for _ in range(SAMPLES)):
        try:
            built = build_model(_without_weights(configuration), image_shape, num_classes, 0)
        except InputError:  # such a trial fails, and has no checkpoint
            continue
        if built.backbone is not None:
            freeze(built, min(int(str(configuration.get("unfreeze_depth") or 0)), len(built.blocks)))
        sizes.append(parameter_counts(built.model)[1] * BYTES_PER_TRAINED_PARAMETER)
    release_memory()
    return sum(sizes) / max(1, len(sizes))


def _without_weights(configuration: Configuration) -> Configuration:
    architecture = ARCHITECTURES[str(configuration["architecture"])]
    if architecture.is_own or not architecture.is_backbone:
        return configuration
    return {**configuration, "weights": "none"}


def disk_use_words(search: ResolvedSearch, data: PreparedCopy | None, runs: Path, cache: Path) -> list[str]:
    """Return what a search will take on the disks of its runs and of its cache, a line each.

    The networks depend on the data: before these are prepared, only the number of checkpoints is known.
    """
    number = checkpoints_at_once(search, search.shares.at_once or usable_cpus())
    where = _with_room(runs)
    if search.study.trainable is not None:
        return [f"disk: about {number:,} checkpoints at a time {where}, each as large as the state that is yielded"]
    if data is None:
        return [f"disk: about {number:,} checkpoints at a time {where}; how large, is known when the data are prepared"]
    size_bytes = checkpoint_bytes(search.study, data.image_shape, len(data.class_names))
    whole = f"about {format_size(number * size_bytes)} at a time ({number:,} of {format_size(size_bytes)})"
    lines = [f"disk: checkpoints take {whole} {where}"]
    if number * size_bytes > free_bytes(runs):
        lines.append("warning: that is more than there is room for")
    activations = search.training.activations
    if activations.enabled and backbone_configurations(search.study.space):
        bound = f"at most {activations.max_gb:,.0f} GB (activations.max_gb)"
        lines.append(f"disk: cached activations take {bound} {_with_room(cache)}")
    return lines


def _with_room(folder: Path) -> str:
    return f"in {folder}, which has {format_size(free_bytes(folder))} left"


class CheckpointWatch:
    """A listener of a record that says once when future checkpoints will not fit on their disk."""

    def __init__(self, checkpoints: Path, at_once: int, state: RunState, say: Callable[[str], None]) -> None:
        self._folder, self._at_once, self._say = checkpoints, at_once, say
        kept = (trial.number for trial in state.trials.values() if trial.ended is None and trial.checkpoint)
        self._kept = Counter(kept)
        self._sizes_bytes: list[int] = []
        self._has_told = False

    def __call__(self, event: Event) -> None:
        """Count the checkpoints after an event."""
        if isinstance(event, TrialEnded):
            del self._kept[event.trial]
        if isinstance(event, CheckpointSaved) and not self._has_told:
            self._kept[event.trial] = min(CHECKPOINTS_KEPT, self._kept[event.trial] + 1)
            self._look(self._folder / event.path / FILE_NAME)

    def _look(self, file: Path) -> None:
        try:
            self._sizes_bytes.append(file.stat().st_size)
            left_bytes = free_bytes(self._folder)
        except OSError:  # removed already, or a disk that does not answer: trials will tell
            return
        mean_bytes = sum(self._sizes_bytes) / len(self._sizes_bytes)
        to_come = max(0, self._at_once - self._kept.total())
        if len(self._sizes_bytes) >= SEEN and to_come * mean_bytes > left_bytes:
            self._has_told = True
            self._say(
                f"the disk of {self._folder} has {format_size(left_bytes)} left, and about {to_come:,} more "
                f"checkpoints of {format_size(mean_bytes)} are to come: make room, or stop and go on with fewer trials"
            )
