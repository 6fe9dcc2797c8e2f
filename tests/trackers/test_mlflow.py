"""What is sent to MLflow, and how often: whole, gone on with, refused in part. A real one is in tests/end_to_end."""

from __future__ import annotations

import json
import math
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_mlflow import Client, Server, gone, refusal
from tests.support.make_record import epoch, make_events, session_started, study_created, trial_ended, trial_started
from tuner.runs.events import (
    ConfigurationChanged,
    Event,
    FinalistsStarted,
    FinalistTested,
    FinalistTrained,
    GuessTested,
    SessionEnded,
    TrialMeasured,
    TrialPaused,
    TrialResumed,
)
from tuner.trackers._mlflow import MlflowTracker
from tuner.trackers.tracker import Refused, Unavailable


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr("mlflow.tracking.MlflowClient", lambda **_places: Client(server))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    return server


def tracker() -> MlflowTracker:
    return MlflowTracker("http://host:5000", Path("runs/small"))


TESTED: dict[str, Any] = {"images": 8, "test_accuracy": 0.5, "test_loss": 1.0, "correct": "8A=="}
EVENTS: list[Event] = [
    study_created(time=1e9), session_started(),
    trial_started(0, {"dropout": 0.1, "augment": None}), epoch(0, 1, 0.1), epoch(0, 2, 0.2), trial_ended(0),
    trial_started(1, {"dropout": 0.3, "augment": "flip"}), epoch(1, 1, 0.3),
    TrialPaused(trial=1, epoch=1), TrialResumed(trial=1, epoch=1), epoch(1, 2, 0.4), epoch(1, 3, 0.5),
    trial_ended(1, "failed", "it did"),
    FinalistsStarted(trials=[0], trainings=2),
    *(FinalistTrained(trial=0, number=number, status="completed", reason="max_epochs", epochs=2, best=0.3, seconds=1.0)
      for number in range(2)),
    *(FinalistTested(trial=0, number=number, **TESTED) for number in range(2)),
    GuessTested(largest_class="a", share=0.2, **TESTED),
    SessionEnded(reason="finished"),
]  # fmt: skip


def everything(server: Server) -> dict[str, Any]:
    """All that the server has of a search, by its parts."""
    shown = {}
    for run in server.runs.values():
        assert run["tags"]["tuner.part"] not in shown, "a part has two runs"
        values = sorted((one.key, one.step, str(one.value), one.timestamp) for one in run["metrics"])
        assert len(values) == len({value[:2] for value in values}), "a value is there twice"
        tags = {name: value for name, value in run["tags"].items() if name != "mlflow.parentRunId"}
        shown[run["tags"]["tuner.part"]] = (values, run["params"], tags, run["status"], run["name"], run["started"])
    return shown


def test_a_search_is_a_run_with_a_nested_one_for_each_trial_and_training(server) -> None:
    tracker().take(EVENTS)
    parent = next(name for name, run in server.runs.items() if run["tags"]["tuner.part"] == "search")
    children = [run for name, run in server.runs.items() if name != parent]
    assert all(run["tags"]["mlflow.parentRunId"] == parent for run in children)
    assert sorted(run["name"] for run in server.runs.values()) == [
        "finalist-00000-seed-0", "finalist-00000-seed-1", "small", "trial-00000", "trial-00001",
    ]  # fmt: skip
    trial = server.part("trial-00000")
    assert trial["params"] == {"dropout": "0.1", "augment": "none"} and trial["status"] == "FINISHED"
    assert server.steps("trial-00000") == [1, 2] and server.steps("trial-00001", "learning_rate") == [1, 2, 3]
    assert server.part("trial-00001")["status"] == "FAILED"
    assert server.part("trial-00001")["tags"]["tuner.reason"] == "it did"
    assert server.steps("finalist-00000-seed-1", "test_accuracy") == [2]
    assert server.part("search")["params"]["metric"] == "val_accuracy"
    assert {"winner_val_accuracy", "guess_test_accuracy"} <= {one.key for one in server.part("search")["metrics"]}


@pytest.mark.parametrize("first", range(1, len(EVENTS) + 1))
def test_a_search_that_was_killed_anywhere_goes_on_in_the_same_runs(first: int, server, monkeypatch) -> None:
    tracker().take(EVENTS)
    undisturbed = everything(server)
    other = Server()
    monkeypatch.setattr("mlflow.tracking.MlflowClient", lambda **_places: Client(other))
    tracker().take(EVENTS[:first])
    again = tracker()
    for start in range(0, len(EVENTS), 3):
        again.take(EVENTS[start : start + 3])
    assert everything(other) == undisturbed


@pytest.mark.parametrize("lost", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 24))
def test_a_server_that_is_lost_at_any_request_has_all_once_in_the_end(number: int, lost: str, server) -> None:
    def fail(_call: str) -> None:
        if len(server.calls) == number:
            raise gone()

    own = tracker()
    setattr(server, lost, fail)
    position = failed = 0
    while position < len(EVENTS):
        try:
            own.take(EVENTS[position : position + 4])
            position += 4
        except Unavailable as error:
            assert str(error) == "cannot be reached: Connection refused"
            position, failed = 0, failed + 1
    assert failed == 1 or number > len(server.calls)
    statuses = {part: server.part(part)["status"] for part in everything(server)}
    of_trials = {"trial-00000": "FINISHED", "trial-00001": "FAILED"}
    assert statuses == {**dict.fromkeys([*statuses], "FINISHED"), **of_trials} and len(statuses) == 5
    assert server.steps("trial-00001") == [1, 2, 3]


def test_what_ended_in_an_earlier_session_costs_no_request_of_its_own(server) -> None:
    events = make_events(30)
    tracker().take(events)
    server.calls.clear()
    tracker().take(events)
    assert len(server.calls) < 60 and "create_run" not in server.calls
    running = [run for run in server.runs.values() if run["tags"].get("tuner.status") == "running"]
    assert server.calls.count("get_metric_history") <= 10 * (1 + len(running))


@pytest.mark.parametrize("at_once", [1, 100])
def test_what_is_told_again_at_the_end_of_a_trial_is_there_once(at_once: int, server) -> None:
    events = [*EVENTS[:4], TrialMeasured(trial=0, parameters=7, model_mb=0.1), trial_ended(0, parameters=7)]
    own = tracker()
    for start in range(0, len(events), at_once):
        own.take(events[start : start + at_once])
    assert server.steps("trial-00000", "parameters") == [0] and everything(server)


def test_another_search_of_the_same_study_has_runs_of_its_own(server) -> None:
    tracker().take(EVENTS)
    tracker().take([EVENTS[0].model_copy(update={"time": 2e9}), *EVENTS[1:]])
    assert len(server.runs) == 10 and len(server.experiments) == 1


def test_an_interrupted_search_and_its_trials_wait_and_then_run_again(server) -> None:
    events = [*EVENTS[:8], SessionEnded(reason="interrupted")]
    tracker().take(events)
    assert server.part("search")["status"] == server.part("trial-00001")["status"] == "SCHEDULED"
    tracker().take([*events, session_started(resumed=True), TrialResumed(trial=1, epoch=1)])
    assert server.part("search")["status"] == server.part("trial-00001")["status"] == "RUNNING"


def of_trial(configuration: dict[str, Any], **metrics: float) -> Sequence[Event]:
    measured = epoch(0, 1, 0.1).model_copy(update={"metrics": {"val_accuracy": 0.1, **metrics}})
    return [*EVENTS[:2], trial_started(0, configuration), measured]


ODD: dict[str, dict[str, Any]] = {
    "names in other scripts": {"Größe": "日本", "层数": 3},
    "signs": {"a[0]": 1, "b=c": "x\ny", "../up": "\0", "": ""},
    "an emoji": {"🙂": "🙂"},
    "250 characters and more": {"a" * 250: 1, "a" * 251: 2, "a" * 252: 3},
    "6000 characters and more": {"a": "x" * 6000, "b": "x" * 6001, "c": "层" * 9000},
    "many": {f"parameter {number}": number for number in range(350)},
    "numbers": {"a": math.nan, "b": -math.inf, "c": 10**30, "d": True, "e": None},
}


@pytest.mark.parametrize("kind", ODD)
def test_every_configuration_is_taken_whole(kind: str, server) -> None:
    tracker().take(of_trial(ODD[kind]))
    assert len(server.part("trial-00000")["params"]) == len(ODD[kind])


def test_every_value_is_taken_whole(server) -> None:
    odd = {"nan": math.nan, "inf": math.inf, "Größe": 1.0, "a" * 300: 2.0, "a/../b": 3.0, "tiny": 1e-320}
    tracker().take(of_trial({}, **odd, **{f"metric {number}": 0.5 for number in range(1500)}))
    assert len(server.part("trial-00000")["metrics"]) == 1500 + len(odd) + 4


def test_an_older_server_gets_texts_of_500_characters(server) -> None:
    server.longest_parameter = 500
    tracker().take(of_trial({"a": "x" * 5000, "b": "y"}))
    parameters = server.part("trial-00000")["params"]
    assert len(parameters["a"]) == 500 and parameters["b"] == "y"


@pytest.mark.parametrize("code", ["INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INTERNAL_ERROR"])
def test_a_value_that_a_server_refuses_is_left_out_and_no_other(code: str, server, monkeypatch) -> None:
    taking = Client.log_batch

    def refusing(client: Client, run: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]) -> None:
        if any(one.value == "日本" for one in params):
            raise refusal("Incorrect string value", code)
        taking(client, run, metrics, params, tags)

    monkeypatch.setattr(Client, "log_batch", refusing)
    with pytest.raises(Refused, match=r"Größe: .*Incorrect string value") as caught:
        tracker().take(of_trial({"Größe": "日本", "b": "y"}))
    assert caught.value.number == 1
    assert server.part("trial-00000")["params"] == {"b": "y"} and server.steps("trial-00000") == [1]


def test_a_server_that_refuses_everything_is_one_that_cannot_be_reached(server) -> None:
    def ill(call: str) -> None:
        if call in ("log_batch", "set_tag"):
            raise refusal("database is read only", "INTERNAL_ERROR")

    server.before = ill
    with pytest.raises(Unavailable, match="database is read only"):
        tracker().take(EVENTS)
    assert len(server.calls) < 20


@pytest.mark.parametrize("next_events", [EVENTS[8:], EVENTS[8:9], EVENTS[10:11]])  # with its end, a status, a value
def test_a_run_that_is_deleted_there_meanwhile_is_begun_again(next_events, server) -> None:
    own = tracker()
    own.take(EVENTS[:8])
    server.part("trial-00001")["is_active"] = False
    with pytest.raises(Unavailable, match="a run has been deleted there"):
        own.take(next_events)
    own.take(EVENTS)
    assert server.steps("trial-00001") == [1, 2, 3]


def test_a_deleted_experiment_is_said_with_the_way_on(server) -> None:
    tracker().take(EVENTS)
    server.deleted_experiments.add("cifar100")
    with pytest.raises(Unavailable, match="'cifar100' has been deleted there: restore it, or name another"):
        tracker().take(EVENTS)


def test_the_variables_of_mlflow_name_the_experiment_and_who_asks(server, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other")
    MlflowTracker("http://me:se%40cret@host", Path("runs/small")).take(EVENTS)
    assert list(server.experiments) == ["ours"]
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("me", "se@cret")


def test_what_a_population_changes_is_a_value_since_parameters_stay(server) -> None:
    changed = ConfigurationChanged(trial=0, epoch=2, configuration={"dropout": 0.9, "augment": "flip"})
    tracker().take([*EVENTS[:5], changed])
    trial = server.part("trial-00000")
    assert trial["params"]["dropout"] == "0.1" and server.steps("trial-00000", "hyperparameter.dropout") == [2]
    assert json.loads(trial["tags"]["tuner.configuration"])["augment"] == "flip"


def test_a_search_that_never_began_has_nothing_to_keep(server, tmp_path) -> None:
    tracker().keep({"specification.yaml": tmp_path / "specification.yaml"})
    assert not server.calls


def test_files_are_artifacts_of_the_search(server, tmp_path) -> None:
    own = tracker()
    own.take(EVENTS)
    own.keep({"model/best.keras": tmp_path / "best.keras", "specification.yaml": tmp_path / "specification.yaml"})
    assert server.part("search")["artifacts"] == ["model/best.keras", "None/specification.yaml"]


# --- the client itself, without a server or with one that is none ---


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/dies"):
            return  # without an answer
        if self.path.startswith("/torn"):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            return
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()
        self.wfile.write(b"<html>no MLflow\nat all")

    do_POST = do_GET

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def others() -> Iterator[dict[str, str]]:
    """Addresses of what is there and is no MLflow."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as web, socket.create_server(("127.0.0.1", 0)) as silent:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            free = taken.getsockname()[1]
        yield {
            "nothing": f"http://127.0.0.1:{free}",
            "silence": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "no host": "http://not.there.invalid:5000",
            "no encryption": f"https://127.0.0.1:{web.server_port}",
            "an end without an answer": f"http://127.0.0.1:{web.server_port}/dies",
            "an end within an answer": f"http://127.0.0.1:{web.server_port}/torn",
            **{str(status): f"http://127.0.0.1:{web.server_port}/{status}" for status in STATUSES},
        }
        web.shutdown()


STATUSES = (200, 401, 403, 404, 429, 500, 502, 503)
SAID = {
    "nothing": "cannot be reached: Connection refused",
    "silence": "does not answer within 1 s",
    "no host": "cannot be reached: ",
    "an end without an answer": "cannot be reached: Remote end closed connection without response",
    "an end within an answer": "cannot be reached: IncompleteRead",
    "no encryption": "cannot be reached: [SSL",
    "200": "answers, but not as an MLflow does",
    "401": "answers with error 401: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ",
    "403": "answers with error 403: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or ",
    "404": "answers with error 404: is this the address of an MLflow?",
    "429": "answers with error 429",
    "500": "answers with error 500",
    "502": "answers with error 502",
    "503": "answers with error 503",
}


@pytest.mark.parametrize("kind", SAID)
def test_what_is_there_and_is_no_mlflow_is_said_in_a_few_words(kind: str, others, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable) as caught:
        MlflowTracker(others[kind], Path("runs/small")).take(EVENTS)
    assert str(caught.value).startswith(SAID[kind]) and len(str(caught.value)) < 150
