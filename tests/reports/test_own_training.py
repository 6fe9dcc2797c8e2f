"""What is told of a search of a training function of one's own: little is known of it, and nothing is made up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.support.make_record import make_events, session_started, study_created, trial_ended, trial_started
from tuner.models.parameters import OF_TRAINABLES, Parameter
from tuner.reports._leaderboard import page_texts
from tuner.reports.remarks import edges
from tuner.reports.results import build_results
from tuner.reports.writer import retrain_command, write_report
from tuner.runs.directory import RunDirectory
from tuner.runs.events import EpochReported, Event, FinalistsStarted, FinalistTrained, Notice, OwnCode, SessionEnded
from tuner.runs.finalists import NOT_TESTED
from tuner.runs.record import replay

WHY = "trainable own (own_loop.py) has no predict"
COMMAND = ["tuner.search", "own.yaml", "--plugin", "own loop.py", "--plugin=other"]
OWN = [
    OwnCode(name="own loop.py", reference="own loop.py", sha256="0"),
    OwnCode(name="other", reference="other", sha256="1"),
]


def reported(trial: int, number: int, value: float) -> EpochReported:
    """An epoch that has told of the study's metric alone."""
    return EpochReported(
        trial=trial, epoch=number, phase="scratch", seconds=1.0, elapsed_s=5.0 * trial + number,
        metrics={"val_accuracy": value, "val_iou": 0.3}, best_so_far=value, learning_rate=math.nan,
    )  # fmt: skip


def events(*more: Event, tested: bool = False) -> list[Event]:
    space: dict[str, Any] = {"units": {"int": [1, 8]}, "dropout": {"float": [0.0, 0.5]}}
    specification = {"study": "own", "trainable": "own", "space": space}
    found: list[Event] = [
        study_created(study="own", specification=specification, max_epochs=3, command=COMMAND, own_code=OWN),
        session_started(),
    ]  # fmt: skip
    for trial in range(4):
        found.append(trial_started(trial, {"units": trial + 5, "dropout": 0.1 * trial}))
        found += [reported(trial, number, 0.5 + 0.1 * trial + 0.01 * number) for number in (1, 2, 3)]
        found.append(trial_ended(trial, reason="ended_by_itself"))
    found.append(FinalistsStarted(trials=[3], trainings=2))
    found += [
        FinalistTrained(trial=3, number=one, status="completed", reason="max_epochs", epochs=3, best=0.8, seconds=3.0)
        for one in (0, 1)
    ]
    return [*found, *([] if tested else [Notice(text=f"{NOT_TESTED}{WHY}")]), *more, SessionEnded(reason="finished")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    path = tmp_path_factory.mktemp("runs") / "own"
    path.mkdir()
    (path / "best.npz").write_bytes(b"")
    (path / "specification.yaml").write_text("study: own")
    return RunDirectory(path)


@pytest.fixture(scope="module")
def report(run: RunDirectory) -> Path:
    """The report of a search that nothing has tested."""
    said: list[str] = []
    state = replay(events())
    directory = run.path.parent / "report"
    write_report(state, directory, retrain_command(run.path, state), formats=("png",), run=run, say=said.append)
    assert said == []
    return directory


def test_the_report_says_that_nothing_is_tested_and_why(report: Path) -> None:
    text = (report / "leaderboard.md").read_text().replace("\\", "")
    assert "Trial 3 (own) won with val_accuracy" in text
    assert f"the mean of 2 seeds; it is not tested: {WHY}." in text
    assert f"They are not tested, and the test split has not been read: {WHY}." in text
    assert "validation accuracy 83.00%.]" in text and "training accuracy" not in text
    assert "completed, ended by itself" in text and "best.keras" not in text and "nan" not in text.casefold()


def test_the_page_says_how_the_state_is_used(report: Path) -> None:
    page = (report / "index.html").read_text()
    assert "tuner.load_state" in page and "no network of Keras" in page and "load_model" not in page
    assert f"It cannot predict by itself: {WHY}" in page


def test_the_command_that_trains_again_names_the_own_code(report: Path) -> None:
    text = (report / "leaderboard.md").read_text()
    assert "--retrain" in text and "--plugin 'own loop.py' --plugin other" in text


def test_a_function_that_predicts_is_shown_with_its_command(run: RunDirectory, tmp_path: Path) -> None:
    state = replay(events(tested=True))
    paths = write_report(state, tmp_path, None, formats=("png",), run=run)
    page = paths.page.read_text()
    assert "python -m tuner.predict" in page and "IMAGE... --plugin" in page and "is not known yet" in page


@pytest.mark.parametrize(("own_code", "loads"), [(OWN, "tuner.load_run('runs/a b', plugins="), ([], "load_model(")])
def test_a_network_with_own_code_is_used_with_its_plugins(own_code: list[OwnCode], loads: str) -> None:
    state = replay([study_created(own_code=own_code), *make_events(3)[1:]])
    command = "python -m tuner.predict 'runs/a b' IMAGE... --plugin other"
    use = "\n".join(page_texts(build_results(state), predict_command=command).parts["use"])
    assert command in use and loads in use and ("['own loop.py', 'other']" in use) is bool(own_code)


def test_what_nobody_knows_is_null_in_the_tables(report: Path) -> None:
    trials, epochs = (pq.read_table(report / f"{name}.parquet").to_pylist() for name in ("trials", "epochs"))
    assert {row["learning_rate"] for row in epochs} == {row["loss"] for row in epochs} == {None}
    assert {row["parameters"] for row in trials} == {row["model_mb"] for row in trials} == {None}
    assert trials[3]["units"] == 8 and trials[3]["reason"] == "ended_by_itself" and trials[3]["scratch_epochs"] == 3


def test_an_epoch_keeps_all_that_was_yielded() -> None:
    event = reported(0, 1, 0.5)
    again = EpochReported.model_validate(json.loads(event.model_dump_json()))
    assert again.metrics == {"val_accuracy": 0.5, "val_iou": 0.3} and math.isnan(again.learning_rate)
    assert again.compact().values == {"val_accuracy": 0.5, "val_iou": 0.3}


def test_a_range_to_try_next_ends_where_the_parameter_does(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {"units": Parameter("int", low=1, high=8, default=4), "dropout": Parameter("float", low=0, high=0.5)}
    monkeypatch.setitem(OF_TRAINABLES, "own", whole)
    assert edges(build_results(replay(events()))) == []


def test_a_range_to_try_next_knows_no_limits_of_networks() -> None:
    (edge,) = edges(build_results(replay(events())))
    assert "units" in edge.wider and np.isfinite(len(edge.said))
