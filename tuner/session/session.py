"""One session of a search: from an open run to trials that have run, whatever ends it."""

from __future__ import annotations

import contextlib
import sys
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.algorithms.warm_start import load_earlier, warm_start
from tuner.cluster.ray_session import Capacity, wait_for_workers
from tuner.cluster.slots import Cluster, ClusterSlots, Packing, Slots
from tuner.common.environment import describe_environment
from tuner.common.errors import DiskFullError, TunerError, first_line
from tuner.common.files import disk_full_error, is_disk_full, write_text
from tuner.execution.worker_process import Guard
from tuner.reports.console import Limits, SearchConsole
from tuner.runs.checkpoint_retention import remove_unneeded
from tuner.runs.directory import RunDirectory
from tuner.runs.events import Notice, SessionEnded, SessionStarted, StudyCreated, TrialEnded
from tuner.runs.record import Record
from tuner.runs.state import RunState
from tuner.session._build import (
    build_study,
    continuation,
    guard,
    hang_watch,
    interrupted_trials,
    resolved_names,
    scheduler_context,
    unrecorded_pauses,
    worker_context,
)
from tuner.session._disk_use import CheckpointWatch, checkpoints_at_once
from tuner.session._packing import choose_packing, trial_memory
from tuner.session._plan import planned_trials
from tuner.session._resume import describe_data
from tuner.session._stopping import Reason, Stopping, interruptible
from tuner.session.preparation import Prepared
from tuner.spec.spec import Spec, dump_spec

if TYPE_CHECKING:
    from tuner.execution.metrics_export import Monitor


def run_session(
    spec: Spec, prepared: Prepared, run: RunDirectory, capacity: Capacity, console: SearchConsole, *, resumed: bool
) -> tuple[Reason, RunState]:
    """Run trials until all are done, the budget is spent or Ctrl-C; why it ended, and all that is known then.

    Raises:
        DiskFullError: there is no room for the record, or for checkpoints; it can be resumed when there is.
    """
    record = Record(run.record)
    try:
        console.recording(record)
        return _run(spec, prepared, run, record, capacity, console, resumed), record.state
    except Exception as error:  # recorded, so that the report says why the search ended, and raised again
        is_bare = is_disk_full(error) and not isinstance(error, DiskFullError)  # one that does not say what to do
        told = record.broken or (disk_full_error(run.path) if is_bare else error)
        with contextlib.suppress(TunerError):  # it may be that there is no room for it
            record.append(SessionEnded(reason="error", message=f"{type(told).__name__}: {told}"[:1000]))
        if told is error:
            raise
        raise told from None
    finally:
        record.close()


def _run(
    spec: Spec,
    prepared: Prepared,
    run: RunDirectory,
    record: Record,
    capacity: Capacity,
    console: SearchConsole,
    resumed: bool,
) -> Reason:
    """Trials, then finalists; why no more of them ran."""
    if record.state.study is None:
        write_text(run.specification, dump_spec(spec.resolved()))
        record.append(_created(spec, prepared))
    from tuner.execution.finalist_actor import Pool
    from tuner.execution.metrics_export import monitoring
    from tuner.session._finalists import run_finalists

    packing = _pack(spec, prepared, capacity, console)
    with interruptible(console) as interrupted, monitoring(record, planned_trials(spec)) as monitor:
        wait_for_workers(capacity, packing.trials)
        stopping = Stopping(record, spec.search.time_budget, interrupted)
        guarded = guard(run, trial_memory(spec, capacity, packing.trials))
        with _slots(spec, packing, capacity, run, record, monitor) as slots:
            means = _Means(packing, slots, guarded, stopping, monitor)
            reason = _run_trials(spec, prepared, run, record, console, means, resumed)
            if reason in ("finished", "time_budget") and spec.finalists.count:
                context = worker_context(spec, prepared, packing.cpus_per_trial)
                pool = Pool(context, packing, slots, guarded, hang_watch(spec, record.state))
                try:
                    run_finalists(spec.finalists, context, pool, run, record, console, interrupted.is_set)
                except DiskFullError:
                    raise
                except TunerError as error:  # the search itself is done, and is to be reported
                    _note(record, f"the finalists were given up: {error}")
                    console.say(f"the finalists were given up: {error}")
        reason = "interrupted" if interrupted.is_set() else reason
        record.append(SessionEnded(reason="error" if reason == "given_up" else reason, message=stopping.message))
    return reason


def _pack(spec: Spec, prepared: Prepared, capacity: Capacity, console: SearchConsole) -> Packing:
    """How trials share the machine; measured in processes like theirs where that pays."""
    from tuner.execution.packing_probe import Probing

    probing = Probing(worker_context(spec, prepared, 1.0), capacity, console.say, console.preparing)
    return choose_packing(spec, prepared, capacity, probing.speed, probing.gpu_memory)


def _slots(
    spec: Spec, packing: Packing, capacity: Capacity, run: RunDirectory, record: Record, monitor: Monitor
) -> AbstractContextManager[ClusterSlots | None]:
    """The slots of a search that is to follow its cluster; None where their number is given, or the machine is one."""
    if not capacity.is_cluster or spec.search.max_concurrent != "auto":
        return nullcontext()
    cpus, gpus = packing.cpus_per_trial, packing.gpus_per_trial
    per_fit = packing.trials / capacity.slots(cpus, gpus)
    cluster = Cluster(run.checkpoints)
    return closing(ClusterSlots(cpus, gpus, per_fit, cluster, lambda text: _note(record, text), monitor.show_slots))


def _note(record: Record, text: str) -> None:
    record.append(Notice(text=text))


@dataclass(frozen=True)
class _Means:
    """What the trials of a session run with, what ends them, and what watches them."""

    packing: Packing
    slots: Slots | None
    guard: Guard
    stopping: Stopping
    monitor: Monitor


def _run_trials(
    spec: Spec,
    prepared: Prepared,
    run: RunDirectory,
    record: Record,
    console: SearchConsole,
    means: _Means,
    resumed: bool,
) -> Reason:
    from tuner.execution.tune_run import Launch, run_trials

    packing, stopping = means.packing, means.stopping
    sampler, scheduler = resolved_names(spec)
    budget_s = spec.search.time_budget
    warm = warm_start(load_earlier(run.warm_start), spec.space, spec.baseline, spec.mode)
    if (halving := scheduler_context(spec, record.state).halving) is not None:
        for pause in tuple(unrecorded_pauses(record.state, halving)):
            record.append(pause)
    study = build_study(spec, record.state, warm)
    record.append(
        SessionStarted(
            resumed=resumed,
            max_concurrent=packing.trials,
            cpus_per_trial=packing.cpus_per_trial,
            gpus_per_trial=packing.gpus_per_trial,
            sampler=sampler,
            scheduler=scheduler,
            storage=run.storage.address if run.storage is not None else None,
        )
    )
    trials = planned_trials(spec)
    console.say(
        f"searching: {trials} trials, {packing.describe()}, sampler {sampler}, scheduler {scheduler}; "
        + console.stop_hint
    )

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
        slots=means.slots,
        unfinished=[
            continuation(number, record.state, run) for number in interrupted_trials(record.state, context.halving)
        ],
        continuation=lambda number: continuation(number, record.state, run),
        on_building=console.building,
        on_disk_full=stopping.on_disk_full,
        should_stop=stopping.should_stop,
        monitor=means.monitor,
        hang_watch=hang_watch(spec, record.state),
        guard=means.guard,
    )
    _watch_disk(spec, run, record, packing.trials)
    if launch.max_new_trials or launch.unfinished or (context.halving and context.halving.paused):
        with console.watching(record, Limits(trials, budget_s, packing.trials)):
            try:
                run_trials(launch)
            except Exception:  # whatever Ray makes of a disk without room, when it writes its own state at the end
                if not stopping.is_broken:  # all else is raised
                    raise
    if record.broken is not None or stopping.disk_full is not None:
        raise record.broken or disk_full_error(run.path, stopping.disk_full or "")
    reason = stopping.reason
    _close_trials(record, reason)
    try:
        remove_unneeded(run, record.state)
    except OSError as error:
        console.say(f"checkpoints that are no longer needed could not be removed: {first_line(error)}")
    return reason


def _created(spec: Spec, prepared: Prepared) -> StudyCreated:
    return StudyCreated(
        study=spec.study,
        metric=spec.metric,
        metrics=list(spec.metrics),
        mode=spec.mode,
        seed=spec.search.seed,
        max_epochs=spec.training.max_epochs,
        specification=spec.resolved(),
        data=describe_data(prepared.dataset),
        environment=describe_environment(),
        command=list(sys.argv),
    )


def _watch_disk(spec: Spec, run: RunDirectory, record: Record, slots: int) -> None:
    """Have it said early when checkpoints will not fit; a bucket has room."""
    if not run.checkpoints.is_remote:
        folder, at_once = Path(run.checkpoints.address), checkpoints_at_once(spec, slots)
        record.listen(CheckpointWatch(folder, at_once, record.state, lambda text: _note(record, text)))


def _close_trials(record: Record, reason: Reason) -> None:
    """A spent budget ends what was running; an interruption, or giving up, leaves it to be resumed.

    What still waits when all trials are done was not promoted: the scheduler has stopped it. After a spent budget it
    waits on, for a session with more to spend.
    """
    if reason in ("interrupted", "given_up"):
        return
    for trial in record.state.with_status("paused") if reason == "finished" else []:
        facts = trial.paused.facts() if trial.paused is not None else {}
        record.append(TrialEnded(trial=trial.number, status="stopped", reason="scheduler", **facts))
    for trial in record.state.with_status("running"):
        record.append(TrialEnded(trial=trial.number, status="stopped", reason=reason))
