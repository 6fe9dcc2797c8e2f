"""What Ray Tune reports of its trials, written into the record as it happens."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from tuner.events import (
    CheckpointSaved,
    ConfigurationChanged,
    EpochReported,
    Facts,
    Notice,
    TrialEnded,
    TrialMeasured,
    TrialPaused,
    TrialResumed,
    TrialStarted,
)
from tuner.halving import Halving
from tuner.record import Record
from tuner.schedulers import METRIC, TIME
from tuner.worker import merged_configuration

CHECKPOINTS_KEPT = 2
"""Per trial: the newest, and the one before, because a pause or a lost worker may still refer to it."""
_EPOCH_FIELDS = ("phase", "seconds", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")


class Recorder(Callback):
    """Appends an event for everything that happens to a trial; runs in the driver, before Ray goes on."""

    def __init__(
        self,
        record: Record,
        run_path: Path,
        keep_all_checkpoints: bool,
        on_building: Callable[[int, int, int], None],
        halving: Halving | None = None,
    ) -> None:
        self._record, self._on_building, self._halving = record, on_building, halving
        self._keep_all_checkpoints = keep_all_checkpoints  # members of a population go on from each other's
        self._checkpoints: dict[int, list[Any]] = {}
        self._run_path = run_path
        self._numbers: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray pickles callbacks for Tuner.restore, which is not used

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial got a slot: for the first time, again in this session (nothing new), or after an earlier one."""
        if trial.trial_id in self._numbers:
            return
        # Kept from here on: a population copies configs, and the numbers in them, from trial to trial.
        number = self._numbers[trial.trial_id] = int(trial.config["trial"])
        known = self._record.state.trials.get(number)
        if known is not None:
            self._record.append(TrialResumed(trial=number, epoch=known.epochs[-1].epoch if known.epochs else 0))
            return
        configuration = merged_configuration(trial.config)
        self._record.append(TrialStarted(trial=number, configuration=configuration, origin=trial.config["origin"]))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial goes on elsewhere after its worker was lost."""
        number = self._numbers[trial.trial_id]
        checkpoint = self._record.state.trials[number].checkpoint
        self._record.append(TrialResumed(trial=number, epoch=checkpoint.epoch if checkpoint else 0))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """One epoch, or word of what is done before it."""
        for text in result["notices"]:
            self._record.append(Notice(text=text))
        if result.get("building"):
            self._on_building(self._numbers[trial.trial_id], *result["building"])
        if not result["has_epoch"]:
            return
        number, epoch = self._numbers[trial.trial_id], int(result[TIME])
        configuration = merged_configuration(trial.config)
        if configuration != self._record.state.trials[number].configuration:
            self._record.append(ConfigurationChanged(trial=number, epoch=epoch, configuration=configuration))
        fields = {name: result[name] for name in _EPOCH_FIELDS}
        self._record.append(EpochReported(trial=number, epoch=epoch, best_so_far=result[METRIC], **fields))
        if self._record.state.trials[number].measured is None and result.get("parameters") is not None:
            size_mb, seconds = result.get("model_mb"), result.get("seconds_per_image")
            self._record.append(
                TrialMeasured(
                    trial=number, parameters=result["parameters"], model_mb=size_mb, seconds_per_image=seconds
                )
            )

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """A checkpoint is on disk: the one before the last is no longer needed."""
        path = os.path.relpath(checkpoint.path, self._run_path)
        number, epoch = self._numbers[trial.trial_id], int(trial.last_result.get(TIME, 0))
        self._record.append(CheckpointSaved(trial=number, epoch=epoch, path=path))
        kept = self._checkpoints.setdefault(number, [])
        kept.append(checkpoint)
        if len(kept) > CHECKPOINTS_KEPT and not self._keep_all_checkpoints:
            old = kept.pop(0)
            if old.path != checkpoint.path:
                old.filesystem.delete_dir(old.path)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial ended by itself, or the scheduler stopped it, for good or until it is promoted."""
        result = trial.last_result or {}
        number = self._numbers.get(trial.trial_id)
        if number is not None and self._halving is not None and number in self._halving.paused:
            self._record.append(TrialPaused(trial=number, epoch=int(result[TIME]), **_facts(result)))
        elif number is not None:
            self._end(trial, result.get("ended_status") or "stopped", result.get("ended_reason") or "scheduler")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's worker was lost too often."""
        if trial.trial_id in self._numbers:
            error = (str(trial.get_error()) if trial.get_error() else "").strip().splitlines()
            self._end(trial, "failed", f"worker lost: {error[-1] if error else 'no message'}"[:300])

    def _end(self, trial: Any, status: Any, reason: str) -> None:
        facts = _facts(trial.last_result or {})
        self._record.append(TrialEnded(trial=self._numbers[trial.trial_id], status=status, reason=reason, **facts))


def _facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker says of its trial beside the epoch."""
    return {name: result.get(name) for name in Facts().facts()}
