"""What a specification asks for, as the objects of a session: settings, what workers share, scheduler, study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.schedulers import SCHEDULERS, SchedulerContext, mutable_dimensions
from tuner.algorithms.study import Queued, SearchStudy
from tuner.algorithms.warm_start import NOTHING, WarmStart
from tuner.execution.hanging import HangWatch
from tuner.execution.heartbeat import Signs
from tuner.execution.worker_process import Guard, WorkerContext
from tuner.runs.directory import RunDirectory
from tuner.runs.state import RunState
from tuner.session.continuing import restored_halving
from tuner.session.defaults import chosen_sampler, chosen_scheduler, weighs_seconds
from tuner.session.plan import grace_epochs, planned_trials, reduction_factor, unfreeze_depths
from tuner.session.preparation import Prepared
from tuner.spec.space import Configuration, enumerate_configurations
from tuner.spec.spec import Spec
from tuner.training.settings import ActivationSettings, TrialSettings


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
