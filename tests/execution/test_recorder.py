"""What Ray's callbacks become in the record, in the order that a kill in between needs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.trainable.metadata import _TrainingRunMetadata

from tests.support.make_record import study_created
from tests.support.told import told
from tuner.common.locations import Location
from tuner.execution._recorder import Recorder
from tuner.execution.lost_workers import HangWatch, LostWorkers
from tuner.execution.searcher import trial_config
from tuner.runs.checkpoint_retention import CheckpointRemover
from tuner.runs.directory import RunDirectory
from tuner.runs.epoch import METRIC
from tuner.runs.record import Record, read_events

NOTHING: tuple[int, list[Any]] = (0, [])
CONFIGURATION = {"architecture": "cnn", "learning_rate": 0.01}


@pytest.fixture
def record(tmp_path) -> Record:
    made = Record(tmp_path / "record.jsonl")
    made.append(study_created())
    return made


@pytest.fixture
def recorder(record, tmp_path) -> Recorder:
    lost = LostWorkers(tmp_path / "exit_reasons", HangWatch(None, 0))
    return Recorder(record, Location(str(tmp_path)), CheckpointRemover(RunDirectory(tmp_path)), print, lost, print)


def ray_trial(folder: Path, name: str = "a") -> SimpleNamespace:
    """A trial as far as the recorder asks Ray for it."""
    config = trial_config(0, CONFIGURATION, "sampler")
    metadata = _TrainingRunMetadata()
    metadata.update_metric(METRIC, 0.5)
    return SimpleNamespace(
        trial_id=name,
        config=config,
        last_result={},
        error_file=str(folder / "error.txt"),
        local_path=str(folder / f"of_{name}"),
        max_failures=2,
        run_metadata=metadata,
        metric_analysis=metadata.metric_analysis,
        metric_n_steps=metadata.metric_n_steps,
    )


def result(epoch: int, ended: str | None = None) -> dict[str, Any]:
    reason = "max_epochs" if ended else None
    return told(epoch, 0.5, ended_status=ended, ended_reason=reason, batch_size_used=32)


def recorded(record: Record) -> list[str]:
    return [event.event for event in read_events(record.path)][1:]


def test_a_trial_that_came_to_its_own_end_is_recorded_as_ended_before_its_state_is_kept(record, recorder, tmp_path):
    trial = ray_trial(tmp_path)
    recorder.on_trial_start(*NOTHING, trial)
    recorder.on_trial_result(*NOTHING, trial, result(1, "completed"))
    assert recorded(record) == ["trial_started", "epoch", "trial_ended"]
    ended = record.state.trials[0]
    assert (ended.status, ended.reason, ended.ended.batch_size_used) == ("completed", "max_epochs", 32)
    trial.last_result = result(1, "completed")
    recorder.on_checkpoint(*NOTHING, trial, SimpleNamespace(path=str(tmp_path / "ray" / "checkpoint_000000")))
    recorder.on_trial_complete(*NOTHING, trial)
    assert recorded(record) == ["trial_started", "epoch", "trial_ended", "checkpoint_saved"]
    assert record.state.trials[0].checkpoint.path == "ray/checkpoint_000000"


def test_a_worker_that_is_lost_after_the_end_of_its_trial_changes_nothing_in_the_record(record, recorder, tmp_path):
    trial = ray_trial(tmp_path)
    recorder.on_trial_start(*NOTHING, trial)
    recorder.on_trial_result(*NOTHING, trial, result(1, "completed"))
    before = recorded(record)
    recorder.on_trial_recover(*NOTHING, trial)
    recorder.on_trial_result(*NOTHING, trial, result(1, "completed"))
    recorder.on_trial_error(*NOTHING, trial)
    assert recorded(record) == before and record.state.trials[0].status == "completed"


def test_a_worker_that_is_lost_before_is_told_and_the_trial_goes_on(record, recorder, tmp_path):
    trial = ray_trial(tmp_path)
    recorder.on_trial_start(*NOTHING, trial)
    recorder.on_trial_result(*NOTHING, trial, result(1))
    recorder.on_trial_recover(*NOTHING, trial)
    recorder.on_trial_result(*NOTHING, trial, result(1))
    recorder.on_trial_result(*NOTHING, trial, result(2))
    assert recorded(record) == ["trial_started", "epoch", "notice", "trial_resumed", "epoch"]
    trial.last_result = result(2)
    recorder.on_trial_complete(*NOTHING, trial)
    assert (record.state.trials[0].status, record.state.trials[0].reason) == ("stopped", "scheduler")


@pytest.mark.parametrize(("resume_from", "epoch"), [(None, 0), ("ray/checkpoint_000000", 1)])
def test_a_trial_of_an_earlier_session_is_recorded_with_the_epoch_that_it_goes_on_from(
    resume_from, epoch, record, recorder, tmp_path
):
    trial = ray_trial(tmp_path)
    recorder.on_trial_start(*NOTHING, trial)
    recorder.on_trial_result(*NOTHING, trial, result(1))
    trial.last_result = result(1)
    recorder.on_checkpoint(*NOTHING, trial, SimpleNamespace(path=str(tmp_path / "ray" / "checkpoint_000000")))
    recorder.on_trial_result(*NOTHING, trial, result(2))
    resumed = ray_trial(tmp_path, "b")
    resumed.config["resume_from"] = resume_from
    recorder.on_trial_start(*NOTHING, resumed)
    *_, last = read_events(record.path)
    assert (last.event, last.epoch) == ("trial_resumed", epoch) and record.state.trials[0].resumed == 1


def test_what_ray_keeps_of_a_trial_that_is_over_goes_unless_something_was_written(recorder, tmp_path) -> None:
    for name, files in (("a", ()), ("b", ("written.txt",))):
        trial = ray_trial(tmp_path, name)
        Path(trial.local_path).mkdir()
        for file in files:
            (Path(trial.local_path) / file).write_text("kept")
        recorder.on_trial_start(*NOTHING, trial)
        recorder.on_trial_complete(*NOTHING, trial)
        assert METRIC not in trial.run_metadata.get_json_state()
    assert not (tmp_path / "of_a").exists() and (tmp_path / "of_b" / "written.txt").exists()
