"""Real trainings measured into a table: killed, gone on with, collected; and the networks with their weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.images.__main__ import main
from benchmarks.images.measuring import WEIGHTS, Places, trials_done
from benchmarks.images.problems import problem_of
from benchmarks.images.tables import read_tables
from benchmarks.images.tasks import EPOCHS, TASKS
from tests.support import ROOT, needs

TASK = TASKS["digits_10"]
IMAGENET = "models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"


def seen(places: Places, pid: int | None) -> int:
    """Wait until a trial has ended, or the process has; returns how many have."""
    while not (done := trials_done(places.state(TASK))):
        if pid is not None and os.waitpid(pid, os.WNOHANG)[0]:
            return 0
        time.sleep(0.2)
    return done


@pytest.mark.full
def test_a_task_that_was_killed_goes_on_where_it_was_and_becomes_a_table(tmp_path: Path, capsys) -> None:
    needs.keras_home(IMAGENET)
    where = ["--folder", str(tmp_path), "--tables", str(tmp_path / "tables.npz"), "--configurations", "2"]
    words = ["measure", *where, "--tasks", TASK.name, "--slots", "1"]
    places = Places(tmp_path)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.images", *words], cwd=ROOT)
    assert seen(places, process.pid) >= 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {number: trial for number, trial in places.state(TASK).trials.items() if trial.ended is not None}
    assert main(words) == 0 and main(["collect", *where]) == 0
    assert "1 tasks in" in capsys.readouterr().out
    after = places.state(TASK).trials
    assert {number: after[number].epochs for number in before} == {number: one.epochs for number, one in before.items()}
    found = read_tables(tmp_path / "tables.npz")[TASK.name]
    assert found.accuracy.shape == (2, EPOCHS) and np.isfinite(found.accuracy).all() and (found.seconds > 0).all()
    assert found.facts["train_images"] == 100 and found.facts["px"] == 8 and found.facts["channels"] == 1
    assert problem_of(found).opened(0).curve(found.configurations[1]).values.tolist() == found.accuracy[1].tolist()
    assert not places.cache(TASK).exists(), "it is not needed any more"


@pytest.mark.full
def test_measuring_stops_when_its_minutes_are_over_and_says_so(tmp_path: Path, capsys) -> None:
    where = ["--folder", str(tmp_path), "--tables", str(tmp_path / "tables.npz"), "--tasks", TASK.name]
    assert main(["measure", *where, "--minutes", "0.02"]) == 0
    assert "stopped; the same command goes on" in capsys.readouterr().out
    assert trials_done(Places(tmp_path).state(TASK)) == 0 and not (tmp_path / "tables.npz").exists()


@pytest.mark.full
def test_the_small_networks_tell_classes_that_they_were_not_trained_on_better_than_with_random_weights() -> None:
    import keras
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    from benchmarks.images.small_networks import NETWORKS, trained

    assert WEIGHTS.stat().st_size < 2**20
    digits = load_digits()
    images = np.repeat(digits.images[:600, :, :, None] / 8 - 1, 3, axis=3).repeat(4, axis=1).repeat(4, axis=2)

    def right(network: keras.Model) -> float:
        pooled = network.predict(images.astype(np.float32), verbose=0).mean(axis=(1, 2))
        normal = (pooled - pooled.mean(axis=0)) / (pooled.std(axis=0) + 1e-6)
        classifier = LogisticRegression(max_iter=2000).fit(normal[:300], digits.target[:300])
        return float(classifier.score(normal[300:], digits.target[300:600]))

    keras.utils.set_random_seed(0)
    for name, make in NETWORKS.items():
        pixels = keras.Input((32, 32, 3))
        assert right(trained(name, pixels)) > right(make(pixels)) + 0.03, name
