"""`python -m tuner.jobs.entrypoint`: the work of a job of `python -m tuner.submit` on the cluster.

What it is to do is in the variable TUNER_JOB, as JSON; what happens is printed, a line of JSON each.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuner.common.command_line import failure
from tuner.common.errors import InputError, TunerError
from tuner.common.plugins import PACKED
from tuner.common.process import LenientOutput, process_began
from tuner.common.termination import terminating_as_interrupt
from tuner.jobs._archive import pack, write_lines
from tuner.jobs.client import FETCH_PREFIX, VARIABLE
from tuner.jobs.progress_stream import ProgressStream
from tuner.runs.directory import RunDirectory
from tuner.session.options import parse_search_options

_LOG_KEPT_S = 600.0


def main(began: float | None = None) -> int:
    """Do the work described in TUNER_JOB, whose time is counted from `began`, or now; return the exit status."""
    job = json.loads(os.environ[VARIABLE])
    stream = ProgressStream(_write, job.get("resume_command", ""))
    stream.began = began or stream.began
    with stream.beating(), terminating_as_interrupt():
        try:
            status = _run(job, stream)
        except (TunerError, OSError) as error:
            lines, status = failure(error)
            stream.send("error", lines=lines)
        except KeyboardInterrupt:
            status = 130
    stream.send("ended", status=status)
    return status


def _write(line: str) -> None:
    output = LenientOutput()
    output.write(line)
    output.flush()


def _run(job: Mapping[str, Any], stream: ProgressStream) -> int:
    if "fetch" in job:
        return _fetch(**job["fetch"])
    os.environ.update(job.get("switches", {}))
    if "data" in job:
        place_data(Path("data"), Path(job["data"]))
    with in_working_copy(Path.cwd()):  # before the seconds that the next line takes
        from tuner.session.commands import run_search

        if Path(PACKED).is_dir():
            sys.path.insert(0, str(Path(PACKED).absolute()))
        sys.argv = ["tuner.submit", *job["search"]]  # what the record says of how the search was begun
        return run_search(parse_search_options(job["search"]), stream)


@contextmanager
def in_working_copy(sent: Path) -> Iterator[None]:
    """Change to a copy of the files that came with the job, without its data, which are elsewhere by now.

    In the folder itself the driver may lose the ground under its feet: where several nodes of a cluster run on one
    machine, each unpacks the files anew.
    """
    with tempfile.TemporaryDirectory(prefix="tuner-job-") as own:
        # only the folder itself holds them: a run that was sent may be called as they are
        are_placed = {str(sent): ["data"]}
        shutil.copytree(sent, own, ignore=lambda folder, _: are_placed.get(str(folder), []), dirs_exist_ok=True)
        os.chdir(own)
        try:
            yield
        finally:
            os.chdir(tempfile.gettempdir())  # the folder of before may not be there any more


def place_data(sent: Path, folder: Path) -> None:
    """Copy data that came with a job to where all nodes see them; a folder of this name already has the same data.

    Raises InputError when the folder cannot be made.
    """
    if folder.exists():
        return
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(sent, aside)
        if not folder.exists():  # two jobs with the same data began together
            aside.rename(folder)
    except OSError as error:
        why = error.strerror or error
        raise InputError(f"{folder}: the data that came with the search cannot be put there: {why}") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fetch(run: str, report: str, with_models: bool) -> int:
    _remove_old_logs()
    for line in write_lines(pack(fetched_files(Path(run), Path(report), with_models=with_models))):
        _write(line)
    return 0


def fetched_files(run_path: Path, report: Path, *, with_models: bool) -> dict[str, Path]:
    """Return the files of a search to send back, by their names in the archive: checkpoints stay.

    Raises TunerError when there is no such run any more.
    """
    run = RunDirectory(run_path)
    if not run.record.is_file():
        raise TunerError(f"{run_path}: the run is no longer there")
    wanted = [run.record, run.specification, run.warm_start, run.log, run.labels, run.about_best, run.predictions]
    wanted += [run.variants, run.data, run.contact_sheets, run.suspects]
    wanted += [run.best_model, run.best_state, *run_path.glob("front-*.*")] if with_models else []
    pages = [path for path in sorted(report.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {
        **{f"run/{path.relative_to(run_path).as_posix()}": path for path in wanted},
        **{f"report/{path.relative_to(report).as_posix()}": path for path in pages},
    }


def _remove_old_logs() -> None:
    """Remove old logs of fetching jobs, which Ray keeps for as long as it runs."""
    try:
        own = Path("/proc/self/fd/1").readlink()
        if not re.fullmatch(rf"job-driver-{FETCH_PREFIX}.*\.log", own.name):
            return
        for path in own.parent.glob(f"job-driver-{FETCH_PREFIX}*.log"):
            if path != own and time.time() - path.stat().st_mtime > _LOG_KEPT_S:
                path.unlink()
    except OSError:
        return  # no /proc here, or another fetch was quicker


if __name__ == "__main__":
    raise SystemExit(main(began=process_began()))
