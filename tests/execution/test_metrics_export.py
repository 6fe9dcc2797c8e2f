"""What a search exports as metrics, and that the Grafana dashboard asks for nothing else. No Ray is started here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from tests.support.make_record import epoch, study_created, trial_ended, trial_started
from tests.support.monitoring_files import MONITORING, dashboard_queries, exported_name, selectors
from tuner.execution.metrics_export import METRICS, Monitor, failure_kind
from tuner.runs.events import FinalistsStarted, FinalistTrained, SessionStarted, Status, TrialPaused, TrialResumed
from tuner.runs.record import Record
from tuner.training.activation_store import CacheUse
from tuner.training.activations import Activations

STUDY = {"study": "cifar100"}


class Values(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """Takes in metrics as Ray does: gauges are set, counters are added to."""

    def __call__(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        key = name, frozenset(labels.items())
        assert set(labels) == {"study", *METRICS[name].labels}
        self[key] = value if METRICS[name].kind == "gauge" else self.get(key, 0) + value

    def of(self, name: str, **labels: str) -> float | None:
        return self.get((name, frozenset({**STUDY, **labels}.items())))


@pytest.fixture
def record(tmp_path: Path) -> Record:
    made = Record(tmp_path / "record.jsonl")
    made.append(study_created())
    return made


def started(slots: int) -> SessionStarted:
    return SessionStarted(resumed=False, max_concurrent=slots, sampler="gp", scheduler="asha")


def test_trials_are_counted_by_status_and_those_that_run_take_slots(record) -> None:
    values = Values()
    Monitor(record, 10, values)
    assert [values.of("tuner_trials", status=status) for status in get_args(Status)] == [0] * 5
    assert values.of("tuner_trials_planned") == 10
    for event in (started(4), trial_started(0), trial_started(1), trial_started(2), TrialPaused(trial=0, epoch=1),
                  trial_ended(1), trial_ended(2, "failed", "out of memory: no")):  # fmt: skip
        record.append(event)
    found = {status: values.of("tuner_trials", status=status) for status in get_args(Status)}
    assert found == {"running": 0, "paused": 1, "completed": 1, "stopped": 0, "failed": 1}
    assert (values.of("tuner_slots"), values.of("tuner_slots_busy")) == (4, 0)
    record.append(TrialResumed(trial=0, epoch=1))
    assert (values.of("tuner_slots_busy"), values.of("tuner_resumed")) == (1, None)  # a promotion is no loss
    record.append(TrialResumed(trial=0, epoch=1))
    assert (values.of("tuner_slots_busy"), values.of("tuner_resumed")) == (1, 1)


def test_the_slots_are_those_of_the_cluster_as_it_is_now(record) -> None:
    values = Values()
    monitor = Monitor(record, 10, values)
    record.append(started(4))
    monitor.show_slots(6)
    assert values.of("tuner_slots") == 6


def test_epochs_and_images_are_counted_and_an_epoch_trained_again_is_not(record) -> None:
    values = Values()
    Monitor(record, 1, values)
    for event in (trial_started(0), epoch(0, 1, 0.1), epoch(0, 2, 0.2), epoch(0, 2, 0.2)):
        record.append(event)
    assert (values.of("tuner_epochs"), values.of("tuner_images")) == (2, 2 * 45_000)


def test_the_best_value_is_that_of_a_trial_that_did_not_fail(record) -> None:
    values = Values()
    Monitor(record, 2, values)
    for event in (trial_started(0), epoch(0, 1, 0.3), trial_started(1), epoch(1, 1, 0.5), epoch(0, 2, 0.2, best=0.3)):
        record.append(event)
    assert values.of("tuner_best_metric", metric="val_accuracy") == 0.5
    record.append(trial_ended(1, "failed", "not a number: loss at epoch 2"))
    assert values.of("tuner_best_metric", metric="val_accuracy") == 0.3
    assert values.of("tuner_failures", reason="not a number") == 1


def test_the_best_loss_is_the_lowest(tmp_path) -> None:
    record, values = Record(tmp_path / "record.jsonl"), Values()
    record.append(study_created(metric="val_loss"))
    Monitor(record, 2, values)
    for event in (trial_started(0), epoch(0, 1, 0.3, best=0.9), epoch(0, 2, 0.3, best=0.7)):
        record.append(event)
    assert values.of("tuner_best_metric", metric="val_loss") == 0.7


def test_a_session_that_goes_on_shows_what_the_earlier_ones_found(record) -> None:
    for event in (started(2), trial_started(0), epoch(0, 1, 0.4), trial_ended(0), trial_started(1)):
        record.append(event)
    values = Values()
    Monitor(record, 5, values)
    assert values.of("tuner_best_metric", metric="val_accuracy") == 0.4
    assert (values.of("tuner_trials", status="completed"), values.of("tuner_trials", status="running")) == (1, 1)
    assert values.of("tuner_epochs") is None  # counters are those of a session


def test_trainings_of_finalists_are_counted(record) -> None:
    values = Values()
    Monitor(record, 1, values)
    trained: dict[str, Any] = {"reason": "max_epochs", "epochs": 3, "best": 0.5, "seconds": 9}
    for event in (trial_started(0), FinalistsStarted(trials=[0], trainings=3),
                  FinalistTrained(trial=0, number=0, status="completed", **trained),
                  FinalistTrained(trial=0, number=1, status="completed", **trained),
                  FinalistTrained(trial=0, number=2, status="failed", **trained)):  # fmt: skip
        record.append(event)
    assert trainings_of_finalists(values) == {"planned": 3, "completed": 2, "failed": 1}
    later = Values()
    Monitor(record, 1, later)
    assert trainings_of_finalists(later) == {"planned": 3, "completed": 2, "failed": 1}
    record.append(FinalistTrained(trial=0, number=2, status="completed", **trained))  # it was cut, and goes on
    assert trainings_of_finalists(later) == {"planned": 3, "completed": 3, "failed": 0}
    record.append(trial_started(1))
    record.append(FinalistsStarted(trials=[1], trainings=2))
    assert trainings_of_finalists(later) == {"planned": 2, "completed": 0, "failed": 0}


def trainings_of_finalists(values: Values) -> dict[str, float | None]:
    statuses = ("planned", "completed", "failed")
    return {status: values.of("tuner_finalist_trainings", status=status) for status in statuses}


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("out of memory: failed to allocate 3 GiB", "out of memory"),
        ("not a number: loss at epoch 3", "not a number"),
        ("loss exploded: loss is inf at epoch 1", "loss exploded"),
        ("hung: no epoch for 80 s", "hung"),
        ("worker lost: the node was removed", "worker lost"),
        ("ValueError: out of memory is not meant", "error"),
        ("", "error"),
    ],
)
def test_failures_are_of_a_few_kinds_whatever_their_text(reason, kind) -> None:
    assert failure_kind(reason) == kind


def test_what_workers_read_of_the_cache_is_added_up_by_node(record) -> None:
    values = Values()
    monitor = Monitor(record, 1, values)
    for node, read in (("10.0.0.1", CacheUse(0, 2, 700)), ("10.0.0.1", CacheUse(2, 0, None)), ("10.0.0.2", None)):
        result = {"node_ip": node, "cache": None if read is None else vars(read)}
        monitor.on_trial_result(0, [], None, result)
    first = {name: values.of(f"tuner_cache_{name}", node="10.0.0.1") for name in ("hits", "misses", "bytes")}
    assert first == {"hits": 2, "misses": 2, "bytes": 700}
    assert not [key for key in values if ("node", "10.0.0.2") in key[1]]


# --- the files ---


def test_every_query_asks_for_metrics_and_labels_that_are_exported_and_every_metric_is_shown() -> None:
    known = {exported_name(name): {"study", *metric.labels} for name, metric in METRICS.items()}
    node = {"ip", "GpuIndex", "GpuDeviceName"}  # beside other labels: those that Ray gives to what it says of a node
    known |= {"ray_node_cpu_utilization": node, "ray_node_gpus_utilization": node}
    asked = set()
    for query in dashboard_queries():
        for name, labels in selectors(query):
            assert labels <= known[name], query
            asked.add(name)
        names = {name for name, _ in selectors(query)}
        for group in re.findall(r"by \(([^)]*)\)", query):
            assert set(re.split(r",\s*", group)) <= set.union(*(known[name] for name in names)), query
    assert asked == set(known)


def test_a_query_is_read_down_to_its_labels() -> None:
    query = 'sum by (a) (rate(one_total{x=~"y", z!="{"}[1m])) / max(two) + three{}'
    assert list(selectors(query)) == [("one_total", {"x", "z"}), ("two", set()), ("three", set())]


def test_grafana_s_datasource_is_the_prometheus_of_the_configuration_and_the_board_is_provisioned() -> None:
    source = yaml.safe_load((MONITORING / "provisioning" / "datasources" / "prometheus.yml").read_text())
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    assert source["datasources"][0]["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    said = (MONITORING / "prometheus.yml").read_text()
    assert source["datasources"][0]["url"].removeprefix("http://") in said
    boards = yaml.safe_load((MONITORING / "provisioning" / "dashboards" / "tuner.yml").read_text())
    variable = boards["providers"][0]["options"]["path"]
    assert f"{variable.removeprefix('$')}=$PWD/cluster/monitoring" in (MONITORING / "README.md").read_text()


def test_prometheus_on_kubernetes_is_let_in_to_the_ports_that_it_reads() -> None:
    monitor, policy = yaml.safe_load_all((MONITORING / "podmonitor.yaml").read_text())
    assert monitor["spec"]["selector"] == policy["spec"]["podSelector"]
    (port,) = policy["spec"]["ingress"][0]["ports"]
    assert port["port"] == 8080 and monitor["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    kept = [endpoint["metricRelabelings"][0]["regex"] for endpoint in monitor["spec"]["podMetricsEndpoints"]]
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    kept.append(config["scrape_configs"][0]["metric_relabel_configs"][0]["regex"])
    for query in dashboard_queries():
        for name, _ in selectors(query):
            assert all(re.fullmatch(expression, name) for expression in kept)


def test_nothing_read_is_said_once_and_the_size_only_when_it_may_have_changed(few_digits, tmp_path) -> None:
    from tests.support.cached_training import MOBILENET, SETTINGS, settings_for
    from tuner.training.trial import Trial

    said: list[str] = []
    activations = Activations(few_digits, settings_for(tmp_path), said.append)
    assert activations.taken_use() is None
    configuration = {**MOBILENET, "unfreeze_depth": 0}
    Trial(configuration, few_digits, SETTINGS, activations).advance()
    first = activations.taken_use()
    assert first is not None and (first.hits, first.misses) == (0, 1)
    files = [path.stat().st_blocks * 512 for path in (tmp_path / "activations").rglob("*/*") if path.is_file()]
    assert first.size_bytes == sum(files) > 0
    assert activations.taken_use() is None
    Trial({**configuration, "dropout": 0.5}, few_digits, SETTINGS, activations).advance()
    assert activations.taken_use() == CacheUse(1, 0, None)
