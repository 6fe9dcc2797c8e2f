"""The process that trains trials: their maker, signs of life, notices and reasons of its death. No Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.cluster.slots import Packing, Slots
from tuner.common.plugins import Plugin, open_plugins
from tuner.datasets.loading import Split, load_dataset
from tuner.datasets.request import DataRequest
from tuner.execution.exit_reason import ExitReasonFile, watch_memory
from tuner.execution.heartbeat import GIVE_EVERY_S, Pulse
from tuner.models.backend import configure_backend, hide_gpus
from tuner.models.parameters import general
from tuner.training.settings import ActivationSettings, TrialSettings
from tuner.training.trainable import TRAINABLES, TrainableTrial
from tuner.training.trial_like import TrialMaker

if TYPE_CHECKING:
    from tuner.datasets.loading import Dataset
    from tuner.training.activations import Activations
    from tuner.training.compiled_models import CompiledModels
    from tuner.training.trial import Trial

OnBatch = Callable[[int], None]
"""Told of every batch, with the number of the epoch."""
Notify = Callable[[str], None]
"""Told of what users should know."""


class OpenedData:
    """The data of a process: read once from this node's prepared copy, with the parts of one fold at a time."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._whole: Dataset | None = None
        self._fold: tuple[int, Dataset] | None = None

    def of_fold(self, fold: int) -> Dataset:
        """Return the data set with the parts of a fold; raises as `load_dataset` does."""
        context = self._context
        self._whole = self._whole or load_dataset(
            context.data,
            staged=context.staged,
            seed=context.settings.seed,
            cache_dir=context.cache_dir,
            notify=lambda _text: None,
            threads=max(1, int(context.cpus)),
            copy=context.copy,
        )
        if self._fold is None or self._fold[0] != fold:
            self._fold = fold, self._whole.fold(fold)
        return self._fold[1]


class KerasTrials:
    """The maker of trials that train networks; it keeps the data, the cached activations and the compiled networks."""

    def __init__(self, context: WorkerContext, on_batch: OnBatch, notify: Notify) -> None:
        configure_backend(context.cpus)
        from tuner.models.data_parallel import replicate

        replicate(context.gpus or 0.0)
        self._context, self._on_batch, self._notify = context, on_batch, notify
        self._opened = OpenedData(context)
        self._data: Dataset | None = None
        self._activations: Activations | None = None
        self._compiled_models: CompiledModels | None = None

    def prepare(self) -> None:
        """Open the data; raises as `load_dataset` does."""
        self._open_data(0)

    def begin(self, configuration: Mapping[str, Any], seed: int, batches: int | None = None, fold: int = 0) -> Trial:
        """Return a trial of this configuration; raises as `Trial` and `load_dataset` do.

        One on a part of the data computes the activations of that part alone.
        """
        from tuner.training.compiled_models import CompiledModels
        from tuner.training.trial import Trial

        self._compiled_models = self._compiled_models or CompiledModels()
        settings, data = replace(self._context.settings, seed=seed), self._open_data(fold)
        if batches is None:
            return Trial(
                configuration, data, settings, self._open_activations(data), self._compiled_models, self._on_batch
            )
        part = _some_batches(data, batches, configuration)
        return Trial(configuration, part, settings, self._activations_of(part), self._compiled_models, self._on_batch)

    def _open_data(self, fold: int) -> Dataset:
        """Return the data set with the parts of a fold; of another one, the activations are given back first."""
        data = self._opened.of_fold(fold)
        if data is not self._data:
            self.release()
            self._data, self._activations = data, None
        return data

    def _open_activations(self, data: Dataset) -> Activations | None:
        self._activations = self._activations or self._activations_of(data)
        return self._activations

    def _activations_of(self, data: Dataset) -> Activations | None:
        from tuner.training.activations import Activations

        kept = self._context.activations
        return Activations(data, kept, self._notify) if kept is not None else None

    def taken_cache_use(self) -> dict[str, int | None] | None:
        """Return what was read of the cache since this was last asked, by name; None: nothing."""
        use = self._activations.taken_use() if self._activations is not None else None
        return None if use is None else asdict(use)

    def release(self) -> None:
        """Release the activations that were read: they may have to make room."""
        if self._activations is not None:
            self._activations.release()


class TrainableTrials:
    """The maker of trials that train by a function of one's own, which a plugin has registered under `name`."""

    def __init__(self, context: WorkerContext, on_batch: OnBatch, notify: Notify, name: str) -> None:
        configure_backend(context.cpus)
        self._context, self._on_batch, self._name = context, on_batch, name
        self._opened = OpenedData(context)
        self._latest: TrainableTrial | None = None

    def prepare(self) -> None:
        """Open the data; raises as `load_dataset` does."""
        self._opened.of_fold(0)

    def begin(
        self, configuration: Mapping[str, Any], seed: int, batches: int | None = None, fold: int = 0
    ) -> TrainableTrial:
        """Return a trial of this configuration; raises as `TrainableTrial` and `load_dataset` do."""
        self.release()
        data = self._opened.of_fold(fold)
        if batches is not None:
            data = _some_batches(data, batches, configuration)
        settings = replace(self._context.settings, seed=seed)
        self._latest = TrainableTrial(TRAINABLES[self._name], configuration, data, settings, self._on_batch)
        return self._latest

    def taken_cache_use(self) -> None:
        """Return None: no activations are cached."""

    def release(self) -> None:
        """End the function of the last trial, so that what it holds is freed."""
        if self._latest is not None:
            self._latest.close()


def _some_batches(data: Dataset, batches: int, configuration: Mapping[str, Any]) -> Dataset:
    """Return the data set with some of the images alone, a fifth as many for validation."""
    number = batches * int(str(general(configuration, "batch_size")))
    return replace(data, train=_some(data.train, number), validation=_some(data.validation, max(2, number // 5)))


def _some(split: Split, images: int) -> Split:
    """Return so many images of a split, of all its classes: the first ones may be of one, which has no AUC."""
    by_class = np.argsort(split.labels, kind="stable")
    places = np.linspace(0, len(split) - 1, min(images, len(split))).astype(np.int64)
    return split.take(np.sort(by_class[places]))


@dataclass(frozen=True)
class TrialKind:
    """The trials of a search: their maker in its processes, and how often they are saved and give signs of life."""

    make: Callable[[WorkerContext, OnBatch, Notify], TrialMaker] = KerasTrials
    """Called in each process; Ray pickles it, so it must be importable there. What loads Keras is imported within."""
    checkpoint_every_s: float = 5.0
    """Seconds of training that a killed worker may lose; what a trial has reported is in the record in any case."""
    sign_every_s: float = GIVE_EVERY_S
    why_untested: str = ""
    """Why its trials cannot be judged on the test split; empty: they can."""


@dataclass(frozen=True)
class WorkerContext:
    """The facts that all trials of a search share; small, since the data are found on the node by name."""

    data: DataRequest
    staged: Mapping[str, str]
    cache_dir: Path | None
    settings: TrialSettings
    """With the study's seed; each trial derives its own from it."""
    activations: ActivationSettings | None
    cpus: float
    trial_kind: TrialKind = field(default_factory=TrialKind)
    plugins: tuple[Plugin, ...] = ()
    """Own code, with its text: the process may be on a machine where it does not lie."""
    copy: Path | None = None
    """The prepared copy that the driver has opened; on another machine there may be none."""
    gpus: float | None = None
    """The part of a GPU that Ray gives to a trial. With 0 it sees none, or it would take the memory of others: Ray
    hides none (RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO). None: it trains in a program that sees what it sees.
    Above 1: a network is trained on so many at once."""

    def trials(self, on_batch: OnBatch = lambda _epoch: None, notify: Notify = lambda _text: None) -> TrialMaker:
        """Return the maker of the trials of this process; raises PluginError where own code cannot be loaded here."""
        if self.gpus == 0:
            hide_gpus()
        if any(b"keras" in text for plugin in self.plugins for text in plugin.texts.values()):
            configure_backend(self.cpus)  # before own code imports it; a training function may do without
        open_plugins(self.plugins)
        return self.trial_kind.make(self, on_batch, notify)


@dataclass(frozen=True)
class Guard:
    """The measures against a worker that dies or takes too much memory."""

    exit_reasons: Path | None = None
    """The folder where it leaves why it dies."""
    memory_mb: float | None = None
    """It ends itself when it takes more; None: there is no limit."""


@dataclass(frozen=True)
class Workers:
    """The processes that train trials and finalists."""

    context: WorkerContext
    packing: Packing
    slots: Slots | None
    """Slots on a cluster, whose nodes are followed; None: as many as `packing` says, all the time."""
    guard: Guard

    def at_once(self) -> int:
        """Return how many may run now."""
        return self.packing.trials if self.slots is None else self.slots()


class WorkerProcess:
    """A process that trains one trial after the other, as far as this does not depend on who drives them."""

    def __init__(self, context: WorkerContext, guard: Guard | None = None) -> None:
        self.context = context
        self.pulse = Pulse(context.trial_kind.sign_every_s)
        """Signs of life, of whatever its user says that it is at."""
        self.notices: list[str] = []
        """Texts for users, until the next `taken_notices`."""
        self.trials = context.trials(self.pulse, self.notices.append)
        self._exit_reason = ExitReasonFile(guard.exit_reasons if guard is not None else None)
        if guard is not None and guard.memory_mb is not None:
            watch_memory(guard.memory_mb, self._exit_reason.say)

    def take_on(self, name: str) -> None:
        """Start signs of life and the exit reason of this trial."""
        self._exit_reason.begin(name)
        self.pulse.begin(name)

    def let_go(self) -> None:
        """End signs of life and the exit reason of the trial."""
        self._exit_reason.end()
        self.pulse.end()
        self.trials.release()

    def taken_notices(self) -> list[str]:
        """Return the texts for users since the last call."""
        taken, self.notices[:] = list(self.notices), []
        return taken
