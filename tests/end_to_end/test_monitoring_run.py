"""A real search with `--dashboard`: what its agent exports, what a real Prometheus makes of the dashboard's queries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from tests.support import ROOT, needs
from tests.support.make_cluster import free_ports
from tests.support.make_search import run_search, write_file
from tests.support.monitoring_files import MONITORING, dashboard_queries, exported_name, selectors
from tests.support.processes import command_of, listening_addresses, started_by
from tuner.execution.metrics_export import METRICS
from tuner.runs.record import read_state

SECONDS = 600.0
SPACE = """
study: watched
data: {source: digits, max_train_images: 240, max_validation_images: 80}
space:
  preprocess: "resize(32)|scale(-1,1)"
  dropout: {float: [0.0, 0.5]}
  architecture:
    choose:
      mobilenet_v2: {alpha: 0.35, weights: none, unfreeze_depth: 0, learning_rate: 0.001}
      dense: {learning_rate: 10.0, optimizer: sgd, hidden_layers: 3, dense_units: 512}
training: {max_epochs: 40, early_stopping: null}
search: {trials: 3, max_concurrent: 2, sampler: random, scheduler: none}
finalists: {count: 1, seeds: 50}
"""


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A search of which trials fail (a learning rate of 10) and a worker dies; and its folder."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "watched.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "tuner.search", "watched.yaml", "--dashboard", "--cache", str(folder / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process, folder
    finally:
        for _ in range(2):
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                time.sleep(3)
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def discovery(search: tuple[subprocess.Popen[bytes], Path]) -> Path:
    """The file in which Ray's dashboard tells Prometheus where the search's metrics are."""
    process, folder = search
    place = Path(tempfile.gettempdir()) / "ray"

    def found() -> list[Path]:
        return list(place.glob(f"session_*_{process.pid}/prom_metrics_service_discovery.json"))

    wait_for(lambda: bool(found()), process, folder)
    return found()[0]


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(1)


def kill_a_worker(process: subprocess.Popen[bytes]) -> None:
    """As if its memory had run out: one that trains at this moment, if there is one."""
    trainers = [child for child in started_by(process.pid) if "TrialActor.train" in "".join(command_of(child)[:1])]
    for one in trainers[:1]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def scraped(discovery: Path) -> dict[str, list[dict[str, str]]]:
    """The labels of all series of all of Ray's processes, by name."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[dict[str, str]]] = {}
    for target in json.loads(discovery.read_text())[0]["targets"]:
        try:
            with urllib.request.urlopen(f"http://{target}/metrics", timeout=60) as answer:
                text = answer.read().decode()
        except OSError:  # two ports are the same for every Ray of a machine: another one may just have ended
            continue
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(sample.labels)
    return found


@pytest.mark.full
def test_a_search_exports_every_metric_with_its_labels_and_opens_no_port_to_others(search, discovery) -> None:
    process, folder = search
    record = folder / "runs" / "watched" / "record.jsonl"
    wait_for(lambda: record.exists() and any(len(trial.epochs) > 1 for trial in read_state(record).trials.values()),
             process, folder)  # fmt: skip

    def has_lost_a_worker() -> bool:
        if any(trial.resumed for trial in read_state(record).trials.values()):
            return True
        kill_a_worker(process)
        return False

    wait_for(has_lost_a_worker, process, folder)
    listening = listening_addresses(process.pid)
    assert len(listening) > 5 and set(listening) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    names = {exported_name(name): {"study", *metric.labels} for name, metric in METRICS.items()}
    found: dict[str, list[dict[str, str]]] = {}

    def is_complete() -> bool:
        found.clear()
        found.update(scraped(discovery))
        return names.keys() <= found.keys()

    wait_for(is_complete, process, folder)  # what is looked at is what was complete: a later look may lack something
    for name, labels in names.items():
        assert all(labels <= set(series) for series in found[name])
        assert {series["study"] for series in found[name]} == {"watched"}
    assert {series["reason"] for series in found["ray_tuner_failures_total"]} <= {"not a number", "loss exploded"}
    # gauges that were set once, when the session began, minutes ago
    assert {series["status"] for series in found["ray_tuner_trials"]} >= {"running", "failed", "paused"}


@pytest.mark.full
def test_prometheus_finds_the_search_and_answers_every_query_of_the_dashboard(search, discovery, tmp_path) -> None:
    process, folder = search
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "2s"
    (job,) = config["scrape_configs"]
    job["file_sd_configs"][0]["files"] = [str(discovery)]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    program = needs.program("prometheus")
    command = [program, f"--config.file={tmp_path / 'prometheus.yml'}", f"--web.listen-address={address}",
               f"--storage.tsdb.path={tmp_path / 'data'}"]  # fmt: skip
    prometheus = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        has_gpu = "ray_node_gpus_utilization" in scraped(discovery)
        queries = [query for query in dashboard_queries() if "gpus" not in query or has_gpu]
        wait_for(lambda: all(answer(address, query) for query in queries), process, folder)
        names = {name for query in dashboard_queries() for name, _ in selectors(query)}
        kept = {series["metric"]["__name__"] for series in answer(address, '{__name__=~"ray_.+"}')}
        assert all(name.startswith(("ray_tuner_", "ray_node_")) for name in kept)
        assert names - kept <= {"ray_node_gpus_utilization"}
    finally:
        prometheus.terminate()
        prometheus.wait()


def answer(address: str, query: str) -> list[dict[str, dict[str, str]]]:
    """The series that a query gives; empty while Prometheus has none, or is not there yet."""
    try:
        with urllib.request.urlopen(f"http://{address}/api/v1/query?query={urllib.parse.quote(query)}") as said:
            return list(json.load(said)["data"]["result"])
    except urllib.error.HTTPError as error:
        if error.code == 503:  # it has just begun to listen
            return []
        pytest.fail(f"{query}: {error.read().decode()}")
    except urllib.error.URLError:
        return []


def test_a_dashboard_that_is_not_installed_is_refused_before_anything_starts(
    tmp_path, cache_dir, capsys, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray.dashboard.optional_deps", None)  # as if it were not
    assert run_search(tmp_path, write_file(tmp_path), cache_dir, "--dashboard") == 2
    said = capsys.readouterr().err
    assert (
        "--dashboard needs libraries that are not installed" in said and "pip install --editable '.[cluster]'" in said
    )
    assert not (tmp_path / "runs" / "small" / "record.jsonl").exists()
