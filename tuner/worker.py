"""The Ray actor that trains trials, one after the other, in a process that has imported TensorFlow once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from ray import tune
from ray.tune.result import SHOULD_CHECKPOINT

from tuner.failures import attempt
from tuner.inference import seconds_per_image, stored_mb
from tuner.schedulers import METRIC, MUTABLE, TIME
from tuner.seeds import trial_seed
from tuner.worker_process import WorkerContext, WorkerProcess

if TYPE_CHECKING:
    from tuner.trial import Trial

CHECKPOINT_EVERY_S = 5.0
"""Seconds of training that a killed worker may lose; what a trial has reported is in the record in any case."""
WORK_S = 2.0
"""Seconds of work on cached activations between two signs of life."""


class TrialActor(tune.Trainable):
    """Trains one epoch per step. Reused from trial to trial; nothing that a trial does may raise into Ray."""

    def setup(self, config: dict[str, Any], context: WorkerContext | None = None) -> None:
        """Once per process: threads, memory growth, data."""
        if context is None:
            raise ValueError("context must be given; tune.with_parameters(TrialActor, context=...) does so")
        self._process = WorkerProcess(context)
        self._trial: Trial | None = None
        self._failure: str | None = None
        self._resume_from: Path | None = None
        self._measured: dict[str, float] = {}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take on another trial. Always True: Ray hangs on a refusal."""
        self._drop_trial()
        return True

    def _drop_trial(self) -> None:
        self._trial = self._failure = self._resume_from = None
        self._measured = {}
        self._process.release()

    def _begin(self) -> None:
        """Build the trial that Ray's config asks for; what goes wrong becomes its result."""

        def build() -> Trial:
            seed = trial_seed(self._process.context.settings.seed, self.config["trial"])
            return self._process.begin(merged_configuration(self.config), seed)

        self._checkpointed = time.monotonic()
        self._resume_from = Path(self.config["resume_from"]) if self.config.get("resume_from") else None
        self._trial, self._failure = attempt(build)

    def step(self) -> dict[str, Any]:
        """One epoch: the result that samplers, schedulers and the record see."""
        if self._trial is None and self._failure is None:
            self._begin()
        if self._trial is None:
            return self._result({}, 0, None, "failed", self._failure or "")
        return self._advance(self._trial)

    def _advance(self, trial: Trial) -> dict[str, Any]:
        """A part of what the next epoch needs of the cache, or the epoch."""
        progress, failure = attempt(lambda: trial.work_on_activations(WORK_S))
        if progress is not None and not progress.is_finished:
            building = {"building": [progress.done, progress.total]}
            return {**self._result({}, trial.epoch, trial.best, None, None), **building}
        if failure is None and self._resume_from is not None:
            _, failure = attempt(lambda: trial.load(Path(str(self._resume_from))))
            self._resume_from = None
        if failure is not None:
            return self._result({}, trial.epoch, trial.best, "failed", failure)
        if self._process.notices:  # an epoch without the cache may take long: say why before it
            return self._result({}, trial.epoch, trial.best, None, None)
        epoch = trial.advance() if trial.ended is None else None
        if epoch is not None and not self._measured:
            self._measured = self._measure(trial)
        status, reason = (trial.ended.status, trial.ended.reason) if trial.ended else (None, None)
        return self._result(asdict(epoch) if epoch else {}, trial.epoch, trial.best, status, reason)

    def _measure(self, trial: Trial) -> dict[str, float]:
        """What the trial's network costs those who use it; what cannot be measured is left out, and said."""
        found = {"model_mb": stored_mb(trial.model)}
        if self._process.context.settings.times_inference:
            seconds, failure = attempt(lambda: seconds_per_image(trial.model, trial.data.validation))
            if seconds is not None:
                found["seconds_per_image"] = seconds
            else:
                self._process.notices.append(
                    f"trial {self.config['trial']}: its seconds per image are not known: {failure}"
                )
        return found

    def _result(
        self, epoch: dict[str, Any], epochs: int, best: float | None, status: str | None, reason: str | None
    ) -> dict[str, Any]:
        settings, trial = self._process.context.settings, self._trial
        notices, self._process.notices[:] = list(self._process.notices), []
        due = bool(epoch) and time.monotonic() - self._checkpointed >= CHECKPOINT_EVERY_S
        worst = 0.0 if settings.metric == "val_accuracy" else 1e9
        return {
            **epoch,
            TIME: epochs,
            METRIC: worst if best is None else best,
            "has_epoch": bool(epoch),
            "ended_status": status,
            "ended_reason": reason,
            "parameters": trial.parameters if trial else None,
            "trainable_parameters": trial.trainable_parameters if trial else None,
            "batch_size_used": trial.batch_size_used if trial else None,
            "setup_s": trial.setup_s if trial else None,
            "cut": trial.cut if trial else None,
            **self._measured,
            "notices": notices,
            SHOULD_CHECKPOINT: due,
            "generation": self.config["generation"],
            "worker_memory_mb": psutil.Process().memory_full_info().uss / 2**20,  # its own: mapped data are shared
            "done": status is not None,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Everything that the next epoch depends on, into a directory of Ray's."""
        self._checkpointed = time.monotonic()
        if self._trial is not None:
            self._trial.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Go on from a checkpoint of this trial (after a pause, a lost worker) or of another (a population)."""
        self._drop_trial()
        self._begin()
        if self._trial is not None and any(Path(checkpoint_dir).iterdir()):
            self._trial.load(Path(checkpoint_dir))
            self._resume_from = None

    def cleanup(self) -> None:
        """Let the last trial go, and what it read."""
        self._drop_trial()


def merged_configuration(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with what a population has changed, which Ray keeps beside it."""
    return {**config["configuration"], **{name: config[name] for name in MUTABLE if name in config}}
