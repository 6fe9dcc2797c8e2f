"""Searches that stop before their end or begin with others' results, and go on: real Ray, real Keras, small images."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.make_record import epoch, study_created, trial_ended, trial_started
from tests.support.make_search import SLEEPING, SLEEPING_SEARCH, check_record, run_search, write_file
from tuner.runs.directory import RunDirectory
from tuner.runs.record import Record, read_state
from tuner.runs.state import RunState


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_a_time_budget_or_little_gain_ends_a_search_gracefully_and_more_of_it_goes_on(tmp_path, cache_dir, monkeypatch):
    def one_second_per_epoch(record: Record, now: float | None = None) -> float:
        return float(sum(len(trial.epochs) for trial in record.state.trials.values()))

    monkeypatch.setattr(Record, "elapsed_s", one_second_per_epoch)
    file = write_file(tmp_path, trials=500)
    assert run_search(tmp_path, file, cache_dir, "--set", "search.time_budget=15s", trial_kind=SLEEPING) == 0
    record = tmp_path / "runs" / "small" / "record.jsonl"
    state = check_record(record)
    assert state.session_ended is not None and state.session_ended.reason == "time_budget"
    before = len(state.trials)
    assert 0 < before < 500
    more = ("--resume", "--set", "search.time_budget=none", "--set")
    stop = "search.stop_when={expected_gain_below: 0.99, within: 5s}"
    assert run_search(tmp_path, file, cache_dir, *more, stop, trial_kind=SLEEPING) == 0
    state = check_record(record)
    assert state.session_ended is not None and state.session_ended.reason == "expected_gain"
    assert any(text.startswith("search.stop_when: another 5 s are expected to gain ") for text in state.notices)
    before = len(state.trials)
    assert run_search(tmp_path, file, cache_dir, *more, f"search.trials={before + 2}", trial_kind=SLEEPING) == 0
    assert len(check_record(record).trials) == before + 2


def start_search(
    folder: Path, file: Path | None, cache_dir: Path, *more: str, sleeping_s: float | None = None
) -> subprocess.Popen[str]:
    """Start a search; with `sleeping_s`, its trials sleep for so long an epoch, and train nothing."""
    program = ["-m", "tuner.search"] if sleeping_s is None else ["-c", SLEEPING_SEARCH, str(sleeping_s)]
    named = [str(file)] if file is not None else []
    command = [sys.executable, *program, *named, "--runs", str(folder / "runs"),
               "--reports", str(folder / "reports"), "--cache", str(cache_dir), *more]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_epochs(record: Path, number: int, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if record.exists() and record.read_text().count('"event":"epoch"') >= number:
            return
        time.sleep(0.2)
    raise AssertionError(f"{record}: not {number} epochs after {timeout_s} s")


def test_a_killed_search_goes_on_and_gives_the_numbers_of_an_undisturbed_one(tmp_path, cache_dir):
    """Those that are decided; that trainings go on bit for bit is seen in test_chaos."""
    slow = ("--set", "training.early_stopping=null", "--set", "search.max_concurrent=1")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    file = write_file(tmp_path, sampler="gp", scheduler="asha", trials=12)
    record = killed / "runs" / "small" / "record.jsonl"
    process = start_search(killed, file, cache_dir, *slow, sleeping_s=0.5)
    wait_for_epochs(record, 21)  # some wait at rungs, some were promoted, the model has begun to suggest
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with record.open("ab") as lines:
        lines.write(b'{"event":"epoch","tr')  # as a power cut would leave it
    output, _ = start_search(killed, file, cache_dir, *slow, "--resume", sleeping_s=0.01).communicate(timeout=900)
    assert "finished" in output, output
    output, _ = start_search(whole, file, cache_dir, *slow, sleeping_s=0.01).communicate(timeout=900)
    assert "finished" in output, output
    assert values(check_record(record)) == values(check_record(whole / "runs" / "small" / "record.jsonl"))


def values(state: RunState) -> dict[int, tuple[object, ...]]:
    return {
        trial.number: (
            trial.configuration,
            [(epoch.metrics["loss"], epoch.metrics["val_accuracy"]) for epoch in trial.epochs],
        )
        for trial in state.trials.values()
    }


def test_a_search_that_exists_is_not_overwritten_and_an_edited_one_not_resumed(tmp_path, cache_dir, capsys):
    file = write_file(tmp_path, trials=1)
    assert run_search(tmp_path, file, cache_dir, "--inline", "--set", "training.max_epochs=1") == 0
    assert "epoch 1/1" in capsys.readouterr().out
    record = tmp_path / "runs" / "small" / "record.jsonl"
    record.parent.mkdir(parents=True)
    assert run_search(tmp_path, file, cache_dir, "--resume") == 2
    assert "there is no search to resume" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_a_search_begins_with_what_earlier_ones_found_and_goes_on_without_them(tmp_path, cache_dir, capsys):
    earlier = tmp_path / "runs" / "earlier"
    write_earlier_run(earlier)
    file = write_file(tmp_path, sampler="gp", scheduler="asha", trials=5)
    assert run_search(tmp_path, file, cache_dir, "--warm-start", "earlyer") == 2
    assert "unknown run" in (error := capsys.readouterr().err) and "did you mean 'earlier'?" in error
    assert run_search(tmp_path, file, cache_dir, "--warm-start", "earlier", trial_kind=SLEEPING) == 0
    state = check_record(tmp_path / "runs" / "small" / "record.jsonl", jumps=True)
    origins = [state.trials[number].origin for number in sorted(state.trials)]
    assert origins == ["baseline", *["recipe"] * 2, *["portfolio"] * 2]
    assert [state.trials[number].configuration["architecture"] for number in (1, 2)] == ["dense", "cnn"]
    assert "**Warm start**: earlier" in (tmp_path / "reports" / "small" / "leaderboard.md").read_text()
    shutil.rmtree(earlier)
    assert run_search(tmp_path, file, cache_dir, "--resume", "--set", "search.trials=8", trial_kind=SLEEPING) == 0
    state = read_state(tmp_path / "runs" / "small" / "record.jsonl")
    assert [state.trials[number].origin for number in (5, 6, 7)] == ["portfolio"] * 2 + ["sampler"]


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_a_search_begins_with_the_best_that_other_data_know_of_an_architecture_unless_told_not_to(tmp_path, cache_dir):
    file = write_file(tmp_path, sampler="gp", scheduler="asha", trials=3)
    assert run_search(tmp_path, file, cache_dir, trial_kind=SLEEPING) == 0
    state = check_record(tmp_path / "runs" / "small" / "record.jsonl", jumps=True)
    assert [state.trials[number].origin for number in range(3)] == ["baseline", "prior", "sampler"]
    assert state.trials[1].configuration["architecture"] == "cnn", "no other data know of dense networks"
    told = "**Warm start**: 1 trial of the prior that comes with tuner"
    assert told in (tmp_path / "reports" / "small" / "leaderboard.md").read_text()
    assert run_search(tmp_path, file, cache_dir, "--resume", "--set", "search.trials=4", trial_kind=SLEEPING) == 0
    assert read_state(tmp_path / "runs" / "small" / "record.jsonl").trials[3].origin == "sampler"
    without = ("--fresh", "--set", "search.prior=none", "--set", "search.trials=2")
    assert run_search(tmp_path, file, cache_dir, *without, trial_kind=SLEEPING) == 0
    state = read_state(tmp_path / "runs" / "small-2" / "record.jsonl")
    assert [state.trials[number].origin for number in range(2)] == ["baseline", "sampler"]


def write_earlier_run(path: Path) -> None:
    """A study of the same space on other data, in which dense networks with a middling learning rate were best."""
    record = Record(RunDirectory(path).record)
    record.append(study_created(study="earlier"))
    generator = np.random.default_rng(0)
    for number in range(20):
        rate = float(10 ** generator.uniform(-3, -1))
        dense = {"architecture": "dense", "dense_units": 16 + 16 * (number % 2), "hidden_layers": 1}
        cnn = {"architecture": "cnn", "blocks": 1, "convolutions_per_block": 1, "filters": 4, "dense_units": 16}
        branch = cnn if number % 3 == 0 else dense
        record.append(trial_started(number, {"batch_size": 32, "learning_rate": rate, **branch}))
        value = 0.9 - 0.1 * (np.log10(rate) + 2) ** 2 - 0.2 * (branch is cnn)
        record.append(epoch(number, 1, float(value)))
        record.append(trial_ended(number))
    record.close()
