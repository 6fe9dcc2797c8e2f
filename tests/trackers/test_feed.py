"""Trackers that fail in every way: said once, without a password; the record is written as if there were none."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.make_record import epoch, study_created, trial_ended, trial_started
from tuner.common.errors import TunerError
from tuner.common.plugins import forget_plugins, load_plugins
from tuner.runs.directory import RunDirectory
from tuner.runs.events import EpochReported, Event
from tuner.runs.record import Record
from tuner.trackers import feed
from tuner.trackers.feed import Told, deliver, following
from tuner.trackers.opening import kept_files
from tuner.trackers.tracker import Refused, Tracker, Unavailable

TRIALS = 20
EVENTS = 1 + 4 * TRIALS


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "POLL_S", 0.01)
    monkeypatch.setattr(feed, "RETRY_S", (0.01,))
    monkeypatch.setattr(feed, "END_S", 0.5)
    monkeypatch.setattr(feed, "MOST_AT_ONCE", 7)


class Fake(Tracker):
    """Remembers what it takes, and fails as it is told to, given what is to be taken and how often it was asked."""

    def __init__(self, fail: Callable[[Sequence[Event], int], None] = lambda _events, _asked: None) -> None:
        self._fail = fail
        self.asked = 0
        self.taken: list[Event] = []
        self.kept: list[str] = []
        self.is_closed = False

    def take(self, happened: Sequence[Event]) -> None:
        self.asked += 1
        if happened[0].event == "study_created":
            self.taken.clear()
        try:
            self._fail(happened, self.asked)
        except Refused:
            self.taken += happened
            raise
        self.taken += happened

    def keep(self, files: Mapping[str, Path]) -> None:
        self.kept += files

    def close(self) -> None:
        self.is_closed = True


def search(folder: Path, tracker: Tracker, end: type[BaseException] | None = None) -> tuple[list[str], float]:
    """A search that is told of while it records; return what was said and the longest wait for the record."""
    said: list[str] = []
    longest = 0.0
    (folder / "there.txt").write_text("model")
    files = {"model/there.txt": folder / "there.txt", "model/not_there.txt": folder / "not_there.txt"}
    told = Told("fake (http://host)", "fake=http://host", tracker)
    with following([told], folder / "record.jsonl", files, said.append):
        time.sleep(0.03)  # the record need not be there yet
        record = Record(folder / "record.jsonl")
        for event in [study_created(), *(one for trial in range(TRIALS) for one in events_of(trial))]:
            before = time.monotonic()
            record.append(event)
            longest = max(longest, time.monotonic() - before)
            time.sleep(0.001)
        record.close()
        if end is not None:
            raise end
    return said, longest


def events_of(trial: int) -> list[Event]:
    return [trial_started(trial), epoch(trial, 1, 0.1), epoch(trial, 2, 0.2), trial_ended(trial)]


def test_a_tracker_is_told_of_every_event_once_and_keeps_the_files_that_are_there(tmp_path) -> None:
    tracker = Fake()
    said, _ = search(tmp_path, tracker)
    assert said == []
    assert len(tracker.taken) == EVENTS and tracker.taken[0].event == "study_created"
    assert tracker.kept == ["model/there.txt"] and tracker.is_closed


def raising(*errors: BaseException, until: int = 10**9) -> Callable[[Sequence[Event], int], None]:
    def fail(_happened: Sequence[Event], asked: int) -> None:
        if asked <= until:
            raise errors[asked % len(errors)]

    return fail


def hang(_happened: Sequence[Event], _asked: int) -> None:
    time.sleep(5)


REFUSED = "[Errno 111] Connection refused"
GONE: dict[str, tuple[Callable[[Sequence[Event], int], None], str]] = {
    "the server is gone": (raising(ConnectionRefusedError(111, "Connection refused")), REFUSED),
    "it does not answer": (raising(TimeoutError("timed out")), "timed out"),
    "it says so itself": (raising(Unavailable("answers with error 503")), "answers with error 503"),
    "the disk is full": (raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))), "No space left on device"),
    "its message has the password": (raising(Unavailable("http://me:secret@host refuses")), "http://***@host refuses"),
    "its message has control characters": (raising(Unavailable("\x1b[31mred")), r"\x1b[31mred"),
    "it ends the thread": (raising(SystemExit(3)), "SystemExit: 3"),
    "it hangs": (hang, "it was too slow"),
    "it fails in other words each time": (raising(OSError(5, "a"), Unavailable("b"), TimeoutError("c")), ""),
}


@pytest.mark.parametrize("kind", GONE)
def test_a_tracker_that_cannot_be_reached_is_said_once_and_what_is_lacking_at_the_end(kind: str, tmp_path) -> None:
    fail, words = GONE[kind]
    began = time.monotonic()
    said, longest = search(tmp_path, Fake(fail))
    assert longest < 0.5 and time.monotonic() - began < 4
    assert sum("search goes on" in line for line in said) == (0 if kind == "it hangs" else 1)
    assert f"{EVENTS} of {EVENTS} events were not delivered" in said[-1] and words in said[-1]
    assert "python -m tuner.export" in said[-1] and "--tracker fake=http://host" in said[-1]
    assert len(said) == (1 if kind == "it hangs" else 2)
    assert "secret" not in "".join(said) and "\x1b" not in "".join(said)


def test_after_an_outage_all_is_given_again_from_the_first_and_said(tmp_path) -> None:
    tracker = Fake(lambda _happened, asked: raising(OSError(5, "gone"))(_happened, asked) if 3 <= asked <= 6 else None)
    said, _ = search(tmp_path, tracker)
    assert len(tracker.taken) == EVENTS and tracker.kept
    assert [("search goes on" in line, "after all" in line) for line in said] == [(True, False), (False, True)]


def test_an_outage_that_ends_before_the_search_is_no_loss_when_the_tracker_is_slow(tmp_path) -> None:
    tracker = Fake(lambda _happened, _asked: time.sleep(0.01))
    said, longest = search(tmp_path, tracker)
    assert said == [] and len(tracker.taken) == EVENTS and longest < 0.5


POISON: dict[str, Exception] = {
    "a mistake of its own": KeyError("colour"),
    "a value that it cannot take": ValueError("http://me:secret@host: too large"),
    "no memory": MemoryError(),
    "a deliberate error": TunerError("no"),
}


@pytest.mark.parametrize("kind", POISON)
def test_an_event_that_cannot_be_taken_is_left_out_and_the_rest_is_not(kind: str, tmp_path) -> None:
    def fail(happened: Sequence[Event], _asked: int) -> None:
        if any(isinstance(event, EpochReported) and event.trial == 3 for event in happened):
            raise POISON[kind]

    tracker = Fake(fail)
    said, _ = search(tmp_path, tracker)
    assert {event.trial for event in tracker.taken if isinstance(event, EpochReported)} == {*range(TRIALS)} - {3}
    assert tracker.kept
    assert len(said) == 2 and "leaves out what it cannot take" in said[0] and "2 values or events" in said[1]
    assert "secret" not in "".join(said)


def test_what_a_tracker_itself_leaves_out_is_counted(tmp_path) -> None:
    def fail(happened: Sequence[Event], _asked: int) -> None:
        if happened[0].event == "study_created":
            raise Refused("too long", 2)

    tracker = Fake(fail)
    said, _ = search(tmp_path, tracker)
    assert len(tracker.taken) == EVENTS
    assert "too long" in said[0] and "2 values or events were left out" in said[1]


def test_a_model_that_cannot_be_kept_is_said_as_such(tmp_path) -> None:
    class WithoutRoom(Fake):
        def keep(self, files: Mapping[str, Path]) -> None:
            raise Unavailable("answers with error 413")

    said, _ = search(tmp_path, WithoutRoom())
    assert "the model was not delivered (answers with error 413)" in said[-1]


def test_the_command_that_delivers_later_gives_the_plugin_that_the_tracker_is_in(tmp_path) -> None:
    plugin = tmp_path / "own lines.py"
    plugin.write_text(
        "import tuner\n@tuner.tracker\nclass Lines(tuner.Tracker):\n"
        "    def __init__(self, place, run): pass\n    def take(self, happened): pass\n"
    )
    load_plugins([str(plugin)])
    try:
        said, _ = search(tmp_path, Fake(raising(Unavailable("no"))))
    finally:
        forget_plugins()
    assert said[-1].endswith(f"--tracker fake=http://host --plugin '{plugin}'")


@pytest.mark.parametrize(
    ("reports", "option"),
    [("reports", ""), ("to read", " --reports 'to read'"), ("/elsewhere", " --reports /elsewhere")],
)
def test_the_command_that_delivers_later_names_the_folder_of_reports(reports: str, option: str, tmp_path) -> None:
    said: list[str] = []
    record = Record(tmp_path / "record.jsonl")
    record.append(study_created())
    record.close()
    files = kept_files(RunDirectory(tmp_path), Path(reports) / "small")
    told = Told("fake", "fake=http://host", Fake(raising(Unavailable("no"))))
    with following([told], record.path, files, said.append):
        pass
    assert said[-1].endswith(f"--tracker fake=http://host{option}")


def test_ctrl_c_does_not_wait_for_a_tracker(tmp_path) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Fake(hang), KeyboardInterrupt)
    assert time.monotonic() - began < 0.45


def test_an_error_that_ends_a_search_is_told_first(tmp_path) -> None:
    tracker = Fake()
    with pytest.raises(TunerError):
        search(tmp_path, tracker, TunerError)
    assert len(tracker.taken) == EVENTS and tracker.is_closed


def test_a_search_that_is_refused_before_its_record_says_nothing(tmp_path) -> None:
    tracker, said = Fake(), []
    files = {"model/there.txt": tmp_path / "there.txt"}
    with (
        pytest.raises(TunerError),
        following([Told("fake", "fake", tracker)], tmp_path / "record.jsonl", files, said.append),
    ):
        raise TunerError("the data are not there")
    assert said == [] and tracker.asked == 0 and tracker.kept == [] and tracker.is_closed


def test_a_torn_line_is_told_of_when_it_is_whole(tmp_path) -> None:
    tracker, told = Fake(), []
    record = tmp_path / "record.jsonl"
    line = study_created().model_dump_json().encode() + b"\n"
    with following([Told("fake", "fake", tracker)], record, {}, told.append):
        record.write_bytes(line[:40])
        time.sleep(0.1)
        assert not tracker.taken
        with record.open("ab") as file:
            file.write(line[40:])
    assert len(tracker.taken) == 1 and told == []


def test_a_run_that_is_there_is_delivered_or_refused(tmp_path) -> None:
    search(tmp_path, Fake())
    record = tmp_path / "record.jsonl"
    assert deliver(Told("fake", "fake", Fake()), record, {}) == f"fake: {EVENTS} events"
    with pytest.raises(TunerError, match=r"fake: gone from http://.*@host$") as caught:
        deliver(Told("fake", "fake", Fake(raising(Unavailable("gone from http://me:secret@host")))), record, {})
    assert "secret" not in str(caught.value)

    class Clumsy(Fake):
        def keep(self, files: Mapping[str, Path]) -> None:
            raise KeyError("model")

    with pytest.raises(TunerError, match=r"^fake: KeyError: 'model'$"):
        deliver(Told("fake", "fake", Clumsy()), record, {"model/there.txt": tmp_path / "there.txt"})
