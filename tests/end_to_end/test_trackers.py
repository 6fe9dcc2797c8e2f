"""Searches told to a real MLflow and to TensorBoard while they run: servers and searches are killed in the middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.end_to_end.test_search_resumed import start_search, wait_for_epochs
from tests.support import needs
from tests.support.make_record import epoch, make_events, session_started, study_created, trial_started, write_record
from tests.support.make_search import check_record, write_file
from tests.support.mlflow_server import MlflowServer
from tests.trackers.test_mlflow import ODD
from tuner.export import main as export
from tuner.runs.directory import RunDirectory
from tuner.runs.state import RunState
from tuner.trackers._mlflow import MlflowTracker

pytestmark = pytest.mark.full


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(needs.mlflow(), tmp_path)
    server.start()
    yield server
    server.kill()


def check_server(server: MlflowServer, state: RunState) -> None:
    """The server has every epoch of every trial once, under one run."""
    runs = server.runs()
    for number, trial in state.trials.items():
        run = runs[f"trial-{number:05d}"]
        shown = [(one.epoch, one.metrics["val_accuracy"]) for one in trial.epochs]
        assert server.history(run["id"], "val_accuracy") == shown
        assert run["parameters"].keys() == trial.configuration.keys()
        assert run["tags"]["tuner.status"] == trial.status
        assert run["tags"]["mlflow.parentRunId"] == runs["search"]["id"]
    for trial, number in state.finalists:
        finalist = runs[f"finalist-{trial:05d}-seed-{number}"]
        assert finalist["status"] == "FINISHED" and "test_accuracy" in finalist["metrics"]
    assert len(runs) == 1 + len(state.trials) + len(state.finalists)
    assert runs["search"]["status"] == "FINISHED"


def test_a_killed_server_and_a_killed_search_lose_nothing_and_send_nothing_twice(server, tmp_path, cache_dir) -> None:
    file = write_file(tmp_path, scheduler="asha", trials=10)
    settings = ("finalists.count=1", "finalists.seeds=1", "training.early_stopping=null", "search.max_concurrent=1")
    more = [word for one in settings for word in ("--set", one)]
    record = tmp_path / "runs" / "small" / "record.jsonl"
    secret = server.url.replace("http://", "http://me:se%40cret@")
    first = start_search(tmp_path, file, cache_dir, *more, "--mlflow", secret, "--tensorboard", str(tmp_path / "tb"))
    wait_for_epochs(record, 6)
    time.sleep(2)
    assert server.runs()["trial-00000"]["metrics"], "it is told while the search runs"
    server.kill()
    wait_for_epochs(record, 14)
    time.sleep(2)
    os.killpg(first.pid, signal.SIGKILL)
    output, _ = first.communicate()
    assert output.count("cannot be reached: ") == output.count("; the search goes on, and what is missing") == 1, output
    server.start()
    output, _ = start_search(tmp_path, None, cache_dir, "--resume", str(record.parent)).communicate(timeout=900)
    assert "finished" in output and "not delivered" not in output, output
    check_server(server, check_record(record))
    listing = f"artifacts/list?run_id={server.runs()['search']['id']}"
    kept = [one["path"] for folder in ("model", "report") for one in server.ask(f"{listing}&path={folder}")["files"]]
    assert {*kept} == {"model/best.keras", "model/labels.json", "model/best.json", "report/index.html"}
    for trial in check_record(record).trials.values():
        shown = EventAccumulator(str(tmp_path / "tb" / "small" / f"trial-{trial.number:05d}")).Reload()
        assert [one.step for one in shown.Scalars("val_accuracy")] == [one.epoch for one in trial.epochs]
    for path in (*record.parent.glob("*.*"), *(tmp_path / "reports").rglob("*.*")):
        assert b"cret@" not in path.read_bytes() and b"se%40cret" not in path.read_bytes(), path
    assert "cret" not in output


def test_a_search_whose_server_is_never_there_ends_as_ever_and_is_delivered_later(tmp_path, cache_dir, capsys) -> None:
    server = MlflowServer(needs.mlflow(), tmp_path)
    file = write_file(tmp_path, trials=2)
    process = start_search(tmp_path, file, cache_dir, "--mlflow", server.url, sleeping_s=0.01)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0 and "finished" in output
    assert "events were not delivered (cannot be reached: Connection refused); deliver with: python -m " in output
    server.start()
    try:
        assert export([str(tmp_path / "runs" / "small"), "--tracker", f"mlflow={server.url}"]) == 0
        check_server(server, check_record(tmp_path / "runs" / "small" / "record.jsonl"))
    finally:
        server.kill()


def test_a_real_server_takes_every_configuration_whole(server, tmp_path) -> None:
    tracker = MlflowTracker(server.url, tmp_path / "runs" / "small")
    tracker.take([study_created(), session_started()])
    for number, configuration in enumerate(ODD.values()):
        values = {"val_accuracy": 0.1, "a": float("nan"), "b": float("inf")}
        odd = epoch(number, 1, 0.1).model_copy(update={"metrics": values})
        tracker.take([trial_started(number, configuration), odd])
    for number, (kind, configuration) in enumerate(ODD.items()):
        assert len(server.runs()[f"trial-{number:05d}"]["parameters"]) == len(configuration), kind


def test_without_an_address_a_run_is_in_a_file_beside_it_and_nothing_is_there_twice(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = RunDirectory(tmp_path / "runs" / "small")
    write_record(run.record, make_events(4))
    for _ in range(2):
        assert export([str(run.path), "--mlflow"]) == 0
    server = MlflowServer(needs.mlflow(), run.path.parent)
    server.start()
    try:
        runs = server.runs()
        assert len(runs) == 5 and len(server.history(runs["trial-00000"]["id"], "val_accuracy")) == 20
    finally:
        server.kill()
