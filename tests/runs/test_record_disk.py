"""The record on a disk without room: it ends with the last whole event, and goes on when there is room again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import needs
from tests.support.make_record import epoch, study_created, trial_started
from tuner.common.errors import DiskFullError, TunerError
from tuner.runs.record import Record, read_events, read_state


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for 64 KiB."""
    with needs.small_disk(tmp_path, kilobytes=64):
        yield tmp_path


def fill(record: Record) -> int:
    """Report epochs until there is no room; how many were taken."""
    for number in range(1, 10_000):
        try:
            record.append(epoch(0, number, 0.5))
        except DiskFullError:
            return number - 1
    raise AssertionError("the disk is larger than it should be")


def test_a_full_disk_leaves_whole_events_and_with_room_the_record_goes_on(small_disk):
    path = small_disk / "run" / "record.jsonl"
    record = Record(path)
    record.append(study_created())
    record.append(trial_started(0))
    reported = fill(record)
    with pytest.raises(DiskFullError, match="the disk is full; make room, then go on with --resume"):
        record.append(epoch(0, reported + 1, 0.5))
    record.close()
    assert path.read_bytes().endswith(b"\n")
    assert len(read_state(path).trials[0].epochs) == reported > 50
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    again = Record(path)
    again.append(epoch(0, reported + 1, 0.5))
    again.close()
    assert [event.epoch for event in read_events(path) if event.event == "epoch"] == list(range(1, reported + 2))


class FailingFile:
    """A file of which, once it is full, a write takes a part, and the next one none."""

    def __init__(self, file: Any, error: OSError) -> None:
        self._file, self._error = file, error
        self.is_full, self._has_room = False, True

    def write(self, line: bytes) -> int:
        if not self.is_full:
            return int(self._file.write(line))
        if not self._has_room:
            raise self._error
        self._has_room = False
        return int(self._file.write(line[:10]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(28, "No space left on device"), DiskFullError, "the disk is full"),
        (OSError(122, "Disk quota exceeded"), DiskFullError, "the disk is full"),
        (OSError(5, "Input/output error"), TunerError, r"cannot be written: \[Errno 5\] Input/output error"),
    ],
)
def test_half_of_an_event_is_cut_off_and_nothing_more_is_written(tmp_path, monkeypatch, error, kind, words):
    path, opened, open_file = tmp_path / "record.jsonl", list[FailingFile](), Path.open

    def open_to_fail(self: Path, mode: str = "r", **more: Any) -> Any:
        file = open_file(self, mode, **more)
        if mode == "ab":
            opened.append(FailingFile(file, error))
        return opened[-1] if mode == "ab" else file

    monkeypatch.setattr(Path, "open", open_to_fail)
    record = Record(path)
    record.append(study_created())
    whole = path.read_bytes()
    for file in opened:
        file.is_full = True
    for _ in range(2):
        with pytest.raises(kind, match=words):
            record.append(trial_started(0))
    assert path.read_bytes() == whole
    record.close()


def test_the_time_between_the_last_event_and_a_kill_was_spent_too(tmp_path):
    now = [1000.0]
    path = tmp_path / "record.jsonl"
    killed = Record(path, clock=lambda: now[0])
    killed.append(study_created())
    for seconds in (5.0, 9.0, 12.0, 14.0):  # an epoch that is long; a beat is kept every ten seconds
        now[0] = 1000.0 + seconds
        killed.beat()
    now[0] = 5000.0
    assert Record(path, clock=lambda: now[0]).elapsed_s() == 12.0


@pytest.mark.parametrize("content", ["", "nan", "inf", "a while", "\x00"])
def test_a_beat_that_cannot_be_read_is_not_counted(tmp_path, content):
    (tmp_path / "elapsed_s.txt").write_text(content)
    assert Record(tmp_path / "record.jsonl", clock=lambda: 7.0).elapsed_s() == 0.0
