"""What a job on a cluster says of its end."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from tuner.common.errors import InputError
from tuner.jobs import entrypoint
from tuner.jobs.client import VARIABLE


@pytest.fixture
def ended_by(monkeypatch, capsys, tmp_path):
    """Runs a job that ends in an error; its exit status, and the lines that it prints but for signs of life."""

    def run(error: BaseException) -> tuple[int, list[dict]]:
        def end(_options: object, _console: object) -> int:
            raise error

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [])  # which a job replaces
        monkeypatch.setenv(VARIABLE, '{"search": ["small.yaml"]}')
        monkeypatch.setattr("tuner.session.commands.run_search", end)
        status = entrypoint.main()
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return status, [line for line in lines if line["tuner"] != "alive"]

    return run


def test_a_job_uses_gpus_as_whoever_sent_it_says(monkeypatch, tmp_path) -> None:
    seen = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [])  # which a job replaces
    monkeypatch.setenv("TUNER_PRECISION", "auto")
    monkeypatch.setenv(VARIABLE, '{"search": ["small.yaml"], "switches": {"TUNER_PRECISION": "float32"}}')
    monkeypatch.setattr(
        "tuner.session.commands.run_search", lambda *_given: seen.append(os.environ["TUNER_PRECISION"]) or 0
    )
    assert entrypoint.main() == 0 and seen == ["float32"]


def test_a_job_works_in_a_copy_of_what_was_sent_and_outlives_the_folder_itself(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(Path.cwd())  # where the next test is to find itself
    sent = tmp_path / "sent"
    for name in ("small.yaml", "earlier/0/data/record.jsonl", "data/large.npz"):
        (sent / name).parent.mkdir(parents=True, exist_ok=True)
        (sent / name).write_text(name)
    os.chdir(sent)
    with entrypoint.in_working_copy(sent):
        shutil.rmtree(sent)  # as Ray does when a second node of the machine unpacks it anew
        found = [path.relative_to(Path.cwd()).as_posix() for path in Path.cwd().rglob("*") if path.is_file()]
        assert sorted(found) == ["earlier/0/data/record.jsonl", "small.yaml"]
        assert Path("small.yaml").read_text() == "small.yaml"
    assert Path.cwd().is_dir()


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [
        (InputError("the file must be there"), "the file must be there", 2),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: [Errno 28] No space left on device", 1),
    ],
)
def test_an_error_that_a_command_tells_in_a_line_is_told_so_by_a_job(error, said, status, ended_by) -> None:
    assert ended_by(error) == (
        status,
        [{"tuner": "error", "lines": [said]}, {"tuner": "ended", "status": status}],
    )


def test_a_job_that_is_stopped_says_so_by_its_status_alone(ended_by) -> None:
    assert ended_by(KeyboardInterrupt()) == (130, [{"tuner": "ended", "status": 130}])


def test_what_nobody_expected_stays_in_the_log_as_it_is(ended_by) -> None:
    for error in (ZeroDivisionError("division"), PermissionError(errno.EACCES, "division")):
        with pytest.raises(type(error), match="division"):
            ended_by(error)
