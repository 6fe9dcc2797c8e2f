"""What the options of `python -m tuner.search` set in motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.checks import check_files, check_names
from tuner.cli import SearchOptions
from tuner.errors import RunError
from tuner.files import check_folder
from tuner.plan import build_plan, print_plan
from tuner.preparation import cache_folder, staged_data
from tuner.progress import SearchConsole
from tuner.record import read_state
from tuner.runs import RunDirectory, fresh_run, latest_run, new_run, open_run
from tuner.spec import Spec, load_spec, require

if TYPE_CHECKING:
    from tuner.warm_start import EarlierStudy


def run_search(options: SearchOptions) -> int:
    """Do what a command line of `python -m tuner.search` asks for; returns the exit status."""
    console = SearchConsole()
    if options.retrain is not None:
        from tuner.inline import retrain

        return retrain(*options.retrain, options, console)
    if options.file is None:
        return _resume(None, options, console)
    spec = _read(options.file, options, options.overrides)
    if options.plan:
        print_plan(spec, build_plan(spec), console.console)
        if spec.search.warm_start:
            _earlier(spec, options, console)
        return 0
    if options.inline:
        from tuner.inline import train_inline

        return train_inline(spec, options, console)
    if options.resume is not None:
        return _resume(spec, options, console)
    check_folder(options.runs_dir, "--runs")
    choose = fresh_run if options.fresh else new_run
    run = choose(options.runs_dir, spec.study)
    return _search(spec, run, options, console, earlier=_earlier(spec, options, console))


def _earlier(spec: Spec, options: SearchOptions, console: SearchConsole) -> list[EarlierStudy]:
    """The studies that a search is to learn from; says how much of each has a place in its space."""
    if not spec.search.warm_start:
        return []
    from tuner.warm_start import describe, read_earlier

    studies = read_earlier(spec.search.warm_start, options.runs_dir, spec.metric, spec.mode)
    console.say(describe(studies, spec.space, spec.baseline, spec.mode))
    return studies


def _read(path: Path, options: SearchOptions, overrides: Sequence[str]) -> Spec:
    """The checked specification of a file; raises SpecError with all its problems."""
    reading = load_spec(path, overrides)
    staged = staged_data(options)
    problems = check_names(reading, staged)
    if not (problems or reading.problems or options.plan):  # a plan can be made before the data are there
        problems = check_files(reading, staged)
    return require(reading, problems)


def _resume(spec: Spec | None, options: SearchOptions, console: SearchConsole) -> int:
    """Go on with a run: what is searched must be what it was, what may be spent can be changed."""
    named = options.resume if options.resume not in (None, Path()) else None
    if named is not None:
        run = open_run(named)
    elif spec is not None:
        run = latest_run(options.runs_dir, spec.study)
    else:
        raise RunError("--resume must name a run when no search-space file is given")
    read_state(run.record)  # a damaged record is told now, not when Ray has started
    budget = tuple(text for text in options.overrides if text.startswith(_MAY_CHANGE))
    recorded = _read(run.specification, options, options.overrides if spec is None else budget)
    if spec is not None:
        _refuse_other_search(recorded, spec, run)
    return _search(spec or recorded, run, options, console)


_MAY_CHANGE = ("search.trials", "search.time_budget", "search.max_concurrent", "resources.", "finalists.")


def _refuse_other_search(recorded: Spec, wanted: Spec, run: RunDirectory) -> None:
    """A run goes on as it began: old and new trials would not be comparable otherwise."""
    before, now = _comparable(recorded), _comparable(wanted)
    different = [key for key in before if before[key] != now.get(key)]
    if different:
        raise RunError(
            f"{run.path} cannot go on: {', '.join(different)} differ from what it began with ({run.specification}); "
            "change only the budget, or begin another run with --fresh"
        )


def _comparable(spec: Spec) -> dict[str, object]:
    resolved = spec.resolved()
    search = {key: value for key, value in resolved["search"].items() if f"search.{key}" not in _MAY_CHANGE}
    search.pop("warm_start")  # kept with the run: what is named now makes no difference any more
    kept = {key: value for key, value in resolved.items() if key not in ("resources", "finalists")}
    return {**kept, "search": search}


def _search(
    spec: Spec,
    run: RunDirectory,
    options: SearchOptions,
    console: SearchConsole,
    *,
    earlier: Sequence[EarlierStudy] | None = None,
) -> int:
    """Prepare, search, conclude; 130 when it was interrupted. `earlier`: of a new run; None: it is resumed.

    Raises:
        InputError: where something is to be written, nothing can be; nothing was then.
    """
    check_folder(run.path, "the run directory")
    check_folder(options.reports_dir / run.name, "--reports")
    cache_folder(options)
    from tuner.cluster import local_ray
    from tuner.conclude import conclude
    from tuner.connection import cluster_ray
    from tuner.live_report import reporting
    from tuner.log import logging_to
    from tuner.preparation import prepare
    from tuner.session import run_session
    from tuner.warm_start import save_earlier

    with run.locked(), logging_to(run.log):
        with local_ray() if options.address is None else cluster_ray(options.address, run.path) as capacity:
            prepared = prepare(spec, options, console)
            if earlier:
                save_earlier(earlier, run.warm_start)
            with reporting(run.path, options.reports_dir / run.name):
                reason, state = run_session(spec, prepared, run, capacity, console, resumed=earlier is None)
        conclude(spec, prepared, run, state, reason, options.reports_dir, console)
    return 130 if reason == "interrupted" else 0
