"""The actions that the options of `python -m tuner.search` ask for: plan, search, resume, and one trial without Ray."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.cluster.ray_session import gpus_here
from tuner.common.errors import InputError, RunError, RunInUseError, SpecError, TunerError
from tuner.common.files import check_folder, remove_leftovers
from tuner.common.locations import Location, check_location, is_remote, parse_location
from tuner.common.metrics import METRICS
from tuner.common.plugins import load_plugins
from tuner.common.process import logging_to, logical_gpus, usable_cpus
from tuner.common.seeds import derive_seed, trial_seed
from tuner.models.backend import configure_backend, has_gpu
from tuner.models.own_networks import load_own_code
from tuner.proposals.asking import source_asked_for, study_name
from tuner.proposals.making import DEFAULT_TIME, Asked, make_file
from tuner.reports.console import SearchConsole
from tuner.reports.formatting import backbone_words, describe_configuration, format_seconds, format_value, metric_words
from tuner.runs.directory import RunDirectory, fresh_run, new_run, open_run, run_to_resume
from tuner.runs.epoch import Epoch
from tuner.runs.events import StudyCreated
from tuner.runs.mirror import download_run, mirrored, refuse_older_copy
from tuner.runs.record import beat_after, read_state
from tuner.runs.state import RunState
from tuner.session._own_code import refuse_missing_code, refuse_other_code
from tuner.session._plan import print_plan
from tuner.session._resolved import ResolvedSearch, augment_on, pretrained_in, prior_of, probe_limit_s, resolve
from tuner.session._resume import (
    MAY_CHANGE,
    as_before,
    first_event,
    other_data,
    refuse_other_data,
    refuse_other_search,
)
from tuner.session.checks import beyond_this_machine, check_files, check_names, checked_gpus
from tuner.session.options import SearchOptions
from tuner.session.preparation import (
    Prepared,
    cache_folder,
    planned_data,
    prepare,
    prepared_data,
    probed_configurations,
    staged_data,
)
from tuner.spec.schema import read_time
from tuner.spec.space import sample
from tuner.spec.spec import Spec, SpecReading, load_spec, read_spec, require
from tuner.trackers.opening import make_trackers, tracking
from tuner.training.trainable import meaning_of_nothing
from tuner.training.trial_like import drive

if TYPE_CHECKING:
    from tuner.algorithms.warm_start import EarlierStudy
    from tuner.cluster.ray_session import Capacity
    from tuner.execution.worker_process import TrialKind


def run_search(
    options: SearchOptions, console: SearchConsole | None = None, trial_kind: TrialKind | None = None
) -> int:
    """Carry out a command line of `python -m tuner.search`, and return the exit status.

    The trials are of `trial_kind`; if none is given, they train networks.
    """
    console = console or SearchConsole()
    load_own_code(options.plugins)
    if options.retrain is not None:
        with logging_to(open_run(options.retrain[0]).log, is_new=False):
            return retrain(*options.retrain, options, console)
    options = _with_time(_with_file(options, console))
    if options.file is None:
        return _resume(None, options, console, trial_kind)
    spec = _read(options.file, options, options.overrides)
    if options.resume is not None:
        return _resume(spec, options, console, trial_kind)
    search = _resolved(spec)
    if options.plan or options.inline:
        with logging_to(None):
            return (
                _tell_plan(spec, search, options, console) if options.plan else train_inline(search, options, console)
            )
    check_folder(options.runs_dir, "--runs")
    storage = _usable(options.storage) if options.storage is not None else None
    if not options.fresh:
        run = new_run(options.runs_dir, spec.study, storage)
        earlier = _earlier(spec.search.warm_start, search, options, console)
        return _search(search, run, options, console, learns_from=earlier, trial_kind=trial_kind)
    earlier, in_use = _earlier(spec.search.warm_start, search, options, console), set[str]()
    while True:
        run = fresh_run(options.runs_dir, spec.study, storage, in_use)
        try:
            return _search(search, run, options, console, learns_from=earlier, trial_kind=trial_kind)
        except RunInUseError:  # before anything was written: another search had the same thought
            in_use.add(run.name)


def _with_file(options: SearchOptions, console: SearchConsole) -> SearchOptions:
    """Return the options with a search-space file in place of a source, for which it is written now, and said.

    Raises:
        InputError: there is nothing to search with, or a search is to go on, which begins with its own file.
    """
    if options.file is None:
        return options
    staged = staged_data(options)
    source = source_asked_for(str(options.file), staged)
    if source is None:
        return options
    if options.resume is not None:
        earlier = f"{study_name(source)}.yaml"
        raise InputError(f"--resume goes with the file that was written for {source}: tuner.search {earlier} --resume")
    check_folder(options.runs_dir, "--runs")
    asked = Asked(
        source, time_for_all(options), options.overrides, staged, cache_folder(options), options.runs_dir, None
    )
    with console.preparing(f"looking at {source}"), logging_to(None):
        made = make_file(asked)
    for line in made.lines:
        console.say(line)
    return replace(options, file=made.path)


def time_for_all(options: SearchOptions) -> float | None:
    """Return the seconds that a search of a source may take, as the command line says; None: as long as it takes.

    Raises:
        InputError: what it says is no time.
    """
    given = [one for one in options.overrides if _sets_time(one)]
    if options.time is None and given:
        reading = read_spec("search: {}", str(options.file), given)
        if reading.search is None:
            raise SpecError(reading.file, [one for one in reading.problems if one.field.startswith("search")])
        return reading.search.time_budget
    return read_time(options.time or DEFAULT_TIME, "--time")


def _sets_time(override: str) -> bool:
    return override.partition("=")[0].strip() == "search.time_budget"


def _with_time(options: SearchOptions) -> SearchOptions:
    """Return the options with the time that is given as a setting of the file; raises InputError when it is none."""
    if options.time is None:
        return options
    seconds = read_time(options.time, "--time")
    budget = f"search.time_budget={'none' if seconds is None else seconds}"
    return replace(options, time=None, overrides=(*options.overrides, budget))


def _resolved(spec: Spec) -> ResolvedSearch:
    """Return the search that a specification asks for; what libraries say of the machine is not told."""
    with logging_to(None):
        return resolve(spec)


def _tell_plan(spec: Spec, search: ResolvedSearch, options: SearchOptions, console: SearchConsole) -> int:
    """Say what the search would do, and return the exit status."""
    known = planned_data(search.study, options)
    print_plan(search, console.console, known)
    for notice in known.notices:
        console.say(notice)
    _tell_disk_use(search, options, console)
    studies = _earlier(spec.search.warm_start, search, options, console)
    _tell_recipes(studies, search, console)
    if options.probe:
        _tell_probes(search, options, console)
    return 0


def _tell_probes(search: ResolvedSearch, options: SearchOptions, console: SearchConsole) -> None:
    """Probe here what frozen features give, within the time that a search has for it, and say it."""
    if not search.training.probe.value:
        console.say(f"nothing is probed: {search.training.probe.why}")
        return
    prepared, metric = prepare(search.study, options, console), search.study.metric
    configure_backend()
    from tuner.training.probes.probing import Prober

    kept = search.training.activations_in(prepared.cache_dir)
    prober = Prober(prepared.dataset, search.training.settings, kept, console.say)
    ends_at = time.process_time() + probe_limit_s(search.budget.time_s)
    for configuration in probed_configurations(search.study, prepared.dataset.image_shape):
        with console.preparing(f"probing {backbone_words(configuration)}"):
            probed = prober.probe(configuration, lambda: time.process_time() < ends_at)
        if probed is None:
            console.say(f"the others would take more than {format_seconds(probe_limit_s(search.budget.time_s))}")
            return
        words = probed.reason or f"{metric_words(metric)} {format_value(metric, probed.metrics[metric])}"
        console.say(f"{backbone_words(configuration)}: {words}")


def _tell_disk_use(search: ResolvedSearch, options: SearchOptions, console: SearchConsole) -> None:
    """Say what the search will take on the disk, beside what its disk has."""
    from tuner.session._disk_use import disk_use_words

    with console.preparing("building a few of the networks, to see how large their checkpoints are"):
        lines = disk_use_words(
            search, prepared_data(search.study.data, options), options.runs_dir, cache_folder(options)
        )
    for line in lines:
        console.say(line)


def _earlier(
    names: Sequence[str], search: ResolvedSearch, options: SearchOptions, console: SearchConsole
) -> list[EarlierStudy]:
    """Return the user's studies that a search is to learn from, and say how much of each has a place in its space."""
    if not names:
        return []
    from tuner.algorithms.warm_start import describe, read_earlier

    study = search.study
    studies = read_earlier(names, options.runs_dir, study.metric, study.mode)
    console.say(describe(studies, study.space, study.baseline, study.mode))
    return studies


def _tell_recipes(studies: Sequence[EarlierStudy], search: ResolvedSearch, console: SearchConsole) -> None:
    """Say of which architectures the prior has a recipe."""
    if not (prior := _prior(search)):
        return
    from tuner.algorithms.warm_start import warm_start

    study = search.study
    warm = warm_start([*studies, *prior], study.space, study.baseline, study.mode)
    names = ", ".join(str(one["architecture"]) for one in warm.prior) or "none"
    console.say(f"prior: first comes what was best in {len(prior)} studies of other data, for {names}")


def _prior(search: ResolvedSearch) -> list[EarlierStudy]:
    """Return the studies that come with tuner, where the search begins with them."""
    if not prior_of(search).value:
        return []
    from tuner.algorithms.prior import prior_studies, shipped_prior

    study = search.study
    return prior_studies(shipped_prior().studies, pretrained_in(study.space), study.metric, study.mode)


def _read(path: Path, options: SearchOptions, overrides: Sequence[str]) -> Spec:
    """Return the checked specification of a file; raises SpecError with all its problems."""
    reading = load_spec(path, overrides, meaning_of_nothing)
    staged = staged_data(options)
    problems = check_names(reading, staged, goes_on=options.resume is not None)
    if not (problems or reading.problems or options.plan):  # a plan can be made before the data are there
        problems = check_files(reading, staged)
    if problems and options.resume is not None:
        _refuse_missing_code_of(reading, options)
    return require(reading, problems)


def _refuse_missing_code_of(reading: SpecReading, options: SearchOptions) -> None:
    """Refuse to go on with a run without its own code: that explains names that are unknown."""
    study, began = reading.document.values.get("study"), None
    with contextlib.suppress(RunError):
        run = run_to_resume(options.runs_dir, str(study)) if not options.resume else open_run(Path(options.resume))
        began = read_state(run.record).study
    if began is not None:
        refuse_missing_code(began, load_plugins(options.plugins), run)


def _resume(spec: Spec | None, options: SearchOptions, console: SearchConsole, trial_kind: TrialKind | None) -> int:
    """Resume a run: the search must be the same, its limits may be changed."""
    if options.resume and is_remote(options.resume):
        location = parse_location(options.resume, "--resume")
        run = download_run(location, options.runs_dir / location.name)
    elif options.resume:
        run = open_run(Path(options.resume))
    elif spec is not None:
        run = run_to_resume(options.runs_dir, spec.study)
    else:
        raise RunError("--resume must name a run when no search-space file is given")
    state = read_state(run.record)  # a damaged record is told before Ray starts
    study = first_event(state, run)
    refuse_missing_code(study, load_plugins(options.plugins), run)
    run = replace(run, storage=_storage(run, state, options))
    refuse_older_copy(run)
    budget = tuple(text for text in options.overrides if text.startswith(MAY_CHANGE))
    recorded = _read(run.specification, options, options.overrides if spec is None else budget)
    refuse_other_search(study, spec or recorded, run)
    search = _resolved(spec or recorded)
    refuse_other_code(study, search, run)
    return _search(search, run, options, console, learns_from=study, trial_kind=trial_kind)


def _storage(run: RunDirectory, state: RunState, options: SearchOptions) -> Location | None:
    """Return where the checkpoints of a run that goes on lie: where they were, or where they have been moved to.

    Raises:
        InputError: they lie in the run directory, so that no storage can have them.
    """
    before = state.sessions[-1].storage if state.sessions else None
    known = run.storage.address if run.storage is not None else before
    if options.storage is None:
        return _usable(known) if known is not None else None
    if before is None and any(trial.checkpoint for trial in state.trials.values()):
        raise InputError(f"--storage must be left out: the checkpoints of {run.path} are in the run directory itself")
    return _usable(options.storage)


def _usable(text: str) -> Location:
    """Return a storage that files can be written to and read from; raises InputError for any other."""
    location = parse_location(text, "--storage")
    check_location(location)
    return location


EXIT_STATUSES = {"interrupted": 130}
"""Exit statuses by its end of a search that has no winner, or may have another when it goes on; 1 for every other."""


@contextmanager
def _ray(options: SearchOptions, run: RunDirectory) -> Iterator[Callable[[], Capacity]]:
    """Yield what waits for the Ray that trains: of this machine alone, which starts meanwhile, or a cluster's."""
    from tuner.cluster.connection import cluster_ray
    from tuner.cluster.ray_session import starting_ray

    if options.address is None:
        with starting_ray(run.name, options.dashboard) as started:
            yield started
    else:
        with cluster_ray(options.address, run.checkpoints, options.insecure) as capacity:
            yield lambda: capacity


def _search(
    search: ResolvedSearch,
    run: RunDirectory,
    options: SearchOptions,
    console: SearchConsole,
    *,
    learns_from: StudyCreated | Sequence[EarlierStudy],
    trial_kind: TrialKind | None,
) -> int:
    """Prepare, search and conclude, and return the exit status.

    A new run learns from earlier studies, one that goes on from what it began with itself.

    Raises:
        RunError: the data are not those that the run began with.
        InputError: where something is to be written, nothing can be; nothing was then.
    """
    _check_places(search, run, options)
    importlib.import_module("ray.tune")  # Ray sets up its logs when it is imported, and would undo `logging_to`
    report, began = options.reports_dir / run.name, learns_from if isinstance(learns_from, StudyCreated) else None
    trackers = make_trackers(options.trackers, run, goes_on=began is not None)
    with (
        run.locked(is_new=began is None),
        logging_to(run.log),
        mirrored(run, report, console.say),
        tracking(trackers, run, report, console.say),
    ):
        for folder in (run.path, report):
            remove_leftovers(folder)
        with _ray(options, run) as started:
            from tuner.algorithms.warm_start import save_earlier
            from tuner.reports.writer import reporting
            from tuner.session._finish import finish_session
            from tuner.session.preparation import prepare
            from tuner.session.session import run_session

            # Data are prepared while Ray starts, unless something is to be said, or refused, before that.
            waits = options.dashboard or options.address is not None or gpus_here() > 0
            capacity = _checked_capacity(started(), search, console) if waits else None
            prepared = prepare(as_before(began, search.study), options, console, trial_kind)
            capacity = capacity or _checked_capacity(started(), search, console)
            if isinstance(learns_from, StudyCreated):
                refuse_other_data(learns_from, prepared.dataset, run)
            elif earlier := [*learns_from, *_prior(search)]:
                save_earlier(earlier, run.warm_start)
            else:
                run.warm_start.unlink(missing_ok=True)  # that of a search which ended here before it began
            with reporting(run.path, report, console.beside, plugins=_plugins_of_reports(options)):
                end = run_session(search, prepared, run, capacity, console, resumed=began is not None)
        has_winner = finish_session(search, prepared, run, end, options, console)
        beat_after(run.record, end[1])
    return 0 if has_winner else EXIT_STATUSES.get(end[0], TunerError.exit_status)


def _checked_capacity(capacity: Capacity, search: ResolvedSearch, console: SearchConsole) -> Capacity:
    """Return the capacity for the trials of a search, and say what is to be known of it; raises as `checked_gpus`."""
    if capacity.dashboard is not None:
        console.say(f"Ray's dashboard: http://{capacity.dashboard} (it asks for the token: ray get-auth-token)")
    capacity, gpus_said = checked_gpus(search.shares, capacity, _sees_gpu)
    if gpus_said:
        console.say(gpus_said)
    return capacity


def _check_places(search: ResolvedSearch, run: RunDirectory, options: SearchOptions) -> None:
    """Raise InputError where this machine has not what is asked for, or a folder cannot be written to."""
    if options.address is None and (beyond := beyond_this_machine(search.shares)):
        raise InputError(beyond)
    check_folder(run.path, "the run directory")
    check_folder(options.reports_dir / run.name, "--reports")
    cache_folder(options)


def _plugins_of_reports(options: SearchOptions) -> tuple[str, ...]:
    """Return the plugins without which a record cannot be told of: those that have metrics."""
    plugins = load_plugins(options.plugins)
    return tuple(plugin.reference for plugin in plugins if any(kind == METRICS.kind for kind, _ in plugin.registered))


def _sees_gpu() -> bool:
    if logical_gpus():
        return True
    configure_backend()
    return has_gpu()


def train_inline(search: ResolvedSearch, options: SearchOptions, console: SearchConsole) -> int:
    """Train the baseline (without one: a random configuration) as trial 0, and return the exit status."""
    study = search.study
    generator = np.random.default_rng(derive_seed(study.seed, "inline"))
    configuration = study.baseline if study.baseline is not None else sample(study.space, generator)
    gpus = search.shares.gpus or 0.0
    if gpus > 1 and (beyond := beyond_this_machine(replace(search.shares, cpus=None))):
        raise InputError(beyond)
    alone = search.shares.cpus or usable_cpus(), gpus if gpus > 1 else None
    search = replace(search, training=search.training.augmented_on(augment_on(search, 0.0, ())))
    return _train(search, configuration, 0, prepare(study, options, console), alone, console)


def retrain(run_path: Path, number: int, options: SearchOptions, console: SearchConsole) -> int:
    """Train a trial of a run again, with its configuration and seed, and return the exit status.

    Raises:
        RunError: there is no such run, or no such trial in it.
    """
    run = open_run(run_path)
    state = read_state(run.record)
    trials = state.trials
    if number not in trials:
        raise RunError(
            f"{run_path}: trial must be one of {min(trials, default=0)} to {max(trials, default=0)}; got {number}"
        )
    if not state.sessions:
        raise RunError(f"{run_path}: must say with how many CPUs a trial was trained; its record has no session")
    began = first_event(state, run)
    refuse_missing_code(began, load_plugins(options.plugins), run)
    search = resolve(require(load_spec(run.specification, options.overrides, meaning_of_nothing)))
    refuse_other_code(began, search, run)
    session = state.session_of(number)
    gpus = session.gpus_per_trial if session.gpus_per_trial > 1 else None
    shares = session.cpus_per_trial, gpus  # other threads or devices, other roundings
    prepared = prepare(as_before(began, search.study), options, console)
    if (different := other_data(began, prepared.dataset)) is not None:
        console.say(f"the data are not those of {run.path}, so that values will differ: {different}")
    search = replace(search, training=search.training.augmented_on(session.augment_on))
    return _train(search, trials[number].configuration, number, prepared, shares, console)


def _train(
    search: ResolvedSearch,
    configuration: Mapping[str, Any],
    number: int,
    prepared: Prepared,
    shares: tuple[float, float | None],
    console: SearchConsole,
) -> int:
    console.say(f"trial {number}: {describe_configuration(configuration, list(configuration))}")

    def report(epoch: Epoch) -> None:
        console.say(
            f"epoch {epoch.epoch}/{search.training.settings.max_epochs} {epoch.phase.replace('_', ' ')}: "
            f"{', '.join(f'{name} {value:.4f}' for name, value in epoch.metrics.items())}, "
            f"best {epoch.best_so_far:.4f} ({epoch.seconds:.1f} s)"
        )

    trials = prepared.worker_context(search.training, *shares).trials(notify=console.say)
    trial = trials.begin(configuration, trial_seed(search.study.seed, number))
    drive(trial, report)
    ended = trial.ended
    if ended is None or ended.status == "failed":
        console.say(f"failed: {ended.reason if ended else 'no end'}")
        return 1
    size = "" if trial.parameters is None else f"; {trial.parameters:,} parameters"
    console.say(
        f"{ended.reason.replace('_', ' ')}: best {search.study.metric} {trial.best:.4f}{size}; "
        f"built in {format_seconds(trial.setup_s)}"
    )
    return 0
