"""The one place where `tune.Tuner` is made."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.stopper import Stopper

from tuner.algorithms.halving import Halving
from tuner.algorithms.schedulers import SCHEDULERS, SchedulerContext
from tuner.algorithms.study import SearchStudy, Unfinished
from tuner.cluster.ray_session import trial_resources
from tuner.execution._recorder import Recorder
from tuner.execution.heartbeat import batches_done
from tuner.execution.lost_workers import (
    LOST_WORKERS_PER_TRIAL,
    HangWatch,
    LostWorkers,
    NotPickled,
    treat_all_losses_alike,
)
from tuner.execution.metrics_export import Monitor
from tuner.execution.searcher import WORKER_GROWTH_MB, Promotions, StudySearcher, trial_config
from tuner.execution.trial_actor import CHANGED, TrialActor, merged_configuration
from tuner.execution.worker_process import Workers
from tuner.runs.checkpoint_retention import CheckpointRemover
from tuner.runs.directory import RunDirectory
from tuner.runs.events import Event, TrialStarted
from tuner.runs.record import Record

MOST_PENDING = 1000
"""Trials that may wait for a place on a cluster: the searcher itself gives out no more than there are slots."""

TOLD_EVERY_S = 2.0
"""Seconds between two looks at the batches of the first epoch."""

SETTLED_TRIALS = 500
"""Trials between two times at which the objects of the driver are taken to stay."""


@dataclass(frozen=True)
class Decisions:
    """The study and the scheduler, which decide about configurations and about the trials that go on."""

    study: SearchStudy
    scheduler: str
    context: SchedulerContext


@dataclass(frozen=True)
class Trials:
    """The trials of a session: those that go on, and then new ones."""

    unfinished: Sequence[Unfinished]
    new: int
    continuation: Callable[[int], Unfinished]
    """Returns the continuation of a trial that was paused."""


@dataclass(frozen=True)
class Recording:
    """The record, and where events of trials are shown."""

    run: RunDirectory
    record: Record
    monitor: Monitor
    on_building: Callable[[int, int, int], None]
    """Told of a trial, images done and images in all, while cached activations are computed."""


@dataclass(frozen=True)
class Ending:
    """The reasons to end a session before its trials are used up, and to end trials that hang."""

    should_stop: Callable[[], bool]
    """Asked after every event: interrupted, out of budget, or given up."""
    on_disk_full: Callable[[str], None]
    """Called when a trial was lost because there was no room for its checkpoint."""
    hang_watch: HangWatch
    lacks_an_epoch: Callable[[], bool]
    """Whether a time budget is being spent, and no epoch has ended yet."""
    on_first_batches: Callable[[Sequence[tuple[int, Mapping[str, object], int]]], None]
    """Told meanwhile of each running trial: its number, its configuration, and the batches of its first epoch."""


@dataclass(frozen=True)
class Launch:
    """Everything that a session of a search runs its trials with."""

    workers: Workers
    decisions: Decisions
    trials: Trials
    recording: Recording
    ending: Ending
    meanwhile: Callable[[], None] = lambda: None
    """Called again and again while trials run."""

    @property
    def halving(self) -> Halving | None:
        """The rungs of a scheduler that pauses."""
        return self.decisions.context.halving

    @property
    def has_work(self) -> bool:
        """Whether some trial can run at all."""
        waiting = self.halving.paused if self.halving is not None else ()
        return bool(self.trials.new or self.trials.unfinished or waiting)


class _StopWhenAsked(NotPickled, Stopper):
    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._should_stop()


class _EveryStep(NotPickled, Callback):
    """A callback that gives signs of life of this search, as time goes by, and tells how its first epoch gets on."""

    def __init__(self, launch: Launch) -> None:
        self._launch, self._told = launch, time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Give a sign of life of this search, to the next session and to other searches."""
        self._launch.recording.record.beat()
        self._launch.workers.at_once()
        self._launch.meanwhile()
        ending = self._launch.ending
        if time.monotonic() - self._told >= TOLD_EVERY_S and ending.lacks_an_epoch():
            self._told = time.monotonic()
            running = [trial for trial in trials if trial.status == trial.RUNNING]
            ending.on_first_batches(
                [(trial.config["trial"], merged_configuration(trial.config), batches_done(trial.trial_id))
                 for trial in running]
            )  # fmt: skip


def run_trials(launch: Launch) -> None:
    """Run trials until there are no more or `should_stop` says so; what happened is in the record."""
    workers, recording, at_once = launch.workers, launch.recording, launch.workers.packing.trials
    # Ray asks a searcher for one trial at a time unless told otherwise, and would take Ctrl-C for itself.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(at_once if workers.slots is None else MOST_PENDING)
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # no CSV, JSON and TensorBoard copies of the record
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "600"  # Ray's own state is never read: the record is the truth
    treat_all_losses_alike()
    if workers.guard.exit_reasons is not None:
        shutil.rmtree(workers.guard.exit_reasons, ignore_errors=True)  # of sessions that were killed
    scheduler = SCHEDULERS[launch.decisions.scheduler]
    trainable = tune.with_resources(
        tune.with_parameters(TrialActor, context=workers.context, guard=workers.guard),
        trial_resources(workers.packing.cpus_per_trial, workers.packing.gpus_per_trial),
    )
    trainable.__qualname__ = TrialActor.__name__  # as Ray's dashboard calls the actors
    tuner = tune.Tuner(
        trainable,
        param_space=_population_space(launch) if scheduler.is_population else {},
        tune_config=tune.TuneConfig(
            search_alg=BasicVariantGenerator(max_concurrent=at_once) if scheduler.is_population else _searcher(launch),
            scheduler=scheduler.build(launch.decisions.context),
            num_samples=1 if scheduler.is_population else -1,  # until the searcher has no more
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"trial-{trial.config['trial']:05d}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=f"session-{len(recording.record.state.sessions)}",
            storage_path=recording.run.ray.address,
            callbacks=[*_callbacks(launch, scheduler.is_population), recording.monitor],
            stop=_StopWhenAsked(launch.ending.should_stop),
            failure_config=tune.FailureConfig(max_failures=LOST_WORKERS_PER_TRIAL),
            # Old ones are removed by the recorder: with `num_to_keep` Ray writes all its state at every other epoch.
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),  # in between, the worker asks for them
            verbose=0,
        ),
    )
    with _short_collections(recording.record):
        tuner.fit()


@contextmanager
def _short_collections(record: Record) -> Iterator[None]:
    """Keep the driver from stopping for Python's garbage collections, which go through everything that lives.

    With 5,000 trials, every fiftieth suggestion took a second for one (benchmarks/LOG.md). What has lived through
    `SETTLED_TRIALS` trials is not looked at again until the end.
    """

    def settle(event: Event) -> None:
        if isinstance(event, TrialStarted) and event.trial % SETTLED_TRIALS == 0:
            gc.collect()
            gc.freeze()

    record.listen(settle)
    try:
        yield
    finally:
        gc.unfreeze()


def _searcher(launch: Launch) -> StudySearcher:
    return StudySearcher(
        launch.decisions.study,
        launch.decisions.context.mode,
        launch.trials.new,
        launch.workers.at_once,
        list(launch.trials.unfinished),
        WORKER_GROWTH_MB,
        Promotions(launch.halving, launch.trials.continuation) if launch.halving is not None else None,
    )


def _callbacks(launch: Launch, is_population: bool) -> list[Callback]:
    recording, ending = launch.recording, launch.ending
    lost_workers = LostWorkers(launch.workers.guard.exit_reasons, ending.hang_watch)
    recorder = Recorder(
        recording.record,
        recording.run.checkpoints,
        None if is_population else CheckpointRemover(recording.run),
        recording.on_building,
        lost_workers,
        ending.on_disk_full,
        launch.halving,
    )
    return [recorder, lost_workers, _EveryStep(launch)]


def _population_space(launch: Launch) -> dict[str, Any]:
    """Return the members of a population, fixed beforehand: Ray refuses a searcher beside it.

    What may change stands at the top of the config, where Ray's schedulers look for it.
    """
    members = {
        member.number: trial_config(member.number, member.configuration, "queued", member.resume_from)
        for member in launch.trials.unfinished
    }
    for _ in range(launch.trials.new):
        suggestion = launch.decisions.study.suggest()
        if suggestion is not None:
            members[suggestion.number] = trial_config(suggestion.number, suggestion.configuration, suggestion.origin)
    space: dict[str, Any] = {"trial": tune.grid_search(list(members))}
    for key in ("configuration", "resume_from", "generation", "origin"):
        space[key] = tune.sample_from(_look_up({number: member[key] for number, member in members.items()}))
    space[CHANGED] = tune.sample_from(_look_up(dict.fromkeys(members, tuple(launch.decisions.context.mutable))))
    for key in launch.decisions.context.mutable:
        values = {number: member["configuration"][key] for number, member in members.items()}
        space[key] = tune.sample_from(_look_up(values))
    return space


def _look_up(values: Mapping[int, Any]) -> Callable[[Any], Any]:
    return lambda spec: values[spec.config.trial]
