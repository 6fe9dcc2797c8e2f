"""Trials: phases, early stopping, best so far, checkpoints, failures. Real Keras on small real images."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tuner.common.errors import RunError, TunerError
from tuner.datasets.loading import Dataset, Split, load_dataset
from tuner.datasets.request import DataRequest
from tuner.models.augmentation import Augment
from tuner.runs.epoch import Epoch
from tuner.training._batches import Batches
from tuner.training.compiled_models import CompiledModels, Structure
from tuner.training.failures import attempt, describe_failure
from tuner.training.settings import TrialSettings, phase_of
from tuner.training.trial import Trial, run_trial

pytestmark = pytest.mark.usefixtures("small_mobilenet")
SETTINGS = TrialSettings(
    max_epochs=4, head_epochs=2, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=7
)
DENSE = {
    "architecture": "dense",
    "hidden_layers": 1,
    "dense_units": 32,
    "dropout": 0.3,
    "batch_size": 48,
    "learning_rate": 0.003,
}
BACKBONE = {
    "architecture": "mobilenet_v2", "alpha": 0.35, "weights": "none", "preprocess": "resize(32)|scale(-1,1)",
    "unfreeze_depth": 2, "dropout": 0.2, "batch_size": 60, "learning_rate": 0.003,
}  # fmt: skip


def epochs_of(configuration: dict[str, Any], data: Any, settings: TrialSettings, **options: Any) -> list[Epoch]:
    reports: list[Epoch] = []
    run_trial(configuration, data, settings=settings, report=reports.append, **options)
    return reports


def numbers(reports: list[Epoch]) -> list[dict[str, Any]]:
    """Everything but the time that an epoch took."""
    return [{**report._asdict(), "seconds": 0} for report in reports]


def test_a_trial_reports_every_epoch_once_and_in_order(small_digits):
    reports = epochs_of(DENSE, small_digits, SETTINGS)
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert {report.phase for report in reports} == {"scratch"}
    assert reports[-1].metrics["loss"] < reports[0].metrics["loss"]


def test_the_reported_metric_is_the_best_so_far(small_digits):
    reports = epochs_of(DENSE, small_digits, replace(SETTINGS, max_epochs=6))
    best = np.maximum.accumulate([report.metrics["val_accuracy"] for report in reports])
    assert [report.best_so_far for report in reports] == list(best)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_gives_others(small_digits):
    first = numbers(epochs_of(DENSE, small_digits, SETTINGS))
    assert numbers(epochs_of(DENSE, small_digits, SETTINGS)) == first
    assert numbers(epochs_of(DENSE, small_digits, replace(SETTINGS, seed=8))) != first


@pytest.mark.parametrize("threads", [1, 2])
def test_images_that_are_kept_encoded_without_loss_train_as_arrays_do(small_digits, tmp_path, threads):
    request = DataRequest("digits", max_train_images=240, max_validation_images=80, storage="encoded")
    encoded = load_dataset(request, staged={}, seed=0, cache_dir=tmp_path, notify=lambda _text: None, threads=threads)
    assert encoded.prepared.storage == "encoded" and small_digits.prepared.storage == "arrays"
    augmented = {**DENSE, "augment": "shift(1)|noise(0.1)"}
    assert numbers(epochs_of(augmented, encoded, SETTINGS)) == numbers(epochs_of(augmented, small_digits, SETTINGS))


def test_strengths_train_as_the_text_that_says_the_same(small_digits):
    text = {**DENSE, "augment": "shift(1)|noise(0.125)"}
    strengths = {**DENSE, "augment": "own", "augment.shift": 1, "augment.flip": "none", "augment.noise": 0.125}
    assert numbers(epochs_of(strengths, small_digits, SETTINGS)) == numbers(epochs_of(text, small_digits, SETTINGS))


@pytest.mark.parametrize(
    "configuration", [DENSE, pytest.param(BACKBONE, marks=pytest.mark.full)], ids=["scratch", "backbone"]
)
def test_images_that_the_network_would_shrink_are_augmented_at_the_size_needed_and_validated_whole(
    configuration, small_digits, monkeypatch
):
    sizes = []

    def apply(self: Augment, *arguments: Any) -> Any:
        images, labels = as_ever(self, *arguments)
        sizes.append(images.shape[1:])
        return images, labels

    as_ever = Augment.apply
    monkeypatch.setattr(Augment, "apply", apply)
    shrunk = {**configuration, "augment": "shift(1)", "preprocess": "rgb|resize(6)|resize(32)|scale(-1,1)"}
    trial = Trial(shrunk, small_digits, SETTINGS)
    epoch = trial.advance()
    assert epoch is not None and set(sizes) == {(6, 6, 1)}
    trial.model.compile(loss="categorical_crossentropy")
    validation = small_digits.validation
    batches = Batches(validation, 10, 80, np.arange(len(validation)), None, 0)
    assert trial.model.evaluate(batches, verbose=0) == pytest.approx(epoch.metrics["val_loss"], rel=1e-4)
    sizes.clear()
    Trial({**shrunk, "augment": "shift(1)|noise(0.1)"}, small_digits, SETTINGS).advance()
    assert set(sizes) == {(8, 8, 1)}


def test_a_trial_with_unfreezing_trains_the_head_first_and_then_the_blocks_at_a_lower_rate(small_digits):
    trial = Trial(BACKBONE, small_digits, SETTINGS)
    backbone = trial._built.backbone
    before = [keras.ops.convert_to_numpy(variable) for variable in backbone.variables]
    head = [trial.advance() for _ in range(2)]
    assert all(np.array_equal(old, new) for old, new in zip(before, backbone.variables, strict=True))
    tuned = [trial.advance() for _ in range(2)]
    assert [report.phase for report in head + tuned] == ["head", "head", "fine_tune", "fine_tune"]
    assert tuned[0].learning_rate == pytest.approx(0.1 * head[0].learning_rate)
    changed = [not np.array_equal(old, new) for old, new in zip(before, backbone.variables, strict=True)]
    assert any(changed) and not all(changed)
    assert trial.ended is not None and trial.ended.reason == "max_epochs"


@pytest.mark.parametrize(
    ("configuration", "stop_after"),
    [
        ({**DENSE, "augment": "shift(1)|mixup(0.2)"}, [1]),
        ({**DENSE, "optimizer": "sgd", "preprocess": "noise(0.1)|standardise"}, [3]),
        (BACKBONE, [2, 3]),  # the last epoch of the head phase, and the first one of fine-tuning
    ],
    ids=["augmented", "noisy", "before and after unfreezing"],
)
def test_a_resumed_trial_gives_the_same_numbers_as_one_that_never_stopped(
    configuration, stop_after, small_digits, tmp_path
):
    undisturbed = numbers(epochs_of(configuration, small_digits, SETTINGS))
    stopped = Trial(configuration, small_digits, SETTINGS)
    for epochs in stop_after:
        while stopped.epoch < epochs:
            stopped.advance()
        (folder := tmp_path / str(epochs)).mkdir()
        stopped.save(folder)
        resumed = numbers(epochs_of(configuration, small_digits, SETTINGS, resume_from=folder))
        assert resumed == undisturbed[epochs:], f"stopped after {epochs}"


def test_the_seconds_of_a_trial_are_those_of_all_its_epochs_wherever_they_were_trained(small_digits, tmp_path):
    stopped, resumed = Trial(DENSE, small_digits, SETTINGS), Trial(DENSE, small_digits, SETTINGS)
    spent = sum(epoch.seconds for _ in range(2) if (epoch := stopped.advance()) is not None)
    stopped.save(tmp_path)
    resumed.load(tmp_path)
    epoch = resumed.advance()
    assert epoch is not None and resumed.seconds == pytest.approx(spent + epoch.seconds) and spent > 0


def test_patience_ends_a_trial_and_its_best_weights_come_back(small_digits):
    settings = replace(SETTINGS, max_epochs=50, patience=2, min_delta=0.02)
    reports: list[Epoch] = []
    trial = run_trial(DENSE, small_digits, settings=settings, report=reports.append)
    assert trial.ended is not None and trial.ended.reason == "early_stopping"
    assert len(reports) < 50
    validation = small_digits.validation
    batches = Batches(validation, 10, 80, np.arange(len(validation)), None, 0)
    trial.model.compile(loss="categorical_crossentropy", metrics=["accuracy"])
    accuracy = trial.model.evaluate(batches, verbose=0, return_dict=True)["accuracy"]
    assert accuracy == pytest.approx(max(report.metrics["val_accuracy"] for report in reports))


def test_the_batches_that_keras_looks_at_first_are_read_once_for_both_readings(small_digits):
    class Counting:
        """Images that count how often they are read."""

        reads = 0

        def __getitem__(self, rows: np.ndarray) -> np.ndarray:
            self.reads += 1
            return small_digits.train.images[rows]

    counting = Counting()
    train = replace(small_digits.train, images=counting)
    order = np.random.default_rng(0).permutation(len(train))
    batches = Batches(train, 10, 50, order, None, 0)
    looked_at = [batches[0], batches[1]]
    epoch = [batches[index] for index in range(len(batches))]
    assert counting.reads == len(batches)
    plain = Batches(small_digits.train, 10, 50, order, None, 0)
    for found, wanted in zip(
        [*looked_at, *epoch], [plain[0], plain[1], *(plain[index] for index in range(len(plain)))], strict=True
    ):
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])


def test_patience_does_not_end_the_head_phase(small_digits):
    settings = replace(SETTINGS, max_epochs=4, head_epochs=3, patience=1, min_delta=1.0)  # nothing counts as better
    reports = epochs_of(BACKBONE, small_digits, settings)
    assert [report.phase for report in reports] == ["head", "head", "head", "fine_tune"]


def test_a_loss_that_is_not_a_number_is_a_failed_trial_with_its_reason(small_digits):
    trial = run_trial({**DENSE, "learning_rate": 10.0, "optimizer": "sgd", "preprocess": "scale(-1e30,1e30)"},
                      small_digits, settings=SETTINGS, report=lambda _epoch: None)  # fmt: skip
    assert trial.ended is not None and trial.ended.status == "failed"
    assert "not a number" in trial.ended.reason and "epoch 1" in trial.ended.reason
    with pytest.raises(TunerError, match="has ended"):
        trial.advance()


def test_a_loss_far_above_that_of_guessing_is_a_failed_trial_and_a_high_one_is_not(small_digits):
    run = {**DENSE, "optimizer": "sgd", "preprocess": "scale(0,255)"}
    trial = run_trial({**run, "learning_rate": 1.0}, small_digits, settings=SETTINGS, report=lambda _epoch: None)
    assert trial.ended is not None and trial.ended.status == "failed"
    assert re.fullmatch(
        r"loss exploded: loss is [0-9.e+]+ at epoch 1, more than 1000 times that of guessing", trial.ended.reason
    )
    adam = {**DENSE, "learning_rate": 1.0}
    reports = epochs_of(adam, small_digits, SETTINGS)
    assert reports[0].metrics["loss"] > 5 * math.log(10) and len(reports) == 4


@dataclass(frozen=True)
class LargeSplit(Split):
    """A split that cannot be trained on as long as `is_too_large` says so."""

    is_too_large: Callable[[], bool] = lambda: False

    def __len__(self) -> int:
        if self.is_too_large():
            raise MemoryError("cannot hold them")
        return super().__len__()


def trial_on_large_data(data: Dataset, largest_batch: int) -> Trial:
    """Return a trial whose data fit into memory with batches of so many images at most."""
    trials: list[Trial] = []
    split = data.train
    train = LargeSplit(
        split.images, split.rows, split.labels, is_too_large=lambda: trials[0].batch_size_used > largest_batch
    )
    trials.append(Trial(DENSE, replace(data, train=train), SETTINGS))
    return trials[0]


def test_out_of_memory_is_tried_once_more_at_half_the_batch_size(small_digits):
    trial = trial_on_large_data(small_digits, 24)
    assert trial.batch_size_used == 48
    assert trial.advance() is not None
    assert trial.batch_size_used == 24 and trial.epoch == 1


def test_out_of_memory_at_half_the_batch_size_too_is_a_failed_trial(small_digits):
    trial = trial_on_large_data(small_digits, 1)
    assert trial.advance() is None
    assert trial.ended is not None and trial.ended.reason == "out of memory: cannot hold them"


def test_memory_that_is_too_small_for_an_optimizer_of_more_blocks_is_a_failed_trial(small_digits, monkeypatch):
    trial = Trial(BACKBONE, small_digits, replace(SETTINGS, max_epochs=2, head_epochs=1))
    assert trial.advance() is not None

    def without_room(*_arguments: Any) -> Any:
        raise MemoryError("cannot hold two moments of each weight")

    monkeypatch.setattr(Structure, "trainer", without_room)
    assert trial.advance() is None
    assert trial.ended is not None and trial.ended.reason == "out of memory: cannot hold two moments of each weight"


def test_a_checkpoint_of_another_model_is_refused(small_digits, tmp_path):
    Trial(DENSE, small_digits, SETTINGS).save(tmp_path)
    other = Trial({**DENSE, "dense_units": 16}, small_digits, SETTINGS)
    with pytest.raises(RunError, match="of another model"):
        other.load(tmp_path)


def test_a_checkpoint_of_a_frozen_backbone_holds_the_head_only(small_digits, tmp_path):
    large = {**BACKBONE, "architecture": "mobilenet", "alpha": 0.25, "unfreeze_depth": 0}
    trial = Trial(large, small_digits, SETTINGS)
    trial.save(tmp_path)
    head_only = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert head_only < 0.1 * 4 * trial.parameters


def test_phases_follow_the_epochs():
    assert phase_of(9, False, 3, 2) == "scratch"
    assert [phase_of(epoch, True, 0, 2) for epoch in (1, 9)] == ["head", "head"]
    assert [phase_of(epoch, True, 1, 2) for epoch in (2, 3)] == ["head", "fine_tune"]


def test_what_breaks_is_described_in_one_line():
    value, failure = attempt(lambda: int("x"))
    assert value is None and failure == "ValueError: invalid literal for int() with base 10: 'x'"
    assert describe_failure(RuntimeError("\n first\nsecond")) == "RuntimeError: first"


def test_batches_follow_their_order_and_cover_every_image_once(small_digits):
    train = small_digits.train
    order = np.random.default_rng(0).permutation(len(train))
    batches = Batches(train, 10, 50, order, None, 0)
    labels = np.concatenate([np.argmax(batches[index][1], axis=1) for index in range(len(batches))])
    assert np.array_equal(labels, train.labels[order])


def test_checkpoints_of_every_epoch_are_written_before_it_is_reported(small_digits, tmp_path: Path):
    seen: list[bool] = []
    folder, settings = tmp_path / "checkpoint", replace(SETTINGS, max_epochs=2)
    run_trial(
        DENSE,
        small_digits,
        settings=settings,
        checkpoint_directory=folder,
        report=lambda _epoch: seen.append((folder / "checkpoint.npz").exists()),
    )
    assert seen == [True, True]


AUGMENTED = {**DENSE, "augment": "rotate(20)|brightness(0.3)|mixup(0.5)", "class_weight": "balanced"}
ON_DEVICE = replace(SETTINGS, max_epochs=3, augments_on_device=True)


def test_augmentation_on_the_device_is_the_same_after_a_pause_and_is_not_that_of_the_host(few_digits, tmp_path):
    whole = numbers(epochs_of(AUGMENTED, few_digits, ON_DEVICE))
    assert numbers(epochs_of(AUGMENTED, few_digits, replace(ON_DEVICE, augments_on_device=False))) != whole
    before = Trial(AUGMENTED, few_digits, ON_DEVICE)
    first = before.advance()
    before.save(tmp_path)
    after = Trial({**AUGMENTED}, few_digits, ON_DEVICE)
    after.load(tmp_path)
    assert numbers([first, after.advance(), after.advance()]) == whole
    assert all(math.isfinite(value) for report in whole for value in report["metrics"].values())


@pytest.mark.full
def test_trials_that_differ_in_strengths_share_what_is_compiled_and_each_has_the_numbers_of_its_own(few_digits):
    gentle, strong = ({**DENSE, "augment": f"rotate({by})|noise({by / 100})"} for by in (1.5, 60))
    alone = [Trial(one, few_digits, ON_DEVICE).advance().metrics for one in (gentle, strong)]
    shared, trainers, together = CompiledModels(), [], []
    for one in (gentle, strong):
        trial = Trial(one, few_digits, ON_DEVICE, compiled_models=shared)
        together.append(trial.advance().metrics)
        trainers.append(trial._trainer)
    assert together == alone and alone[0] != alone[1]
    assert trainers[0] is trainers[1]


def test_what_the_device_lacks_is_augmented_on_the_host(few_digits):
    lacking = {**DENSE, "augment": "blur(1)|rotate(20)"}
    there, here = (
        numbers(epochs_of(lacking, few_digits, replace(ON_DEVICE, max_epochs=1, augments_on_device=is_there)))
        for is_there in (True, False)
    )
    assert there == here
