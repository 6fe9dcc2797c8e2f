"""A new epoch metric is one entry: a trial measures it; record, tables, console, leaderboard and figures have it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.make_record import DATA
from tests.support.wrong_files import wrong
from tuner.common.locations import Location
from tuner.common.metrics import METRICS, Metric, epoch_values, is_better, metric_of
from tuner.datasets.request import DataRequest
from tuner.execution._recorder import Recorder
from tuner.execution.lost_workers import HangWatch, LostWorkers
from tuner.execution.searcher import trial_config
from tuner.execution.trial_actor import TrialActor
from tuner.execution.worker_process import WorkerContext
from tuner.reports._leaderboard import leaderboard_markdown
from tuner.reports.console import describe_end
from tuner.reports.figures.curves import build_learning_curves, describe_learning_curves
from tuner.reports.formatting import capital, format_value
from tuner.reports.results import build_results
from tuner.reports.tables import describe_schema, epochs_table, trials_table
from tuner.runs.events import StudyCreated, TrialEnded
from tuner.runs.record import Record, read_state
from tuner.runs.state import RunState
from tuner.spec.spec import read_spec, require
from tuner.training.settings import TrialSettings

OF_KERAS = Metric("max", "accuracy of the best five", "share", keras="top_k_categorical_accuracy")
ASKED = Metric(
    "min", "greatest doubt", measure=lambda labels, probabilities: float(1 - probabilities.max(axis=1).min())
)
CONFIGURATION = {"architecture": "dense", "dense_units": 8, "hidden_layers": 1, "batch_size": 30, "learning_rate": 0.01}


@pytest.fixture(scope="module", params=[OF_KERAS, ASKED], ids=["measured by Keras", "of predictions"])
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    METRICS.add("new", request.param)
    yield "val_new"
    del METRICS._values["new"]


@pytest.fixture(scope="module")
def told(name: str, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What a worker says of a small trial, from its first step to its end."""
    actor = TrialActor.__new__(TrialActor)
    actor._trial_info, actor._logdir = None, str(tmp_path_factory.mktemp("trial"))
    actor.config = trial_config(0, CONFIGURATION, "baseline")
    request = DataRequest("digits", max_train_images=60, max_validation_images=30)
    settings = TrialSettings(3, 0, None, 0.0, name, metric_of(name).mode, 1)
    actor.setup(actor.config, context=WorkerContext(request, {}, cache_dir, settings, None, 1.0))
    found = [dict(actor.step())]
    while not found[-1]["done"]:
        found.append(dict(actor.step()))
    return found


@pytest.fixture(scope="module")
def state(name: str, told: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> RunState:
    """The state of the record that the driver writes of it, read again from its file."""
    folder = tmp_path_factory.mktemp("run")
    record = Record(folder / "record.jsonl")
    study = {"study": "digits", "metric": name, "mode": metric_of(name).mode, "metrics": [name, "val_loss"], "seed": 1}
    rest: dict[str, Any] = {"specification": {}, "data": DATA, "environment": {}, "command": ["search"]}
    record.append(StudyCreated(max_epochs=3, **study, **rest))
    lost_workers = LostWorkers(None, HangWatch(None, 0))
    recorder = Recorder(record, Location(str(folder)), None, lambda *_: None, lost_workers, lambda _: None)
    trial = SimpleNamespace(trial_id="a", config=trial_config(0, CONFIGURATION, "baseline"), last_result={})
    recorder.on_trial_start(0, [], trial)
    for result in told:
        recorder.on_trial_result(0, [], trial, result)
    record.close()
    return read_state(record.path)


def test_a_trial_measures_it_and_is_steered_by_it(told, name):
    shown = [result["shown"] for result in told]
    assert [tuple(epoch.metrics) for epoch in shown] == [epoch_values([name])] * 3
    values = [epoch.metrics[name] for epoch in shown]
    assert all(0 < value <= 1 for value in values) and len(set(values)) > 1
    assert ("new" in shown[0].metrics) is (metric_of(name) is OF_KERAS)
    assert [epoch.best_so_far for epoch in shown] == [told[index]["best_so_far"] for index in range(3)]
    assert not any(is_better(value, shown[-1].best_so_far, metric_of(name).mode) for value in values)


def test_the_record_has_it(told, state):
    recorded = [epoch.metrics for epoch in state.trials[0].epochs]
    assert recorded == [dict(result["shown"].metrics) for result in told]


def test_the_tables_and_their_page_have_its_columns(state, name):
    results = build_results(state)
    values = [epoch.metrics[name] for epoch in state.trials[0].epochs]
    best = results.winner.best
    assert epochs_table(results).column(name).to_pylist() == values
    (row,) = trials_table(results).to_pylist()
    assert (row["best"], row[f"best_epoch_{name}"], row[f"last_{name}"]) == (best, best, values[-1])
    assert f"| `{name}` | double | {_words(name)}" in describe_schema()


def _words(name: str) -> str:
    return f"validation {metric_of(name).words}"


def test_the_console_the_leaderboard_and_the_figure_have_it(state, name):
    results = build_results(state)
    best, shown = results.winner.best, format_value(name, results.winner.best)
    ended = state.trials[0].ended
    assert isinstance(ended, TrialEnded)
    assert f"{name} {best:.4f} after 3 epochs" in describe_end(state, ended)
    page = leaderboard_markdown(results)
    assert f"with {name} {shown}" in page and f"{_words(name)} {shown}" in page
    curves = build_learning_curves(results)
    assert [row.value for row in curves.epochs] == [epoch.metrics[name] for epoch in state.trials[0].epochs]
    assert describe_learning_curves(curves).startswith(f"{capital(_words(name))} by epoch")


def test_a_search_can_be_for_it(name):
    spec = require(read_spec(wrong({3: f"metric: {name}"})))
    assert (spec.metric, spec.mode) == (name, metric_of(name).mode)
