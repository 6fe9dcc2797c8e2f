"""One session of a search: from an open run to trials that have run, whatever ends it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from tuner.cluster import Capacity, wait_for_workers
from tuner.continuing import continuation, interrupted_trials, restored_halving
from tuner.defaults import chosen_sampler, chosen_scheduler, weighs_seconds
from tuner.environment import describe_environment
from tuner.errors import TunerError
from tuner.events import Notice, SessionEnded, SessionStarted, StudyCreated, TrialEnded
from tuner.files import write_text
from tuner.packing import Packing, choose_packing
from tuner.plan import grace_epochs, planned_trials, reduction_factor, unfreeze_depths
from tuner.preparation import Prepared
from tuner.progress import Limits, SearchConsole
from tuner.record import Record
from tuner.run_state import RunState
from tuner.runs import RunDirectory
from tuner.samplers import SAMPLERS, SamplerContext
from tuner.schedulers import SCHEDULERS, SchedulerContext, mutable_dimensions
from tuner.space import Configuration, enumerate_configurations
from tuner.spec import Spec, dump_spec
from tuner.study import Queued, SearchStudy
from tuner.trial_settings import ActivationSettings, TrialSettings
from tuner.warm_start import NOTHING, WarmStart, load_earlier, warm_start
from tuner.worker_process import WorkerContext

Reason = Literal["finished", "time_budget", "interrupted"]


def run_session(
    spec: Spec, prepared: Prepared, run: RunDirectory, capacity: Capacity, console: SearchConsole, *, resumed: bool
) -> tuple[Reason, RunState]:
    """Run trials until all are done, the budget is spent or Ctrl-C; why it ended, and all that is known then."""
    record = Record(run.record)
    try:
        if record.state.study is None:
            write_text(run.specification, dump_spec(spec.resolved()))
            record.append(_created(spec, prepared))
        from tuner.finalist_training import run_finalists

        packing = _pack(spec, prepared, capacity, console)
        with _interruptible(console) as interrupted:
            wait_for_workers(capacity, packing.trials)
            reason = _run_trials(spec, prepared, run, record, console, packing, interrupted, resumed)
            if reason != "interrupted" and spec.finalists.count:
                context = worker_context(spec, prepared, packing.cpus_per_trial)
                try:
                    run_finalists(spec.finalists, context, packing, run, record, console, interrupted.is_set)
                except TunerError as error:  # the search itself is done, and is to be reported
                    record.append(Notice(text=f"the finalists were given up: {error}"))
                    console.say(f"the finalists were given up: {error}")
            reason = "interrupted" if interrupted.is_set() else reason
            record.append(SessionEnded(reason=reason))
        return reason, record.state
    except Exception as error:  # recorded, so that the report says why the search ended, and raised again
        record.append(SessionEnded(reason="error", message=f"{type(error).__name__}: {error}"[:1000]))
        raise
    finally:
        record.close()


def _pack(spec: Spec, prepared: Prepared, capacity: Capacity, console: SearchConsole) -> Packing:
    """How trials share the machine; measured in processes like theirs where that pays."""
    from tuner.packing_probe import Probing

    probing = Probing(worker_context(spec, prepared, 1.0), capacity, console)
    return choose_packing(spec, prepared, capacity, probing.speed, probing.gpu_memory)


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


def _run_trials(
    spec: Spec,
    prepared: Prepared,
    run: RunDirectory,
    record: Record,
    console: SearchConsole,
    packing: Packing,
    interrupted: threading.Event,
    resumed: bool,
) -> Reason:
    from tuner.launch import Launch, run_trials

    sampler, scheduler = resolved_names(spec)
    budget_s = spec.search.time_budget
    warm = warm_start(load_earlier(run.warm_start), spec.space, spec.baseline, spec.mode)
    study = build_study(spec, record.state, warm)
    record.append(
        SessionStarted(
            resumed=resumed,
            max_concurrent=packing.trials,
            cpus_per_trial=packing.cpus_per_trial,
            gpus_per_trial=packing.gpus_per_trial,
            sampler=sampler,
            scheduler=scheduler,
        )
    )
    trials = planned_trials(spec)
    console.say(
        f"searching: {trials} trials, {packing.describe()}, sampler {sampler}, scheduler {scheduler}; "
        "Ctrl-C once stops and keeps everything"
    )

    def out_of_budget() -> bool:
        return budget_s is not None and record.elapsed_s() >= budget_s

    context = scheduler_context(spec, record.state)
    launch = Launch(
        run=run,
        record=record,
        study=study,
        scheduler=scheduler,
        scheduler_context=context,
        worker=worker_context(spec, prepared, packing.cpus_per_trial),
        gpus_per_trial=packing.gpus_per_trial,
        max_new_trials=max(0, trials - len(record.state.trials)),
        max_concurrent=packing.trials,
        unfinished=[
            continuation(number, record.state, run) for number in interrupted_trials(record.state, context.halving)
        ],
        continuation=lambda number: continuation(number, record.state, run),
        on_building=console.building,
        should_stop=lambda: interrupted.is_set() or out_of_budget(),
    )
    if launch.max_new_trials or launch.unfinished or (context.halving and context.halving.paused):
        with console.watching(record, Limits(trials, budget_s, packing.trials)):
            run_trials(launch)
    reason: Reason = "interrupted" if interrupted.is_set() else "time_budget" if out_of_budget() else "finished"
    _close_trials(record, reason)
    return reason


def _created(spec: Spec, prepared: Prepared) -> StudyCreated:
    dataset = prepared.dataset
    data: dict[str, Any] = {
        "name": dataset.name,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "class_names": list(dataset.class_names),
        "image_shape": list(dataset.image_shape),
        "train_images": len(dataset.train),
        "validation_images": len(dataset.validation),
    }
    return StudyCreated(
        study=spec.study,
        metric=spec.metric,
        metrics=list(spec.metrics),
        mode=spec.mode,
        seed=spec.search.seed,
        max_epochs=spec.training.max_epochs,
        specification=spec.resolved(),
        data=data,
        environment=describe_environment(),
        command=list(sys.argv),
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


def _close_trials(record: Record, reason: Reason) -> None:
    """A spent budget ends what was running; an interruption leaves it to be resumed.

    What still waits when all trials are done was not promoted: the scheduler has stopped it. After a spent budget it
    waits on, for a session with more to spend.
    """
    if reason == "interrupted":
        return
    for trial in record.state.with_status("paused") if reason == "finished" else []:
        facts = trial.paused.facts() if trial.paused is not None else {}
        record.append(TrialEnded(trial=trial.number, status="stopped", reason="scheduler", **facts))
    for trial in record.state.with_status("running"):
        record.append(TrialEnded(trial=trial.number, status="stopped", reason=reason))


@contextmanager
def _interruptible(console: SearchConsole) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts at once."""
    event = threading.Event()

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, previous)
        console.say("stopping: running epochs are let go, checkpoints are kept; Ctrl-C again quits at once")

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, previous)
