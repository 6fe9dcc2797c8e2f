"""Recipes: optimizers, schedules and their numbers; a trial that pauses goes on as if it had not."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.training.test_trial import numbers
from tuner.common.errors import InputError
from tuner.models.network import block_depths
from tuner.models.parameters import GENERAL, OPTIMIZERS
from tuner.training.compiled_models import CompiledModels
from tuner.training.recipes.numbers import SCHEDULE_FREE, Position, base_rate, mean_rate, numbers_of
from tuner.training.recipes.optimizers import CLASSES, build_optimizer
from tuner.training.recipes.schedules import IN_STEPS, PLATEAU_EPOCHS, SCHEDULES, factor
from tuner.training.settings import TrialSettings, phase_span
from tuner.training.trial import Trial

pytestmark = pytest.mark.usefixtures("small_mobilenet")
SETTINGS = TrialSettings(
    max_epochs=4, head_epochs=2, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=7
)
DENSE = {"architecture": "dense", "hidden_layers": 1, "dense_units": 8, "dropout": 0.2, "batch_size": 16}


# --- schedules ---


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("steps", "warm_up"), [(1, 0), (2, 0), (100, 0), (100, 7.5), (100, 100), (10, 500), (1, 3)])
def test_a_schedule_never_leaves_its_bounds_rises_first_and_falls_then(schedule: str, steps: int, warm_up: float):
    given = numbers_of({"schedule": schedule, "warmup_epochs": warm_up}, Position(0, steps, 1))
    rates = factor(schedule, np.arange(steps), given["steps"], given["warm_up"])
    assert np.isfinite(rates).all() and (rates > 0).all() and (rates <= 1).all()
    top = int(np.argmax(rates))
    assert (np.diff(rates[: top + 1]) >= 0).all() and (np.diff(rates[top:]) <= 1e-12).all()
    if warm_up == 0 and schedule != "one_cycle":
        assert rates[0] == 1
    if steps == 100 and warm_up < 100:
        assert rates[-1] < 0.05 if schedule in IN_STEPS else rates[-1] == 1


def test_one_rule_is_told_and_trained():
    steps = np.arange(40)
    for schedule in SCHEDULES:
        told = factor(schedule, steps, 40, 6.0)
        trained = factor(schedule, keras.ops.arange(40.0), 40.0, 6.0, keras.ops)
        np.testing.assert_allclose(keras.ops.convert_to_numpy(trained), told, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_rate_of_a_step_does_not_depend_on_how_an_epoch_is_parted_into_batches(schedule: str):
    """A batch that is halved for want of memory doubles the steps; the rate goes on where it was."""
    configuration = {"schedule": schedule, "warmup_epochs": 1.5}
    coarse = [mean_rate(configuration, 0.01, Position(epoch, 8, 500)) for epoch in range(8)]
    fine = [mean_rate(configuration, 0.01, Position(epoch, 8, 1000)) for epoch in range(8)]
    np.testing.assert_allclose(fine, coarse, rtol=0.01)


def test_a_constant_rate_is_told_as_it_was_given():
    assert mean_rate({}, 0.003, Position(3, 8, 7)) == 0.003 == base_rate({}, 0.003, Position(3, 8, 7, reductions=2))
    assert base_rate({"schedule": "plateau"}, 0.004, Position(3, 8, 7, reductions=2)) == 0.001


@pytest.mark.parametrize(
    ("phase", "depth", "max_epochs", "span"),
    [
        ("scratch", 0, 9, (0, 9)), ("head", 0, 9, (0, 9)), ("head", 2, 9, (0, 3)), ("head", 2, 2, (0, 2)),
        ("fine_tune", 2, 9, (3, 6)),
    ],
)  # fmt: skip
def test_a_schedule_stretches_over_the_epochs_that_its_phase_has_at_most(phase, depth, max_epochs, span):
    assert phase_span(phase, depth, replace(SETTINGS, max_epochs=max_epochs, head_epochs=3)) == span


# --- optimizers ---


def test_the_optimizers_are_those_of_the_installed_keras():
    others = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer", "OptimizerMap"}
    others |= {"Ftrl"}  # sets all weights to almost 0 at its first step, and divides by a rate of 0
    found = {name for name, kind in vars(keras.optimizers).items() if inspect.isclass(kind)} - others
    assert set(CLASSES.values()) == found
    assert tuple(CLASSES) == OPTIMIZERS and tuple(GENERAL["schedule"].values) == SCHEDULES


def steps_of(optimizer: Any, steps: int = 4) -> list[np.ndarray]:
    """Return the weights of a small layer after some steps on fixed gradients, compiled as in training."""
    draw = np.random.default_rng(0)
    weights = [keras.Variable(draw.normal(size=shape).astype(np.float32)) for shape in ((6, 3), (3,))]
    optimizer.build(weights)
    if hasattr(optimizer, "begin_epoch"):
        optimizer.begin_epoch(0.01, numbers_of(optimizer.asked, Position(0, 2, steps)))
    for _ in range(steps):
        optimizer.apply([draw.normal(size=weight.shape).astype(np.float32) for weight in weights], weights)
    return [keras.ops.convert_to_numpy(weight) for weight in weights]


def ours(**configuration: Any) -> list[np.ndarray]:
    optimizer = build_optimizer(configuration)
    type(optimizer).asked = configuration
    return steps_of(optimizer)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in SCHEDULE_FREE])
def test_an_optimizer_is_that_of_keras_with_decay_and_momentum_as_numbers_of_a_trial(name: str):
    options: dict[str, Any] = {
        "sgd": {"nesterov": True, "momentum": 0.8},
        "muon": {"adam_weight_decay": 0.1, "momentum": 0.8},
    }.get(name, {})
    if name == "rmsprop":
        options = {"momentum": 0.8}
    keras_own = steps_of(getattr(keras.optimizers, CLASSES[name])(0.01, weight_decay=0.1, **options))
    for found, wanted in zip(ours(optimizer=name, weight_decay=0.1, momentum=0.8), keras_own, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    plain = ours(optimizer=name)
    assert all(np.isfinite(one).all() for one in plain)
    assert any(not np.array_equal(one, other) for one, other in zip(plain, keras_own, strict=True))


@pytest.mark.parametrize("momentum", [None, 0.0, 0.5])
@pytest.mark.parametrize("name", ["sgd", "muon", "rmsprop", "adam"])
def test_a_momentum_is_heeded_by_optimizers_that_have_one_whatever_its_value(name: str, momentum: float | None):
    asked = {} if momentum is None else {"momentum": momentum}
    found = ours(optimizer=name, **asked)
    own = {"sgd": 0.9, "muon": 0.95, "rmsprop": 0.0}.get(name)
    same = ours(optimizer=name, **({} if own is None else {"momentum": own}))
    close = all(np.allclose(one, other, rtol=1e-6) for one, other in zip(found, same, strict=True))
    assert close == (own is None or momentum in (None, own))
    if name == "sgd" and momentum == 0.0:
        plain = steps_of(keras.optimizers.SGD(0.01))
        assert all(np.allclose(one, other, rtol=1e-6) for one, other in zip(found, plain, strict=True))


@pytest.mark.parametrize("clip_norm", [0.1, 1.0, 1e6])
def test_gradients_are_clipped_by_the_norm_of_all_together(clip_norm: float):
    keras_own = steps_of(keras.optimizers.SGD(0.01, global_clipnorm=clip_norm))
    found = ours(optimizer="sgd", momentum=0.0, clip_norm=clip_norm)
    assert all(np.allclose(a, b, rtol=1e-5) for a, b in zip(found, keras_own, strict=True))


@pytest.mark.parametrize("schedule", IN_STEPS)
def test_every_step_has_the_rate_of_its_schedule(schedule: str):
    asked = {"optimizer": "sgd", "momentum": 0.0, "schedule": schedule}
    numbers, weight = numbers_of(asked, Position(0, 2, 4)), keras.Variable(np.zeros(1, np.float32))
    optimizer = build_optimizer(asked)
    optimizer.build([weight])
    optimizer.begin_epoch(0.5, numbers)
    moved = []
    for _ in range(4):
        before = float(weight[0])
        optimizer.apply([np.ones(1, np.float32)], [weight])
        moved.append(before - float(weight[0]))
    np.testing.assert_allclose(moved, 0.5 * factor(schedule, np.arange(4), 8, numbers["warm_up"]), rtol=1e-5)


# --- trials ---


def epochs(trial: Trial, count: int = 99) -> list[dict[str, Any]]:
    found = []
    while trial.ended is None and len(found) < count:
        epoch = trial.advance()
        assert epoch is not None, trial.ended
        found.append(epoch)
    return numbers(found)


def whole_and_paused(
    configuration: dict[str, Any], data: Any, folder: Path, settings: TrialSettings = SETTINGS, pause: int = 2
) -> list[Any]:
    """Return the epochs of a trial, having checked that one that pauses after some of them has the same."""
    bench = CompiledModels()
    whole = epochs(Trial(configuration, data, settings, compiled_models=bench))
    paused = Trial(configuration, data, settings, compiled_models=bench)
    parts = epochs(paused, pause)
    paused.save(folder)
    resumed = Trial(configuration, data, settings, compiled_models=bench)
    resumed.load(folder)
    assert parts + epochs(resumed) == whole
    return whole


RECIPES: dict[str, dict[str, Any]] = {
    "cosine": {"schedule": "cosine", "warmup_epochs": 1.5, "optimizer": "sgd", "momentum": 0.8, "clip_norm": 1.0},
    "plateau": {"schedule": "plateau", "optimizer": "muon", "weight_decay": 0.01},
    "average": {
        "ema": 0.9,
        "gradient_accumulation": 3,
        "schedule": "one_cycle",
        "optimizer": "adamw",
        "clip_norm": 1.0,
    },
    "schedule-free": {"optimizer": "schedule_free_adamw", "schedule": "cosine", "warmup_epochs": 1, "ema": 0.9},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] * (name != "average")) for name in RECIPES]
)
def test_a_trial_that_pauses_is_one_that_never_paused(name: str, few_digits, tmp_path):
    settings = replace(SETTINGS, min_delta=1.0) if name == "plateau" else SETTINGS  # nothing counts as better
    whole = whole_and_paused({**DENSE, **RECIPES[name]}, few_digits, tmp_path, settings, 3)
    rates = [epoch["learning_rate"] for epoch in whole]
    if name == "plateau":
        assert rates == pytest.approx([0.001, 0.001, 0.001, 0.0005]) and PLATEAU_EPOCHS == 2
    elif name == "schedule-free":
        assert rates == pytest.approx([0.000625, 0.001, 0.001, 0.001])  # 4 steps of warm-up, and no schedule
    else:
        assert rates[1] > rates[0] and rates[-1] < 0.3 * max(rates)


BACKBONE = {
    "architecture": "mobilenet_v2", "alpha": 0.35, "weights": "none", "preprocess": "resize(32)|scale(-1,1)",
    "unfreeze_depth": 2, "batch_size": 30, "learning_rate": 0.003, "head_units": 4, "head_batch_normalization": True,
}  # fmt: skip


def block_weights(trial: Trial) -> list[list[np.ndarray]]:
    """Return the weights of the head, then of each block from the output."""
    built = trial._built
    of = block_depths(built, 2)
    variables = [one for one in built.model.variables if "seed" not in one.path]
    return [[keras.ops.convert_to_numpy(one) for one in variables if of.get(id(one), 0) == depth] for depth in range(3)]


def moved(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    return not all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.full
def test_blocks_are_unfrozen_one_by_one_and_a_pause_between_changes_nothing(few_digits, tmp_path):
    recipe = {
        "unfreeze": "gradual", "layer_decay": 0.5, "schedule": "cosine", "ema": 0.9, "clip_norm": 1.0,
        "weight_decay": 0.01, "warmup_epochs": 1,
    }  # fmt: skip
    settings = replace(SETTINGS, max_epochs=3, head_epochs=1)
    bench, configuration = CompiledModels(), {**BACKBONE, **recipe}
    trial, seen, whole = Trial(configuration, few_digits, settings, compiled_models=bench), [], []
    for epoch in range(3):
        before = block_weights(trial)
        whole += epochs(trial, 1)
        seen.append([moved(one, other) for one, other in zip(before, block_weights(trial), strict=True)])
        if epoch == 1:
            trial.save(tmp_path)
    assert seen == [[True, False, False], [True, True, False], [True, True, True]]
    resumed = Trial(configuration, few_digits, settings, compiled_models=bench)
    resumed.load(tmp_path)
    assert epochs(resumed) == whole[2:]


def test_blocks_have_rates_of_their_own_and_so_has_their_decay():
    weights = [keras.Variable(np.ones(1, np.float32)) for _ in range(3)]
    asked = {"optimizer": "sgd", "momentum": 0.0, "layer_decay": 0.5, "weight_decay": 0.1}
    optimizer = build_optimizer(asked, 2, [0, 1, 2])
    optimizer.build(weights)
    optimizer.begin_epoch(0.1, numbers_of(asked, Position(0, 1, 1, depth=2)))
    optimizer.apply([np.ones(1, np.float32)] * 3, weights)
    found = [float(weight[0]) for weight in weights]
    assert found == pytest.approx([1 - 0.1 * scale * 0.1 - 0.1 * scale for scale in (1, 0.5, 0.25)])


def test_a_phase_without_enough_batches_for_one_step_is_refused():
    asked = {"gradient_accumulation": 13}
    with pytest.raises(InputError, match="must be at most the batches of a phase, 12, or it trains nothing; got 13"):
        numbers_of(asked, Position(0, 3, 4))
    assert numbers_of(asked, Position(0, 4, 4))["steps"] == 16


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_block_that_waits_stays_as_it_is_with_any_optimizer(name: str):
    weights = [keras.Variable(np.ones((2, 2), np.float32)) for _ in range(3)]
    asked = {"optimizer": name, "unfreeze": "gradual", "weight_decay": 0.1}
    optimizer = build_optimizer(asked, 2, [0, 1, 2])
    optimizer.build(weights)
    optimizer.begin_phase()
    optimizer.begin_epoch(0.1, numbers_of(asked, Position(0, 2, 3, depth=2)))
    for _ in range(3):
        optimizer.apply([np.ones((2, 2), np.float32)] * 3, weights)
    far = [float(np.abs(keras.ops.convert_to_numpy(weight) - 1).max()) for weight in weights]
    assert min(far[:2]) > 1e-4 and far[2] < 1e-6


# --- averages ---


def test_the_average_is_validated_kept_as_the_best_and_exported_and_training_goes_on_from_the_weights(
    few_digits, tmp_path
):
    network = {**DENSE, "batch_normalization": True, "learning_rate": 0.01}
    plain, averaged = Trial(network, few_digits, SETTINGS), Trial({**network, "ema": 0.9}, few_digits, SETTINGS)
    raw = [epochs(trial, 2) for trial in (plain, averaged)]
    assert [one["metrics"]["loss"] for one in raw[0]] == [one["metrics"]["loss"] for one in raw[1]]
    assert [one["metrics"]["val_loss"] for one in raw[0]] != [one["metrics"]["val_loss"] for one in raw[1]]
    weights = [[keras.ops.convert_to_numpy(one) for one in trial.model.weights] for trial in (plain, averaged)]
    assert not moved(*weights)  # those that are trained are the same
    trial = averaged
    epochs(trial)
    trial.restore_best()
    accuracy = (trial.probabilities(few_digits.validation).argmax(axis=1) == few_digits.validation.labels).mean()
    assert accuracy == pytest.approx(trial.best)
    trial.save_model(tmp_path / "best.keras")
    loaded = keras.models.load_model(tmp_path / "best.keras")
    images, _ = few_digits.validation.batch(np.arange(20))
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), trial.probabilities(few_digits.validation)[:20], atol=1e-5
    )


@pytest.mark.parametrize("accumulated", [1, 3])
def test_an_average_is_that_of_the_steps_statistics_too(accumulated: int):
    weight, statistic = (keras.Variable(np.zeros(1, np.float32)) for _ in range(2))
    asked = {"optimizer": "sgd", "momentum": 0.0, "ema": 0.8, "gradient_accumulation": accumulated}
    optimizer = build_optimizer(asked, 0, [0], [statistic])
    optimizer.build([weight])
    optimizer.begin_phase()
    optimizer.begin_epoch(1.0, numbers_of(asked, Position(0, 1, 9)))
    wanted = [0.0, 0.0]
    for step in range(1, 10):
        statistic.assign([step])
        optimizer.apply([np.full(1, -step, np.float32)], [weight])
        if step % accumulated == 0:
            done = step // accumulated
            kept = min(0.8, (1 + done) / (10 + done))
            now = [float(weight[0]), float(step)]
            wanted = [kept * old + (1 - kept) * new for old, new in zip(wanted, now, strict=True)]
    assert [float(value[0]) for value, _ in optimizer.averages()] == pytest.approx(wanted)


def test_what_schedule_free_validates_is_the_mean_of_where_its_steps_led():
    weight = keras.Variable(np.zeros(1, np.float32))
    optimizer = build_optimizer({"optimizer": "schedule_free_adamw"})
    optimizer.build([weight])
    optimizer.begin_phase()
    optimizer.begin_epoch(0.1, numbers_of({}, Position(0, 1, 9)))
    led = []
    for _ in range(6):
        optimizer.apply([np.ones(1, np.float32)], [weight])
        led.append(float(optimizer._momentums[0][0]))
    ((value, _),) = optimizer.averages()
    assert float(value[0]) == pytest.approx(np.mean(led), rel=1e-4) and led[-1] == pytest.approx(-0.6, rel=1e-3)


# --- gradient accumulation ---


def test_batches_that_are_accumulated_are_one_step_of_their_mean():
    accumulated = steps_of_mean({"gradient_accumulation": 2}, [1.0, 3.0, -2.0, 4.0, 8.0])
    assert accumulated == pytest.approx(steps_of_mean({}, [2.0, 1.0]))  # the fifth waits for a sixth


def steps_of_mean(asked: dict[str, Any], gradients: list[float]) -> float:
    weight, asked = keras.Variable(np.zeros(1, np.float32)), {"optimizer": "sgd", "weight_decay": 0.1, **asked}
    optimizer = build_optimizer(asked)
    optimizer.build([weight])
    optimizer.begin_epoch(0.1, numbers_of(asked, Position(0, 1, 9)))
    for gradient in gradients:
        optimizer.apply([np.full(1, gradient, np.float32)], [weight])
    return float(weight[0])


# --- interplay ---


def test_numbers_of_a_recipe_do_not_compile_anew(few_digits):
    bench, networks = CompiledModels(), []
    for momentum, clip_norm, decay, ema, warm_up, rate in (
        (0.9, 1.0, 0.1, 0.9, 1, 0.1),
        (0.5, 2.0, 0.01, 0.99, 2.5, 0.2),
    ):
        recipe = {
            "optimizer": "sgd", "momentum": momentum, "clip_norm": clip_norm, "weight_decay": decay, "ema": ema,
            "warmup_epochs": warm_up, "learning_rate": rate, "schedule": "cosine", "label_smoothing": 0.1,
        }  # fmt: skip
        structure = bench.take({**DENSE, **recipe}, few_digits.image_shape, 10, 1)
        networks.append(structure.trainer({**DENSE, **recipe}, 0, None).network)
    assert networks[0] is networks[1]


def test_a_rate_and_a_batch_size_that_are_changed_on_loading_follow_the_schedule(few_digits, tmp_path):
    """Population based training does so."""
    recipe = {**DENSE, "schedule": "linear"}
    trial = Trial(recipe, few_digits, SETTINGS)
    trial.advance()
    trial.save(tmp_path)
    changed = Trial({**recipe, "learning_rate": 0.01, "batch_size": 30}, few_digits, SETTINGS)
    changed.load(tmp_path)
    epoch = changed.advance()
    assert epoch is not None and epoch.learning_rate == pytest.approx(0.01 * np.mean([0.75, 0.625]))
    assert float(changed.optimizer.learning_rate) == pytest.approx(0.01 * 0.5)  # of the step after


def test_a_batch_that_is_halved_changes_neither_schedule_nor_average(few_digits):
    trial = Trial({**DENSE, "schedule": "linear", "ema": 0.9}, few_digits, SETTINGS)
    trial.advance()
    before = [keras.ops.convert_to_numpy(one) for one in trial.model.weights]
    assert trial._halve_batch()
    assert not moved(before, [keras.ops.convert_to_numpy(value) for value, _ in trial._trainer.own.averages()])
    epoch = trial.advance()
    assert epoch is not None and epoch.learning_rate == pytest.approx(0.001 * np.mean(1 - np.arange(8, 16) / 32))
