"""Searches on a cluster, from elsewhere, for real: a Ray head on loopback with dashboard and token, and its job API."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.make_cluster import Head, Wire, head, wait_for
from tests.support.make_search import check_record, write_file
from tuner.runs.record import read_state
from tuner.runs.state import RunState


@pytest.fixture(scope="module")
def cluster() -> Iterator[Head]:
    with head(cpus=1) as made:
        made.add_node(cpus=1)  # on the same machine: it unpacks what is sent where the head has
        yield made


def command(cluster: Head, *words: str, port: int | None = None) -> list[str]:
    address = f"http://127.0.0.1:{port or cluster.dashboard_port}"
    return [sys.executable, "-m", "tuner.submit", *words, "--address", address]


def tuner_submit(cluster: Head, place: Path, *words: str, status: int = 0) -> str:
    """What the command prints; fails the test when it ends otherwise."""
    done = subprocess.run(
        command(cluster, *words), cwd=place, env=cluster.environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


OWN = """
import keras
import tuner


class Scaled(keras.layers.Layer):
    def call(self, x):
        return x * 2.0


@tuner.architecture(parameters={"width": tuner.Int(2, 64, default=8)})
def own_small(images, width):
    return Scaled()(keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(width, 3)(images)))
"""


@dataclass(frozen=True)
class Interrupted:
    """A search that was sent, followed over a wire that broke, fetched while it ran, and stopped."""

    place: Path
    name: str
    record: Path
    said: dict[str, str]
    """What each command printed."""
    fetched: RunState
    state: RunState


@pytest.fixture(scope="module")
def interrupted(cluster: Head, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    place = tmp_path_factory.mktemp("user")
    file = write_file(place, trials=400)
    text = file.read_text().replace("      cnn:", "      own_small: {width: {int: [4, 8]}}\n      cnn:", 1)
    file.write_text(text.replace("dense, dense_units: 16, hidden_layers: 1,", "own_small, width: 8,"))
    (place / "own.py").write_text(OWN)
    words = ("small.yaml", "--plugin", "own.py", *where(cluster, cache_dir))
    said = {"submit": tuner_submit(cluster, place, *words, "--detach")}
    name = said["submit"].split()[1]
    wire, output = Wire(cluster.dashboard_port), place / "followed"
    with output.open("w") as shown:
        words = command(cluster, "follow", "small", port=wire.port)
        following = subprocess.Popen(words, cwd=place, env=cluster.environment, stdout=shown, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: "trial 0 " in output.read_text(), 600, "trial that is shown")
        wire.cut()
        wait_for(lambda: "is lost" in output.read_text(), 120, "word of the lost connection")
        for one in ("status", "fetch"):
            said[one] = tuner_submit(cluster, place, one, name)
        fetched = read_state(place / "runs" / "small" / "record.jsonl")
        wire.mend()
        wait_for(lambda: "connected to " in output.read_text(), 300, "word of the new connection")
        said["stop"] = tuner_submit(cluster, place, "stop", "small")
        assert following.wait(300) == 130
    finally:
        following.kill()
    said["follow"] = output.read_text()
    record = cluster.place / "shared" / "runs" / "small" / "record.jsonl"
    return Interrupted(place, name, record, said, fetched, read_state(record))


def where(cluster: Head, cache_dir: Path) -> tuple[str, ...]:
    return "--shared", str(cluster.place / "shared"), "--cache", str(cache_dir)


@pytest.mark.full
def test_a_search_is_followed_over_a_broken_wire_with_nothing_lost_and_nothing_twice(interrupted) -> None:
    shown = interrupted.said["follow"]
    ended = re.findall(r"^trial ([0-9]+) (?:completed|stopped|failed)", shown, re.MULTILINE)
    assert sorted(map(int, ended)) == [number for number, one in sorted(interrupted.state.trials.items()) if one.ended]
    assert shown.count("is lost") == shown.count("connected to ") == 1 and "interrupted after" in shown
    assert shown.startswith("preparing digits ...\n240 training and 80 validation images")


@pytest.mark.full
def test_a_running_search_says_where_it_stands_and_is_fetched(interrupted) -> None:
    follow = f"show it: python -m tuner.submit follow {interrupted.name} --address http://127.0.0.1:"
    assert follow in interrupted.said["submit"]
    words = r"running .* small.yaml\n[0-9] running, [0-9]+ completed, 0 stopped, 0 failed of 400 trials; best so far: "
    assert re.search(words, interrupted.said["status"])
    assert "run: runs/small\n" in interrupted.said["fetch"]
    assert interrupted.fetched.study is not None and interrupted.fetched.session_ended is None


@pytest.mark.full
def test_a_stopped_search_is_recorded_as_interrupted(interrupted) -> None:
    assert interrupted.state.session_ended is not None
    assert interrupted.state.session_ended.reason == "interrupted"
    said = interrupted.said["stop"]
    command = "python -m tuner.submit small.yaml --resume --plugin own.py --shared "
    assert f"all that was reported is kept; go on with: {command}" in said


@pytest.mark.full
def test_a_stopped_search_goes_on_to_its_end_and_its_report_and_model_are_fetched(
    interrupted, cluster, cache_dir
) -> None:
    place, wanted = interrupted.place, len(interrupted.state.trials) + 1
    more = ("--resume", "--set", f"search.trials={wanted}", "--plugin", "own.py")
    (place / "own.py").write_text(OWN.replace("2.0", "3.0"))
    said = tuner_submit(cluster, place, "small.yaml", *where(cluster, cache_dir), *more, status=2)
    assert "the own code own.py is not the one that it began with" in said
    (place / "own.py").write_text(OWN)
    said = tuner_submit(cluster, place, "small.yaml", *where(cluster, cache_dir), *more)
    assert "finished after" in said and "bring its report here" in said
    state = check_record(interrupted.record)
    assert len(state.trials) == wanted
    own = [one for one in state.trials.values() if one.configuration["architecture"] == "own_small" and one.epochs]
    assert own and state.study is not None and [Path(one).name for one in state.study.plugins] == ["own.py"]
    said = tuner_submit(cluster, place, "fetch", "small", "--model")
    assert "report: reports/small/index.html" in said
    assert (place / "runs/small/record.jsonl").read_bytes() == interrupted.record.read_bytes()
    assert (place / "runs/small/best.keras").is_file() and (place / "reports/small/index.html").is_file()
    (place / "runs/small/record.jsonl").write_text("another\n")
    said = tuner_submit(cluster, place, "fetch", "small", status=2)
    assert "runs/small holds another search of this name; give --to another folder" in said


@pytest.mark.full
def test_what_the_cluster_refuses_is_said_as_a_search_here_says_it(cluster, tmp_path) -> None:
    (cluster.place / "shared" / "runs").mkdir(parents=True, exist_ok=True)
    (cluster.place / "shared" / "runs" / "refused").touch()
    file = write_file(tmp_path, study="refused")
    said = tuner_submit(cluster, tmp_path, file.name, "--shared", str(cluster.place / "shared"), status=2)
    assert re.search(r"\nthe run directory must be a folder that can be written to; .*/refused is a file\n$", said)
    listed = tuner_submit(cluster, tmp_path, "status")
    assert re.search(r"^refused-\S+  refused ", listed, re.MULTILINE)
    said = tuner_submit(cluster, tmp_path, "fetch", "refused", status=1)
    assert "has no run yet, so that there is nothing to fetch" in said
