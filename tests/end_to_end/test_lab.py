"""A cluster of three hosts, by `ray up cluster/on_premise.yaml`; searches on it; what happens when parts of it die.

TUNER_LAB=FOLDER TUNER_LAB_FULL=1 python -m pytest tests/end_to_end/test_lab.py -s

FOLDER holds the script `hosts`; needs root; a quarter of an hour. Without TUNER_LAB_FULL: a cluster and a search
on it, two minutes.
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support import needs
from tests.support.lab import HEAD, ROOT, Lab, missing, wait_for
from tuner.runs.events import CheckpointSaved, EpochReported, TrialEnded, TrialResumed, TrialStarted
from tuner.runs.record import read_events, read_state
from tuner.runs.state import RunState

pytestmark = pytest.mark.full

IN_FULL = pytest.mark.usefixtures("in_full")
HOSTS = ("h0", "h1", "h2")
SEARCH_S = 400
Leaderboard = list[tuple[int, float | None, dict[str, Any]]]


@pytest.fixture
def lab() -> Iterator[Lab]:
    needs.at_hand(missing())
    made = Lab()
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def in_full() -> None:
    needs.at_hand(None if os.environ.get("TUNER_LAB_FULL") else "TUNER_LAB_FULL=1 asks for this, too: minutes more")


@pytest.fixture
def cluster(lab: Lab) -> Lab:
    lab.ray_up()
    return lab


def search_command(lab: Lab, address: str = "auto", file: str = "search_spaces/digits.yaml", **settings: object) -> str:
    """A search on digits whose trials take long enough to be interrupted."""
    folders = f"--runs {lab.shared}/runs --reports {lab.shared}/reports --cache /root/cache"
    return (
        f"cd ~/tuner && TF_CPP_MIN_LOG_LEVEL=3 python -m tuner.search {file} --address {address} "
        f"{folders} {shlex.join(overrides(settings))}"
    )


def overrides(settings: Mapping[str, object]) -> list[str]:
    """What makes of the search on digits a small one, and these."""
    chosen = {"search.trials": 4, "search.scheduler": "none", "finalists.count": 0, **settings}
    return [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]


def record(lab: Lab) -> Path:
    return lab.shared / "runs" / "digits" / "record.jsonl"


def events(lab: Lab, kind: type) -> list[Any]:
    return [event for event in read_events(record(lab)) if isinstance(event, kind)] if record(lab).exists() else []


def reported(lab: Lab) -> Counter[tuple[int, int]]:
    """How often each epoch of each trial was reported."""
    return Counter((event.trial, event.epoch) for event in events(lab, EpochReported))


def test_ray_up_makes_a_cluster_a_search_uses_both_workers_and_ray_down_leaves_nothing(cluster: Lab) -> None:
    said = cluster.ray(
        "exec", str(cluster.file), search_command(cluster, **{"finalists.count": 1, "finalists.seeds": 1})
    )
    assert "4 trials, 2 at a time with 1 CPU each" in said
    assert "won: trial" in said and "best.keras" in said
    assert read_state(record(cluster)).session_ended.reason == "finished"
    for host in ("h1", "h2"):  # what a node trains on, it has prepared in its own cache
        assert list((cluster.base / host / "root" / "cache" / "datasets").iterdir())
        assert stat.S_IMODE((cluster.base / host / "root" / ".ray" / "auth_token").stat().st_mode) == 0o600
    assert not list((cluster.shared / "runs" / "digits").glob(".seen*"))
    cluster.control("python", "cluster/down.py", str(cluster.file))
    wait_for(lambda: not any(cluster.programs(host) for host in HOSTS), 30, "end of Ray's programs")


OWN_CODE = """
import keras
import tuner

class Doubled(keras.layers.Layer):
    def call(self, images):
        return 2.0 * images

@tuner.architecture(parameters={"width": tuner.Int(4, 16, default=8)}, minimum_px=4)
def own_net(images, width):
    x = keras.layers.Conv2D(width, 3, activation="relu")(Doubled()(images))
    return keras.layers.GlobalAveragePooling2D()(x)
"""
OWN_SPACE = """
study: digits
data: {source: digits, validation_fraction: 0.2}
space: {preprocess: "scale(0,1)", learning_rate: 0.003, architecture: {choose: {own_net: {width: {int: [4, 16]}}}}}
training: {max_epochs: 4}
"""


@IN_FULL
def test_own_code_that_only_the_head_has_travels_to_every_node(cluster: Lab) -> None:
    home = cluster.base / "h0" / "root"
    (home / "own_code.py").write_text(OWN_CODE)
    (home / "own_space.yaml").write_text(OWN_SPACE)
    command = search_command(cluster, file="~/own_space.yaml --plugin ~/own_code.py", **{"finalists.count": 1})
    said = cluster.ray("exec", str(cluster.file), command)
    assert "4 trials, 2 at a time with 1 CPU each" in said
    assert "won: trial" in said and "best.keras" in said
    assert {event.status for event in events(cluster, TrialEnded)} == {"completed"}
    for host in ("h1", "h2"):  # both trained, and neither has the file
        assert list((cluster.base / host / "root" / "cache" / "datasets").iterdir())
        assert not (cluster.base / host / "root" / "own_code.py").exists()


@IN_FULL
def test_a_caller_without_the_token_is_told_so_and_gets_nowhere(cluster: Lab) -> None:
    stranger = "RAY_AUTH_TOKEN=another-token-of-sixteen-letters"
    said = cluster.on("h1", f"export {stranger}; {search_command(cluster, f'{HEAD}:6379')}; echo exit $?")
    assert f"--address {HEAD}:6379: the cluster does not accept the token of this machine" in said
    assert said.rstrip().endswith("exit 2")
    read = f"python -c \"import urllib.request as u; print(u.urlopen('http://{HEAD}:PORT/PATH', timeout=9).status)\""
    assert "401" in cluster.on("h1", read.replace("PORT/PATH", "8078/get_runtime_envs_info"), check=False)
    assert "refused" in cluster.on("h1", read.replace("PORT/PATH", "8265/"), check=False)
    assert not record(cluster).exists()


@IN_FULL
def test_with_certificates_the_cluster_speaks_tls_and_a_search_runs(lab: Lab) -> None:
    lab.write_cluster_file(tls=True)
    lab.ray_up()
    assert "3 local" in lab.on("h0", "ray status") and "RAY_USE_TLS=1" in lab.on("h1", "env")
    verify = f"openssl s_client -connect {HEAD}:6379 -CAfile ~/.ray/tls/ca.crt -verify_ip {HEAD} -verify_return_error"
    handshake = f"{verify} -cert ~/.ray/tls/node.crt -key ~/.ray/tls/node.key </dev/null"
    assert "Verify return code: 0 (ok)" in lab.on("h1", handshake, check=False)
    said = lab.on("h1", f"export RAY_USE_TLS=0; {search_command(lab, f'{HEAD}:6379')}; echo exit $?").splitlines()
    assert said == [f"--address {HEAD}:6379 must be that of a Ray cluster; no answer in 4 s", "exit 2"]
    assert reported(lab) == Counter()
    lab.start("h0", search_command(lab, **{"search.trials": 2}), lab.base / "output").wait(SEARCH_S)
    assert read_state(record(lab)).session_ended.reason == "finished", output(lab)


def kill_raylet(lab: Lab) -> None:
    lab.hosts("kill-raylet", "h1")


def power_off(lab: Lab) -> None:
    lab.hosts("kill-node", "h1")


def cut_link(lab: Lab) -> None:
    lab.link("h1", "down")
    time.sleep(60)
    lab.link("h1", "up")


def kill_head(lab: Lab) -> None:
    """Every process of Ray's on the head, and then it is started again; the driver is elsewhere."""
    lab.kill_ray("h0")
    time.sleep(5)
    lab.ray("up", str(lab.file), "-y", "--no-config-cache", "--restart-only")


@IN_FULL
def test_no_reported_epoch_and_no_trial_is_lost_with_the_power_of_a_worker(
    cluster: Lab, undisturbed: Leaderboard
) -> None:
    check_fault(power_off, "h0", cluster, undisturbed)
    assert events(cluster, TrialResumed)  # else it touched nothing


@IN_FULL
@pytest.mark.parametrize(("fault", "driver"), [(kill_raylet, "h0"), (cut_link, "h0"), (kill_head, "h2")])
def test_no_reported_epoch_and_no_trial_is_lost_when(
    fault: Callable[[Lab], None], driver: str, cluster: Lab, undisturbed: Leaderboard
) -> None:
    check_fault(fault, driver, cluster, undisturbed)


def check_fault(fault: Callable[[Lab], None], driver: str, cluster: Lab, undisturbed: Leaderboard) -> None:
    """Let it happen in the middle of a search, which ends as one to which nothing happens."""
    searching = start_long_search(cluster, driver)
    before, happened = reported(cluster), time.time()
    fault(cluster)
    assert searching.wait(SEARCH_S) == 0, output(cluster)
    tell(fault.__name__, cluster, before, happened)
    assert_whole(cluster, before)
    assert leaderboard(read_state(record(cluster))) == undisturbed


@IN_FULL
def test_a_search_whose_driver_died_with_the_head_goes_on_where_it_was(cluster: Lab, undisturbed: Leaderboard) -> None:
    searching = start_long_search(cluster, "h0")
    before, happened = reported(cluster), time.time()
    cluster.kill_ray("h0", "tuner.search")
    assert searching.wait(30) != 0
    cluster.ray_up()
    command = (
        search_command(cluster)
        .split(" --set ")[0]
        .replace("search_spaces/digits.yaml", f"--resume {record(cluster).parent}")
    )
    assert cluster.start("h0", command, cluster.base / "output").wait(SEARCH_S) == 0, output(cluster)
    tell("kill_driver_and_head", cluster, before, happened)
    assert_whole(cluster, before)
    assert leaderboard(read_state(record(cluster))) == undisturbed


EPOCHS = 80
EPOCHS_BEFORE = 12


LONG = {
    "training.max_epochs": EPOCHS,
    "training.early_stopping": "null",
    "search.time_budget": "null",
    "search.sampler": "random",
}


@pytest.fixture(scope="module")
def undisturbed(in_full: None, tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    """The leaderboard of the same search on this machine alone, with as many slots as the cluster has."""
    needs.at_hand(missing())
    folder = tmp_path_factory.mktemp("undisturbed")
    folders = [word for name in ("runs", "reports", "cache") for word in (f"--{name}", str(folder / name))]
    words = [sys.executable, "-m", "tuner.search", str(ROOT / "search_spaces" / "digits.yaml"), *folders]
    subprocess.run([*words, *overrides({**LONG, "search.max_concurrent": 2})], check=True, timeout=SEARCH_S)
    return leaderboard(read_state(folder / "runs" / "digits" / "record.jsonl"))


def leaderboard(state: RunState) -> Leaderboard:
    """The completed trials, the best first: number, best validation accuracy, configuration."""
    rows = [
        (trial.number, trial.best, trial.configuration)
        for trial in state.trials.values()
        if trial.status == "completed"
    ]
    return sorted(rows, key=lambda row: (-(row[1] or 0.0), row[0]))


def start_long_search(lab: Lab, host: str) -> subprocess.Popen[bytes]:
    """A search with two trials under way, both with some epochs and a checkpoint."""
    address = "auto" if host == "h0" else f"{HEAD}:6379"
    begun = lab.start(host, search_command(lab, address, **LONG), lab.base / "output")
    wait_for(lambda: is_under_way(lab), 120, "two trials under way")
    return begun


def is_under_way(lab: Lab) -> bool:
    saved = {event.trial for event in events(lab, CheckpointSaved)}
    return {(trial, EPOCHS_BEFORE) for trial in (0, 1)} <= reported(lab).keys() and {0, 1} <= saved


def output(lab: Lab) -> str:
    return (lab.base / "output").read_text()[-3000:]


def assert_whole(lab: Lab, before: Counter[tuple[int, int]]) -> None:
    """What was reported is still there, and every trial was trained to its end, once."""
    after = reported(lab)
    assert before <= after
    assert Counter(event.trial for event in events(lab, TrialStarted)) == dict.fromkeys(range(4), 1)
    ends = events(lab, TrialEnded)
    assert Counter(event.trial for event in ends) == dict.fromkeys(range(4), 1)
    assert {event.status for event in ends} == {"completed"}
    assert {epoch for _, epoch in after} == set(range(1, EPOCHS + 1)) and len(after) == 4 * EPOCHS
    assert set(read_state(record(lab)).trials) == set(range(4))


def tell(what: str, lab: Lab, before: Counter[tuple[int, int]], happened: float) -> None:
    """A line for the table of what was seen (cluster/README.md)."""
    last = {trial: max(epoch for number, epoch in before if number == trial) for trial, _ in before}
    resumed = [
        f"trial {event.trial} from epoch {event.epoch} after {event.time - happened:.0f} s"
        for event in events(lab, TrialResumed)
        if event.time > happened
    ]
    words = ", ".join(resumed) or "none"
    print(f"\n{what}: reported before {last}, in the end {len(reported(lab))} epochs; resumed: {words}")
