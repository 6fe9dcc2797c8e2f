"""The race's arithmetic on hand-made runs, its choice of images, and that tuner and the peers search the same."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.race import __main__ as race
from benchmarks.race import harness, workload
from benchmarks.race.legs import LEGS
from benchmarks.race.report import render_report, write_report
from benchmarks.race.results import (
    Epoch,
    Run,
    best_at,
    best_peer,
    best_steps,
    compare,
    epochs_of_events,
    median,
    median_steps,
    parse_epochs,
    summarise,
    time_to_reach,
    within,
)
from tests.support import ROOT
from tests.support.make_record import epoch
from tuner.common.errors import DataError, InputError, RunError
from tuner.runs.events import TrialStarted
from tuner.spec.spec import load_spec, require

RACE = ROOT / "benchmarks" / "race"


def run_of(*points: tuple[float, float]) -> Run:
    """A run with an epoch for each time and accuracy."""
    return tuple(Epoch(when, "0", number, accuracy, 1.0) for number, (when, accuracy) in enumerate(points, start=1))


# --- reading runs ---


def test_epochs_are_read_by_time_and_a_torn_last_line_is_left_out() -> None:
    lines = [json.dumps({"elapsed_s": when, "trial": "0", "epoch": 1, "val_accuracy": 0.1, "seconds": 1.0,
                         "configuration": {"dropout": 0.1}}) for when in (8.0, 5.0)]  # fmt: skip
    run = parse_epochs("\n".join(lines) + '\n{"elapsed_s": 9.')
    assert [epoch.elapsed_s for epoch in run] == [5.0, 8.0]
    assert run[0].configuration == {"dropout": 0.1}


@pytest.mark.parametrize("line", ["{", '{"elapsed": 3}', "3"])
def test_a_line_that_is_no_epoch_is_refused(line: str) -> None:
    with pytest.raises(RunError, match="here must hold one epoch of the race per line"):
        parse_epochs(line + "\n", "here")


def test_the_epochs_of_tuner_are_timed_from_the_launch_and_know_their_configuration() -> None:
    started = TrialStarted(time=1010.0, trial=3, configuration={"dropout": 0.5}, origin="sampler")
    reported = epoch(3, 1, 0.25, time=1020.0, seconds=4.0)
    assert epochs_of_events([started, reported], launched=1000.0) == (Epoch(20.0, "3", 1, 0.25, 4.0, {"dropout": 0.5}),)


# --- arithmetic ---


def test_only_epochs_within_the_budget_count() -> None:
    run = run_of((5, 0.1), (10, 0.2), (10.001, 0.9))
    assert [epoch.val_accuracy for epoch in within(run, 10)] == [0.1, 0.2]


def test_the_best_accuracy_rises_only_at_improvements_and_not_at_nan() -> None:
    assert best_steps(run_of((1, math.nan), (2, 0.2), (3, 0.1), (4, 0.2), (5, 0.3))) == ((2, 0.2), (5, 0.3))


def test_the_best_accuracy_at_a_time_is_none_before_the_first_epoch() -> None:
    steps = ((2.0, 0.2), (5.0, 0.3))
    assert [best_at(steps, when) for when in (1.9, 2.0, 4.9, 5.0)] == [None, 0.2, 0.2, 0.3]


def test_the_time_to_an_accuracy_is_that_of_the_first_step_that_has_it() -> None:
    steps = ((2.0, 0.2), (5.0, 0.3))
    assert [time_to_reach(steps, accuracy) for accuracy in (0.1, 0.2, 0.25, 0.31)] == [2.0, 2.0, 5.0, None]


def test_a_median_is_missing_where_most_rounds_have_no_value() -> None:
    assert median([1.0, None, 2.0], missing_is_worst=math.inf) == 2.0
    assert median([1.0, None, 2.0], missing_is_worst=-math.inf) == 1.0
    assert median([1.0, None, None], missing_is_worst=math.inf) is None
    assert median([], missing_is_worst=math.inf) is None


def test_the_median_curve_is_the_middle_of_the_rounds_at_each_time() -> None:
    curves = [((1.0, 0.1), (6.0, 0.6)), ((2.0, 0.2),), ((3.0, 0.5),)]
    assert median_steps(curves) == ((2.0, 0.1), (3.0, 0.2), (6.0, 0.5))


def test_a_summary_holds_medians_over_rounds_within_the_budget() -> None:
    runs = [run_of((2, 0.1), (6, 0.3), (11, 0.9)), run_of((3, 0.4)), run_of((4, 0.1), (7, 0.2), (8, 0.1), (9, 0.5))]
    summary = summarise("optuna", runs, budget_s=10)
    assert (summary.rounds, summary.epochs, summary.epochs_per_s) == (3, 2, 0.2)
    assert summary.epochs_per_s_later == 1 / 5
    assert (summary.first_epoch_s, summary.accuracy, summary.accuracy_at_s) == (3, 0.4, 6)


def test_tuner_is_compared_with_what_the_other_had_at_the_end_and_when() -> None:
    ours = [run_of((1, 0.1), (2, 0.5)), run_of((4, 0.6)), run_of((5, 0.2))]
    other = summarise("optuna", [run_of((8, 0.4))], budget_s=10)
    found = compare(summarise("tuner", ours, 10), ours, other, 10)
    assert (found.speed_ratio, found.reached_s) == (1.0, 4)
    assert (found.share_of_budget, found.share_of_its_time) == (0.4, 0.5)
    assert found.accuracy_gained == pytest.approx(0.1)


def test_an_accuracy_that_most_of_tuners_rounds_never_had_is_not_reached() -> None:
    ours = [run_of((1, 0.5)), run_of((1, 0.3)), run_of((1, 0.3), (12, 0.9))]
    found = compare(summarise("tuner", ours, 10), ours, summarise("optuna", [run_of((8, 0.4))], 10), 10)
    assert found.reached_s is found.share_of_budget is found.share_of_its_time is None


def test_a_leg_without_an_epoch_has_no_accuracy_and_no_speed_to_compare_with() -> None:
    empty = summarise("optuna", [()], budget_s=10)
    assert (empty.epochs, empty.accuracy, empty.first_epoch_s) == (0, None, None)
    ours = [run_of((1, 0.5))]
    found = compare(summarise("tuner", ours, 10), ours, empty, 10)
    assert found.speed_ratio is found.reached_s is found.accuracy_gained is None


def test_the_best_peer_is_the_most_accurate_and_of_equals_the_first_to_be() -> None:
    late, early = summarise("optuna", [run_of((9, 0.4))], 10), summarise("ray_optuna", [run_of((5, 0.4))], 10)
    worse, none = summarise("keras_tuner", [run_of((1, 0.3))], 10), summarise("keras_tuner", [()], 10)
    assert best_peer([worse, late, early, none]) == early
    assert best_peer([none]) is None


# --- table and picture ---

RUNS = {"small": {"optuna": [run_of((8, 0.4))], "tuner": [run_of((1, 0.1), (2, 0.42), (3, 0.4), (4, 0.41))]}}


def test_the_table_says_what_share_of_the_best_peers_time_and_of_the_budget_tuner_needed() -> None:
    text = render_report(RUNS, 10)
    assert "| Optuna, Hyperband pruner | 1 | 1 | 0.100 | 0.200 | 8 s | 40.00% | 8 s | 4.0 | 2 s | 20% |" in text
    assert "Tuner had that accuracy after 2 s: **25% of that peer's own time, 20% of the budget**" in text
    assert "It ended +2.00 points from it, with 4.0 times its epochs per second." in text


def test_the_table_says_when_tuner_never_reached_the_best_peer() -> None:
    text = render_report({"small": {"optuna": [run_of((8, 0.4))], "tuner": [run_of((1, 0.1))]}}, 10)
    assert "Tuner did not reach that within the budget." in text and "| never | none |" in text


def test_table_and_picture_are_written_also_of_one_leg_only(tmp_path: Path) -> None:
    for path in write_report({"small": {"optuna": [run_of((8, 0.4))]}, "resized": {}}, 10, tmp_path):
        assert path.stat().st_size > 0


# --- the same workload for all ---


def test_every_split_has_its_number_of_each_class_and_no_row_twice() -> None:
    labels = np.repeat(np.arange(5), 12)
    rows = workload.choose_rows(labels, {"train": 7, "validation": 3}, seed=0)
    assert {split: np.bincount(labels[found]).tolist() for split, found in rows.items()} == {
        "train": [7] * 5,
        "validation": [3] * 5,
    }
    assert len(set(np.concatenate(list(rows.values())).tolist())) == 50
    again = workload.choose_rows(labels, {"train": 7, "validation": 3}, seed=0)
    assert all((rows[split] == again[split]).all() for split in rows)


def test_a_class_with_too_few_images_is_refused() -> None:
    with pytest.raises(DataError, match="class 1 must have 4 images; got 3"):
        workload.choose_rows(np.array([0, 0, 0, 0, 1, 1, 1]), {"train": 3, "validation": 1}, seed=0)


@pytest.mark.parametrize(("size", "image_px"), workload.SIZES.items())
def test_tuner_searches_what_the_peers_search(size: str, image_px: int) -> None:
    resolved = require(load_spec(RACE / f"{size}.yaml")).resolved()
    space = resolved["space"]
    (architecture, parameters), = space["architecture"]["choose"].items()  # fmt: skip
    assert (architecture, parameters["alpha"]) == ("mobilenet_v2", workload.ALPHA)
    assert parameters["unfreeze_depth"] == {"int": list(workload.UNFREEZE_DEPTH)}
    assert parameters["head_units"] == {"choice": list(workload.HEAD_UNITS)}
    assert space["dropout"] == {"float": list(workload.DROPOUT)}
    assert space["learning_rate"] == {"log_float": list(workload.LEARNING_RATE)}
    assert space["batch_size"] == {"choice": list(workload.BATCH_SIZE)}
    assert space["preprocess"] == f"resize({image_px})|scale(-1,1)"
    assert {name: resolved["baseline"][name] for name in workload.BASELINE} == workload.BASELINE
    assert resolved["training"]["max_epochs"] == workload.MAX_EPOCHS
    assert resolved["training"]["early_stopping"]["patience"] == workload.PATIENCE_EPOCHS


def test_the_peers_count_blocks_as_tuner_does() -> None:
    import keras

    from tuner.models.blocks import blocks

    backbone = keras.applications.MobileNetV2(
        input_shape=(64, 64, 3), alpha=workload.ALPHA, include_top=False, weights=None, pooling="avg"
    )
    with_weights = {layer.name for layer in backbone.layers if layer.weights}
    for depth in range(workload.UNFREEZE_DEPTH[1] + 1):
        ours = {name for block in blocks(backbone)[:depth] for name in block.operations}
        theirs = {name for name in with_weights if name.startswith(workload.TOP_BLOCKS[:depth])}
        assert theirs == ours & with_weights


# --- the harness ---


def test_a_run_with_another_budget_is_not_mixed_in(tmp_path: Path) -> None:
    kept = harness.Kept(tmp_path, "small", "optuna", 1)
    assert harness.load_run(kept, 400.0) is None
    kept.about.parent.mkdir(parents=True)
    kept.epochs.write_text("")
    kept.about.write_text('{"budget_s": 60.0}')
    assert harness.load_run(kept, 60.0) == ()
    with pytest.raises(InputError, match=re.escape("--budget must be that of the results in") + r".*\(60\); got 400"):
        harness.load_run(kept, 400.0)


def test_a_leg_is_ended_with_what_has_left_its_process_group() -> None:
    child = (
        "import subprocess, sys\nsubprocess.Popen(['sleep', '60'], start_new_session=True)"
        "\nprint(1, flush=True)\nsys.stdin.read()"
    )
    environment = {harness.MARK: "test-of-the-race", "PATH": "/usr/bin:/bin"}
    leg = subprocess.Popen([sys.executable, "-c", child], env=environment, start_new_session=True,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    assert leg.stdout is not None and leg.stdout.readline() == b"1\n"
    marked, deadline = list[harness.psutil.Process](), time.monotonic() + 30
    while len(marked) < 2 and time.monotonic() < deadline:  # sleep may not have an environment yet (EXEC_S)
        marked = [process for process in harness.psutil.process_iter() if harness._carries(process, "test-of-the-race")]
    assert len(marked) == 2
    began = time.monotonic()
    harness._end(leg, "test-of-the-race")
    assert time.monotonic() - began < 20
    assert not any(harness._carries(process, "test-of-the-race") for process in marked)


def test_tuner_is_told_the_budget_and_the_seed_and_is_no_peer_nor_is_the_limit() -> None:
    start = harness.Start("tuner", "small", 2, 30.0, 1000.0, Path("images.npz"), Path("scratch"), Path("results"))
    command = LEGS["tuner"].command(start)
    assert {"cifar100=npz:images.npz", "search.time_budget=30s", "search.seed=2"} <= set(command)
    assert [name for name in LEGS if LEGS[name].is_peer] == ["keras_tuner", "ray_optuna", "optuna"]


# --- the command ---


def test_help_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        race.main(["--help"])
    assert "python -m benchmarks.race --out DIR" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds must be at least 1; got 0"),
        (["--budget", "0"], "--budget must be above 0 seconds; got 0"),
        (["--legs", "hyperopt"], "some of keras_tuner, ray_optuna, optuna, tuner, limit; got 'hyperopt'"),
        (["--sizes", "large"], "--sizes must name some of small, resized; got 'large'"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert race.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_what_is_missing_on_the_machine_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TUNER_DATA", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    assert race.main(["--out", str(tmp_path)]) == 2
    assert "TUNER_DATA must name a folder that holds cifar100/train.parquet; it is not set" in capsys.readouterr().err
    monkeypatch.setenv("TUNER_DATA", str(tmp_path))
    (tmp_path / "cifar100").mkdir()
    (tmp_path / "cifar100" / "train.parquet").touch()
    assert race.main(["--out", str(tmp_path)]) == 2
    assert "KERAS_HOME must name a folder that holds models/mobilenet_v2" in capsys.readouterr().err
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / workload.WEIGHTS).touch()
    monkeypatch.setattr(race.importlib.util, "find_spec", lambda name: None if name == "keras_tuner" else object())
    assert race.main(["--out", str(tmp_path)]) == 2
    assert "keras_tuner must be installed for the leg keras_tuner: pip install keras-tuner" in capsys.readouterr().err
