"""A run in Python: its tables, figures and pages, while it is searched and afterwards; what is no run is refused."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest

import tuner
from tests.support.make_record import (
    epoch,
    make_events,
    session_started,
    study_created,
    trial_ended,
    trial_started,
    write_record,
)
from tuner.common.errors import RunError, TunerError, UnknownNameError
from tuner.common.plugins import forget_plugins
from tuner.runs.events import SessionEnded
from tuner.runs.record import Record


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "cifar100"
    write_record(folder / "record.jsonl", make_events(12))
    return folder


def test_the_tables_are_those_of_the_report(finished, tmp_path) -> None:
    import pandas as pd

    run = tuner.load_run(finished)
    assert run.trials["trial"].tolist() == list(range(12)) and str(run.trials["epochs"].dtype) == "Int64"
    assert len(run.epochs) == run.trials["epochs"].sum()
    report = run.report(tmp_path / "report", formats=["png"])
    assert not report.problems and "index.html" in report._repr_html_()
    for name, table in (("trials", run.trials), ("epochs", run.epochs), ("finalists", run.finalists)):
        written = pd.read_parquet(tmp_path / "report" / f"{name}.parquet")
        assert list(written) == list(table) and len(written) == len(table)


def test_the_leaderboard_has_the_best_first(finished) -> None:
    board = tuner.load_run(str(finished)).leaderboard
    assert board.index.name == "place" and board.index[0] == 1
    assert board["best"].is_monotonic_decreasing and "learning_rate" in board


def test_a_hyperparameter_that_is_called_like_a_column_of_the_leaderboard_is_told_apart(tmp_path) -> None:
    events = [study_created(), session_started()]
    for number in (0, 1):
        events += [trial_started(number, {"architecture": "cnn", "epochs": number + 7}), epoch(number, 1, 0.5)]
    write_record(tmp_path / "record.jsonl", events)
    board = tuner.load_run(tmp_path).leaderboard
    assert board.columns.is_unique
    assert board["epochs"].tolist() == [1, 1] and board["epochs_hyperparameter"].tolist() == [7, 8]


def test_a_figure_is_drawn_and_shown_as_a_picture(finished) -> None:
    run = tuner.load_run(finished)
    figure = run.figure("learning_curves")
    assert figure._repr_png_().startswith(b"\x89PNG") and hasattr(figure, "savefig")
    with pytest.raises(UnknownNameError, match="did you mean 'learning_curves'"):
        run.figure("learning_curve")
    with pytest.raises(RunError, match="nothing to show in the figure confusion"):
        run.figure("confusion")


def test_a_notebook_shows_what_won_and_names_are_text_there(tmp_path) -> None:
    evil = "<script>alert(1)</script>"
    events = [
        study_created(study=evil),
        session_started(),
        trial_started(0, {"architecture": evil}),
        epoch(0, 1, 0.5),
        trial_ended(0),
        SessionEnded(reason="finished"),
    ]
    write_record(tmp_path / "record.jsonl", events)
    html = tuner.load_run(tmp_path)._repr_html_()
    assert "<script" not in html and "&lt;script" in html and "won with" in html


def test_a_metric_of_own_code_needs_its_plugin_which_is_named(tmp_path) -> None:
    file = tmp_path / "own_measure.py"
    file.write_text("import tuner\n@tuner.metric\ndef sure(labels, probabilities):\n    return 0.5\n")
    code = [{"name": file.name, "reference": str(file), "sha256": "a" * 64}]
    one = epoch(0, 1, 0.5)
    measured = one.model_copy(update={"metrics": {**one.metrics, "val_sure": 0.5}})
    events = [study_created("val_sure", own_code=code, mode="max"), session_started(), trial_started(0), measured]
    write_record(tmp_path / "run" / "record.jsonl", events)
    with pytest.raises(RunError, match=r"unknown metric 'val_sure'.*own code .* is not loaded: --plugin .*own_measure"):
        tuner.load_run(tmp_path / "run")
    try:
        with pytest.warns(UserWarning, match=r"own_measure.py has changed since"):
            board = tuner.load_run(tmp_path / "run", plugins=file).leaderboard
        assert board["best"].tolist() == [0.5]
    finally:
        forget_plugins()


def test_a_running_search_is_read_as_it_is_now(tmp_path) -> None:
    record = Record(tmp_path / "record.jsonl")
    record.append(study_created())
    run = tuner.load_run(tmp_path)
    assert run.status == "not begun" and run.trials.empty and run.epochs.empty and run.leaderboard.empty
    record.append(session_started())
    record.append(trial_started(0))
    record.append(epoch(0, 1, 0.5))
    assert run.status == "running" and run.trials["status"].tolist() == ["running"] and len(run.epochs) == 1
    record.append(trial_ended(0))
    record.append(SessionEnded(reason="interrupted"))
    assert run.status == "interrupted" and "interrupted" in repr(run) and run.trials["status"].tolist() == ["completed"]
    record.close()


@pytest.mark.parametrize(
    "ask", [lambda run: run.best_model(), lambda run: run.predict("x.png")], ids=["model", "predict"]
)
def test_a_run_without_a_model_says_when_it_will_have_one(ask, finished) -> None:
    with pytest.raises(RunError, match="written when the search has ended"):
        ask(tuner.load_run(finished))


def test_what_is_no_run_is_refused_and_runs_in_it_are_named(finished, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(finished.parent)
    for path, words in (
        (tmp_path, "not a run directory: it holds no record.jsonl"),
        (tmp_path / "gone", "not a run directory"),
        ("", "not a run directory"),
        (finished.parent, "it holds runs: cifar100"),
        (".", "it holds runs: cifar100"),
        (finished / "record.jsonl", "cannot be looked into|not a run directory"),
        ("s4://bucket/run", "did you mean 's3'"),
    ):
        with pytest.raises(TunerError, match=words) as refused:
            tuner.load_run(path)
        assert len(refused.value.lines()) == 1


def test_a_record_of_another_version_or_a_damaged_one_is_refused_by_name(tmp_path) -> None:
    (tmp_path / "record.jsonl").write_text("{}\n")
    with pytest.raises(RunError, match=r"record.jsonl:1: not an event"):
        tuner.load_run(tmp_path)


def test_a_run_that_is_removed_meanwhile_is_told(tmp_path) -> None:
    write_record(tmp_path / "a" / "record.jsonl", [study_created()])
    run = tuner.load_run(tmp_path / "a")
    (tmp_path / "a" / "record.jsonl").unlink()
    with pytest.raises(RunError, match="not a run directory"):
        attrgetter("trials")(run)


def test_a_run_in_a_bucket_is_read_and_read_anew(finished, bucket, tmp_path) -> None:
    from tuner.common.locations import Location, upload

    place = Location(f"{bucket}/tuner/cifar100")
    write_record(tmp_path / "record.jsonl", make_events(2))
    upload(tmp_path / "record.jsonl", place.child("record.jsonl"))
    run = tuner.load_run(place.address)
    assert len(run.trials) == 2 and run.name == "cifar100"
    upload(finished / "record.jsonl", place.child("record.jsonl"))
    assert len(run.trials) == 2 and len(run.refresh().trials) == 12
    with pytest.raises(RunError, match=r"has no best.keras yet"):
        run.best_model()
    with pytest.raises(RunError, match="not a run directory"):
        tuner.load_run(f"{bucket}/tuner/gone")


def test_a_run_in_a_bucket_that_has_ended_since_is_predicted_with(finished, bucket, tmp_path) -> None:
    from tuner.common.locations import Location, upload

    place = Location(f"{bucket}/tuner/cifar100")
    write_record(tmp_path / "record.jsonl", make_events(2))
    upload(tmp_path / "record.jsonl", place.child("record.jsonl"))
    run = tuner.load_run(place.address)
    (tmp_path / "best.json").write_text('{"labels": ["a", "b"], "image_shape": [4, 4, 3], "trainable": "not_here"}')
    (tmp_path / "best.npz").write_bytes(b"state")
    for file in (finished / "record.jsonl", tmp_path / "best.json", tmp_path / "best.npz"):
        upload(file, place.child(file.name))
    with pytest.raises(RunError, match="the state of trainable not_here, which is not known here"):
        run.predict("picture.png")
