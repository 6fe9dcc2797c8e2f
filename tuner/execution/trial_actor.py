"""The Ray actor that trains trials, one after the other, in a process that has loaded its libraries once."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from tuner.common.errors import RunError
from tuner.common.files import remove_empty
from tuner.common.locations import Location, fetched
from tuner.common.metrics import Mode, metric_of
from tuner.common.seeds import trial_seed
from tuner.execution.exit_reason import own_memory_mb
from tuner.execution.worker_process import Guard, WorkerContext, WorkerProcess
from tuner.runs.epoch import Epoch, StepResult
from tuner.training.checkpoint import earlier_checkpoints
from tuner.training.failures import attempt
from tuner.training.settings import Ended
from tuner.training.trial_like import TrialLike

WORK_S = 2.0
"""Seconds of work on cached activations between two signs of life."""
WORST: dict[Mode, float] = {"max": -1e9, "min": 1e9}
"""Told before the first epoch, when nothing has been measured: schedulers want a number, and metrics of own code may be
below 0."""
CHANGED = "mutable"
"""The key in the config of a member of a population under which the names of what may change stand."""
_LOG = logging.getLogger("tuner.trials")


def _log_to_output() -> None:
    """Write what is logged here to standard error, which Ray keeps in a file and shows on its dashboard."""
    if not _LOG.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        _LOG.addHandler(handler)
        _LOG.setLevel(logging.INFO)
        _LOG.propagate = False


class TrialActor(tune.Trainable):
    """The trainable of Ray Tune, an epoch per step; reused from trial to trial, and no trial may raise into Ray."""

    _folder = ""
    """Ray's folder for the previous trial; empty for the first."""

    def setup(self, config: dict[str, Any], context: WorkerContext | None = None, guard: Guard | None = None) -> None:
        """Prepare the process, once: the maker of its trials, the watch of its memory, the data."""
        if context is None:
            raise ValueError("context must be given; tune.with_parameters(TrialActor, context=...) does so")
        _log_to_output()
        self._folder = self.logdir
        self._process = WorkerProcess(context, guard)
        attempt(self._process.trials.prepare)  # it may take long here; what fails is told by the first trial
        self._trial: TrialLike | None = None
        self._failure: str | None = None
        self._resume_from: Location | None = None
        self._measured: dict[str, float] | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start with another trial; always return True: Ray hangs on a refusal."""
        self._drop_trial()
        if self._folder not in ("", self.logdir):  # Ray makes one for each trial, and has just moved to the next
            remove_empty(Path(self._folder))
        self._folder = self.logdir
        return True

    def _drop_trial(self) -> None:
        self._process.let_go()
        self._trial = self._failure = self._resume_from = None
        self._measured = None

    def _begin(self) -> None:
        """Build the trial that Ray's config asks for; what goes wrong becomes its result."""
        self._process.take_on(self.trial_id)
        self._checkpointed = time.monotonic()
        self._resume_from = Location(self.config["resume_from"]) if self.config.get("resume_from") else None
        self._trial, self._failure = attempt(self._build)

    def _build(self) -> TrialLike:
        seed = trial_seed(self._process.context.settings.seed, self.config["trial"])
        return self._process.trials.begin(merged_configuration(self.config), seed)

    def _go_on(self, location: Location) -> None:
        """Resume from a checkpoint; where it cannot be read, from one before it, or else from the beginning.

        Epochs that are trained again are in the record already, and are not taken in twice.
        """
        self._resume_from, problem = None, ""
        for candidate in (location, *_earlier(location)):
            if self._trial is None:
                return
            try:
                with fetched(candidate) as folder:
                    self._trial.load(folder)
            except (RunError, OSError) as error:
                problem = problem or str(error)
                self._trial, self._failure = attempt(self._build)  # nothing is left of what was half loaded
                continue
            break
        if problem and self._trial is not None:
            where = f"goes on from epoch {self._trial.epoch}" if self._trial.epoch else "begins anew"
            self._process.notices.append(f"trial {self.config['trial']} {where}: {problem}")

    def step(self) -> StepResult:
        """Train one epoch, and return the result that samplers, schedulers and the record see."""
        if self._trial is None and self._failure is None:
            self._begin()
        if self._trial is None:
            return self._tell(ended=Ended("failed", self._failure or ""))
        return self._advance(self._trial)

    def _advance(self, trial: TrialLike) -> StepResult:
        """Do a part of what the next epoch needs of the cache, or train the epoch."""
        progress, failure = attempt(lambda: trial.work_on_activations(WORK_S))
        if progress is not None and not progress.is_finished:
            return self._tell(building=(progress.done, progress.total))
        if failure is None and self._resume_from is not None:
            self._go_on(self._resume_from)
            if self._trial is None:
                return self.step()
            trial = self._trial
        if failure is not None:
            return self._tell(ended=Ended("failed", failure))
        if self._process.notices:  # an epoch without the cache may take long: say why before it
            return self._tell()
        epoch = trial.advance() if trial.ended is None else None
        if epoch is not None and self._measured is None:
            self._measured = self._measure(trial)
        return self._tell(epoch, trial.ended)

    def _measure(self, trial: TrialLike) -> dict[str, float]:
        """Measure the costs of the trial's network in use; what cannot be measured is left out, and said."""
        cost = trial.measure()
        if cost.problem is not None:
            self._process.notices.append(
                f"trial {self.config['trial']}: its seconds per image are not known: {cost.problem}"
            )
        seconds = {} if cost.seconds_per_image is None else {"seconds_per_image": cost.seconds_per_image}
        return {**({} if cost.model_mb is None else {"model_mb": cost.model_mb}), **seconds}

    def _tell(
        self, shown: Epoch | None = None, ended: Ended | None = None, building: tuple[int, int] | None = None
    ) -> StepResult:
        """Return what Ray is told of this step; what was collected for it, such as notices, is taken away."""
        metric, trial, measured = self._process.context.settings.metric, self._trial, self._measured or {}
        epoch, best = (trial.epoch, trial.best) if trial is not None else (0, None)
        _LOG.info("trial %d, epoch %d: %s", self.config["trial"], epoch, _in_words(shown, ended))
        every_s = self._process.context.trial_kind.checkpoint_every_s
        return StepResult(
            epoch=epoch,
            best_so_far=WORST[metric_of(metric).mode] if best is None else best,
            shown=shown,
            building=building,
            ended_status=ended.status if ended else None,
            ended_reason=ended.reason if ended else None,
            parameters=trial.parameters if trial else None,
            trainable_parameters=trial.trainable_parameters if trial else None,
            batch_size_used=trial.batch_size_used if trial else None,
            setup_s=trial.setup_s if trial else None,
            cut=trial.cut if trial else None,
            node=platform.node(),
            model_mb=measured.get("model_mb"),
            seconds_per_image=measured.get("seconds_per_image"),
            notices=self._process.taken_notices(),
            cache=self._process.trials.taken_cache_use(),
            generation=self.config["generation"],
            worker_memory_mb=own_memory_mb(),
            should_checkpoint=shown is not None and time.monotonic() - self._checkpointed >= every_s,
            done=ended is not None,
        )

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """Write the state to the storage, which may be slow."""
        with self._process.pulse.during(self._trial.epoch + 1 if self._trial is not None else 1):
            return super().save(checkpoint_dir)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write everything that the next epoch depends on into a directory of Ray's."""
        self._checkpointed = time.monotonic()
        if self._trial is not None:
            self._trial.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """Resume from a checkpoint of this trial (after a pause, a lost worker) or of another (a population)."""
        self._drop_trial()
        self._begin()
        if self._trial is not None:
            self._go_on(Location(checkpoint_dir))

    def cleanup(self) -> None:
        """Drop the last trial, and the entries that it read."""
        self._drop_trial()


def _earlier(location: Location) -> list[Location]:
    """Return checkpoints of the same trial that can be tried next; in a bucket, an object is there when it is whole."""
    return [] if location.is_remote else [Location(str(path)) for path in earlier_checkpoints(Path(location.address))]


def _in_words(shown: Epoch | None, ended: Ended | None) -> str:
    """Return a result in words for the log."""
    values = {} if shown is None else {"seconds": shown.seconds, **shown.metrics}
    words = [f"{name} {value:.4g}" for name, value in values.items()]
    words += [f"{ended.status} ({ended.reason})"] if ended is not None else []
    return ", ".join(words) or "preparing"


def merged_configuration(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with what a population has changed, which Ray keeps beside it."""
    return {**config["configuration"], **{name: config[name] for name in config.get(CHANGED, ())}}
