"""What checkpoints will take on the disk, before a search and while it runs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest

from tests.support.make_record import small_state, trial_ended, trial_started
from tuner.common.files import free_bytes
from tuner.models.architectures import ARCHITECTURES, Architecture
from tuner.models.parameters import HEAD, Parameter
from tuner.runs.events import CheckpointSaved
from tuner.search import main
from tuner.session._disk_use import CheckpointWatch, checkpoint_bytes, checkpoints_at_once
from tuner.session._resolved import resolve
from tuner.spec.spec import Spec, read_spec, require
from tuner.training.checkpoint import FILE_NAME
from tuner.training.settings import TrialSettings
from tuner.training.trial import Trial

SPACE = """
study: disk
data: {source: digits, max_train_images: 60, max_validation_images: 30}
space:
  preprocess: "resize(32)|scale(-1,1)"
  batch_size: 30
  learning_rate: {log_float: [0.001, 0.1]}
  architecture: ARCHITECTURE
training: {max_epochs: 9, head_epochs: 1}
search: {trials: 27, scheduler: none, reduction_factor: 3, max_concurrent: 2, grace_epochs: 1}
"""
DENSE = "{choose: {dense: {dense_units: 64, hidden_layers: 1}}}"
BACKBONE = "{choose: {mobilenet_v2: {alpha: 0.35, weights: imagenet, unfreeze_depth: 2}}}"


def spec_of(architecture: str = DENSE, *overrides: str) -> Spec:
    text = SPACE.replace("ARCHITECTURE", architecture)
    return require(read_spec(text, "f", overrides))


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("none", 2 * 2 + 1),
        ("asha", (27 - 9) + 2 * (9 - 3) + 2 * 2 + 1),  # rungs 1 and 3: who waits at the first has one checkpoint
        ("pbt", 27 * 9),
    ],
)
def test_a_scheduler_that_pauses_keeps_the_checkpoints_of_those_that_wait(scheduler, expected) -> None:
    assert checkpoints_at_once(resolve(spec_of(DENSE, f"search.scheduler={scheduler}")), slots=2) == expected


@pytest.mark.usefixtures("small_mobilenet")
@pytest.mark.parametrize("architecture", [DENSE, BACKBONE], ids=["dense", "backbone"])
def test_the_size_of_a_checkpoint_is_forecast_without_fetching_anything(architecture, few_digits, tmp_path) -> None:
    expected = checkpoint_bytes(
        resolve(spec_of(architecture)).study, few_digits.image_shape, len(few_digits.class_names)
    )
    configuration = {"preprocess": "resize(32)|scale(-1,1)", "batch_size": 30}
    if architecture is BACKBONE:
        configuration |= {"architecture": "mobilenet_v2", "alpha": 0.35, "weights": "none", "unfreeze_depth": 2}
    else:
        configuration |= {"architecture": "dense", "dense_units": 64, "hidden_layers": 1}
    settings = TrialSettings(
        max_epochs=3, head_epochs=1, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=0
    )
    trial = Trial(configuration, few_digits, settings)
    trial.advance()
    trial.advance()
    trial.save(tmp_path)
    assert expected == pytest.approx((tmp_path / FILE_NAME).stat().st_size, rel=0.1)


def test_a_backbone_of_another_library_is_built_without_its_weights() -> None:
    def build(values: Mapping[str, Any], shape: tuple[int, int, int], _seed: int) -> keras.Model:
        assert values["weights"] == "none", "a plan fetches nothing"
        images = keras.Input(shape)
        return keras.Model(images, keras.layers.Conv2D(4, 3, name="convolution")(images))

    weights = Parameter("choice", values=("pretrained", "none"), default="pretrained")
    parameters = {**HEAD, "weights": weights}
    ARCHITECTURES.add_own("other", Architecture("other", "", parameters, 4, build, pixel_scaling="0 to 255"))
    try:
        study = resolve(spec_of("{choose: {other: {unfreeze_depth: 0}}}")).study
        assert checkpoint_bytes(study, (8, 8, 1), 10) == 16 * (4 * 10 + 10)
    finally:
        ARCHITECTURES.remove("other")


def test_the_plan_tells_the_disk_use_as_far_as_it_can_be_known(tmp_path, cache_dir, small_digits, capsys) -> None:
    file = tmp_path / "disk.yaml"
    file.write_text(SPACE.replace("ARCHITECTURE", DENSE))
    words = [str(file), "--plan", "--runs", str(tmp_path / "runs"), "--cache"]
    assert main([*words, str(tmp_path / "empty")]) == 0
    assert "disk: about 5 checkpoints at a time" in (said := capsys.readouterr().out)
    assert "known when the data are prepared" in said
    assert main([*words, str(cache_dir)]) == 0
    known = r"disk: checkpoints take about 5\.\d MiB at a time \(5 of 1\.0 MiB\) in "
    assert re.search(known, capsys.readouterr().out)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "empty").exists()


def test_a_plan_that_the_disk_cannot_hold_warns(tmp_path, cache_dir, small_digits, capsys, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=4 * 2**20))
    file = tmp_path / "disk.yaml"
    file.write_text(SPACE.replace("ARCHITECTURE", DENSE))
    assert main([str(file), "--plan", "--cache", str(cache_dir)]) == 0
    assert "warning: that is more than there is room for" in capsys.readouterr().out


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """A watch over 10 checkpoints at once on a disk with 16 MiB; what it says; saves one of 2 MiB of a trial."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=16 * 2**20))
    said: list[str] = []

    def make(*events) -> SimpleNamespace:
        watching = CheckpointWatch(tmp_path, 10, small_state(*events), said.append)

        def save(trial: int, epoch: int) -> None:
            path = f"trial-{trial}/checkpoint_{epoch}"
            (tmp_path / path).mkdir(parents=True, exist_ok=True)
            (tmp_path / path / FILE_NAME).write_bytes(b"0" * 2**21)
            watching(CheckpointSaved(trial=trial, epoch=epoch, path=path))

        return SimpleNamespace(save=save, end=lambda trial: watching(trial_ended(trial)), said=said)

    return make


def test_a_search_says_once_when_the_checkpoints_to_come_will_not_fit(watch) -> None:
    watched = watch()
    watched.save(0, 1)
    watched.save(0, 2)
    watched.save(0, 3)  # two of it are kept; eight are to come, which fit
    assert watched.said == []
    watched.end(0)
    watched.save(1, 1)
    watched.save(2, 1)
    (said,) = watched.said
    assert "has 16.0 MiB left, and about 9 more checkpoints of 2.0 MiB are to come" in said


def test_a_resumed_search_counts_the_checkpoints_that_are_there(watch) -> None:
    there = [
        event
        for trial in (5, 6)
        for event in (trial_started(trial), CheckpointSaved(trial=trial, epoch=1, path=f"trial-{trial}/x"))
    ]
    watched = watch(*there)
    for epoch in (1, 2, 3):
        watched.save(0, epoch)
    assert watched.said == []


def test_the_room_for_a_folder_is_asked_of_the_nearest_that_is_there(tmp_path) -> None:
    assert free_bytes(tmp_path / "not" / "there" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.1)
    assert free_bytes(Path("runs")) > 0
    (tmp_path / "link").symlink_to(tmp_path / "not" / "there")  # made before what it leads to
    assert free_bytes(tmp_path / "link") == pytest.approx(free_bytes(tmp_path), rel=0.1)
