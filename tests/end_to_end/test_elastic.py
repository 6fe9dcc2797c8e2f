"""A search on a cluster whose nodes come and go: real Ray nodes on this machine, real Keras, small images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.test_search_resumed import start_search, wait_for_epochs
from tests.support.make_cluster import end_node, head
from tests.support.make_search import check_record, write_file
from tuner.runs.record import read_state
from tuner.runs.state import RunState


def wait_for(record: Path, holds: Callable[[RunState], bool], timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds(state := read_state(record)):
        assert time.monotonic() < deadline, (state.notices, list(state.trials.values()))
        time.sleep(0.5)


# Trials take longer than a worker takes to load its libraries: Ray gives the next one to the first worker that is free,
# and then no longer wants the one that is being started.
@pytest.mark.full
def test_a_search_uses_a_node_that_joins_and_survives_losing_it(tmp_path, cache_dir, monkeypatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    file = write_file(tmp_path, trials=2)
    record = tmp_path / "runs" / "small" / "record.jsonl"
    settings = (
        "search.max_concurrent=auto",
        "training.max_epochs=250",
        "training.early_stopping=null",
        "data.max_train_images=1400",
    )
    more = [word for setting in settings for word in ("--set", setting)]
    with head(cpus=0, dashboard=False) as cluster:
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token))
        cluster.add_node(cpus=1)
        search = start_search(tmp_path, file, cache_dir, "--address", cluster.address, *more)
        wait_for_epochs(record, 3)
        second = cluster.add_node(cpus=1)
        wait_for(record, lambda state: "2 at a time now, 1 before: 2 nodes with CPUs" in state.notices)
        wait_for(record, lambda state: sum(bool(trial.epochs) for trial in state.with_status("running")) == 2)
        end_node(second)
        wait_for(record, lambda state: "1 at a time now, 2 before: 1 node with CPUs" in state.notices)
        output, _ = search.communicate(timeout=1200)
    assert search.returncode == 0, output
    state = check_record(record)
    assert len(state.trials) == 2 and all(len(trial.epochs) == 250 for trial in state.trials.values())
    assert sum(trial.resumed for trial in state.trials.values()) == 1, "the one that was lost went on elsewhere"
