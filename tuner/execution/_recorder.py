"""The recorder of trials: writes each event that Ray Tune reports into the record as it happens."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from tuner.algorithms.halving import Halving
from tuner.common.files import DISK_FULL, remove_empty
from tuner.common.locations import Location
from tuner.execution.lost_workers import LostWorkers, NotPickled, limit_attempts
from tuner.execution.trial_actor import merged_configuration
from tuner.runs import events
from tuner.runs.checkpoint_retention import CHECKPOINTS_KEPT, CheckpointRemover, trials_to_keep
from tuner.runs.epoch import TIME, Epoch, StepResult, facts_of
from tuner.runs.record import Record


class Recorder(NotPickled, Callback):
    """A callback that appends an event for everything that happens to a trial, in the driver, before Ray goes on."""

    def __init__(
        self,
        record: Record,
        checkpoints: Location,
        removal: CheckpointRemover | None,
        on_building: Callable[[int, int, int], None],
        lost_workers: LostWorkers,
        on_disk_full: Callable[[str], None],
        halving: Halving | None = None,
    ) -> None:
        self._record, self._on_building, self._halving = record, on_building, halving
        self._lost_workers, self._on_disk_full = lost_workers, on_disk_full
        self._removal = removal  # None for a population: its members go on from each other's checkpoints
        self._checkpoints: dict[int, list[Any]] = {}
        _, self._root = checkpoints.open()
        self._numbers: dict[str, int] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record that a trial got a slot, for the first time or after an earlier session; not twice in a session."""
        if trial.trial_id in self._numbers:
            return
        # Kept from here on: a population copies configs, and the numbers in them, from trial to trial.
        number = self._numbers[trial.trial_id] = int(trial.config["trial"])
        known = self._record.state.trials.get(number)
        if known is not None:
            kept = known.checkpoint if trial.config["resume_from"] else None
            self._record.append(events.TrialResumed(trial=number, epoch=kept.epoch if kept is not None else 0))
            return
        configuration = merged_configuration(trial.config)
        self._record.append(
            events.TrialStarted(trial=number, configuration=configuration, origin=trial.config["origin"])
        )

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record that a trial resumes elsewhere after its worker was lost, and limit how often it may."""
        reason = self._lost_workers.reason(trial)
        if self._is_disk_full(reason):
            return
        limit_attempts(trial, reason)
        number = self._numbers.get(trial.trial_id)
        if number is None or self._record.state.trials[number].ended is not None:
            return  # lost before it had begun, or all that was lost is the state after its last epoch
        checkpoint = self._record.state.trials[number].checkpoint
        epoch = checkpoint.epoch if checkpoint else 0
        where = f"goes on in another process from epoch {epoch}" if epoch else "begins anew in another process"
        self._record.append(events.Notice(text=f"trial {number} {where}: {reason}"))
        self._record.append(events.TrialResumed(trial=number, epoch=epoch))

    def _is_disk_full(self, reason: str) -> bool:
        """Return whether a full disk lost a trial, and report it: no other trial will fare better."""
        if reason.startswith(DISK_FULL):
            self._on_disk_full(reason)
        return reason.startswith(DISK_FULL)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: StepResult, **info: Any) -> None:
        """Record one epoch, or the notices and progress before it."""
        for text in result["notices"]:
            self._record.append(events.Notice(text=text))
        if result["building"] is not None:
            self._on_building(self._numbers[trial.trial_id], *result["building"])
        if result["shown"] is not None:
            self._take_epoch(trial, result["shown"], result)

    def _take_epoch(self, trial: Any, shown: Epoch, told: StepResult) -> None:
        number, configuration = self._numbers[trial.trial_id], merged_configuration(trial.config)
        if configuration != self._record.state.trials[number].configuration:
            self._record.append(
                events.ConfigurationChanged(trial=number, epoch=shown.epoch, configuration=configuration)
            )
        self._record.append(events.EpochReported.of(number, shown))
        if self._record.state.trials[number].measured is None and told["parameters"] is not None:
            self._record.append(events.TrialMeasured(trial=number, **facts_of(told)))
        # Not when its state is kept: a trial that was killed then would not know of its end.
        if told["ended_status"] is not None:
            self._end(number, told, told["ended_status"], told["ended_reason"] or "")

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """Record a checkpoint, and remove the one before the last, which is no longer needed."""
        path = os.path.relpath(checkpoint.path, self._root)
        number, epoch = self._numbers[trial.trial_id], (trial.last_result or {}).get(TIME, 0)
        self._record.append(events.CheckpointSaved(trial=number, epoch=epoch, path=path))
        kept = self._checkpoints.setdefault(number, [])
        kept.append(checkpoint)
        if len(kept) > CHECKPOINTS_KEPT and self._removal is not None:
            old = kept.pop(0)
            if old.path != checkpoint.path:
                self._removal.remove(old)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record that a trial ended by itself, or that the scheduler stopped it, for good or until its promotion."""
        _forget(trial)
        result = trial.last_result or {}
        number = self._numbers.get(trial.trial_id)
        if number is not None and self._halving is not None and number in self._halving.paused:
            self._record.append(events.TrialPaused(trial=number, epoch=result[TIME], **_facts(result)))
        elif number is not None:
            status, reason = result.get("ended_status") or "stopped", result.get("ended_reason") or "scheduler"
            self._end(number, result, status, reason)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record that a trial has failed because its worker was lost too often."""
        reason = self._lost_workers.reason(trial)
        if not self._is_disk_full(reason):
            self.on_trial_start(iteration, trials, trial)  # each of its workers may have died before it was ready
            self._end(self._numbers[trial.trial_id], trial.last_result or {}, "failed", reason)

    def _end(self, number: int, result: Mapping[str, Any], status: Any, reason: str) -> None:
        if self._record.state.trials[number].ended is None:
            self._record.append(events.TrialEnded(trial=number, status=status, reason=reason, **_facts(result)))
        if self._removal is not None:
            # Until its last state is kept, this trial may have to go on.
            asked_for = {*trials_to_keep(self._record.state), number}
            for one in [one for one in self._checkpoints if one not in asked_for]:
                for checkpoint in self._checkpoints.pop(one):
                    self._removal.remove(checkpoint)


def _forget(trial: Any) -> None:
    """Free what Ray keeps of a trial that is over: 50 KB of statistics, and a folder for what loggers write."""
    trial.metric_analysis.clear()
    trial.metric_n_steps.clear()
    trial.run_metadata.invalidate_cache()
    remove_empty(Path(trial.local_path))


def _facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about a trial in a worker's result."""
    return {name: result.get(name) for name in events.Facts().facts()}
