"""The interface between trials, their makers, and the code that drives them. Light: no Keras, any trial can be one.

`trial.Trial` trains a network. Benchmarks and tests have trials that sleep, that follow a known curve, or that crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from tuner.runs.epoch import Epoch
from tuner.training.settings import Ended

if TYPE_CHECKING:
    import numpy as np

    from tuner.datasets.loading import Dataset, Split


@dataclass(frozen=True)
class Progress:
    """The progress of a build of cached activations, in images."""

    done: int
    total: int

    @property
    def is_finished(self) -> bool:
        """Whether all images are done."""
        return self.done >= self.total


@dataclass(frozen=True)
class ModelCost:
    """The costs of a trial's network in use."""

    model_mb: float | None = None
    """Size of all weights as they are stored, in units of 2**20 bytes; None: nobody knows it."""
    seconds_per_image: float | None = None
    """Inference; None: it was not asked for, or could not be measured."""
    problem: str | None = None
    """Why it could not be measured."""


class TrialLike(Protocol):
    """A configuration in training, an epoch at a time; `ended` says how it ended by itself."""

    epoch: int
    seconds: float
    """Seconds of all its epochs, those of earlier processes too."""
    ended: Ended | None
    setup_s: float
    """Seconds that it took to build."""

    @property
    def best(self) -> float | None:
        """The best value of the metric so far."""

    @property
    def parameters(self) -> int | None:
        """Parameters of its network; None: nobody knows them."""

    @property
    def trainable_parameters(self) -> int | None:
        """Those that it trains."""

    @property
    def batch_size_used(self) -> int | None:
        """Images of a training step; None: only its author knows."""

    @property
    def cut(self) -> str | None:
        """The place whose cached activations are read; None: training starts from the images."""

    @property
    def images_per_epoch(self) -> int:
        """The training images of an epoch."""

    def work_on_activations(self, seconds: float) -> Progress:
        """Do some of the work that the cache lacks for the next epoch, for about so long."""

    def advance(self) -> Epoch | None:
        """Train and validate one epoch, and return its results; None if the trial failed in it (see `ended`)."""

    def measure(self) -> ModelCost:
        """Measure the costs of the network in use."""

    def save(self, directory: Path) -> None:
        """Write a checkpoint from which `load` goes on as if there had been no stop."""

    def load(self, directory: Path) -> None:
        """Resume from a checkpoint; raises RunError when it is damaged or of another trial."""


class TrainedTrial(TrialLike, Protocol):
    """A trial with something that can be used when it is trained: a network, or a state."""

    configuration: dict[str, Any]
    data: Dataset
    model_suffix: str
    """Of the file that `save_model` writes."""

    def restore_best(self) -> None:
        """Return to what it was in its best epoch."""

    def probabilities(self, split: Split) -> np.ndarray:
        """Return the probability of each class for each image of a split, `[N, K] float32`."""

    def save_model(self, path: Path) -> None:
        """Write what it is now, for use without tuner's trials."""


def trained(trial: TrialLike) -> TrainedTrial | None:
    """Return a trial as one that leaves something behind; None if it does not."""
    return cast(TrainedTrial, trial) if hasattr(trial, "save_model") else None


def drive(trial: TrialLike, report: Callable[[Epoch], None], checkpoint_directory: Path | None = None) -> None:
    """Train a trial to its own end, here; `report` is told of each epoch, when its checkpoint has been written."""
    while trial.ended is None:
        if (result := trial.advance()) is not None:
            if checkpoint_directory is not None:
                trial.save(checkpoint_directory)
            report(result)


class TrialMaker(Protocol):
    """A maker of the trials of one process, one at a time, which keeps whatever is costly from trial to trial."""

    def prepare(self) -> None:
        """Prepare the things that all trials share; it may take long."""

    def begin(
        self, configuration: Mapping[str, Any], seed: int, batches: int | None = None, fold: int = 0
    ) -> TrialLike:
        """Return a new trial of this configuration, on at most so many batches of the training images.

        `fold` is the one that it validates on, where the data are parted into folds.
        """

    def taken_cache_use(self) -> dict[str, int | None] | None:
        """Return what was read of the cache since this was last asked, by name; None: nothing."""

    def release(self) -> None:
        """Release the things that only the last trial has read."""
