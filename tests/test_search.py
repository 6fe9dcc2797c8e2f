"""Searches from a file to their end: real Ray, real Keras, real images (scikit-learn's digits), small."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tests.make_record import epoch, study_created, trial_ended, trial_started
from tuner.datasets import DataRequest, load_dataset
from tuner.events import EpochReported
from tuner.finalists import best_training, summarise_finalists
from tuner.pareto import comparable_values, metrics_of, pareto_front
from tuner.predictions import load_predictions
from tuner.record import Record, read_events, read_state
from tuner.run_state import RunState
from tuner.runs import RunDirectory
from tuner.search import main

SPACE = """
study: {study}
data: {{source: digits, max_train_images: 240, max_validation_images: 80}}
space:
  batch_size: {{choice: [32, 64]}}
  learning_rate: {learning_rate}
  architecture:
    choose:
      dense: {{dense_units: {{choice: [16, 32]}}, hidden_layers: 1}}
      cnn: {{blocks: 1, convolutions_per_block: 1, filters: {{choice: [4, 8]}}, dense_units: 16}}
baseline: {{architecture: dense, dense_units: 16, hidden_layers: 1, batch_size: 64, learning_rate: 0.001}}
training: {{max_epochs: 6, early_stopping: {{patience: 3}}}}
search: {{trials: {trials}, sampler: {sampler}, scheduler: {scheduler}, reduction_factor: 2, max_concurrent: 2}}
finalists: {{count: 0}}
"""


def write_file(folder: Path, study: str = "small", sampler: str = "random", scheduler: str = "none",
               trials: int = 4, learning_rate: str = "{log_float: [1.0e-3, 1.0e-1]}") -> Path:  # fmt: skip
    path = folder / f"{study}.yaml"
    path.write_text(
        SPACE.format(study=study, sampler=sampler, scheduler=scheduler, trials=trials, learning_rate=learning_rate)
    )
    return path


def run_search(folder: Path, file: Path, cache_dir: Path, *more: str) -> int:
    folders = ["--runs", str(folder / "runs"), "--reports", str(folder / "reports"), "--cache", str(cache_dir)]
    return main([str(file), *folders, *more])


def check_record(path: Path, jumps: bool = False) -> RunState:
    """What holds for every finished search.

    A member of a population may take over the epoch and the best value of the one it copies.
    """
    epochs = Counter((event.trial, event.epoch) for event in read_events(path) if isinstance(event, EpochReported))
    assert all(number == 1 for number in epochs.values())
    state = read_state(path)
    for trial in state.trials.values():
        assert trial.status in {"completed", "stopped", "failed"}
        epochs_seen = [epoch.epoch for epoch in trial.epochs]
        assert epochs_seen == (sorted(epochs_seen) if jumps else list(range(1, len(trial.epochs) + 1)))
        best = [epoch.best_so_far for epoch in trial.epochs]
        own = list(np.maximum.accumulate([epoch.val_accuracy for epoch in trial.epochs]))
        assert best == sorted(best) if jumps else own == pytest.approx(best)
    return state


@pytest.mark.parametrize(
    ("sampler", "scheduler", "trials", "learning_rate"),
    [
        ("random", "none", 4, "{log_float: [1.0e-3, 1.0e-1]}"),
        ("grid", "none", 20, "{choice: [0.001]}"),
        ("gp", "asha", 12, "{log_float: [1.0e-3, 1.0e-1]}"),
        ("tpe", "asha_stopping", 8, "{log_float: [1.0e-3, 1.0e-1]}"),
        ("qmc", "hyperband", 8, "{log_float: [1.0e-3, 1.0e-1]}"),
        ("auto", "bohb", 8, "{log_float: [1.0e-3, 1.0e-1]}"),
        ("cmaes", "median", 6, "{log_float: [1.0e-3, 1.0e-1]}"),
        ("auto", "pbt", 4, "{log_float: [1.0e-3, 1.0e-1]}"),
        ("auto", "pb2", 4, "{log_float: [1.0e-3, 1.0e-1]}"),
    ],
)
@pytest.mark.usefixtures("local_ray_session")
def test_a_search_runs_to_the_end_with_every_sampler_and_scheduler(
    sampler, scheduler, trials, learning_rate, tmp_path, cache_dir
):
    file = write_file(tmp_path, sampler=sampler, scheduler=scheduler, trials=trials, learning_rate=learning_rate)
    assert run_search(tmp_path, file, cache_dir) == 0
    state = check_record(tmp_path / "runs" / "small" / "record.jsonl", jumps=scheduler in {"pbt", "pb2"})
    assert len(state.trials) == (8 if sampler == "grid" else trials)  # the grid: 2 batch sizes x (2 + 2) branches
    assert state.trials[0].origin == "baseline" or scheduler in {"pbt", "pb2"}
    assert state.session_ended is not None and state.session_ended.reason == "finished"
    assert not state.with_status("failed")
    assert (tmp_path / "reports" / "small" / "leaderboard.md").exists()
    assert (tmp_path / "runs" / "small" / "best.keras").exists()


@pytest.mark.usefixtures("local_ray_session")
def test_a_search_for_small_and_accurate_models_records_and_reports_their_front(tmp_path, cache_dir):
    file = write_file(tmp_path, sampler="gp", scheduler="asha", trials=12)
    file.write_text(f"{file.read_text()}metrics: [val_accuracy, parameters, seconds_per_image]\n")
    assert run_search(tmp_path, file, cache_dir, "--set", "finalists.count=2", "--set", "finalists.seeds=1") == 0
    run = RunDirectory(tmp_path / "runs" / "small")
    state = check_record(run.record)
    assert state.study.all_metrics == ("val_accuracy", "parameters", "seconds_per_image")
    for trial in state.trials.values():
        assert trial.measured.parameters == trial.ended.parameters > 0
        assert trial.measured.seconds_per_image > 0
        assert trial.measured.model_mb == pytest.approx(4 * trial.measured.parameters / 2**20, rel=0.05)
    page = (tmp_path / "reports" / "small" / "leaderboard.md").read_text()
    assert "## Pareto front" in page and (tmp_path / "reports" / "small" / "figures" / "pareto.svg").exists()
    assert not state.notices
    on_front = pareto_front(comparable_values(state), metrics_of(state))
    others = [one.trial for one in summarise_finalists(state)[1:] if one.trial in on_front]
    assert sorted(run.path.glob("front-*.keras")) == sorted(run.front_model(trial) for trial in others)
    for trial in others:
        model = keras.models.load_model(run.front_model(trial))
        assert model.count_params() == state.trials[trial].measured.parameters
        assert f"{run.front_model(trial).name}" in page


@pytest.mark.usefixtures("local_ray_session")
def test_the_best_trials_are_trained_again_and_then_the_test_split_is_read(tmp_path, cache_dir, capsys):
    file = write_file(tmp_path, trials=3)
    assert run_search(tmp_path, file, cache_dir, "--set", "finalists.count=1", "--set", "finalists.seeds=2") == 0
    run = RunDirectory(tmp_path / "runs" / "small")
    events = list(read_events(run.record))
    kinds = [event.event for event in events]
    state = read_state(run.record)
    number = kinds.count("finalist_trained")
    assert number == (2 if state.best_trial().origin == "baseline" else 4)
    assert kinds.count("finalist_tested") == number
    assert kinds.index("finalist_tested") > len(kinds) - 1 - kinds[::-1].index("finalist_trained")
    assert kinds[-1] == "session_ended"
    page = (tmp_path / "reports" / "small" / "leaderboard.md").read_text()
    assert "won with test accuracy" in page and "## Finalists" in page
    # What is exported is the finalist that was judged: its accuracy on the test images is the recorded one.
    winner = summarise_finalists(state)[0].trial
    tested = state.finalists[winner, best_training(state, winner)].tested
    predictions = load_predictions(run.predictions)
    test = load_dataset(DataRequest("digits"), staged={}, seed=0, cache_dir=cache_dir, notify=print).load_test()
    probabilities = keras.models.load_model(run.best_model).predict(test.batch(np.arange(len(test)))[0], verbose=0)
    assert (probabilities.argmax(axis=1) == test.labels).mean() == pytest.approx(tested.test_accuracy)
    assert predictions is not None and (predictions.classes[:, 0] == probabilities.argmax(axis=1)).all()
    # A search that is resumed when all is done does nothing again.
    assert main(["--resume", str(run.path), "--cache", str(cache_dir), "--reports", str(tmp_path / "reports")]) == 0
    again = [event.event for event in read_events(run.record)]
    assert again.count("finalist_trained") == number and again.count("finalist_tested") == number


@pytest.mark.usefixtures("local_ray_session")
def test_failed_trials_are_results_and_the_search_goes_on(tmp_path, cache_dir):
    file = write_file(tmp_path, sampler="tpe", trials=5)
    text = file.read_text().replace(
        "  batch_size:", '  preprocess: {choice: ["scale(0,1)", "scale(-1e30,1e30)"]}\n  batch_size:'
    )
    file.write_text(text.replace("baseline: {", 'baseline: {preprocess: "scale(-1e30,1e30)", '))
    assert run_search(tmp_path, file, cache_dir) == 0
    state = check_record(tmp_path / "runs" / "small" / "record.jsonl")
    failed = state.with_status("failed")
    assert failed and failed[0].number == 0 and "not a number" in failed[0].reason
    assert state.with_status("completed")
    assert "not a number" in (tmp_path / "reports" / "small" / "leaderboard.md").read_text()


@pytest.mark.usefixtures("local_ray_session")
def test_workers_find_data_that_are_named_relative_to_where_the_search_began(tmp_path, monkeypatch):
    for split, number in (("train", 12), ("test", 4)):
        for value, name in enumerate(("dark", "light")):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for index in range(number):
                Image.new("L", (8, 8), 100 * value + index).save(tmp_path / "pets" / split / name / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    file = write_file(tmp_path, trials=1)
    data = "{source: 'folder:pets', validation_fraction: 0.25}"
    file.write_text(re.sub(r"data: {.*}", f"data: {data}", file.read_text()))
    assert main(["small.yaml", "--cache", "kept", "--set", "training.max_epochs=2"]) == 0
    assert not check_record(Path("runs/small/record.jsonl")).with_status("failed")
    assert Path("kept/datasets").is_dir()


@pytest.mark.usefixtures("local_ray_session")
def test_a_time_budget_ends_a_search_gracefully_and_a_larger_one_goes_on(tmp_path, cache_dir, monkeypatch):
    def one_second_per_epoch(record: Record, now: float | None = None) -> float:
        return float(sum(len(trial.epochs) for trial in record.state.trials.values()))

    monkeypatch.setattr(Record, "elapsed_s", one_second_per_epoch)
    file = write_file(tmp_path, trials=500)
    assert run_search(tmp_path, file, cache_dir, "--set", "search.time_budget=15s") == 0
    record = tmp_path / "runs" / "small" / "record.jsonl"
    state = check_record(record)
    assert state.session_ended is not None and state.session_ended.reason == "time_budget"
    before = len(state.trials)
    assert 0 < before < 500
    assert run_search(tmp_path, file, cache_dir, "--resume", "--set", "search.time_budget=none",
                      "--set", f"search.trials={before + 2}") == 0  # fmt: skip
    assert len(check_record(record).trials) == before + 2


@pytest.mark.usefixtures("local_ray_session")
def test_workers_that_have_grown_are_replaced_without_a_hang(tmp_path, cache_dir, monkeypatch):
    monkeypatch.setattr("tuner.launch.WORKER_GROWTH_MB", 0.5)
    file = write_file(tmp_path, trials=6)
    assert run_search(tmp_path, file, cache_dir, "--set", "training.max_epochs=2") == 0
    assert len(check_record(tmp_path / "runs" / "small" / "record.jsonl").with_status("completed")) == 6


@pytest.mark.usefixtures("local_ray_session")
def test_the_exported_model_and_a_trial_trained_again_give_the_recorded_numbers(tmp_path, cache_dir, capsys):
    import keras

    file = write_file(tmp_path, sampler="tpe", trials=3)
    assert run_search(tmp_path, file, cache_dir) == 0
    run = tmp_path / "runs" / "small"
    best = read_state(run / "record.jsonl").best_trial()

    request = DataRequest("digits", max_train_images=240, max_validation_images=80)
    data = load_dataset(request, staged={}, seed=0, cache_dir=cache_dir, notify=lambda _text: None)
    images, labels = data.validation.batch(np.arange(len(data.validation)))
    predicted = keras.models.load_model(run / "best.keras").predict(images, verbose=0).argmax(axis=1)
    assert (predicted == labels).mean() == pytest.approx(best.best)
    assert json.loads((run / "labels.json").read_text()) == list("0123456789")

    capsys.readouterr()
    assert main(["--retrain", str(run), str(best.number), "--cache", str(cache_dir)]) == 0
    printed = re.findall(r"val_loss ([\d.]+), val_accuracy ([\d.]+)", capsys.readouterr().out)
    assert [(f"{epoch.val_loss:.4f}", f"{epoch.val_accuracy:.4f}") for epoch in best.epochs] == printed
    assert main(["--retrain", str(run), "99"]) == 2
    assert "trial must be one of 0 to 2; got 99" in capsys.readouterr().err


def start_search(folder: Path, file: Path, cache_dir: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tuner.search", str(file), "--runs", str(folder / "runs"),
               "--reports", str(folder / "reports"), "--cache", str(cache_dir), *more]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_epochs(record: Path, number: int, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if record.exists() and record.read_text().count('"event":"epoch"') >= number:
            return
        time.sleep(0.2)
    raise AssertionError(f"{record}: not {number} epochs after {timeout_s} s")


def test_ctrl_c_stops_a_search_gracefully_and_says_how_to_go_on(tmp_path, cache_dir):
    file = write_file(tmp_path, trials=30)
    record = tmp_path / "runs" / "small" / "record.jsonl"
    process = start_search(tmp_path, file, cache_dir)
    wait_for_epochs(record, 3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 130, output
    assert "--resume" in output and "Traceback" not in output
    assert read_state(record).session_ended.reason == "interrupted"
    assert (tmp_path / "reports" / "small" / "leaderboard.md").exists()


def test_a_killed_search_goes_on_and_gives_the_numbers_of_an_undisturbed_one(tmp_path, cache_dir):
    slow = ("--set", "training.early_stopping=null", "--set", "search.max_concurrent=1")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    file = write_file(tmp_path, sampler="gp", scheduler="asha", trials=12)
    record = killed / "runs" / "small" / "record.jsonl"
    process = start_search(killed, file, cache_dir, *slow)
    wait_for_epochs(record, 21)  # some wait at rungs, some were promoted, the model has begun to suggest
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with record.open("ab") as lines:
        lines.write(b'{"event":"epoch","tr')  # as a power cut would leave it
    output, _ = start_search(killed, file, cache_dir, *slow, "--resume").communicate(timeout=240)
    assert "finished" in output, output
    output, _ = start_search(whole, file, cache_dir, *slow).communicate(timeout=240)
    assert "finished" in output, output
    assert values(check_record(record)) == values(check_record(whole / "runs" / "small" / "record.jsonl"))


def values(state: RunState) -> dict[int, tuple[object, ...]]:
    return {
        trial.number: (trial.configuration, [(epoch.loss, epoch.val_accuracy) for epoch in trial.epochs])
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


@pytest.mark.usefixtures("local_ray_session")
def test_a_search_begins_with_what_earlier_ones_found_and_goes_on_without_them(tmp_path, cache_dir, capsys):
    earlier = tmp_path / "runs" / "earlier"
    write_earlier_run(earlier)
    file = write_file(tmp_path, sampler="gp", scheduler="asha", trials=5)
    assert run_search(tmp_path, file, cache_dir, "--warm-start", "earlyer") == 2
    assert "unknown run" in (error := capsys.readouterr().err) and "did you mean 'earlier'?" in error
    assert run_search(tmp_path, file, cache_dir, "--warm-start", "earlier") == 0
    state = check_record(tmp_path / "runs" / "small" / "record.jsonl", jumps=True)
    origins = [state.trials[number].origin for number in sorted(state.trials)]
    assert origins == ["baseline", *["portfolio"] * 4]
    assert "**Warm start**: earlier" in (tmp_path / "reports" / "small" / "leaderboard.md").read_text()
    shutil.rmtree(earlier)
    assert run_search(tmp_path, file, cache_dir, "--resume", "--set", "search.trials=7") == 0
    state = read_state(tmp_path / "runs" / "small" / "record.jsonl")
    assert [state.trials[number].origin for number in (5, 6)] == ["portfolio", "sampler"]


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
