"""Submission of a search: checked here, packed, and sent to the cluster. `run_submit` runs every submit command."""

from __future__ import annotations

import difflib
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.common.command_line import override_of, split_assignments
from tuner.common.errors import DataError, InputError, LostError
from tuner.common.locations import is_remote, parse_location
from tuner.common.plugins import Plugin
from tuner.common.process import given_switches
from tuner.datasets.sources import NAMED
from tuner.datasets.staging import resolve, staged_sources
from tuner.jobs import _commands
from tuner.jobs._upload import LocalData, Package, local_data, local_studies, write_package
from tuner.jobs.client import Jobs
from tuner.jobs.options import COMMANDS, SHARED, SubmitOptions
from tuner.models.own_networks import load_own_code
from tuner.reports.console import SearchConsole
from tuner.session.checks import check_names
from tuner.spec.spec import Spec, load_spec, require
from tuner.training.trainable import meaning_of_nothing


def run_submit(options: SubmitOptions) -> int:
    """Run the command of `python -m tuner.submit` that `options` name, and return the exit status."""
    console = SearchConsole()
    return _COMMANDS[options.command](options, console)


@dataclass(frozen=True)
class CheckedSearch:
    """A checked search, with those of its data and earlier studies that lie on this machine."""

    spec: Spec
    data: LocalData | None
    earlier: Mapping[str, Path]
    """Run directories and files of studies that it is to learn from, by the names they are given in the file."""
    plugins: tuple[Plugin, ...] = ()
    named: tuple[str, ...] = ()
    """Data of the cluster that the file calls by a name of this machine, as `--data` has them."""


def _submit(options: SubmitOptions, console: SearchConsole) -> int:
    search = read_search(options)
    jobs = Jobs(options.address)
    name = f"{search.spec.study}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    with tempfile.TemporaryDirectory(prefix="tuner-") as folder:
        target = Path(folder) / "package.zip"
        names = [] if options.resume else search.spec.search.warm_start
        package = write_package(
            target, options.file, search.data, names, search.earlier, options.shared, search.plugins
        )
        for notice in package.notices:
            console.say(f"notice: {notice}")
        metadata = {"study": search.spec.study, "file": str(options.file), "shared": str(options.shared)}
        sent_options = replace(options, data=(*options.data, *search.named))
        metadata["resume"] = resume_command(sent_options)
        try:
            jobs.submit(name, job_of(sent_options, package), metadata, target)
        except LostError as error:
            said = _commands.typed_command(options, "status")
            raise LostError(f"{error}; whether {name} began is not known: {said} says") from None
    sent = "" if search.data is None else f", with {search.data.path} as {package.data_folder}"
    console.say(f"submitted: {name}{sent}")
    if options.detach:
        _commands.say_next_commands(options, name, console)
        return 0
    return _commands.follow_job(jobs, name, options, console)


def read_search(options: SubmitOptions) -> CheckedSearch:
    """Return the search that the file and the options describe.

    Raises:
        SpecError: the file is wrong; the same messages as those of `python -m tuner.search`.
        InputError: an earlier study is not where it should be, or is none.
    """
    _refuse_misspelt_command(options.file)
    if options.storage is not None and is_remote(options.storage):
        parse_location(options.storage, "--storage")  # a folder is the cluster's, and is looked at there
    plugins = load_own_code(options.plugins)
    named = split_assignments(options.data)
    reading = load_spec(options.file, options.overrides, meaning_of_nothing)
    staged = staged_sources(os.environ, named)
    problems = check_names(reading, staged, goes_on=options.resume)
    data = None
    if reading.spec is not None and not problems:
        try:
            data = local_data(reading.spec.data, staged, list(named), options.shared)
        except DataError as error:
            problems = [reading.problem(("data", "source"), str(error))]
    spec = require(reading, problems)
    earlier = {} if options.resume else local_studies(spec.search.warm_start)
    return CheckedSearch(spec, data, earlier, plugins, () if data else _named_here(spec.data.source, staged, named))


def _named_here(source: str, staged: Mapping[str, str], named: Container[str]) -> tuple[str, ...]:
    """Return what a name stands for on this machine alone (TUNER_DATA), as `--data` has it; nothing for others."""
    resolved = resolve(source, staged)
    is_known_there = source in NAMED or source in named or resolved == source or "=" in source
    return () if is_known_there else (f"{source}={resolved}",)


def _refuse_misspelt_command(file: Path) -> None:
    nearest = difflib.get_close_matches(str(file), COMMANDS, n=1)
    if nearest and not file.exists():
        raise InputError(f"{file}: no such search-space file; did you mean the command {nearest[0]!r}?")


def job_of(options: SubmitOptions, package: Package) -> dict[str, object]:
    """Return the work of the job: the arguments of a search on the cluster, and the folder for data that came along.

    What says here how GPUs are used (`SWITCHES`) is said there; raises InputError for a word that says nothing.
    """
    overrides = list(options.overrides)
    if package.data_source is not None:
        overrides.append(override_of("data.source", package.data_source))
    if package.warm_start:
        overrides.append(override_of("search.warm_start", package.warm_start))
    words = [options.file.name, "--address", "auto"]
    words += ["--runs", str(options.shared / "runs"), "--reports", str(options.shared / "reports")]
    words += ["--cache", options.cache] if options.cache else []
    words += ["--storage", options.storage] if options.storage else []
    words += [f"--set={override}" for override in overrides]
    words += [f"--data={assignment}" for assignment in options.data]
    words += [] if options.trackers is None else [f"--tracker={one}" for one in options.trackers or ("none",)]
    words += [f"--plugin={reference}" for reference in package.plugins]
    words += ["--resume"] if options.resume else ["--fresh"] if options.fresh else []
    job: dict[str, object] = {"search": words, "resume_command": resume_command(options)}
    job |= {"switches": switches} if (switches := given_switches()) else {}
    return job if package.data_folder is None else {**job, "data": str(package.data_folder)}


def resume_command(options: SubmitOptions) -> str:
    """Return the command with which a user resumes a search that was stopped."""
    more = [] if options.shared == SHARED else ["--shared", str(options.shared)]
    more += ["--cache", options.cache] if options.cache else []
    kept = [one for one in options.overrides if not one.startswith("search.warm_start=")]  # the run has what it learnt
    settings = [word for override in kept for word in ("--set", override)]
    settings += [word for assignment in options.data for word in ("--data", assignment)]
    settings += [word for plugin in options.plugins for word in ("--plugin", plugin)]
    words = ["python", "-m", "tuner.submit", str(options.file), "--resume", *settings, *more, *options.address_words]
    return shlex.join(words)


_COMMANDS: dict[str, Callable[[SubmitOptions, SearchConsole], int]] = {
    "submit": _submit,
    "follow": _commands.follow_search,
    "status": _commands.say_status,
    "logs": _commands.say_log,
    "stop": _commands.stop_search,
    "fetch": _commands.fetch_search,
}
