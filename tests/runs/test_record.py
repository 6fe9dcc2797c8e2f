"""The record: nothing that was reported is lost, nothing that is torn is believed."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import ROOT
from tests.support.make_record import (
    epoch,
    make_events,
    small_state,
    study_created,
    trial_ended,
    trial_started,
    write_record,
)
from tuner.common.errors import RunError
from tuner.runs.events import (
    CheckpointSaved,
    ConfigurationChanged,
    Event,
    SessionEnded,
    SessionStarted,
    TrialPaused,
    TrialResumed,
)
from tuner.runs.record import Record, read_events, read_state, replay
from tuner.runs.state import RunState


class FakeClock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def started(resumed: bool = False) -> SessionStarted:
    return SessionStarted(resumed=resumed, max_concurrent=2, sampler="tpe", scheduler="asha")


def test_what_is_read_back_is_what_was_written(tmp_path):
    events = make_events(12)
    assert list(read_events(write_record(tmp_path / "record.jsonl", events))) == events
    assert read_state(tmp_path / "record.jsonl") == replay(events)


def test_every_event_is_in_the_file_before_append_returns(tmp_path):
    record = Record(tmp_path / "run" / "record.jsonl")
    record.append(study_created())
    for number, event in enumerate([trial_started(0), epoch(0, 1, 0.5), trial_ended(0)], start=2):
        assert record.append(event)
        assert len(list(read_events(record.path))) == number  # not closed, not flushed by the test
    record.close()


def test_events_survive_a_process_that_is_killed(tmp_path):
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.make_record import *
from tuner.runs.record import Record
from pathlib import Path
record = Record(Path({str(tmp_path / "record.jsonl")!r}))
for event in (study_created(), trial_started(0), epoch(0, 1, 0.5)):
    record.append(event)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert read_state(tmp_path / "record.jsonl").trials[0].best == 0.5


def test_elapsed_time_goes_on_where_the_last_session_ended(tmp_path):
    clock = FakeClock()
    first = Record(tmp_path / "record.jsonl", clock)
    first.append(study_created())
    clock.now += 30
    first.append(trial_started(0))
    first.close()
    clock.now += 5000  # the night between two sessions does not count
    second = Record(tmp_path / "record.jsonl", clock)
    clock.now += 7
    second.append(epoch(0, 1, 0.5))
    second.close()
    state = read_state(tmp_path / "record.jsonl")
    assert state.trials[0].started_s == 30
    assert (state.elapsed_s, second.elapsed_s()) == (37, 37)
    assert [event.time for event in read_events(second.path)] == [1000, 1030, 6037]


def test_a_clock_set_back_does_not_make_time_negative(tmp_path):
    clock = FakeClock()
    record = Record(tmp_path / "record.jsonl", clock)
    clock.now -= 100
    record.append(study_created())
    assert record.state.elapsed_s == 0
    record.close()


def test_an_epoch_trained_again_after_a_restart_is_not_recorded_twice(tmp_path):
    record = Record(tmp_path / "record.jsonl")
    heard: list[Event] = []
    record.listen(heard.append)
    for event in (
        study_created(),
        trial_started(0),
        epoch(0, 1, 0.5),
        epoch(0, 2, 0.6),
        TrialResumed(trial=0, epoch=1),
    ):
        assert record.append(event)
    assert not record.append(epoch(0, 2, 0.7))
    assert record.append(epoch(0, 3, 0.8))
    record.close()
    assert [event.epoch for event in record.state.trials[0].epochs] == [1, 2, 3]
    assert record.state.trials[0].epochs[1].metrics["val_accuracy"] == 0.6
    assert record.state.trials[0].resumed == 1
    assert heard == list(read_events(record.path))


def test_a_torn_last_line_is_left_out_and_cut_off_before_the_next_write(tmp_path):
    path = write_record(tmp_path / "record.jsonl", [study_created(), trial_started(0)])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"epoch","tr')
    assert len(list(read_events(path))) == 2
    record = Record(path)
    assert path.read_bytes() == whole
    record.append(epoch(0, 1, 0.5))
    record.close()
    assert read_state(path).trials[0].best == 0.5


def test_a_record_that_is_one_long_torn_line_becomes_empty(tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_bytes(b'{"event":"study_created","study":"' + b"x" * 10_000)
    Record(path).close()
    assert path.read_bytes() == b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(cut=st.floats(0, 1))
def test_a_record_cut_at_any_byte_gives_the_state_of_the_events_that_are_whole(tmp_path, cut):
    events = make_events(4, max_epochs=4)
    path = write_record(tmp_path / "record.jsonl", events)
    content = path.read_bytes()
    kept = content[: int(cut * len(content))]
    path.write_bytes(kept)
    whole = kept.count(b"\n")
    assert read_state(path) == replay(events[:whole])
    Record(path).close()
    assert path.read_bytes() == b"".join(content.splitlines(keepends=True)[:whole])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"event":"epoch","tr\n', r"record.jsonl:2: not an event of record version 10: .*JSON"),
        (b"\xff\xfe\n", r"record.jsonl:2: not an event of record version"),
        (b"\n", r"record.jsonl:2: not an event of record version"),
        (b"[1]\n", r"record.jsonl:2: not an event of record version"),
        (b'{"event":"unheard_of"}\n', r"record.jsonl:2: not an event .*unheard_of"),
        (b'{"event":"trial_resumed","trial":0,"epoch":0,"extra":1}\n', r"record.jsonl:2: .*Extra inputs"),
    ],
)
def test_a_line_that_is_no_event_is_refused_with_its_number(tmp_path, line, words):
    path = write_record(tmp_path / "record.jsonl", [study_created()])
    path.write_bytes(path.read_bytes() + line + path.read_bytes())
    with pytest.raises(RunError, match=words) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


def test_a_record_of_another_version_is_refused(tmp_path):
    path = write_record(tmp_path / "record.jsonl", [study_created(schema_version=1)])
    with pytest.raises(
        RunError, match=r"record.jsonl:1: record version must be 7 or 8 or 9 or 10; got 1, which another version"
    ):
        read_state(path)


def test_a_record_of_a_later_version_is_refused_for_its_version_whatever_fields_it_has(tmp_path):
    path = write_record(tmp_path / "record.jsonl", [study_created(schema_version=11)])
    path.write_bytes(path.read_bytes().replace(b'"seed":', b'"what_it_knows_more":{"a":1},"seed":'))
    with pytest.raises(RunError, match=r"record.jsonl:1: record version must be .*; got 11, which another version"):
        read_state(path)


def test_a_record_of_version_7_knows_seeds_and_no_folds(tmp_path):
    lines = [study_created(schema_version=7), trial_started(0), epoch(0, 1, 0.5), trial_ended(0)]
    path = write_record(tmp_path / "record.jsonl", lines)
    trained = '"status":"completed","reason":"max_epochs","epochs":9,"best":0.5,"seconds":1.0'
    tested = '"images":8,"test_accuracy":1.0,"test_loss":0.1,"correct":"/w=="'
    with path.open("a") as file:
        file.write('{"event":"finalists_started","trials":[0],"seeds":1}\n')
        file.write(f'{{"event":"finalist_trained","trial":0,"seed_number":0,{trained}}}\n')
        file.write(f'{{"event":"finalist_tested","trial":0,"seed_number":0,{tested}}}\n')
    state = read_state(path)
    assert state.folds == 0 and state.finalists_started.trainings == 1
    assert state.finalists[0, 0].tested.test_accuracy == 1.0


def test_a_missing_record_is_refused(tmp_path):
    with pytest.raises(RunError, match="no record there; a run directory holds one file record"):
        read_state(tmp_path / "record.jsonl")


def test_events_of_a_trial_that_never_started_are_refused():
    with pytest.raises(RunError, match="record: trial 3 has events but never started"):
        replay([study_created(), epoch(3, 1, 0.5)])


def test_values_that_are_not_numbers_come_back_as_they_were(tmp_path):
    path = write_record(
        tmp_path / "record.jsonl",
        [study_created(), trial_started(0), epoch(0, 1, 0.2, loss=math.nan, val_loss=math.inf, accuracy=-math.inf)],
    )
    (found,) = read_state(path).trials[0].epochs
    assert math.isnan(found.metrics["loss"])
    assert (found.metrics["val_loss"], found.metrics["accuracy"]) == (math.inf, -math.inf)


@settings(max_examples=60, deadline=None)
@given(
    configuration=st.dictionaries(
        st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=20),
        max_size=6,
    )
)
def test_a_configuration_keeps_its_values_and_their_types(configuration):
    event = trial_started(1, configuration or {"a": 1})
    again = type(event).model_validate_json(event.model_dump_json())
    assert again.configuration == event.configuration
    assert [type(value) for value in again.configuration.values()] == [type(v) for v in event.configuration.values()]


def test_the_best_trial_is_the_earliest_of_equals_and_never_a_failed_one():
    state = small_state(
        *(trial_started(number) for number in range(4)),
        epoch(0, 1, 0.5), epoch(1, 1, 0.7), epoch(2, 1, 0.7), epoch(3, 1, 0.9),
        trial_ended(3, "failed", "not a number"),
    )  # fmt: skip
    best = state.best_trial()
    assert best is not None and best.number == 1


def test_a_loss_is_best_when_it_is_smallest():
    state = small_state(
        trial_started(0), trial_started(1), epoch(0, 1, 0.5, best=1.2), epoch(1, 1, 0.6, best=0.8), metric="val_loss"
    )  # fmt: skip
    best = state.best_trial()
    assert best is not None and best.number == 1
    assert state.mode == "min"


def test_a_study_without_epochs_has_no_best_trial():
    assert RunState().best_trial() is None
    assert small_state(trial_started(0)).best_trial() is None


def test_the_state_tells_how_the_latest_session_ended():
    events = [study_created(), started(), SessionEnded(reason="interrupted"), started(resumed=True)]
    assert replay(events[:2]).session_ended is None
    assert replay(events[:3]).session_ended == events[2]
    assert replay(events).session_ended is None
    assert len(replay(events).sessions) == 2


def test_a_member_of_a_population_has_its_latest_configuration_and_checkpoint():
    state = small_state(
        trial_started(0, {"learning_rate": 0.1}),
        CheckpointSaved(trial=0, epoch=1, path="a"),
        CheckpointSaved(trial=0, epoch=2, path="b"),
        ConfigurationChanged(trial=0, epoch=2, configuration={"learning_rate": 0.2}),
    )
    assert state.trials[0].configuration == {"learning_rate": 0.2}
    assert state.trials[0].checkpoint is not None and state.trials[0].checkpoint.path == "b"


def test_trials_are_told_apart_by_status():
    state = small_state(
        *(trial_started(number) for number in range(3)),
        trial_ended(1, "stopped", "scheduler"),
        trial_ended(2, "failed"),
    )
    assert [[trial.number for trial in state.with_status(status)] for status in ("running", "stopped", "failed")] == [
        [0], [1], [2],
    ]  # fmt: skip


def test_the_order_of_events_of_different_trials_does_not_matter():
    events = make_events(6)
    head, tail = events[:2], events[2:-1]
    by_trial = sorted(tail, key=lambda event: (getattr(event, "trial", 0), event.elapsed_s))
    assert by_trial != tail
    assert replay([*head, *tail, events[-1]]).trials == replay([*head, *by_trial, events[-1]]).trials


def test_a_paused_trial_is_open_until_it_is_promoted_and_that_is_no_loss(tmp_path):
    path = tmp_path / "record.jsonl"
    record = Record(path)
    for event in (study_created(), trial_started(0), epoch(0, 1, 0.5)):
        record.append(event)
    record.append(TrialPaused(trial=0, epoch=1, parameters=7, cut="block_1"))
    paused = read_state(path).trials[0]
    assert paused.status == "paused" and paused.ended is None
    assert paused.paused is not None and paused.paused.facts()["parameters"] == 7
    record.append(TrialResumed(trial=0, epoch=1))
    assert (record.state.trials[0].status, record.state.trials[0].resumed) == ("running", 0)
    record.append(TrialResumed(trial=0, epoch=1))
    assert record.state.trials[0].resumed == 1, "its worker was lost"
    record.close()
