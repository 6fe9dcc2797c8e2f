"""The course of a trial's metric: its best value, how long it has not improved, and when that ends the trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.common.metrics import is_better, oriented
from tuner.training.recipes.schedules import PLATEAU_EPOCHS
from tuner.training.settings import Ended, TrialSettings


class Course:
    """The best value of a trial so far, and the patience that is left with it."""

    def __init__(self, settings: TrialSettings) -> None:
        self._settings = settings
        self.best: float | None = None
        self._reference: float | None = None  # what the next improvement is measured against
        self._epochs_waited = 0
        self.reductions = 0
        """How often the rate is reduced where the schedule is `plateau`."""

    def begin_phase(self) -> None:
        """Start to count anew: patience counts in the phase that a trial is in."""
        self._epochs_waited = self.reductions = 0

    def take(self, value: float) -> bool:
        """Take in the value of an epoch, and return whether it is the best so far."""
        settings = self._settings
        is_best = self.best is None or is_better(value, self.best, settings.mode)
        if is_best:
            self.best = value
        if self._reference is None or oriented(value - self._reference, settings.mode) > settings.min_delta:
            self._reference, self._epochs_waited = value, 0
        else:
            self._epochs_waited += 1
            self.reductions += self._epochs_waited % PLATEAU_EPOCHS == 0
        return is_best

    def end(self, epoch: int, *, is_last_phase: bool = True) -> Ended | None:
        """Return the end of the trial after an epoch, if it has come: `patience` counts in its last phase only."""
        settings = self._settings
        if epoch >= settings.max_epochs:
            return Ended("completed", "max_epochs")
        if is_last_phase and settings.patience is not None and self._epochs_waited >= settings.patience:
            return Ended("completed", "early_stopping")
        return None

    def counters(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it."""
        counts = {"epochs_waited": self._epochs_waited, "reductions": self.reductions}
        return {"best": self.best, "reference": self._reference, **counts}

    def restore(self, counters: Mapping[str, Any]) -> None:
        """Go on as when `counters` were taken."""
        self.best, self._reference = counters["best"], counters["reference"]
        self._epochs_waited = int(counters["epochs_waited"])
        self.reductions = int(counters.get("reductions", 0))  # checkpoints of an earlier tuner lack it
