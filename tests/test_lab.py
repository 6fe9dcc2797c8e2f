"""A cluster of three hosts for real, by `ray up cluster/on_premise.yaml`; searches on it; what happens when parts of it die.

    TUNER_LAB=FOLDER python -m pytest tests/test_lab.py        FOLDER holds the script `hosts`; needs root; about 12 minutes
"""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import HEAD, Lab, missing, wait_for

from tuner.record import read_events, read_state

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

HOSTS = ("h0", "h1", "h2")
SEARCH_S = 400


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def cluster(lab: Lab) -> Lab:
    lab.ray_up()
    return lab


def search_command(lab: Lab, address: str = "auto", **settings: object) -> str:
    """A search on digits whose trials take long enough to be interrupted."""
    chosen = {"search.trials": 4, "search.scheduler": "none", "finalists.count": 0, **settings}
    words = [f"--set {shlex.quote(f'{name}={value}')}" for name, value in chosen.items()]
    folders = f"--runs {lab.shared}/runs --reports {lab.shared}/reports --cache /root/cache"
    return (
        f"cd ~/tuner && TF_CPP_MIN_LOG_LEVEL=3 python -m tuner.search search_spaces/digits.yaml --address {address} "
        f"{folders} {' '.join(words)}"
    )


LONG = {"training.max_epochs": 120, "training.early_stopping": "null", "search.time_budget": "null", "search.sampler": "random"}


def record(lab: Lab) -> Path:
    return lab.shared / "runs" / "digits" / "record.jsonl"


def epochs(lab: Lab) -> Counter[tuple[int, int]]:
    """How often each epoch of each trial was reported."""
    if not record(lab).exists():
        return Counter()
    return Counter((event.trial, event.epoch) for event in read_events(record(lab)) if event.kind == "epoch_reported")


def test_ray_up_makes_a_cluster_a_search_uses_both_workers_and_ray_down_leaves_nothing(cluster: Lab) -> None:
    said = cluster.ray("exec", str(cluster.file), search_command(cluster, **{"finalists.count": 1, "finalists.seeds": 1}))
    assert "4 trials, 2 at a time with 1 CPU each" in said
    assert "won: trial" in said and "best.keras" in said
    assert read_state(record(cluster)).session_ended.reason == "finished"
    for host in ("h1", "h2"):  # what a node trains on, it has prepared in its own cache
        assert list((cluster.base / host / "root" / "cache" / "datasets").iterdir())
        assert stat.S_IMODE((cluster.base / host / "root" / ".ray" / "auth_token").stat().st_mode) == 0o600
    assert not list((cluster.shared / "runs" / "digits").glob(".seen*"))
    cluster.control("python", "cluster/down.py", str(cluster.file))
    assert [cluster.programs(host) for host in HOSTS] == [[], [], []]
