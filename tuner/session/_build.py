"""What a specification asks for, as the objects of a session: settings, what workers share, scheduler, study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tuner.algorithms.halving import Halving, rung_epochs
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.schedulers import SCHEDULERS, SchedulerContext, mutable_dimensions
from tuner.algorithms.study import Queued, SearchStudy, Unfinished
from tuner.algorithms.warm_start import NOTHING, WarmStart
from tuner.common.locations import exists
from tuner.execution.heartbeat import Signs
from tuner.execution.lost_workers import HangWatch
from tuner.execution.worker_process import Guard, WorkerContext
from tuner.runs.directory import RunDirectory
from tuner.runs.events import TrialPaused
from tuner.runs.state import RunState, TrialState
from tuner.session._plan import (
    chosen_sampler,
    chosen_scheduler,
    grace_epochs,
    planned_trials,
    reduction_factor,
    unfreeze_depths,
    weighs_seconds,
)
from tuner.session.preparation import Prepared
from tuner.spec.space import Configuration, enumerate_configurations
from tuner.spec.spec import Spec
from tuner.training.checkpoint import FILE_NAME
from tuner.training.settings import ActivationSettings, TrialSettings


def restored_halving(spec: Spec, state: RunState) -> Halving:
    """The rungs with the trials that a record already holds."""
    factor = reduction_factor(spec)
    epochs = rung_epochs(spec.training.max_epochs, grace_epochs(spec), factor)
    halving = Halving(epochs, factor, maximise=spec.mode == "max")
    for number in sorted(state.trials):
        trial = state.trials[number]
        best_by_epoch = {epoch.epoch: epoch.best_so_far for epoch in trial.epochs}
        halving.restore(number, best_by_epoch, trial.status, is_promoted=_is_promoted(trial))
    return halving


def _is_promoted(trial: TrialState) -> bool:
    """Whether a trial runs that has waited after the last epoch that it has reported."""
    waited = trial.paused.epoch if trial.paused is not None else 0
    return trial.status == "running" and bool(trial.epochs) and waited == trial.epochs[-1].epoch


def unrecorded_pauses(state: RunState, halving: Halving) -> Iterator[TrialPaused]:
    """What a session that was killed had no time to write: that a trial waits at the rung where its checkpoint is from.

    Of one that has no checkpoint of its last epoch it is not known whether it was to wait: it trains that epoch again.
    """
    for trial in state.with_status("running"):
        kept = trial.checkpoint.epoch if trial.checkpoint is not None else 0
        is_kept = bool(trial.epochs) and kept == trial.epochs[-1].epoch
        if is_kept and halving.is_rung(kept) and not _is_promoted(trial):
            yield TrialPaused(trial=trial.number, epoch=kept)


def interrupted_trials(state: RunState, halving: Halving | None) -> Iterator[int]:
    """Trials without an end that were running, and do not wait for a promotion."""
    for trial in state.trials.values():
        is_open = trial.status in ("running", "paused")  # paused, if the file's scheduler did not pause it: it goes on
        if is_open and (halving is None or trial.number not in halving.paused):
            yield trial.number


def continuation(number: int, state: RunState, run: RunDirectory) -> Unfinished:
    """A trial and its last checkpoint in the record, if that is still there; else it begins anew."""
    trial = state.trials[number]
    folder = run.checkpoints.child(trial.checkpoint.path) if trial.checkpoint else None
    usable = folder is not None and exists(folder.child(FILE_NAME))
    return Unfinished(number, trial.configuration, folder.address if folder and usable else None)


def worker_context(spec: Spec, prepared: Prepared, cpus: float) -> WorkerContext:
    """What every trial of a search shares."""
    return WorkerContext(
        prepared.request,
        prepared.staged,
        prepared.cache_dir,
        trial_settings(spec),
        activation_settings(spec, prepared.cache_dir),
        cpus,
    )


def trial_settings(spec: Spec) -> TrialSettings:
    """What every trial of the search shares; the seed is the study's, from which each trial derives its own."""
    stopping = spec.training.early_stopping
    return TrialSettings(
        max_epochs=spec.training.max_epochs,
        head_epochs=spec.training.head_epochs,
        patience=stopping.patience if stopping else None,
        min_delta=stopping.min_delta if stopping else 0.0,
        metric=spec.metric,
        mode=spec.mode,
        seed=spec.search.seed,
        times_inference="seconds_per_image" in spec.metrics,
    )


def activation_settings(spec: Spec, cache_dir: Path) -> ActivationSettings | None:
    """Where and how the activations of frozen layers are kept; None: they are computed in every epoch."""
    section = spec.activations
    if not section.enabled:
        return None
    depths = unfreeze_depths(spec.space)
    return ActivationSettings(cache_dir, section.dtype, int(section.max_gb * 2**30), section.views, depths)


def scheduler_context(spec: Spec, state: RunState) -> SchedulerContext:
    """What the scheduler of a search depends on; its rungs are what the record says."""
    _, scheduler = resolved_names(spec)
    return SchedulerContext(
        mode=spec.mode,
        max_epochs=spec.training.max_epochs,
        grace_epochs=grace_epochs(spec),
        reduction_factor=reduction_factor(spec),
        mutable=mutable_dimensions(spec.space),
        halving=restored_halving(spec, state) if SCHEDULERS[scheduler].pauses else None,
    )


def resolved_names(spec: Spec) -> tuple[str, str]:
    """The sampler and the scheduler that a search uses, `auto` resolved."""
    return chosen_sampler(spec).name, chosen_scheduler(spec).name


def build_study(spec: Spec, state: RunState, warm: WarmStart = NOTHING) -> SearchStudy:
    """The study of a search, with the trials that a record already holds."""
    sampler, _ = resolved_names(spec)
    entry = SAMPLERS[sampler]
    is_grid = sampler == "grid"
    study = SearchStudy(
        spec.space,
        entry.build(SamplerContext(spec.search.seed, planned_trials(spec), warm.trials, weighs_seconds(spec))),
        spec.mode,
        queue=_queue(spec, state, warm.portfolio, is_grid),
        sampler_may_propose=not is_grid,
        sampler_replays=entry.replays,
        other_metrics=spec.metrics[1:],
    )
    study.rebuild(state)
    return study


def _queue(spec: Spec, state: RunState, portfolio: Sequence[Configuration], is_grid: bool) -> Iterable[Queued]:
    """What is tried before the sampler is asked: the baseline, what earlier studies propose, a grid; nothing twice."""
    tried = [trial.configuration for trial in state.trials.values()]
    if spec.baseline is not None and spec.baseline not in tried:
        tried.append(dict(spec.baseline))
        yield Queued(dict(spec.baseline), "baseline")
    for configuration in portfolio:
        if configuration not in tried:
            tried.append(configuration)
            yield Queued(configuration, "portfolio")
    if is_grid:
        for configuration in enumerate_configurations(spec.space):
            if configuration not in tried:
                yield Queued(configuration, "grid")


def guard(run: RunDirectory, memory_mb: float | None) -> Guard:
    """What workers do about their own end."""
    return Guard(run.last_words, memory_mb)


def hang_watch(spec: Spec, state: RunState) -> HangWatch:
    """Tells which trials hang, knowing how long epochs have taken so far."""
    epochs = spec.search.hung_after_epochs
    limit = None if epochs == "never" else float(epochs)
    watch = HangWatch(limit, spec.training.head_epochs, is_alive=Signs().is_new)
    watch.remember(epoch.seconds for trial in state.trials.values() for epoch in trial.epochs)
    return watch
