"""What a job on a cluster says of its end."""

from __future__ import annotations

import errno
import json

import pytest

from tuner import job_entry
from tuner.errors import InputError
from tuner.jobs import VARIABLE


@pytest.fixture
def ended_by(monkeypatch, capsys):
    """Runs a job that ends in an error; its exit status, and the lines that it prints but for signs of life."""

    def run(error: BaseException) -> tuple[int, list[dict]]:
        def end(_job: object, _stream: object) -> int:
            raise error

        monkeypatch.setenv(VARIABLE, "{}")
        monkeypatch.setattr(job_entry, "_run", end)
        status = job_entry.main()
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return status, [line for line in lines if line["tuner"] != "alive"]

    return run


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
