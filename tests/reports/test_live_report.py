"""The report of a running search, written beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.support import ROOT
from tests.support.make_record import make_events, write_record
from tests.support.processes import command_of, started_by
from tuner.reports.writer import reporting


def wait_for(condition, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def reporters(run: Path, search: int | None = None) -> list[psutil.Process]:
    return [process for process in started_by(search) if str(run) in command_of(process)]


def test_a_running_search_has_a_page_that_says_so(tmp_path) -> None:
    run, report = tmp_path / "runs" / "s", tmp_path / "reports" / "s"
    write_record(run / "record.jsonl", make_events(6, end=None))
    with reporting(run, report, every_s=0.1):
        wait_for((report / "index.html").exists)
    assert "The search is running, or was killed" in (report / "index.html").read_text(encoding="utf-8")
    assert not reporters(run)


def test_the_end_of_a_search_waits_for_no_report(tmp_path) -> None:
    run = tmp_path / "runs" / "s"
    write_record(run / "record.jsonl", make_events(3000, slots=64))
    with reporting(run, tmp_path / "report", every_s=0.1):
        wait_for(lambda: bool(reporters(run)))
    assert not reporters(run)


def test_a_search_without_a_record_is_not_disturbed(tmp_path) -> None:
    with reporting(tmp_path / "nothing", tmp_path / "report", every_s=0.1):
        wait_for(lambda: bool(reporters(tmp_path / "nothing")))
    assert not (tmp_path / "report").exists()


def test_a_report_is_not_written_on_when_its_search_was_killed(tmp_path) -> None:
    """It would replace that of the next session by an older one."""
    run = tmp_path / "runs" / "s"
    write_record(run / "record.jsonl", make_events(3000, slots=64))
    code = (
        "import os, sys, time; from pathlib import Path; from tuner.reports.writer import reporting\n"
        "with reporting(Path(sys.argv[1]), Path(sys.argv[2]), every_s=0.1): time.sleep(100)"
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
