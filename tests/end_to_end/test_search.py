"""Searches from a file to their end: real Ray, real Keras, real images (scikit-learn's digits), small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.support.make_search import SLEEPING, check_record, run_search, write_file
from tuner.datasets.account.facts import load_account
from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest
from tuner.reports.data_section import load_sheets
from tuner.runs.directory import RunDirectory
from tuner.runs.finalists import best_training, gain_over_guess, summarise_finalists
from tuner.runs.pareto import comparable_values, metrics_of, pareto_front
from tuner.runs.predictions import load_predictions
from tuner.runs.record import read_events, read_state
from tuner.search import main

ONE_AT_A_TIME = ("--set", "search.max_concurrent=1")
"""A second process takes longer to load its libraries than a search of few trials to train them."""


@pytest.mark.parametrize(
    ("sampler", "scheduler", "trials", "learning_rate"),
    [
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
    sampler, scheduler, trials, learning_rate, tmp_path, cache_dir, capsys
):
    file = write_file(tmp_path, sampler=sampler, scheduler=scheduler, trials=trials, learning_rate=learning_rate)
    assert run_search(tmp_path, file, cache_dir, trial_kind=SLEEPING) == 0
    state = check_record(tmp_path / "runs" / "small" / "record.jsonl", jumps=scheduler in {"pbt", "pb2"})
    assert len(state.trials) == (8 if sampler == "grid" else trials)  # the grid: 2 batch sizes x (2 + 2) branches
    assert state.trials[0].origin == "baseline" or scheduler in {"pbt", "pb2"}
    assert state.session_ended is not None and state.session_ended.reason == "finished"
    assert not state.with_status("failed")
    assert (tmp_path / "reports" / "small" / "leaderboard.md").exists()
    assert (
        "the best model was not exported: trials of the kind SleepingTrial have no network" in capsys.readouterr().out
    )


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_finalists_are_trained_on_every_fold_and_what_is_exported_is_one_of_these_trainings(tmp_path, cache_dir):
    file = write_file(tmp_path, trials=2)
    folds = ["--set", "data.validation.folds=3", "--set", "finalists.count=1"]
    assert run_search(tmp_path, file, cache_dir, *folds, *ONE_AT_A_TIME) == 0
    run = RunDirectory(tmp_path / "runs" / "small")
    state = read_state(run.record)
    assert state.folds == 3 and state.study.data["validation_images"] == 80
    for finalist in summarise_finalists(state):
        assert (finalist.trained, finalist.tested) == (3, 3)
    page = (tmp_path / "reports" / "small" / "leaderboard.md").read_text()
    assert "the mean of 3 folds" in page and "the first of 3 folds" in page
    first = summarise_finalists(state)[0]
    tested = state.finalists[first.trial, first.model].tested
    test = load_dataset(DataRequest("digits"), staged={}, seed=0, cache_dir=cache_dir, notify=print).load_test()
    probabilities = keras.models.load_model(run.best_model).predict(test.batch(np.arange(len(test)))[0], verbose=0)
    assert (probabilities.argmax(axis=1) == test.labels).mean() == pytest.approx(tested.test_accuracy)
    assert main(["--resume", str(run.path), "--cache", str(cache_dir), "--reports", str(tmp_path / "reports")]) == 0
    assert [event.event for event in read_events(run.record)].count("finalist_trained") == len(state.finalists)


@pytest.mark.full
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


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_with_95_to_5_images_of_two_classes_the_search_beats_the_majority_and_says_by_how_much(
    tmp_path, cache_dir, capsys
):
    digits = load_digits()
    eights = np.flatnonzero(digits.target == 8)[:90]
    order = np.random.default_rng(0).permutation(np.concatenate([eights, np.flatnonzero(digits.target != 8)]))
    images, labels = (16 * digits.images[order]).clip(0, 255).astype(np.uint8), (digits.target[order] == 8).astype(int)
    np.savez(tmp_path / "eights.npz", x_train=images[:1200], y_train=labels[:1200], x_test=images[1200:],
             y_test=labels[1200:], class_names=np.array(["other", "eight"]))  # fmt: skip
    file = tmp_path / "eights.yaml"
    file.write_text(
        "study: small\n"
        f"data: {{source: 'npz:{tmp_path / 'eights.npz'}', validation_fraction: 0.3}}\n"
        "metrics: [val_balanced_accuracy, val_auc]\n"
        "space: {class_weight: {choice: [none, balanced]}, loss: {choice: [cross_entropy, focal]},\n"
        "        architecture: dense, hidden_layers: 1, dense_units: 32, learning_rate: 0.01}\n"
        "training: {max_epochs: 6}\nfinalists: {count: 1, seeds: 2}\n"
    )
    assert run_search(tmp_path, file, cache_dir) == 0
    run = RunDirectory(tmp_path / "runs" / "small")
    state = read_state(run.record)
    assert {trial.configuration["class_weight"] for trial in state.trials.values()} == {"none", "balanced"}
    assert all("val_auc" in one.metrics for trial in state.trials.values() for one in trial.epochs)
    gain = gain_over_guess(state, summarise_finalists(state)[0].trial)
    assert gain is not None and gain.low is not None and gain.low > 0.1 and state.guess_tested is not None
    for name, expected in (("balanced_accuracy", 0.5), ("auc", 0.5)):
        assert state.guess_tested.metrics[name] == pytest.approx(expected)
    said = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "reports" / "small" / "leaderboard.md").read_text()
    assert "test balanced accuracy 0.9" in said and "with test balanced accuracy 9" in page
    for text in (said, page):
        assert "of the test images are other, the largest class of the training images" in text
        assert f"the winner beats that: {gain.mean * 100:+.2f} points of test balanced accuracy" in text


@pytest.mark.usefixtures("local_ray_session")
def test_the_best_trials_are_trained_again_and_then_the_test_split_is_read(tmp_path, cache_dir, capsys):
    file = write_file(tmp_path, trials=3)
    finalists = ["--set", "finalists.count=1", "--set", "finalists.seeds=2"]
    assert run_search(tmp_path, file, cache_dir, *finalists, *ONE_AT_A_TIME) == 0
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
    account = load_account(run.data)
    assert account is not None and account.images == 1797 and "1,797 images of 10 classes" in page
    assert len(load_sheets(run.contact_sheets)) == 10
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


@pytest.fixture(scope="module")
def partly_failed(local_ray_session, tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """The folder of a search of five trials, of which the first and maybe others fail."""
    folder = tmp_path_factory.mktemp("failed")
    file = write_file(folder, sampler="tpe", trials=5)
    text = file.read_text().replace(
        "  batch_size:", '  preprocess: {choice: ["scale(0,1)", "scale(-1e30,1e30)"]}\n  batch_size:'
    )
    file.write_text(text.replace("baseline: {", 'baseline: {preprocess: "scale(-1e30,1e30)", '))
    assert run_search(folder, file, cache_dir) == 0
    return folder


@pytest.mark.full
def test_failed_trials_are_results_and_the_search_goes_on(partly_failed):
    state = check_record(partly_failed / "runs" / "small" / "record.jsonl")
    failed = state.with_status("failed")
    assert failed and failed[0].number == 0 and "not a number" in failed[0].reason
    assert state.with_status("completed")
    assert "not a number" in (partly_failed / "reports" / "small" / "leaderboard.md").read_text()


@pytest.mark.full
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


@pytest.mark.full
@pytest.mark.usefixtures("local_ray_session")
def test_workers_that_have_grown_are_replaced_without_a_hang(tmp_path, cache_dir, monkeypatch):
    monkeypatch.setattr("tuner.execution.tune_run.WORKER_GROWTH_MB", -1.0)  # each has, at its first epoch
    file = write_file(tmp_path, trials=6)
    assert run_search(tmp_path, file, cache_dir, "--set", "training.max_epochs=2", trial_kind=SLEEPING) == 0
    assert len(check_record(tmp_path / "runs" / "small" / "record.jsonl").with_status("completed")) == 6


@pytest.mark.full
def test_the_exported_model_and_a_trial_trained_again_give_the_recorded_numbers(partly_failed, cache_dir, capsys):
    run = partly_failed / "runs" / "small"
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
    assert [
        (f"{epoch.metrics['val_loss']:.4f}", f"{epoch.metrics['val_accuracy']:.4f}") for epoch in best.epochs
    ] == printed
    assert main(["--retrain", str(run), "99"]) == 2
    assert "trial must be one of 0 to 4; got 99" in capsys.readouterr().err
