"""Searches in which trials go wrong in every way: real Ray, real signals, real memory; the rest goes on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.faults import CRASH, CRASH_ONCE, EAT, EXPLODE, FULL, HANG, NAN, SLOW, faulty_trials
from tests.support.make_search import SLEEPING, check_record, run_search
from tuner.runs.directory import RunDirectory
from tuner.runs.record import read_state
from tuner.runs.state import RunState

SPACE = """
study: bad
data: {{source: digits, max_train_images: 240, max_validation_images: 80}}
space:
  batch_size: {batch_size}
  learning_rate: 0.01
  architecture: {{choose: {{dense: {{dense_units: {{choice: {units}}}, hidden_layers: 1}}}}}}
training: {{max_epochs: 4, early_stopping: null}}
search: {{trials: 20, sampler: grid, scheduler: none, max_concurrent: 2}}
finalists: {{count: 0}}
"""
GOOD, ALSO_GOOD = 16, 24


def write_space(folder: Path, *units: int, batch_size: str = "32") -> Path:
    path = folder / "bad.yaml"
    path.write_text(SPACE.format(units=list(units), batch_size=batch_size))
    return path


def by_units(state: RunState) -> dict[int, tuple[str, str, int]]:
    """Status, reason and epochs of the trials, by what says their fault."""
    return {
        int(str(trial.configuration["dense_units"])): (trial.status, trial.reason, len(trial.epochs))
        for trial in state.trials.values()
    }


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_every_kind_of_bad_trial_is_recorded_with_its_reason_and_the_rest_goes_on(tmp_path, cache_dir, monkeypatch):
    monkeypatch.setattr("tuner.execution.lost_workers.FLOOR_S", 8.0)
    monkeypatch.setattr("tuner.execution.lost_workers.FIRST_FLOOR_S", 40.0)
    file = write_space(tmp_path, HANG, GOOD, CRASH_ONCE, NAN, EXPLODE, CRASH, EAT, ALSO_GOOD, SLOW)
    limits = ("--set", "search.hung_after_epochs=2", "--set", "resources.memory_gb_per_trial=1.5")
    assert run_search(tmp_path, file, cache_dir, *limits, trial_kind=faulty_trials()) == 0
    run = RunDirectory(tmp_path / "runs" / "bad")
    state = check_record(run.record)
    ends = by_units(state)
    assert {units for units, (status, _, epochs) in ends.items() if (status, epochs) == ("completed", 4)} == {
        GOOD,
        CRASH_ONCE,
        ALSO_GOOD,
        SLOW,
    }
    reasons = {units: reason for units, (status, reason, _) in ends.items() if status == "failed"}
    assert set(reasons) == {HANG, NAN, EXPLODE, CRASH, EAT}
    assert reasons[NAN] == "not a number: loss is nan at epoch 2"
    assert reasons[EXPLODE].startswith("loss exploded: loss is ")
    assert reasons[HANG].startswith("hung: no epoch for ")
    assert reasons[CRASH].startswith("crashed: Segmentation fault in string_at")
    assert (
        reasons[EAT].startswith("out of memory: its process took ") and "limit of a trial is 1,536 MB" in reasons[EAT]
    )
    again = [text for text in state.notices if "another process" in text]
    assert len(again) == 4, "each once more, and the one that did better then"
    number = next(one.number for one in state.trials.values() if one.configuration["dense_units"] == CRASH_ONCE)
    assert any(text.startswith(f"trial {number} goes on in another process from epoch 1: crashed") for text in again)
    page = (tmp_path / "reports" / "bad" / "leaderboard.md").read_text()
    assert all(words in page for words in ("no epoch for", "Segmentation fault", "limit of a trial", "loss exploded"))
    assert not any(run.exit_reasons.iterdir())


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_finalists_that_hang_crash_or_eat_memory_are_recorded_and_the_others_are_judged(
    tmp_path, cache_dir, monkeypatch
):
    monkeypatch.setattr("tuner.execution.lost_workers.FLOOR_S", 8.0)
    monkeypatch.setattr("tuner.execution.lost_workers.FIRST_FLOOR_S", 40.0)
    file = write_space(tmp_path, HANG, CRASH, EAT, GOOD)
    limits = ("search.hung_after_epochs=2", "resources.memory_gb_per_trial=1.5", "training.max_epochs=2",
              "finalists.count=4", "finalists.seeds=1")  # fmt: skip
    words = [word for limit in limits for word in ("--set", limit)]
    assert run_search(tmp_path, file, cache_dir, *words, trial_kind=faulty_trials(of_finalists=True)) == 0
    state = check_record(RunDirectory(tmp_path / "runs" / "bad").record)
    units = {number: int(str(trial.configuration["dense_units"])) for number, trial in state.trials.items()}
    found = {units[number]: finalist for (number, _), finalist in state.finalists.items()}
    assert found[GOOD].trained.status == "completed" and found[GOOD].tested is not None
    reasons = {fault: found[fault].trained.reason for fault in (HANG, CRASH, EAT)}
    assert reasons[HANG].startswith("hung: no epoch for ")
    assert reasons[CRASH].startswith("crashed: Segmentation fault in string_at")
    assert reasons[EAT].startswith("out of memory: its process took ")
    assert all(found[fault].trained.status == "failed" and found[fault].tested is None for fault in reasons)


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_a_full_disk_ends_the_search_in_one_line_and_with_room_it_goes_on(tmp_path, cache_dir, capsys):
    file = write_space(tmp_path, FULL, GOOD)
    assert run_search(tmp_path, file, cache_dir, trial_kind=faulty_trials(networks=False)) == 1
    said = capsys.readouterr()
    assert re.search(r"the disk is full \(.*No space left.*\); make room, then go on with --resume", said.err)
    assert "Traceback" not in said.out + said.err
    run = RunDirectory(tmp_path / "runs" / "bad")
    state = read_state(run.record)
    assert state.session_ended is not None and state.session_ended.reason == "error"
    assert by_units(state)[FULL][0] == "running", "it is not the trial's fault"
    number = next(one.number for one in state.trials.values() if one.configuration["dense_units"] == FULL)
    checkpoint = state.trials[number].checkpoint
    assert checkpoint is not None and checkpoint.epoch == 1
    (run.path / checkpoint.path / "checkpoint.npz").write_bytes(b"")  # as a full disk may leave what was written last
    assert run_search(tmp_path, file, cache_dir, "--resume", trial_kind=SLEEPING) == 0
    state = check_record(run.record)  # every epoch once, although the first ones were trained twice
    assert by_units(state)[FULL] == ("completed", "max_epochs", 4)
    assert any(f"trial {number} begins anew: " in text and "cannot be read" in text for text in state.notices)


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_first_trials_that_fail_alike_end_the_search_with_that_reason(tmp_path, cache_dir, capsys):
    file = write_space(tmp_path, NAN, batch_size="{choice: [30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41]}")
    assert run_search(tmp_path, file, cache_dir, trial_kind=faulty_trials(networks=False)) == 1
    said = capsys.readouterr().out
    assert "6 of the first 10 trials failed for the same reason, the latest with: not a number: loss is nan" in said
    assert "go on with: python -m tuner.search --resume" in said
    state = read_state(tmp_path / "runs" / "bad" / "record.jsonl")
    assert state.session_ended is not None and state.session_ended.reason == "error"
    assert state.session_ended.message is not None and "6 of the first 10" in state.session_ended.message
    assert 6 <= len(state.trials) <= 8, "the trials that were running then"
    assert "6 of the first 10 trials failed" in (tmp_path / "reports" / "bad" / "leaderboard.md").read_text()
