"""Processes that train finalists on Ray, one after the other; those that die or hang are replaced, as trials' are."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from tuner.common.errors import RunError
from tuner.common.locations import Location, exists, fetched, filled
from tuner.execution.exit_reason import take_exit_reason
from tuner.execution.lost_workers import HangWatch, attempts_left, describe_loss, no_epoch_for
from tuner.execution.trial_actor import WORK_S
from tuner.execution.worker_process import Guard, WorkerContext, WorkerProcess, Workers
from tuner.runs.finalists import TIME_BUDGET, FinalistTraining, finalist_seed
from tuner.training.checkpoint import FILE_NAME
from tuner.training.failures import attempt
from tuner.training.settings import Ended
from tuner.training.trial_like import TrialLike

WAIT_S = 1.0


@dataclass(frozen=True)
class FinalistStep:
    """The state of a finalist after an epoch."""

    epoch: int
    best: float | None
    seconds: float
    """Seconds of all its epochs, those of earlier processes too."""
    epoch_s: float | None
    """Seconds of this epoch; None when there was none."""
    notices: tuple[str, ...]
    ended: tuple[str, str] | None
    """Status and reason."""


@dataclass(frozen=True)
class Lost:
    """The loss of a finalist's process."""

    reason: str
    is_final: bool
    """Whether it is to be taken for the finalist's fault: it has happened too often."""


class FinalistActor:
    """A Ray actor that trains finalists in a process of its own, one after the other."""

    def __init__(self, context: WorkerContext, guard: Guard, search: str) -> None:
        """`search` tells its signs of life from those of other searches on the cluster."""
        self._process, self._search = WorkerProcess(context, guard), search
        self._trial: TrialLike | None = None
        self._failure = ""
        self._location = Location("")
        self._saved, self._ends_at = time.monotonic(), math.inf

    def is_up(self) -> bool:
        """Return True, as soon as the process answers."""
        return True

    def begin(self, training: FinalistTraining, location: Location, within_s: float | None = None) -> None:
        """Start a training, from its checkpoint if there is one that can be read; it ends `within_s` seconds."""
        self._ends_at = math.inf if within_s is None else time.monotonic() + within_s
        self._process.let_go()
        self._process.take_on(_name(training, self._search))
        self._location, self._trial = location, None

        def build() -> TrialLike:
            seed = finalist_seed(self._process.context.settings.seed, training.number)
            trial = self._process.trials.begin(training.configuration, seed, fold=training.fold)
            if exists(location.child(FILE_NAME)):
                try:
                    with fetched(location) as folder:
                        trial.load(folder)
                    if trial.ended is not None and trial.ended.reason == TIME_BUDGET:
                        trial.ended = None  # it was cut, and there is time for more now
                except (RunError, OSError) as error:
                    self._process.notices.append(f"a finalist, trial {training.trial}, begins anew: {error}")
                    trial = self._process.trials.begin(training.configuration, seed, fold=training.fold)
            return trial

        self._trial, failure = attempt(build)
        self._failure = failure or ""

    def step(self) -> FinalistStep:
        """Do a part of what the next epoch needs of the cache, or train the epoch; the end is always checkpointed."""
        trial = self._trial
        if trial is None:
            self._process.let_go()
            return self._tell(None, ("failed", self._failure))
        progress, failure = attempt(lambda: trial.work_on_activations(WORK_S)) if trial.ended is None else (None, None)
        if progress is not None and not progress.is_finished:
            return self._tell()
        result = trial.advance() if trial.ended is None and failure is None else None
        if result is not None and trial.ended is None and time.monotonic() + result.seconds > self._ends_at:
            trial.ended = Ended("completed", TIME_BUDGET)
        every_s = self._process.context.trial_kind.checkpoint_every_s
        if trial.ended is not None or time.monotonic() - self._saved >= every_s:
            with self._process.pulse.during(trial.epoch + 1), filled(self._location) as folder:
                trial.save(folder)
            self._saved = time.monotonic()
        ended = (trial.ended.status, trial.ended.reason) if trial.ended else None
        ended = ("failed", failure) if failure is not None else ended
        if ended is not None:
            self._process.let_go()
        return self._tell(result.seconds if result is not None else None, ended)

    def _tell(self, epoch_s: float | None = None, ended: tuple[str, str] | None = None) -> FinalistStep:
        trial, notices = self._trial, tuple(self._process.taken_notices())
        epoch, best, seconds = (0, None, 0.0) if trial is None else (trial.epoch, trial.best, trial.seconds)
        return FinalistStep(epoch, best, seconds, epoch_s, notices, ended)


class Pool:
    """The actors, and the trainings that they run; an actor that hangs is ended."""

    def __init__(self, workers: Workers, hang_watch: HangWatch) -> None:
        self.workers = workers
        cpus, gpus = workers.packing.cpus_per_trial, workers.packing.gpus_per_trial
        self._make, self._search = ray.remote(FinalistActor).options(num_cpus=cpus, num_gpus=gpus), secrets.token_hex(8)
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, FinalistTraining]] = {}
        self._hang_watch = hang_watch
        self._waiting: dict[Any, tuple[Any, bool, FinalistTraining, Location, float]] = {}
        """Trainings that wait for a process, which may wait for other searches or for a node: that is no hanging. A
        process gets its training only when it has answered: with it, it can hang before any answer leaves it. Whether
        it is a new one stands beside it."""
        self._hung: dict[str, str] = {}
        self._losses: Counter[str] = Counter()

    @property
    def has_room(self) -> bool:
        """Return whether another training can begin."""
        return len(self._busy) + len(self._waiting) < self.workers.at_once()

    @property
    def has_idle(self) -> bool:
        """Return whether a process waits for a training."""
        return bool(self._idle)

    @property
    def is_busy(self) -> bool:
        """Return whether something is being trained."""
        return bool(self._busy or self._waiting)

    def begin(self, training: FinalistTraining, location: Location, within_s: float | None = None) -> None:
        """Give a training to an idle actor, or to a new one; it is cut to what can be trained `within_s` seconds."""
        self._ask(training, location, math.inf if within_s is None else time.monotonic() + within_s)

    def _ask(self, training: FinalistTraining, location: Location, ends_at: float) -> None:
        about, is_new = (self.workers.context, self.workers.guard, self._search), not self._idle
        actor = self._make.remote(*about) if is_new else self._idle.pop()
        self._waiting[actor.is_up.remote()] = (actor, is_new, training, location, ends_at)

    def _go_on(self, actor: Any, training: FinalistTraining) -> None:
        self._busy[actor.step.remote()] = (actor, training)

    def finished(self) -> list[tuple[FinalistTraining, FinalistStep | Lost]]:
        """Return epochs that have ended since the last call, waiting for one a little while; their trainings go on."""
        ready, _ = ray.wait([*self._waiting, *self._busy], num_returns=1, timeout=WAIT_S)
        self.workers.at_once()  # asked for also when nothing waits: other searches see by it that this one lives
        self._end_those_that_hang()
        found = [self._take(one) if one in self._busy else self._give(one) for one in ready]
        return [one for one in found if one is not None]

    def _give(self, reference: Any) -> tuple[FinalistTraining, Lost] | None:
        """Start the training of a process that has answered."""
        actor, is_new, training, location, ends_at = self._waiting.pop(reference)
        try:
            ray.get(reference)
        except RayError as error:
            ray.kill(actor)
            if is_new:
                return training, self._loss(training, error)
            self._ask(training, location, ends_at)  # it has died of something else: its node may be gone
            return None
        self._hang_watch.begin(_name(training, self._search))
        actor.begin.remote(training, location, None if math.isinf(ends_at) else ends_at - time.monotonic())
        self._go_on(actor, training)
        return None

    def _take(self, reference: Any) -> tuple[FinalistTraining, FinalistStep | Lost]:
        actor, training = self._busy.pop(reference)
        try:
            step: FinalistStep = ray.get(reference)
        except RayError as error:  # the process was killed: what it trained goes on in another
            ray.kill(actor)
            return training, self._loss(training, error)
        if step.ended is None:
            self._hang_watch.see(_name(training, self._search), step.epoch, step.epoch_s)
            self._go_on(actor, training)
        else:
            self._hang_watch.end(_name(training, self._search))
            self._idle.append(actor)
        return training, step

    def _loss(self, training: FinalistTraining, error: RayError) -> Lost:
        name = _name(training, self._search)
        self._hang_watch.end(name)
        said = take_exit_reason(self.workers.guard.exit_reasons, name)
        reason = self._hung.pop(name, None) or said or describe_loss(str(error))
        self._losses[name] += 1
        return Lost(reason, self._losses[name] > attempts_left(reason))

    def _end_those_that_hang(self) -> None:
        hung = self._hang_watch.hung()
        for actor, training in self._busy.values():
            if (name := _name(training, self._search)) in hung:
                self._hung[name] = no_epoch_for(hung[name])
                self._hang_watch.end(name)
                ray.kill(actor)

    def close(self) -> None:
        """End all processes."""
        for actor in [*self._idle, *(one[0] for one in (*self._busy.values(), *self._waiting.values()))]:
            ray.kill(actor)


def _name(training: FinalistTraining, search: str) -> str:
    return f"finalist-{training.trial}-{training.number}-{search}"
