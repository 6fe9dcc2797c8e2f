"""The report of a running search, written beside it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from contextlib import nullcontext as quietly
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from tests.support import ROOT
from tests.support.make_record import make_events, write_record
from tests.support.processes import command_of, started_by
from tuner.reports.console import SearchConsole
from tuner.reports.writer import reporting


def wait_for(condition, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def reporters(run: Path, search: int | None = None) -> list[psutil.Process]:
    return [process for process in started_by(search) if str(run) in command_of(process)]


def heard() -> Any:
    return SearchConsole(Console(file=io.StringIO(), width=300))


def test_a_running_search_has_a_page_that_says_so(tmp_path) -> None:
    run, report = tmp_path / "runs" / "s", tmp_path / "reports" / "s"
    write_record(run / "record.jsonl", make_events(6, end=None))
    console = heard()
    with reporting(run, report, console.beside, every_s=0.1):
        wait_for((report / "index.html").exists)
        wait_for(lambda: not reporters(run))  # it has ended by itself
    assert console.console.file.getvalue() == ""
    assert "The search is running, or was killed" in (report / "index.html").read_text(encoding="utf-8")
    assert not reporters(run)


def test_the_end_of_a_search_waits_for_no_report(tmp_path) -> None:
    run = tmp_path / "runs" / "s"
    write_record(run / "record.jsonl", make_events(3000, slots=64))
    with reporting(run, tmp_path / "report", quietly, every_s=0.1):
        wait_for(lambda: bool(reporters(run)))
    assert not reporters(run)


@pytest.mark.parametrize(
    ("run", "words"), [("nothing", "not a run directory"), ("s", "the place of the report must be a folder")]
)
def test_a_report_that_cannot_be_written_is_said_once_when_that_happens(tmp_path, run, words) -> None:
    (tmp_path / "report").touch()
    write_record(tmp_path / "s" / "record.jsonl", make_events(6, end=None))
    console = heard()
    with reporting(tmp_path / run, tmp_path / "report", console.beside, every_s=0.1):
        wait_for(lambda: "\n" in console.console.file.getvalue())
        time.sleep(0.5)
    (line,) = console.console.file.getvalue().splitlines()
    assert line.startswith("the report of the running search cannot be written: ") and words in line
    assert line.endswith("; the search goes on") and not reporters(tmp_path / run)


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), OSError(12, "Cannot allocate memory")])
def test_a_reporter_that_cannot_be_started_is_said_too(tmp_path, monkeypatch, error) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "Popen", fail)
    console = heard()
    with reporting(tmp_path, tmp_path / "report", console.beside, every_s=0.01):
        wait_for(lambda: "\n" in console.console.file.getvalue())
    assert console.console.file.getvalue().startswith("the report of the running search cannot be written: [Errno")


def test_a_report_is_not_written_on_when_its_search_was_killed(tmp_path) -> None:
    """It would replace that of the next session by an older one."""
    run = tmp_path / "runs" / "s"
    write_record(run / "record.jsonl", make_events(3000, slots=64))
    code = (
        "import sys, time; from contextlib import nullcontext; from pathlib import Path\n"
        "from tuner.reports.writer import reporting\n"
        "with reporting(Path(sys.argv[1]), Path(sys.argv[2]), nullcontext, every_s=0.1): time.sleep(100)"
    )
    command = [sys.executable, "-c", code, str(run), str(tmp_path / "report")]
    search = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
    found: list[psutil.Process] = []

    def has_begun() -> bool:
        found[:] = reporters(run, search.pid)
        return bool(found)

    wait_for(has_begun)
    (reporter,) = found  # as it was seen: a second look may find it between two programs
    search.kill()
    search.wait()
    reporter.wait(300)
    assert not (tmp_path / "report" / "index.html").exists()
