"""Searches of training functions of one's own, as docs/trainable.md shows them: killed, resumed, tested, used."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.end_to_end.test_search_resumed import start_search, wait_for_epochs
from tests.support import ROOT
from tests.support.documents import blocks
from tests.support.make_search import check_record
from tuner.runs.record import read_state
from tuner.training.trainable import load_state

PAGE = list(blocks(ROOT / "docs" / "trainable.md"))
NUMPY, _, KERAS = (block.text for block in PAGE if block.language == "python")
SPACE = next(block.text for block in PAGE if block.language == "yaml")
SMALL = (
    *("data.max_train_images=240", "data.max_validation_images=80", "search.max_concurrent=1"),
    *("search.reduction_factor=2", "finalists.count=1", "finalists.seeds=2"),
)
"""One at a time: a second process takes longer to load its libraries than such a search to train."""
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("ray")]


def write_own(folder: Path, code: str = NUMPY, space: str = SPACE) -> tuple[Path, tuple[str, ...]]:
    """The file of a search in a folder, and the options that it takes."""
    folder.mkdir(exist_ok=True)
    (folder / "own_loop.py").write_text(code)
    (folder / "own.yaml").write_text(space)
    settings = [word for text in SMALL for word in ("--set", text)]
    return folder / "own.yaml", ("--plugin", str(folder / "own_loop.py"), *settings)


def search(folder: Path, cache_dir: Path, code: str = NUMPY, space: str = SPACE, *more: str) -> str:
    """Run a search to its end, and return what it said."""
    file, options = write_own(folder, code, space)
    output, _ = start_search(folder, file, cache_dir, *options, *more).communicate(timeout=600)
    return output


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=300, check=False)


def report_of(folder: Path) -> str:
    return (folder / "reports" / "own" / "leaderboard.md").read_text()


def test_a_killed_search_goes_on_to_the_numbers_of_an_undisturbed_one_and_is_tested(tmp_path, cache_dir):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    slow = ("--set", "search.trials=8")
    file, options = write_own(
        killed, NUMPY.replace("        yield", "        __import__('time').sleep(0.3)\n        yield")
    )
    process = start_search(killed, file, cache_dir, *options, *slow)
    record = killed / "runs" / "own" / "record.jsonl"
    wait_for_epochs(record, 14)  # some wait at rungs
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    output, _ = start_search(killed, file, cache_dir, *options, *slow, "--resume").communicate(timeout=600)
    assert "finished" in output and "won: trial" in output, output
    assert "finished" in search(whole, cache_dir, NUMPY, SPACE, *slow)
    assert values_of(killed) == values_of(whole)
    text = report_of(killed)
    assert "won with test accuracy" in text and "The test split was read once" in text
    check_use(killed / "runs" / "own", killed / "own_loop.py", tmp_path / "picture.png", text)


def values_of(folder: Path) -> dict[int, object]:
    state = check_record(folder / "runs" / "own" / "record.jsonl")
    return {number: (trial.configuration, [dict(epoch.metrics) for epoch in trial.epochs])
            for number, trial in state.trials.items()}  # fmt: skip


def check_use(run: Path, plugin: Path, picture: Path, text: str) -> None:
    """The exported state predicts with its plugin, and says what is missing without it."""
    assert not (run / "best.keras").exists() and load_state(run / "best.npz")["weights"].shape == (65, 10)
    assert json.loads((run / "best.json").read_text())["trainable"] == "softmax_regression"
    Image.fromarray(np.full((20, 12), 40, np.uint8)).save(picture)
    told = command("tuner.predict", str(run), str(picture), "--plugin", str(plugin), "--format", "json")
    (found,) = json.loads(told.stdout)
    assert len(found["labels"]) == 5 and sum(each["probability"] for each in found["labels"]) <= 1.001, told.stderr
    missing = command("tuner.predict", str(run), str(picture))
    named = f"which is not known here; give the file or module that registers it: --plugin {plugin} "
    assert missing.returncode == 2 and f"trainable softmax_regression, {named}" in missing.stderr
    converted = command("tuner.export", str(run), "--litert", str(picture.with_suffix(".tflite")))
    assert converted.returncode == 2 and "no network of Keras" in converted.stderr
    again = re.search(r"python -m tuner.search --retrain (.*)", text)
    assert again is not None and f"--plugin {plugin}" in again[1]
    assert f"--plugin {plugin}" in (run.parent.parent / "reports" / "own" / "index.html").read_text()


def test_a_function_without_predict_is_searched_and_said_not_to_be_tested(tmp_path, cache_dir):
    code = NUMPY[: NUMPY.index("@softmax_regression.predict")]
    output = search(tmp_path, cache_dir, code, SPACE, "--set", "search.trials=4")
    assert "not tested: trainable softmax_regression (own_loop.py) has no predict" in output
    text = report_of(tmp_path)
    assert "it is not tested: trainable softmax\\_regression" in text.replace("softmax_", "softmax\\_")
    assert "test split has not been read" in text and "best.npz" in (tmp_path / "reports/own/index.html").read_text()
    state = read_state(tmp_path / "runs" / "own" / "record.jsonl")
    assert len(state.finalists) >= 2 and state.guess_tested is None
    assert load_state(tmp_path / "runs" / "own" / "best.npz")["epoch"] >= 1
    epochs = pq.read_table(tmp_path / "reports" / "own" / "epochs.parquet").to_pylist()
    assert {row["phase"] for row in epochs} == {"scratch"} and epochs[0]["learning_rate"] is not None


def test_a_predict_that_gives_no_probabilities_is_said_and_the_search_stays(tmp_path, cache_dir):
    code = NUMPY.replace(
        '    return shares(state["weights"], images)', '    return 3 * shares(state["weights"], images)'
    )
    output = search(tmp_path, cache_dir, code, SPACE, "--set", "search.trials=2")
    why = "predict of trainable softmax_regression (own_loop.py) must return probabilities: numbers between 0 and 1"
    assert f"not tested: {why}" in output and "state: " in output, output


def test_a_loop_of_keras_is_searched_and_tested(tmp_path, cache_dir):
    space = re.sub(r"trainable: .*\nspace:\n(  .*\n)+baseline.*", KERAS_SPACE, SPACE)
    output = search(tmp_path, cache_dir, KERAS, space, "--set", "search.trials=3", "--set", "training.max_epochs=4")
    assert "won: trial" in output and "test accuracy" in output, output
    assert load_state(tmp_path / "runs" / "own" / "best.npz")["weights"][0].shape[0] == 64


KERAS_SPACE = """trainable: without_the_hardest
space: {learning_rate: {log_float: [1.0e-3, 1.0e-2]}, units: {choice: [16, 32]}, left_out: {float: [0.0, 0.3]}}"""


def test_a_population_copies_states_and_changes_what_may_change(tmp_path, cache_dir):
    more = ("search.scheduler=pbt", "search.trials=4", "search.max_concurrent=4", "finalists.count=0",
            "resources.cpus_per_trial=0.5", "training.early_stopping=none")  # fmt: skip
    output = search(tmp_path, cache_dir, NUMPY, SPACE, *(word for text in more for word in ("--set", text)))
    assert "finished" in output, output
    state = check_record(tmp_path / "runs" / "own" / "record.jsonl", jumps=True)
    assert all(trial.status in ("completed", "stopped") for trial in state.trials.values())
    assert len({trial.configuration["learning_rate"] for trial in state.trials.values()}) > 1
    assert '"event":"configuration_changed"' in (tmp_path / "runs" / "own" / "record.jsonl").read_text()


def test_a_mistake_ends_the_search_in_the_words_of_its_author(tmp_path, cache_dir):
    """The words for every other one are those of its trial: tests/training/test_trainable.py."""
    change = ('"epoch": epoch, "weights"', '"rng": np.random.default_rng(), "weights"')
    assert change[0] in NUMPY
    output = search(tmp_path, cache_dir, NUMPY.replace(*change), SPACE, "--set", "search.trials=3")
    assert "give value.bit_generator.state" in output and "Traceback" not in output
    assert "trainable softmax_regression (own_loop.py)" in output


def test_a_trial_is_trained_again_here(tmp_path, cache_dir):
    file, options = write_own(tmp_path)
    output, _ = start_search(tmp_path, file, cache_dir, *options, "--inline").communicate(timeout=300)
    assert "trial 0: learning_rate 0.1" in output and "max epochs: best val_accuracy" in output, output
