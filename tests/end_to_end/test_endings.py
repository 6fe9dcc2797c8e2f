"""What becomes of a search whose reader, terminal or disk of its output goes away; in processes of their own."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.make_search import SLEEPING_SEARCH, write_file
from tuner.runs.record import read_state

pytestmark = pytest.mark.full


def command(folder: Path, cache_dir: Path, trials: int, epoch_s: float) -> list[str]:
    file = write_file(folder, trials=trials)
    places = ["--runs", str(folder / "runs"), "--reports", str(folder / "reports"), "--cache", str(cache_dir)]
    return [sys.executable, "-c", SLEEPING_SEARCH, str(epoch_s), str(file), *places]


def check_whole(folder: Path, trials: int) -> None:
    """What a search that nothing has ended leaves behind."""
    state = read_state(folder / "runs/small/record.jsonl")
    assert state.session_ended is not None and state.session_ended.reason == "finished"
    assert len(state.with_status("completed")) == trials
    assert (folder / "reports/small/index.html").is_file()


def reader_that_goes(folder: Path, words: list[str]) -> int:
    """Run a command whose reader leaves after a line, as `head -1` does; its exit status."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert "Traceback" not in said and "Exception ignored" not in said
    assert "standard output cannot be written, and the search goes on" in (folder / "runs/small/search.log").read_text()
    return process.returncode


def full_disk(_folder: Path, words: list[str]) -> int:
    with Path("/dev/full").open("w") as full:
        return subprocess.run(words, stdout=full, stderr=full, check=False).returncode


def closed_output(_folder: Path, words: list[str]) -> int:
    return subprocess.run(words, preexec_fn=lambda: os.close(1), stderr=subprocess.DEVNULL, check=False).returncode


@pytest.mark.parametrize("ending", [reader_that_goes, full_disk, closed_output])
def test_a_search_goes_on_to_its_end_when_nothing_can_be_shown_any_more(ending: Any, tmp_path, cache_dir) -> None:
    assert ending(tmp_path, command(tmp_path, cache_dir, 4, 0.01)) == 0
    check_whole(tmp_path, 4)


def in_terminal(words: list[str], ignores_hangup: bool) -> tuple[int, int]:
    """Start a command as the leader of a terminal's session; its process, and the other end of the terminal."""
    process, terminal = pty.fork()
    if process == 0:
        # As nohup does, or not, whatever the tests themselves are run under.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignores_hangup else signal.SIG_DFL)
        os.execv(words[0], words)  # noqa: S606  the test's command, as the terminal's leader
    return process, terminal


def read_until_epoch(terminal: int, record: Path) -> None:
    """Read what a terminal is written, which would else be full, until the record has an epoch."""
    deadline = time.monotonic() + 90
    while not (record.exists() and '"event":"epoch"' in record.read_text()):
        assert time.monotonic() < deadline, "no epoch"
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 65536)


@pytest.mark.parametrize("ignores_hangup", [False, True], ids=["closed", "nohup"])
def test_a_closed_terminal_stops_a_search_as_ctrl_c_does_and_nothing_after_nohup(
    ignores_hangup, tmp_path, cache_dir
) -> None:
    words = command(tmp_path, cache_dir, 4, 0.3 if ignores_hangup else 1.0)
    process, terminal = in_terminal(words, ignores_hangup)
    read_until_epoch(terminal, tmp_path / "runs/small/record.jsonl")
    os.close(terminal)
    _, status = os.waitpid(process, 0)
    if ignores_hangup:
        assert os.waitstatus_to_exitcode(status) == 0
        check_whole(tmp_path, 4)
        return
    assert os.waitstatus_to_exitcode(status) == 130
    state = read_state(tmp_path / "runs/small/record.jsonl")
    assert state.session_ended is not None and state.session_ended.reason == "interrupted"
    assert (tmp_path / "reports/small/index.html").is_file()
    assert {trial.status for trial in state.trials.values()} <= {"running", "paused", "completed"}
    words = [*command(tmp_path, cache_dir, 4, 0.01), "--resume"]
    assert subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0
    check_whole(tmp_path, 4)
