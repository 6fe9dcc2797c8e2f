"""Files for TensorBoard, read again by TensorBoard: whole, torn, gone on with, beside those of other searches."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.make_record import epoch, make_events, session_started, study_created, trial_ended, trial_started
from tuner.common.errors import InputError
from tuner.runs.events import (
    ConfigurationChanged,
    Event,
    FinalistsStarted,
    FinalistTrained,
    SessionEnded,
    TrialPaused,
    TrialResumed,
)
from tuner.trackers._tensorboard import TensorboardTracker

START = "_hparams_/session_start_info"
END = "_hparams_/session_end_info"


def tracker_of(folder: Path, run: str = "small") -> TensorboardTracker:
    return TensorboardTracker(str(folder / "tb"), folder / "runs" / run)


def write(folder: Path, events: Sequence[Event], run: str = "small") -> Path:
    tracker = tracker_of(folder, run)
    tracker.take(events)
    tracker.close()
    return folder / "tb" / run


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def measuring(name: str, value: float) -> Event:
    """An epoch of the first trial that has measured something more."""
    return epoch(0, 1, 0.1).model_copy(update={"metrics": {"val_accuracy": 0.1, name: value}})


def steps(folder: Path, tag: str = "val_accuracy") -> list[int]:
    return [one.step for one in read(folder).Scalars(tag)]


EVENTS = [
    study_created(time=1e9, metric="val_accuracy"), session_started(),
    trial_started(0), epoch(0, 1, 0.1), epoch(0, 2, 0.2), trial_ended(0),
    trial_started(1), epoch(1, 1, 0.3), epoch(1, 2, 0.4), epoch(1, 3, 0.5),
]  # fmt: skip


def test_each_trial_has_its_curves_its_hyperparameters_and_its_end(tmp_path) -> None:
    root = write(tmp_path, [*EVENTS, trial_ended(1, "failed", "it did")])
    first = read(root / "trial-00000")
    assert steps(root / "trial-00000") == [1, 2] and steps(root / "trial-00001") == [1, 2, 3]
    assert {START, END} <= first.summary_metadata.keys()
    assert {"val_accuracy", "best_val_accuracy", "learning_rate", "seconds"} <= set(first.Tags()["scalars"])
    assert steps(root / "search", "trials_ended") == [1, 2]


@pytest.mark.parametrize("told", range(1, len(EVENTS)))
def test_a_session_that_goes_on_writes_what_is_lacking_and_nothing_twice(told: int, tmp_path) -> None:
    write(tmp_path, EVENTS[:told])
    root = write(tmp_path, [*EVENTS, SessionEnded(reason="finished"), session_started(resumed=True), epoch(1, 4, 0.6)])
    assert steps(root / "trial-00000") == [1, 2] and steps(root / "trial-00001") == [1, 2, 3, 4]
    assert all(len([*one.iterdir()]) == 1 for one in root.iterdir())


@pytest.mark.parametrize("cut", [1, 3, 7, 12, 13, 40, 100])
def test_a_torn_file_is_mended_and_gone_on_with(cut: int, tmp_path) -> None:
    root = write(tmp_path, EVENTS)
    file = next((root / "trial-00001").iterdir())
    file.write_bytes(file.read_bytes()[:-cut])
    write(tmp_path, EVENTS)
    assert steps(root / "trial-00001") == [1, 2, 3]


@pytest.mark.parametrize(
    "rest", [b"\0" * 64, b"not events at all, but longer than a header", b"\xff"], ids=["zeros", "text", "a byte"]
)
def test_what_follows_the_last_whole_event_is_cut_off(rest: bytes, tmp_path) -> None:
    root = write(tmp_path, EVENTS)
    file = next((root / "trial-00001").iterdir())
    file.write_bytes(file.read_bytes() + rest)
    write(tmp_path, [*EVENTS, epoch(1, 4, 0.6)])
    assert steps(root / "trial-00001") == [1, 2, 3, 4]


def test_another_search_of_the_same_name_has_a_folder_of_its_own(tmp_path) -> None:
    write(tmp_path, EVENTS)
    write(tmp_path, [EVENTS[0].model_copy(update={"time": 2e9}), *EVENTS[1:4]])
    folders = sorted((tmp_path / "tb").iterdir())
    assert [one.name[:6] for one in folders] == ["small", "small-"]
    assert steps(folders[0] / "trial-00000") == [1, 2] and steps(folders[1] / "trial-00000") == [1]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, 1e-300, 0.0, -1.0])
def test_every_number_can_be_shown(value: float, tmp_path) -> None:
    root = write(tmp_path, [*EVENTS[:3], measuring("odd", value)])
    (shown,) = read(root / "trial-00000").Scalars("odd")
    assert (
        math.isnan(shown.value)
        if math.isnan(value)
        else shown.value == pytest.approx(value, abs=1e-30) or value == 1e300
    )


ODD = ["日本", "🙂", "a" * 1000, "", "a/b", "x\ud800", "a\nb"]


@pytest.mark.parametrize("text", ODD, ids=lambda text: ascii(text)[:20])
def test_every_name_and_every_value_can_be_written(text: str, tmp_path) -> None:
    configuration = {text: text, "none": None, "number": 0.5, "is": True}
    root = write(tmp_path, [*EVENTS[:2], trial_started(0, configuration), measuring(text, 0.5)])
    assert START in read(root / "trial-00000").summary_metadata
    assert len(read(root / "trial-00000").Tags()["scalars"]) >= 4


def test_a_finalists_training_and_a_changed_configuration_are_shown(tmp_path) -> None:
    more = [
        ConfigurationChanged(trial=1, epoch=3, configuration={"learning_rate": 0.5, "augment": "flip"}),
        FinalistsStarted(trials=[0], trainings=1),
        FinalistTrained(trial=0, number=0, status="completed", reason="max_epochs", epochs=2, best=0.3, seconds=1.0),
    ]
    root = write(tmp_path, [*EVENTS, *more])
    assert steps(root / "finalist-00000-seed-0", "best_val_accuracy") == [2]
    assert steps(root / "trial-00001", "hyperparameter.learning_rate") == [3]


def test_trials_that_wait_at_rungs_hold_no_open_file(tmp_path) -> None:
    tracker = tracker_of(tmp_path)
    waiting = [(trial_started(trial), epoch(trial, 1, 0.1), TrialPaused(trial=trial, epoch=1)) for trial in range(50)]
    before = psutil.Process().num_fds()
    tracker.take([*EVENTS[:2], *(event for events in waiting for event in events)])
    assert psutil.Process().num_fds() <= before + 5
    tracker.take([TrialResumed(trial=7, epoch=1), epoch(7, 2, 0.2)])
    tracker.close()
    assert steps(tmp_path / "tb" / "small" / "trial-00007") == [1, 2]


def test_a_file_that_cannot_be_written_now_is_gone_on_with_later(tmp_path) -> None:
    tracker = tracker_of(tmp_path)
    (tmp_path / "tb").write_text("in the way")
    with pytest.raises(OSError, match="tb"):
        tracker.take(EVENTS)
    (tmp_path / "tb").unlink()
    tracker.take(EVENTS)
    tracker.close()
    assert steps(tmp_path / "tb" / "small" / "trial-00001") == [1, 2, 3]


@pytest.mark.parametrize(
    ("place", "words"), [(None, "must name a folder"), ("file.txt", "is a file"), ("~nobody_/x", "home of a user")]
)
def test_a_folder_that_cannot_be_one_is_refused_before_the_search(place, words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.txt").write_text("")
    with pytest.raises(InputError, match=words):
        TensorboardTracker(place, tmp_path / "runs" / "small")


def test_a_missing_package_is_named_before_the_search(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.plugins.hparams.summary_v2", None)
    with pytest.raises(InputError, match="needs the package tensorboard: pip install tensorboard"):
        tracker_of(tmp_path)


def test_a_whole_record_is_written_without_tensorflow(tmp_path) -> None:
    lines = "\n".join(event.model_dump_json() for event in make_events(3))
    (tmp_path / "record.jsonl").write_text(lines + "\n")
    program = (
        "import sys; from pathlib import Path; from tuner.runs.record import read_events\n"
        "from tuner.trackers._tensorboard import TensorboardTracker\n"
        "tracker = TensorboardTracker('tb', Path('runs/x')); tracker.take([*read_events(Path('record.jsonl'))])\n"
        "tracker.close(); print(sorted({'tensorflow', 'keras', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert len([*(tmp_path / "tb" / "x").iterdir()]) == 4
