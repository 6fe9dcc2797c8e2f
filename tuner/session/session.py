"""One session of a search: from an open run to trials that have run, whatever ends it."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.algorithms.warm_start import load_earlier, warm_start
from tuner.cluster.ray_session import Capacity, wait_for_workers
from tuner.cluster.slots import Cluster, ClusterSlots, GivenSlots, Packing, Slots
from tuner.common.errors import DiskFullError, TunerError, cause_of, first_line, without_passwords
from tuner.common.files import disk_full_error, is_disk_full, write_text
from tuner.common.process import describe_environment
from tuner.common.words import counted
from tuner.execution.heartbeat import Signs
from tuner.execution.lost_workers import HangWatch
from tuner.execution.worker_process import Guard, Workers
from tuner.models.parameters import general
from tuner.reports.console import Limits, SearchConsole
from tuner.runs.checkpoint_retention import remove_old_checkpoints
from tuner.runs.directory import RunDirectory
from tuner.runs.events import OVER, Notice, Resolved, SessionEnded, SessionStarted, StudyCreated, TrialEnded
from tuner.runs.predictions import save_pictures
from tuner.runs.record import Record
from tuner.runs.state import RunState
from tuner.session._disk_use import CheckpointWatch, checkpoints_at_once
from tuner.session._own_code import used_code
from tuner.session._packing import choose_packing, trial_memory
from tuner.session._resolved import ResolvedSearch, augment_on, prior_of, probe_limit_s
from tuner.session._resume import describe_data
from tuner.session._stopping import Reason, Stopping, TimeBudget, interruptible, processes_per_core
from tuner.session._study import build_study, continuation, interrupted_trials, scheduler_context
from tuner.session.preparation import Prepared, keep_account, probed_configurations
from tuner.spec.space import branching
from tuner.spec.spec import dump_spec
from tuner.training.settings import VALIDATION_BATCH_SIZE

if TYPE_CHECKING:
    import numpy as np

    from tuner.execution.metrics_export import Monitor
    from tuner.execution.probing import Probes
    from tuner.execution.tune_run import Decisions, Launch


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Session:
    """The search of a session, its data, its record and its console."""

    search: ResolvedSearch
    prepared: Prepared
    run: RunDirectory
    record: Record
    console: SearchConsole
    resumed: bool

    def note(self, text: str) -> None:
        """Record a notice for the user."""
        self.record.append(Notice(text=text))


def run_session(
    search: ResolvedSearch,
    prepared: Prepared,
    run: RunDirectory,
    capacity: Capacity,
    console: SearchConsole,
    *,
    resumed: bool,
) -> tuple[Reason, RunState]:
    """Run trials until all are done, the budget is spent or Ctrl-C; return why it ended, and the state.

    Raises:
        DiskFullError: there is no room for the record, or for checkpoints; it can be resumed when there is.
    """
    record = Record(run.record, began=console.began, beside=console.beside)
    try:
        console.recording(record)
        return _run(_Session(search, prepared, run, record, console, resumed), capacity), record.state
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


def _run(session: _Session, capacity: Capacity) -> Reason:
    """Run trials, then finalists, and return why no more of them ran."""
    from tuner.execution.metrics_export import monitoring

    search, record = session.search, session.record
    place = augment_on(search, capacity.gpus, record.state.sessions)
    search = replace(search, training=search.training.augmented_on(place))
    session = replace(session, search=search)
    if record.state.study is None:
        write_text(session.run.specification, dump_spec(search.specification))
        record.append(_created(session))
    with session.console.beside("the report lacks the account of the data"):
        keep_account(search.study, session.prepared, session.run)
    packing = _pack(session, capacity)
    with (
        interruptible(session.console) as interrupted,
        monitoring(record, search.budget.trials, session.console.beside) as monitor,
    ):
        wait_for_workers(capacity, packing.trials)
        stopping = _stopping(session, packing, interrupted)
        context = session.prepared.worker_context(search.training, packing.cpus_per_trial, packing.gpus_per_trial)
        guard = Guard(session.run.exit_reasons, trial_memory(search, session.prepared, capacity, packing.trials))
        with _slots(session, packing, capacity, monitor) as slots:
            workers = Workers(context, packing, slots, guard)
            reason = _run_trials(session, workers, stopping, monitor)
            if reason in OVER and search.budget.finalists:
                _run_finalists(session, workers, stopping)
        reason = "interrupted" if interrupted.is_set() else reason
        message = stopping.message if reason == "given_up" else None
        record.append(SessionEnded(reason="error" if reason == "given_up" else reason, message=message))
    return reason


def _stopping(session: _Session, packing: Packing, interrupted: threading.Event) -> Stopping:
    """Return what decides when the session is to end."""
    search, dataset = session.search, session.prepared.dataset

    def batches(configuration: Mapping[str, object]) -> int | None:
        if search.study.trainable is not None:  # how its function reads images, only its author knows
            return None
        size = int(str(general(configuration, "batch_size")))
        return math.ceil(len(dataset.train) / size) + math.ceil(len(dataset.validation) / VALIDATION_BATCH_SIZE)

    time_budget = TimeBudget(search.budget, session.record, lambda: packing.trials, processes_per_core)
    return Stopping(session.record, time_budget, interrupted, branching(search.study.space), batches)


def _pack(session: _Session, capacity: Capacity) -> Packing:
    """Return how trials share the machine; measured in processes like theirs where that pays."""
    from tuner.execution.packing_probe import Probing

    context = session.prepared.worker_context(session.search.training, 1.0)
    probing = Probing(context, capacity, session.console.say, session.console.preparing)
    return choose_packing(session.search, session.prepared, capacity, probing.speed, probing.gpu_memory)


def _slots(
    session: _Session, packing: Packing, capacity: Capacity, monitor: Monitor
) -> AbstractContextManager[Slots | None]:
    """Return the slots of a search that follows its cluster, or has a number of them there; None on one machine."""
    if not capacity.is_cluster:
        return nullcontext()
    cluster = Cluster(session.run.checkpoints, capacity.asked)
    if session.search.shares.at_once is not None:
        return nullcontext(GivenSlots(packing.trials, cluster, session.note))
    cpus, gpus = packing.cpus_per_trial, packing.gpus_per_trial
    per_fit = packing.trials / capacity.slots(cpus, gpus)
    return closing(ClusterSlots(cpus, gpus, per_fit, cluster, session.note, monitor.show_slots))


def _run_trials(session: _Session, workers: Workers, stopping: Stopping, monitor: Monitor) -> Reason:
    """Run trials until there are no more or something ends them, and return the reason."""
    from tuner.execution.tune_run import run_trials

    record, limits = session.record, session.search.budget
    decisions = _decisions(session, stopping.time)
    _say_start(session, workers)
    probes = _probes(session, workers)
    launch = replace(_launch(session, workers, decisions, stopping, monitor), meanwhile=probes.see)
    _watch_disk(session, workers.packing.trials)
    if launch.has_work:
        shown = Limits(limits.trials, limits.time_s, workers.packing.trials, limits.finalists, limits.trainings_each)
        with closing(probes), session.console.watching(record, shown):
            try:
                run_trials(launch)
            except Exception:  # whatever Ray makes of a disk without room, when it writes its own state at the end
                if not stopping.is_broken:  # all else is raised
                    raise
    if record.broken is not None or stopping.disk_full is not None:
        raise record.broken or disk_full_error(session.run.path, stopping.disk_full or "")
    reason = stopping.reason
    _close_trials(record, reason)
    try:
        remove_old_checkpoints(session.run, record.state)
    except OSError as error:
        session.console.say(f"checkpoints that are no longer needed could not be removed: {first_line(error)}")
    return reason


def _probes(session: _Session, workers: Workers) -> Probes:
    """Return the probes of frozen features that this session is to make; none where they are not asked for."""
    from tuner.execution.probing import Probes

    search, run = session.search, session.run
    probe = search.training.probe
    if search.specification["search"].get("probe") is True and not probe.value:
        session.note(f"nothing is probed: {probe.why}")
    asked = probed_configurations(search.study, session.prepared.dataset.image_shape) if probe.value else []

    def keep(pictures: np.ndarray) -> None:
        with session.console.beside("pictures of images whose labels look wrong cannot be kept"):
            save_pictures(run.suspects, pictures)

    return Probes.on_ray(workers, session.record, asked, probe_limit_s(search.budget.time_s), keep)


def _decisions(session: _Session, time: TimeBudget) -> Decisions:
    """Return sampler and scheduler with all that the record and earlier studies tell them."""
    from tuner.execution.tune_run import Decisions

    search, record = session.search, session.record
    earlier = load_earlier(session.run.warm_start)
    warm = warm_start(earlier, search.study.space, search.study.baseline, search.study.mode)
    context = scheduler_context(search, record)
    study = build_study(search, record.state, time.share_spent_on_trials, warm)
    return Decisions(study, search.policy.scheduler.value, context)


def _say_start(session: _Session, workers: Workers) -> None:
    """Record and say that trials begin, and by which rules."""
    storage, policy, packing = session.run.storage, session.search.policy, workers.packing
    session.record.append(
        SessionStarted(
            resumed=session.resumed,
            max_concurrent=packing.trials,
            cpus_per_trial=packing.cpus_per_trial,
            gpus_per_trial=packing.gpus_per_trial,
            augment_on="device" if session.search.training.settings.augments_on_device else "host",
            sampler=policy.sampler.value,
            scheduler=policy.scheduler.value,
            storage=storage.address if storage is not None else None,
            resolved=resolved_settings(session.search, workers.guard.memory_mb),
        )
    )
    trials = f"{counted(session.search.budget.trials, 'trial')}{_whole_space(session.search)}"
    rules = f"sampler {policy.sampler.value}, scheduler {policy.scheduler.value}"
    session.console.say(f"searching: {trials}, {packing.describe()}, {rules}; {session.console.stop_hint}")


def _whole_space(search: ResolvedSearch) -> str:
    """Return in words that the trials are fewer than asked for, if they are."""
    asked = search.specification["search"]["trials"]
    return "" if asked <= search.budget.trials else f" (the space has no more; search.trials is {asked})"


def resolved_settings(search: ResolvedSearch, memory_mb: float | None) -> Resolved:
    """Return the settings of a search as the record keeps them."""
    return Resolved(
        trials=search.budget.trials,
        time_budget_s=search.budget.time_s,
        weighs_seconds=search.policy.weighs_seconds,
        rungs=list(search.policy.rungs),
        reduction_factor=search.policy.reduction_factor.value,
        memory_mb_per_trial=memory_mb,
        probes=search.training.probe.value,
        prior=prior_of(search).value,
    )


def _launch(session: _Session, workers: Workers, decisions: Decisions, stopping: Stopping, monitor: Monitor) -> Launch:
    """Return everything that trials are run with."""
    from tuner.execution.tune_run import Ending, Launch, Recording, Trials

    run, record = session.run, session.record
    going_on = tuple(interrupted_trials(record.state, decisions.context.halving))
    return Launch(
        workers,
        decisions,
        Trials(
            unfinished=[continuation(number, record.state, run) for number in going_on],
            new=max(0, session.search.budget.trials - len(record.state.trials)),
            continuation=lambda number: continuation(number, record.state, run),
        ),
        Recording(run, record, monitor, _on_building(session.console, stopping)),
        Ending(
            stopping.should_stop,
            stopping.on_disk_full,
            _hang_watch(session),
            stopping.lacks_an_epoch,
            stopping.first_epoch.see,
        ),
    )


def _on_building(console: SearchConsole, stopping: Stopping) -> Callable[[int, int, int], None]:
    """Return what is told of a trial, and of the images whose activations are computed for it: done, and all."""

    def take_in(trial: int, done: int, total: int) -> None:
        console.building(trial, done, total)
        stopping.first_epoch.build(trial, done, total)

    return take_in


def _hang_watch(session: _Session) -> HangWatch:
    """Return what tells which trials hang, knowing how long epochs have taken so far."""
    search, trials = session.search, session.record.state.trials.values()
    watch = HangWatch(search.shares.hung_after_epochs, search.training.settings.head_epochs, is_alive=Signs().is_new)
    watch.remember(epoch.seconds for trial in trials for epoch in trial.epochs)
    return watch


def _run_finalists(session: _Session, workers: Workers, stopping: Stopping) -> None:
    """Train the finalists; whatever becomes of them, the search itself is done and is reported."""
    from tuner.execution.finalist_actor import Pool
    from tuner.session._finalists import run_finalists

    pool, console = Pool(workers, _hang_watch(session)), session.console
    try:
        run_finalists(stopping.time, pool, session.run, session.record, console, stopping.is_interrupted)
    except Exception as error:  # whatever fails in trainings more, the search is done, and is to be reported
        if isinstance(error, DiskFullError) or is_disk_full(error):
            raise
        _LOG.warning("finalists", exc_info=True)
        console.note(session.record, f"the finalists were given up: {cause_of(error)}")


def _created(session: _Session) -> StudyCreated:
    search = session.search
    return StudyCreated(
        study=search.study.name,
        metric=search.study.metric,
        metrics=list(search.study.metrics),
        mode=search.study.mode,
        seed=search.study.seed,
        max_epochs=search.training.settings.max_epochs,
        specification=dict(search.specification),
        data=describe_data(session.prepared.dataset),
        environment=describe_environment(),
        command=[without_passwords(word) for word in sys.argv],
        own_code=used_code(search, session.prepared.plugins),
    )


def _watch_disk(session: _Session, slots: int) -> None:
    """Watch for a disk on which checkpoints will not fit; a bucket always has room."""
    checkpoints, record = session.run.checkpoints, session.record
    if not checkpoints.is_remote:
        folder, at_once = Path(checkpoints.address), checkpoints_at_once(session.search, slots)
        watch = CheckpointWatch(folder, at_once, record.state, session.note)
        record.listen(watch, "the room for checkpoints cannot be watched")


def _close_trials(record: Record, reason: Reason) -> None:
    """End the trials that still run after a spent budget; an interruption, or giving up, leaves them open.

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
