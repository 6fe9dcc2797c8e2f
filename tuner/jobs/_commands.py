"""Commands for searches on a cluster: their status, their log, following, stopping them, and fetching their results."""

from __future__ import annotations

import io
import re
import secrets
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from rich.console import Console

from tuner.common.errors import LostError, RunError, TunerError, printable
from tuner.common.files import check_folder
from tuner.jobs._archive import content_of, read_lines, unpack
from tuner.jobs.client import FETCH_PREFIX, STOP_WITHIN_S, Job, Jobs
from tuner.jobs.options import SHARED, SubmitOptions
from tuner.jobs.progress_stream import Replay
from tuner.reports.console import SearchConsole, describe_search
from tuner.reports.formatting import format_seconds
from tuner.spec.schema import STUDY_NAME

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
LOOKED_EVERY_S = 0.5
FETCHED_WITHIN_S = 600.0
_STATUS = {"finished": 0, "stopped": 130, "failed": 1, "waiting": 1, "running": 1}


def follow(jobs: Jobs, name: str, replay: Replay, sleep: Callable[[float], None] = time.sleep) -> Job:
    """Show the log of a job until it has ended, and return the job as it is then.

    When the connection breaks, that is said once, and it is tried again, ever more slowly, without an end: the job does
    not need whoever follows it. What was shown before is not shown again.

    Raises InputError when the cluster does not know the job any more, or no longer takes the token.
    """
    wait_s, is_lost = FIRST_WAIT_S, False
    while True:
        try:
            job = jobs.look(name)
            if is_lost:
                replay.console.say(f"connected to {jobs.address} again")
            wait_s, is_lost = FIRST_WAIT_S, False
            if job.is_over:
                replay.feed_from_start(jobs.log(name))
                return job
            before = replay.taken
            jobs.tail(name, before, replay.feed)
            if replay.taken == before:
                sleep(FIRST_WAIT_S)
        except LostError as error:
            if not is_lost:
                replay.console.say(f"{error}; the search does not need it, trying again")
            is_lost = True
            sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def wait_until_over(jobs: Jobs, name: str, within_s: float, sleep: Callable[[float], None] = time.sleep) -> Job:
    """Wait until a job has ended, and return it.

    Raises:
        LostError: it has not after `within_s` seconds, or the connection broke in the meantime and did not come back.
    """
    waited_s = 0.0
    while True:
        lost: LostError | None = None
        try:
            job = jobs.look(name)
            if job.is_over:
                return job
        except LostError as error:
            lost = error
        if waited_s >= within_s:
            raise lost or LostError(f"{name} has not ended within {within_s:g} s")
        sleep(LOOKED_EVERY_S)
        waited_s += LOOKED_EVERY_S


def typed_command(options: SubmitOptions, *words: str) -> str:
    """Return a command of this program as the user would type it, with the address that was typed."""
    return shlex.join(["python", "-m", "tuner.submit", *words, *options.address_words])


def say_next_commands(options: SubmitOptions, name: str, console: SearchConsole) -> None:
    """Say the commands that are left for a search that is not watched any more."""
    for words, command in (("show it", "follow"), ("stop it", "stop"), ("bring its report here", "fetch")):
        console.say(f"{words}: {typed_command(options, command, name)}")


def _find(options: SubmitOptions) -> tuple[Jobs, Job]:
    jobs = Jobs(options.address)
    return jobs, jobs.find(options.job or "")


def follow_search(options: SubmitOptions, console: SearchConsole) -> int:
    """Show a search from its beginning to its end, and return its exit status."""
    jobs, job = _find(options)
    return follow_job(jobs, job.name, options, console)


def follow_job(jobs: Jobs, name: str, options: SubmitOptions, console: SearchConsole) -> int:
    """Show the job of a search that was just submitted, and return its exit status; Ctrl-C leaves it running."""
    replay = Replay(console)
    try:
        job = follow(jobs, name, replay)
    except KeyboardInterrupt:
        replay.close()
        console.say(f"{name} goes on without you")
        say_next_commands(options, name, console)
        return 130
    finally:
        replay.close()
    status = report_outcome(job, replay)
    if replay.run is not None:
        console.say(f"bring its report here: {typed_command(options, 'fetch', name)}")
    return status


def report_outcome(job: Job, replay: Replay) -> int:
    """Say on standard error why a job failed, if it did, and return the exit status of its search."""
    if replay.errors:
        print(*map(printable, replay.errors), sep="\n", file=sys.stderr)
    elif job.state == "failed" and replay.status is None:
        said = [line for line in replay.raw if line.strip()] or job.message.splitlines()[:1]
        print(*map(printable, said), f"{job.name} failed on the cluster", sep="\n", file=sys.stderr)
    return replay.status if replay.status is not None else _STATUS[job.state]


def _silent() -> SearchConsole:
    return SearchConsole(Console(file=io.StringIO()))


def _read(jobs: Jobs, name: str, console: SearchConsole | None = None) -> Replay:
    """Return the replay of a job's log so far, shown on `console`."""
    replay = Replay(console or _silent())
    try:
        replay.feed_from_start(jobs.log(name))
    finally:
        replay.close()
    return replay


def say_status(options: SubmitOptions, console: SearchConsole) -> int:
    """Say the status of all searches, or of one."""
    jobs = Jobs(options.address)
    if options.job is None:
        found = jobs.all()
        width = max((len(job.name) for job in found), default=0)
        for job in found:
            console.say(f"{job.name:{width}}  {_words(job)}")
        if not found:
            console.say(f"no search was submitted to {jobs.address} since its head began")
        return 0
    job = jobs.find(options.job)
    replay = _read(jobs, job.name)
    console.say(f"{job.name}: {_words(job)}")
    if replay.limits is not None:
        elapsed_s = None if job.is_over else replay.mirror.elapsed_s()
        console.say(describe_search(replay.mirror.state, replay.limits, elapsed_s))
    for line in replay.errors:
        console.say(line)
    if replay.run is not None:
        console.say(f"run, on the cluster: {replay.run}")
    return 0


def _words(job: Job) -> str:
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.began_s))
    took = format_seconds((job.ended_s or time.time()) - job.began_s)
    state = "refused" if job.exit_status == 2 else job.state
    return f"{state:8}  {'' if job.is_over else 'for '}{took}, since {began}, {job.metadata.get('file', '')}"


def say_log(options: SubmitOptions, console: SearchConsole) -> int:
    """Print the log of a search so far."""
    jobs, job = _find(options)
    if options.raw:
        for line in jobs.log(job.name).splitlines():
            console.say(line.expandtabs())
        return 0
    replay = _read(jobs, job.name, SearchConsole(Console(soft_wrap=True, highlight=False, force_terminal=False)))
    for line in (*replay.errors, *(replay.raw if replay.status is None else ())):
        console.say(line)
    return 0


def stop_search(options: SubmitOptions, console: SearchConsole) -> int:
    """Stop a search as Ctrl-C does, wait for its end, and say which results are kept."""
    jobs, job = _find(options)
    if job.is_over:
        console.say(f"{job.name} has ended already: {job.state}")
        return 0
    jobs.stop(job.name)
    with console.preparing(f"stopping {job.name}: running epochs are let go, checkpoints are kept"):
        job = wait_until_over(jobs, job.name, STOP_WITHIN_S + 60.0)
    replay = _read(jobs, job.name)
    ended = replay.mirror.state.session_ended
    if replay.limits is not None:
        console.say(describe_search(replay.mirror.state, replay.limits, None))
    if ended is not None and ended.reason == "interrupted":
        console.say(f"{job.name} is stopped, and all that was reported is kept; go on with: {job.metadata['resume']}")
    elif ended is None:
        console.say(f"{job.name} was ended before it could say so; what was reported is kept")
    else:
        console.say(f"{job.name} had ended by itself: {ended.reason.replace('_', ' ')}")
    return 0


def fetch_search(options: SubmitOptions, console: SearchConsole) -> int:
    """Fetch the record of a search and its report, each file written aside and renamed."""
    check_folder(options.to, "--to")
    jobs, job = _find(options)
    run = _read(jobs, job.name).run
    if run is None:
        raise TunerError(f"{job.name} has no run yet, so that there is nothing to fetch; it is {job.state}")
    refuse_foreign_name(run.name, job)
    report = PurePosixPath(job.metadata.get("shared", str(SHARED))) / "reports" / run.name
    with console.preparing(f"fetching {run.name}"):
        what = {"run": str(run), "report": str(report), "with_models": options.with_models}
        data = _fetch_archive(jobs, job.name, what)
    folders = {"run": options.to / "runs" / run.name, "report": options.to / "reports" / run.name}
    refuse_other_run(folders["run"] / "record.jsonl", data)
    paths = unpack(data, folders)
    page = folders["report"] / "index.html"
    console.say(f"run: {folders['run']}")
    hint = f"{shlex.join(['python', '-m', 'tuner.report', str(folders['run'])])} writes one"
    console.say(f"report: {page}" if page in paths else f"there is no report on the cluster yet; {hint}")
    return 0


def _fetch_archive(jobs: Jobs, name: str, what: dict[str, object]) -> bytes:
    """Return the archive that a small job of its own makes on the cluster and prints."""
    fetching = f"{FETCH_PREFIX}{name}-{secrets.token_hex(4)}"
    jobs.submit(fetching, {"fetch": what}, {"tuner": "fetch"}, None)
    job = wait_until_over(jobs, fetching, FETCHED_WITHIN_S)
    log = jobs.log(fetching)
    jobs.forget(fetching)
    if job.state != "finished":
        replay = Replay(_silent())
        replay.feed(log)
        raise TunerError("; ".join(replay.errors) or f"the cluster could not send {name}: {job.message[-300:]}")
    return read_lines(log)


def refuse_foreign_name(name: str, job: Job) -> None:
    """Refuse a run name from a job that no run of its study can have: folders here are named after it.

    Raises RunError when it is another name, such as `..`.
    """
    study = job.study or re.sub("-[0-9]{1,9}$", "", name)
    if not (STUDY_NAME.fullmatch(study) and re.fullmatch(f"{re.escape(study)}(-[0-9]{{1,9}})?", name)):
        of_study = f"of the study {printable(study)!r}" if job.study else "of a study"
        raise RunError(f"the run that {job.name} names must be one {of_study}; got {name[:80]!r}; nothing was fetched")


def refuse_other_run(record: Path, data: bytes) -> None:
    """Refuse to overwrite results that were not fetched from the same search, or are newer.

    Raises RunError when at `record` is the record of another search, or of this one with lines that were not sent.
    """
    if not record.is_file():
        return
    here, sent = record.read_bytes(), content_of(data, "run/record.jsonl")
    if here.partition(b"\n")[0] != sent.partition(b"\n")[0]:
        raise RunError(f"{record.parent} holds another search of this name; give --to another folder")
    if not sent.startswith(here[: here.rfind(b"\n") + 1]):  # a last line without its end was being written
        raise RunError(
            f"{record.parent} holds results that the cluster has not: the search has gone on here; give --to another "
            "folder"
        )
