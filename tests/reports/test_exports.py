"""A run in the files of other programs, read again by these programs where they are installed."""

from __future__ import annotations

import csv
from pathlib import Path

import keras
import numpy as np
import optuna
import pytest

from tests.support.make_record import (
    epoch,
    make_events,
    session_started,
    study_created,
    trial_ended,
    trial_started,
    write_record,
)
from tuner.export import main
from tuner.models.export import any_size
from tuner.models.network import build_model
from tuner.runs.directory import RunDirectory
from tuner.spec.spec import dump_spec, read_spec, require

SPACE = """
study: small
data: {source: digits}
space:
  batch_size: {choice: [32, 64]}
  learning_rate: {log_float: [1.0e-4, 1.0e-1]}
  architecture: {choose: {dense: {dense_units: {choice: [16, 32]}}, cnn: {blocks: {int: [1, 3]}}}}
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with a completed, a stopped, a failed and a running trial."""
    run = RunDirectory(tmp_path / "runs" / "small")
    dense = {"batch_size": 32, "learning_rate": 0.01, "architecture": "dense", "dense_units": 16}
    cnn = {"batch_size": 64, "learning_rate": 0.001, "architecture": "cnn", "blocks": 2}
    events = [
        study_created(study="small"),
        *(trial_started(number, configuration) for number, configuration in enumerate([dense, cnn, dense, cnn])),
        epoch(0, 1, 0.3), epoch(0, 2, 0.5), trial_ended(0, elapsed_s=30.0),
        epoch(1, 1, 0.2), trial_ended(1, "stopped", "scheduler"),
        trial_ended(2, "failed", "=cmd|' /C calc'!A0"),
        epoch(3, 1, 0.4),
    ]  # fmt: skip
    write_record(run.record, events)
    run.specification.write_text(dump_spec(require(read_spec(SPACE)).resolved()))
    return run


def test_the_csv_holds_every_trial_by_rank_and_no_formula(run, tmp_path) -> None:
    assert main([str(run.path), "--csv", str(tmp_path / "trials.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "trials.csv").open(encoding="utf-8")))
    assert [row["trial"] for row in rows] == ["0", "3", "1", "2"]
    assert rows[0]["learning_rate"] == "0.01" and rows[0]["blocks"] == ""
    assert rows[3]["reason"].startswith("'=cmd")


def test_the_latex_table_has_the_best_trials_with_every_sign_escaped(run, tmp_path) -> None:
    assert main([str(run.path), "--latex", str(tmp_path / "trials.tex")]) == 0
    text = (tmp_path / "trials.tex").read_text(encoding="utf-8")
    assert text.count(r"\\") == 4  # the head and three ranked trials
    assert r"50.00\%" in text and r"batch\_size 32" in text and r"\toprule" in text


def test_optuna_opens_the_study_with_stopped_trials_as_pruned_and_failed_ones_as_failed(run, tmp_path, capsys) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    assert main([str(run.path), "--optuna", url]) == 0
    assert "study small in sqlite" in capsys.readouterr().out
    study = optuna.load_study(study_name="small", storage=url)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL"]
    assert study.best_value == 0.5 and study.metric_names == ["val_accuracy"]
    assert study.trials[0].intermediate_values == {1: 0.3, 2: 0.5}
    assert study.trials[1].params["architecture"] == "cnn"
    assert study.trials[2].user_attrs["reason"].startswith("=cmd")
    assert study.trials[0].duration is not None
    assert main([str(run.path), "--optuna", url]) == 2
    assert "must name a storage without a study 'small'" in capsys.readouterr().err


def test_trials_of_a_search_that_was_resumed_have_the_times_at_which_they_ran_in_optuna(run, tmp_path) -> None:
    dense = {"batch_size": 32, "learning_rate": 0.01, "architecture": "dense", "dense_units": 16}
    monday_s, tuesday_s = 1.7e9, 1.7e9 + 86_400
    write_record(run.record, [
        study_created(study="small", time=monday_s, elapsed_s=20.0), session_started(time=monday_s + 1, elapsed_s=21.0),
        trial_started(0, dense, elapsed_s=25.0), epoch(0, 1, 0.3), trial_ended(0, elapsed_s=30.0),
        session_started(time=tuesday_s, elapsed_s=40.0),
        trial_started(1, dense, elapsed_s=45.0), epoch(1, 1, 0.2), trial_ended(1, elapsed_s=60.0),
    ])  # fmt: skip
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    assert main([str(run.path), "--optuna", url]) == 0
    trials = optuna.load_study(study_name="small", storage=url).trials
    seconds = [(one.datetime_start.timestamp(), one.datetime_complete.timestamp()) for one in trials]
    assert seconds == [(monday_s + 5, monday_s + 10), (tuesday_s + 5, tuesday_s + 20)]


def test_an_address_that_optuna_cannot_open_is_wrong_input(run, capsys) -> None:
    assert main([str(run.path), "--optuna", "nothing://at all"]) == 2
    error = capsys.readouterr().err
    assert "--optuna must be an address such as sqlite:///study.db" in error and error.count("\n") == 1


def test_a_run_without_its_specification_has_no_space_for_optuna(run, tmp_path, capsys) -> None:
    run.specification.unlink()
    assert main([str(run.path), "--optuna", f"sqlite:///{tmp_path / 'x.db'}"]) == 2
    assert "must hold the specification" in capsys.readouterr().err


def test_tensorboard_finds_the_curves_and_the_hyperparameters_of_each_trial(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_record(tmp_path / "runs" / "x" / "record.jsonl", make_events(4))
    assert main([str(tmp_path / "runs" / "x"), "--tensorboard", str(tmp_path / "tb")]) == 0
    found = EventAccumulator(str(tmp_path / "tb" / "x" / "trial-00000"))
    found.Reload()
    assert "val_accuracy" in found.Tags()["scalars"] and len(found.Scalars("val_accuracy")) == 20
    assert "_hparams_/session_start_info" in found.summary_metadata


def test_something_must_be_asked_for(run, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(run.path)])
    assert "at least one of --csv" in capsys.readouterr().err


def test_a_run_without_a_model_cannot_be_converted(run, tmp_path, capsys) -> None:
    assert main([str(run.path), "--saved-model", str(tmp_path / "model")]) == 2
    assert "it is written when the search has ended" in capsys.readouterr().err


def test_what_a_form_has_no_operation_for_is_named_in_one_line(run, tmp_path, capsys) -> None:
    images = keras.Input((8, 8, 3), dtype="float32")
    shrunk = keras.layers.Resizing(4, 4, antialias=True)(images)  # of own code
    keras.Model(images, keras.layers.GlobalAveragePooling2D()(shrunk)).save(run.best_model)
    assert main([str(run.path), "--litert", str(tmp_path / "best.tflite")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"{run.best_model}: cannot be written as litert: litert has no tf.ScaleAndTranslate"
    assert not list(tmp_path.glob("*.tflite"))


@pytest.fixture(scope="module")
def small_model() -> keras.Model:
    images = keras.Input((8, 8, 3), dtype="float32")
    x = keras.layers.Conv2D(4, 3, activation="relu")(images / 255.0)
    outputs = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(x))
    return any_size(keras.Model(images, outputs), (8, 8, 3))


def test_the_saved_model_and_the_litert_file_predict_what_the_model_predicts(run, small_model, tmp_path) -> None:
    import tensorflow

    small_model.save(run.best_model)
    folder, file = tmp_path / "best", tmp_path / "best.lite"
    assert main([str(run.path), "--saved-model", str(folder), "--litert", str(file)]) == 0
    assert [path.name for path in tmp_path.iterdir() if "lite" in path.name] == [file.name]
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
    expected = small_model.predict_on_batch(images)
    loaded = tensorflow.saved_model.load(str(folder))
    np.testing.assert_allclose(np.asarray(loaded.serve(images)), expected, atol=1e-6)
    np.testing.assert_allclose(predicted_by_litert(file, images), expected, atol=1e-5)


def predicted_by_litert(file: Path, images: np.ndarray) -> np.ndarray:
    import tensorflow

    interpreter = tensorflow.lite.Interpreter(str(file))
    (place,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(place["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place["index"], images)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


@pytest.mark.parametrize(
    ("preprocess", "architecture"),
    [("grayscale|resize(9,width_px=7)|scale(-1,1)", "cnn"), ("resize(12,method=lanczos3)|scale(0,1)", "dense")],
)
def test_a_model_that_shrinks_images_predicts_the_same_by_litert(run, tmp_path, preprocess, architecture) -> None:
    shape = (41, 35, 3)
    model = any_size(build_model({"preprocess": preprocess, "architecture": architecture}, shape, 3, 0).model, shape)
    model.save(run.best_model)
    file = tmp_path / "best.tflite"
    assert main([str(run.path), "--litert", str(file)]) == 0
    for size in ((41, 35), (60, 90)):
        images = np.random.default_rng(0).integers(0, 256, (1, *size, 3)).astype(np.float32)
        np.testing.assert_allclose(predicted_by_litert(file, images), model.predict_on_batch(images), atol=1e-4)
