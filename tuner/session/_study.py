"""The study of a session and its trials as the record left them: who waits at a rung, who goes on, what comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tuner.algorithms.halving import EXCUSED, Halving, excused_epochs
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.schedulers import SCHEDULERS, SchedulerContext, mutable_dimensions
from tuner.algorithms.study import Queued, SearchStudy, Unfinished
from tuner.algorithms.warm_start import NOTHING, WarmStart
from tuner.common.locations import exists
from tuner.runs.directory import RunDirectory
from tuner.runs.events import TrialPaused
from tuner.runs.record import Record
from tuner.runs.state import RunState, TrialState
from tuner.session._resolved import ResolvedSearch, Study
from tuner.spec.space import enumerate_configurations
from tuner.training.checkpoint import FILE_NAME


def restored_halving(search: ResolvedSearch, state: RunState) -> Halving:
    """Return the rungs with the trials that a record already holds."""
    policy = search.policy
    excused = excused_epochs(search.training.settings.max_epochs)
    halving = Halving(policy.rungs, policy.reduction_factor.value, mode=search.study.mode, excused_epochs=excused)
    for number, best_by_epoch in _shown(state).items():
        trial = state.trials[number]
        if trial.origin in EXCUSED:
            halving.excuse(number)
        halving.restore(number, best_by_epoch, trial.status, is_promoted=_goes_on(trial, halving))
    return halving


def _shown(state: RunState) -> dict[int, dict[int, float]]:
    """Return the best values by epoch of all trials, by number."""
    trials = sorted(state.trials.items())
    return {number: {epoch.epoch: epoch.best_so_far for epoch in trial.epochs} for number, trial in trials}


def _goes_on(trial: TrialState, halving: Halving) -> bool:
    """Return whether a trial runs that has waited after the last epoch that it has reported, or need not wait there."""
    if trial.status != "running" or not trial.epochs:
        return False
    last, waited = trial.epochs[-1].epoch, trial.paused.epoch if trial.paused is not None else 0
    return waited == last or halving.passes(trial.number, last)


def unrecorded_pauses(state: RunState, halving: Halving) -> Iterator[TrialPaused]:
    """Yield what a killed session had no time to write: that a trial waits at the rung where its checkpoint is from.

    Of one that has no checkpoint of its last epoch it is not known whether it was to wait: it trains that epoch again.
    """
    for trial in state.with_status("running"):
        kept = trial.checkpoint.epoch if trial.checkpoint is not None else 0
        is_kept = bool(trial.epochs) and kept == trial.epochs[-1].epoch
        if is_kept and halving.is_rung(kept) and not _goes_on(trial, halving):
            yield TrialPaused(trial=trial.number, epoch=kept)


def interrupted_trials(state: RunState, halving: Halving | None) -> Iterator[int]:
    """Yield the trials without an end that were running, and do not wait for a promotion."""
    for trial in state.trials.values():
        is_open = trial.status in ("running", "paused")  # paused, if the file's scheduler did not pause it: it goes on
        if is_open and (halving is None or trial.number not in halving.paused):
            yield trial.number


def continuation(number: int, state: RunState, run: RunDirectory) -> Unfinished:
    """Return a trial and its last checkpoint in the record, if that is still there; else it begins anew."""
    trial = state.trials[number]
    folder = run.checkpoints.child(trial.checkpoint.path) if trial.checkpoint else None
    usable = folder is not None and exists(folder.child(FILE_NAME))
    return Unfinished(number, trial.configuration, folder.address if folder and usable else None)


def scheduler_context(search: ResolvedSearch, record: Record) -> SchedulerContext:
    """Return what the scheduler depends on; writes into the record who waits, where a killed session had no time to."""
    halving = None
    if SCHEDULERS[search.policy.scheduler.value].pauses:
        for pause in tuple(unrecorded_pauses(record.state, restored_halving(search, record.state))):
            record.append(pause)
        halving = restored_halving(search, record.state)
    return SchedulerContext(
        mode=search.study.mode,
        max_epochs=search.training.settings.max_epochs,
        grace_epochs=search.policy.grace_epochs,
        reduction_factor=search.policy.reduction_factor.value,
        mutable=mutable_dimensions(search.study.space, search.study.changeable),
        halving=halving,
        shown=_shown(record.state),
    )


def build_study(
    search: ResolvedSearch, state: RunState, share_spent: Callable[[], float], warm: WarmStart = NOTHING
) -> SearchStudy:
    """Return the study of a search, with the trials that a record already holds.

    `share_spent` returns the share of the time for trials that is over. It counts where the prior comes first: without
    it, a model that is asked sooner is as often behind as ahead (benchmarks/LOG.md).
    """
    study, policy = search.study, search.policy
    entry = SAMPLERS[policy.sampler.value]
    context = SamplerContext(study.seed, search.budget.trials, warm.trials, policy.weighs_seconds)
    if warm.prior:
        context = replace(context, share_spent=share_spent)
    built = SearchStudy(
        study.space,
        entry.build(context),
        study.mode,
        queue=_queue(study, state, warm, entry.tries_all),
        sampler_may_propose=not entry.tries_all,
        other_metrics=study.metrics[1:],
    )
    built.rebuild(state)
    return built


def _queue(study: Study, state: RunState, warm: WarmStart, is_grid: bool) -> Iterable[Queued]:
    """Yield what is tried, if it was not, before the sampler is asked: baseline, earlier studies, prior, a grid.

    A population may have changed its baseline since.
    """
    if study.baseline is not None and all(trial.origin != "baseline" for trial in state.trials.values()):
        yield Queued(dict(study.baseline), "baseline")
    yield from (Queued(configuration, "recipe") for configuration in warm.recipes)
    yield from (Queued(configuration, "portfolio") for configuration in warm.portfolio)
    yield from (Queued(configuration, "prior") for configuration in warm.prior)
    if is_grid:
        yield from (Queued(configuration, "grid") for configuration in enumerate_configurations(study.space))
