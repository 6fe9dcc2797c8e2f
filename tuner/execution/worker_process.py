"""The processes that train, and all that one of them keeps from trial to trial: data, activations, networks. No Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.cluster.slots import Packing, Slots
from tuner.datasets.loading import DataRequest, load_dataset
from tuner.execution.heartbeat import Pulse
from tuner.models.backend import configure_backend
from tuner.training.settings import ActivationSettings, TrialSettings

if TYPE_CHECKING:
    from tuner.datasets.loading import Dataset
    from tuner.training.activations import Activations
    from tuner.training.compiled_models import Workbench
    from tuner.training.trial import Trial


@dataclass(frozen=True)
class WorkerContext:
    """All that the trials of a search share; small, since the data are found on the node by name."""

    data: DataRequest
    staged: Mapping[str, str]
    cache_dir: Path | None
    settings: TrialSettings
    """With the study's seed; each trial derives its own from it."""
    activations: ActivationSettings | None
    cpus: float


@dataclass(frozen=True)
class Guard:
    """The end of a worker, as far as it can see to it itself."""

    last_words: Path | None = None
    """The folder where it leaves why it dies."""
    memory_mb: float | None = None
    """It ends itself when it takes more; None: there is no limit."""


@dataclass(frozen=True)
class Workers:
    """The processes that train trials and finalists."""

    context: WorkerContext
    packing: Packing
    slots: Slots | None
    """How many run at once on a cluster that is followed; None: as many as `packing` says, all the time."""
    guard: Guard

    def at_once(self) -> int:
        """Return how many may run now."""
        return self.packing.trials if self.slots is None else self.slots()


class WorkerProcess:
    """Makes trials that share what is costly; one at a time."""

    def __init__(self, context: WorkerContext) -> None:
        configure_backend(context.cpus)
        self.context = context
        self.pulse = Pulse()
        """Signs of life, of whatever its user says that it is at."""
        self.notices: list[str] = []
        """What users should know of; whoever reports it takes it away."""
        self._data: Dataset | None = None
        self._activations: Activations | None = None
        self._workbench: Workbench | None = None

    def begin(self, configuration: Mapping[str, Any], seed: int) -> Trial:
        """Return a trial of this configuration; raises as `trial.Trial` and `datasets.load_dataset` do."""
        from tuner.training.compiled_models import Workbench
        from tuner.training.trial import Trial

        self._workbench = self._workbench or Workbench()
        settings = replace(self.context.settings, seed=seed)
        return Trial(configuration, self.open_data(), settings, self._open_activations(), self._workbench, self.pulse)

    def open_data(self) -> Dataset:
        """Return the data set, read from this node's prepared copy."""
        context = self.context
        self._data = self._data or load_dataset(
            context.data,
            staged=context.staged,
            seed=context.settings.seed,
            cache_dir=context.cache_dir,
            notify=lambda _text: None,
        )
        return self._data

    def _open_activations(self) -> Activations | None:
        from tuner.training.activations import Activations

        if self._activations is None and self.context.activations is not None:
            self._activations = Activations(self.open_data(), self.context.activations, self.notices.append)
        return self._activations

    def taken_cache_use(self) -> dict[str, int | None] | None:
        """Return what was read of the cache since this was last asked, by name; None: nothing."""
        use = self._activations.taken_use() if self._activations is not None else None
        return None if use is None else asdict(use)

    def release(self) -> None:
        """Let go of the activations that were read: what the next trial does not read may have to make room."""
        if self._activations is not None:
            self._activations.release()
