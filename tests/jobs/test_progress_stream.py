"""The progress of a search as lines of JSON: replayed elsewhere, it is the same on the console."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.make_record import epoch, make_events, study_created, trial_ended, trial_started
from tuner.common.errors import RunError
from tuner.jobs.progress_stream import ProgressStream, RemoteRecord, Replay
from tuner.reports.console import Limits, SearchConsole
from tuner.runs.events import Notice, SessionEnded, SessionStarted
from tuner.runs.record import Record

LIMITS = Limits(trials=10, time_budget_s=600.0, max_concurrent=2)
SESSION = SessionStarted(resumed=False, max_concurrent=2, sampler="gp", scheduler="asha")


def console_of(output: io.StringIO) -> SearchConsole:
    return SearchConsole(Console(file=output, width=200, soft_wrap=True, highlight=False, force_terminal=False))


def search(console: SearchConsole, path: Path) -> None:
    """What a search does with its console, in the order in which it does it."""
    with console.preparing("preparing digits"):
        console.say("240 training images [and brackets], été")
    record = Record(path)
    console.recording(record)
    record.append(study_created())
    record.append(SESSION)
    with console.watching(record, LIMITS):
        record.append(trial_started(0, {"architecture": "cnn", "blocks": 2}))
        console.building(0, 256, 1000)
        record.append(epoch(0, 1, 0.5))
        record.append(Notice(text="the cache is full"))
        record.append(trial_ended(0))
        record.append(trial_started(1))
        record.append(epoch(1, 1, float("nan"), best=0.1))
        record.append(trial_ended(1, "failed", "not a number"))
    record.append(SessionEnded(reason="finished"))
    console.say("finished")
    record.close()


def stream_of(path: Path) -> str:
    written: list[str] = []
    search(ProgressStream(written.append, "go on"), path)
    return "".join(written)


def test_what_is_replayed_is_what_a_search_here_would_have_shown(tmp_path) -> None:
    here, there = io.StringIO(), io.StringIO()
    search(console_of(here), tmp_path / "here" / "record.jsonl")
    log = stream_of(tmp_path / "there" / "record.jsonl")
    replay = Replay(console_of(there))
    replay.feed(log)
    assert there.getvalue() == here.getvalue()
    assert "trial 0 completed (max epochs): val_accuracy 0.5000 after 1 epoch, the best so far" in here.getvalue()
    assert replay.run == (tmp_path / "there").resolve() and replay.limits == LIMITS
    assert replay.mirror.state.session_ended is not None and len(replay.mirror.state.trials) == 2


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_pieces_of_any_size_and_a_log_that_is_read_again_show_everything_once(size, tmp_path) -> None:
    log = stream_of(tmp_path / "record.jsonl")
    whole, pieces = io.StringIO(), io.StringIO()
    Replay(console_of(whole)).feed(log)
    replay = Replay(console_of(pieces))
    for start in range(0, len(log) // 2, size):
        replay.feed(log[start : min(start + size, len(log) // 2)])
    assert replay.taken == len(log) // 2
    replay.feed_from_start(log)
    replay.feed_from_start(log)
    assert pieces.getvalue() == whole.getvalue() and whole.getvalue().count("trial 0 completed") == 1


def test_a_resumed_search_sends_first_what_its_record_holds(tmp_path) -> None:
    path = tmp_path / "record.jsonl"
    record = Record(path)
    for event in make_events(6, end="interrupted"):
        record.append(event)
    record.close()
    written: list[str] = []
    again = Record(path)
    ProgressStream(written.append, "").recording(again)
    again.append(trial_started(99))
    replay = Replay(console_of(io.StringIO()))
    replay.feed("".join(written))
    assert replay.mirror.state.trials == again.state.trials and 99 in again.state.trials
    again.close()


def test_the_time_of_a_search_elsewhere_goes_on_between_its_events() -> None:
    now = [1000.0]
    mirror = RemoteRecord(lambda: now[0])
    assert mirror.elapsed_s() == 0
    mirror.take_in(study_created(time=990.0, elapsed_s=5.0))
    assert mirror.elapsed_s() == 15
    now[0] = 980.0  # the clock there is ahead
    assert mirror.elapsed_s() == 5


def test_what_else_is_in_a_log_is_kept_aside_and_what_a_newer_tuner_says_is_passed_over() -> None:
    output = io.StringIO()
    replay = Replay(console_of(output))
    replay.feed('INFO job_manager.py\n{"tuner": "sings", "song": 1}\n{"tuner": "say"}\n{"tuner": "say", "te\n[1]\n')
    replay.feed('{"tuner": "error", "lines": ["small.yaml: wrong"]}\n{"tuner": "ended", "status": 2}\n')
    assert list(replay.raw) == ["INFO job_manager.py", '{"tuner": "say", "te', "[1]"] and output.getvalue() == ""
    assert replay.errors == ["small.yaml: wrong"] and replay.status == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"tuner": "event", "event": {"event": "trial_danced", "trial": 1}}, "not an event of record version"),
        ({"tuner": "event", "event": 7}, "not an event of record version"),
        ({"tuner": "event", "event": json.loads(epoch(3, 1, 0.5).model_dump_json())}, "trial 3 has events but never"),
        ({"tuner": "watching", "limits": {"trials": "many"}}, "another version of tuner runs on the cluster"),
    ],
)
def test_what_another_version_says_of_a_search_is_refused(line, words) -> None:
    with pytest.raises(RunError, match=words):
        Replay(console_of(io.StringIO())).feed(json.dumps(line) + "\n")


def test_terminal_codes_from_a_cluster_are_not_obeyed() -> None:
    output = io.StringIO()
    Replay(console_of(output)).feed(json.dumps({"tuner": "say", "text": "red \x1b[31m"}) + "\n")
    assert output.getvalue() == "red \\x1b[31m\n"


def test_the_live_picture_ends_when_the_reader_does(tmp_path) -> None:
    log = stream_of(tmp_path / "record.jsonl")
    terminal = Console(file=io.StringIO(), width=120, force_terminal=True, color_system="truecolor", _environ={})
    replay = Replay(SearchConsole(terminal))
    replay.feed(log[: log.index('{"tuner": "watched"')])
    assert terminal._live_stack
    replay.close()
    assert not terminal._live_stack and "elapsed" in terminal.file.getvalue()


def test_a_search_gives_signs_of_life_and_says_little_of_what_is_computed() -> None:
    written: list[str] = []
    now = [0.0]
    stream = ProgressStream(written.append, "", lambda: now[0])
    with stream.beating(every_s=0.01):
        while written.count('{"tuner": "alive"}\n') < 3:
            pass
    written.clear()
    for done in range(0, 1001, 10):
        now[0] += 0.1
        stream.building(0, done, 1000)
    assert 2 <= len(written) <= 4 and json.loads(written[-1])["done"] == 1000
