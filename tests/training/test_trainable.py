"""Training functions of other people as trials: what they are given, what they may yield, and how they go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.support.own_loop import PARAMETERS, softmax_regression
from tuner.api.trainable import Epoch
from tuner.common.errors import InputError, RunError
from tuner.datasets.loading import Dataset
from tuner.training._trainable_data import Facts, TrainingData
from tuner.training._trainable_state import StateError, pack, unpack
from tuner.training.settings import Ended, TrialSettings
from tuner.training.trainable import Trainable, TrainableTrial, load_state, metrics_problem

SETTINGS = TrialSettings(
    max_epochs=4, head_epochs=2, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=7
)
GOOD = {"val_accuracy": 0.5, "val_loss": 1.0}


def made(function: Callable[..., Any], predict: Any = None) -> Trainable:
    return Trainable("own", function, PARAMETERS, predicts=predict)


def trial_of(function: Callable[..., Any], data: Dataset, predict: Any = None, **settings: Any) -> TrainableTrial:
    return TrainableTrial(made(function, predict), {}, data, replace(SETTINGS, **settings))


def yielding(*yielded: Any) -> Callable[..., Iterator[Any]]:
    """A function that yields these, one after the other."""

    def train(configuration: Any, data: Any, state: Any = None) -> Iterator[Any]:
        yield from yielded

    return train


def run(trial: TrainableTrial) -> list[dict[str, float]]:
    found = []
    while trial.ended is None:
        if (epoch := trial.advance()) is not None:
            found.append(dict(epoch.metrics))
    return found


# --- a training that goes well ---


def test_a_training_learns_and_ends_after_the_epochs_of_the_study(small_digits: Dataset) -> None:
    trial = TrainableTrial(softmax_regression, {"learning_rate": 0.5}, small_digits, SETTINGS)
    epochs = run(trial)
    assert len(epochs) == trial.epoch == 4 and trial.ended is not None and trial.ended.reason == "max_epochs"
    assert trial.best == max(epoch["val_accuracy"] for epoch in epochs) > 0.7


def test_a_training_that_was_cut_and_kept_no_state_begins_anew(small_digits: Dataset, tmp_path: Path) -> None:
    function = yielding(*(Epoch(GOOD) for _ in range(4)))
    cut, again = trial_of(function, small_digits), trial_of(function, small_digits)
    cut.advance()
    cut.ended = Ended("completed", "time_budget")
    cut.save(tmp_path)
    again.load(tmp_path)
    again.ended = None
    assert len(run(again)) == again.epoch == 4


def test_a_training_that_is_interrupted_goes_on_bit_for_bit(small_digits: Dataset, tmp_path: Path) -> None:
    configuration = {"learning_rate": 0.3, "momentum": 0.8}
    whole = TrainableTrial(softmax_regression, configuration, small_digits, SETTINGS)
    expected = run(whole)
    first = TrainableTrial(softmax_regression, configuration, small_digits, SETTINGS)
    begun = [dict(epoch.metrics) for _ in range(2) if (epoch := first.advance()) is not None]
    first.save(tmp_path)
    first.advance()  # what comes after changes nothing of what was kept
    second = TrainableTrial(softmax_regression, configuration, small_digits, SETTINGS)
    second.load(tmp_path)
    assert second.epoch == 2 and begun + run(second) == expected
    assert second.best == whole.best and second.ended == whole.ended
    np.testing.assert_array_equal(
        whole.probabilities(small_digits.validation), second.probabilities(small_digits.validation)
    )


def test_the_state_of_the_best_epoch_is_kept_though_the_function_writes_over_it(small_digits: Dataset) -> None:
    def train(configuration: Any, data: Any, state: Any = None) -> Iterator[Epoch]:
        weights = np.zeros(3)
        for value in (0.2, 0.9, 0.4):
            weights += 1
            yield Epoch({"val_accuracy": value}, {"weights": weights})

    trial = trial_of(train, small_digits, max_epochs=3)
    run(trial)
    trial.restore_best()
    assert unpack(*trial._state)["weights"].tolist() == [2, 2, 2]


def test_the_best_state_survives_a_checkpoint_and_is_exported(small_digits: Dataset, tmp_path: Path) -> None:
    states = [{"weights": np.full(2, step), "name": f"epoch {step}"} for step in range(4)]
    values = (0.2, 0.9, 0.4, 0.3)
    train = yielding(*(Epoch({"val_accuracy": value}, state) for value, state in zip(values, states, strict=True)))
    trial = trial_of(train, small_digits)
    run(trial)
    trial.save(tmp_path)
    again = trial_of(train, small_digits)
    again.load(tmp_path)
    again.restore_best()
    again.save_model(tmp_path / "best.npz")
    found = load_state(tmp_path / "best.npz")
    assert found["name"] == "epoch 1" and found["weights"].tolist() == [1, 1]
    assert not list(tmp_path.glob("*partial*"))


def test_patience_ends_a_training_as_it_ends_any(small_digits: Dataset) -> None:
    values = (0.5, 0.6, 0.6, 0.55, 0.9)
    trial = trial_of(yielding(*(Epoch({"val_accuracy": value}, 1) for value in values)), small_digits,
                     patience=2, max_epochs=10)  # fmt: skip
    assert len(run(trial)) == 4 and trial.ended is not None and trial.ended.reason == "early_stopping"


def test_a_function_that_returns_has_ended(small_digits: Dataset) -> None:
    trial = trial_of(yielding(Epoch(GOOD, 1), Epoch(GOOD, 2)), small_digits)
    assert len(run(trial)) == 2
    assert trial.ended is not None and (trial.ended.status, trial.ended.reason) == ("completed", "ended_by_itself")


def test_an_ended_training_frees_what_its_function_holds(small_digits: Dataset) -> None:
    closed = []

    def train(configuration: Any, data: Any, state: Any = None) -> Iterator[Epoch]:
        try:
            while True:
                yield Epoch(GOOD, 1)
        finally:
            closed.append(True)

    run(trial_of(train, small_digits, max_epochs=2))
    assert closed == [True]


def test_a_population_goes_on_with_another_configuration(small_digits: Dataset, tmp_path: Path) -> None:
    seen = []

    def train(configuration: Any, data: Any, state: Any = None) -> Iterator[Epoch]:
        seen.append((configuration["learning_rate"], state))
        while True:
            yield Epoch(GOOD, {"step": 1})

    one = TrainableTrial(made(train), {"learning_rate": 0.1}, small_digits, SETTINGS)
    one.advance()
    one.save(tmp_path)
    other = TrainableTrial(made(train), {"learning_rate": 0.2}, small_digits, SETTINGS)
    other.load(tmp_path)
    other.advance()
    assert seen == [(0.1, None), (0.2, {"step": 1})]


def test_every_parameter_is_given_and_the_configuration_is_the_functions_own(small_digits: Dataset) -> None:
    seen: list[dict[str, Any]] = []

    def train(configuration: Any, data: Any, state: Any = None) -> Iterator[Epoch]:
        seen.append(dict(configuration))
        configuration.clear()
        yield Epoch(GOOD, 1)

    trial = TrainableTrial(made(train), {"momentum": 0.5}, small_digits, SETTINGS)
    run(trial)
    assert seen == [{"learning_rate": 0.1, "momentum": 0.5, "batch_size": 32}]
    assert trial.configuration == {"momentum": 0.5}


def test_numbers_of_numpy_are_numbers_and_the_learning_rate_may_be_told(small_digits: Dataset) -> None:
    metrics = {"val_accuracy": np.float32(1.0) + np.float32(1e-7), "loss": np.array([2.5]), "learning_rate": 0.01}
    trial = trial_of(yielding(Epoch(metrics, 1)), small_digits)
    epoch = trial.advance()
    assert epoch is not None and epoch.learning_rate == 0.01
    assert epoch.metrics["loss"] == 2.5 and type(epoch.metrics["val_accuracy"]) is float


# --- what a function must not do ---


def raising(error: BaseException) -> Callable[..., Iterator[Any]]:
    def train(configuration: Any, data: Any, state: Any = None) -> Iterator[Any]:
        raise error
        yield

    return train


CANNOT_BE_YIELDED = {
    "a mapping": ({"val_accuracy": 0.5}, "yielded dict at epoch 1; it must yield tuner.Epoch(metrics, state)"),
    "a pair": (({"val_accuracy": 0.5}, 1), "yielded tuple at epoch 1; it must yield tuner.Epoch(metrics, state)"),
    "nothing": (None, "yielded NoneType at epoch 1; it must yield tuner.Epoch"),
    "metrics that are none": (Epoch(0.5, 1), "yielded at epoch 1 float for its metrics"),
    "no metric": (Epoch({}, 1), "no metric, and not val_accuracy, which the study optimises"),
    "another metric": (Epoch({"accuracy": 0.5, "val_loss": 1.0}, 1), "accuracy, val_loss, and not val_accuracy"),
    "a metric misspelt": (Epoch({"val_acc": 0.5}, 1), "did you mean it by 'val_acc'?"),
    "percent": (Epoch({"val_accuracy": 93.5}, 1), "val_accuracy 93.5; it must be a share between 0 and 1"),
    "a negative share": (Epoch({"val_accuracy": -0.5}, 1), "val_accuracy -0.5; it must be a share"),
    "a text": (Epoch({"val_accuracy": "high"}, 1), "val_accuracy 'high'; it must be a number"),
    "a truth value": (Epoch({"val_accuracy": True}, 1), "val_accuracy True; it must be a number"),
    "several numbers": (Epoch({"val_accuracy": np.ones(3)}, 1), "it must be a number"),
    "a number as name": (Epoch({1: 0.5}, 1), "a metric of the name 1; it must be text"),
    "not a number": (Epoch({"val_accuracy": math.nan}, 1), "not a number: val_accuracy is nan at epoch 1"),
    "an infinite loss": (Epoch({**GOOD, "loss": math.inf}, 1), "loss exploded: loss is inf at epoch 1"),
    "an object": (Epoch(GOOD, {"net": [1, object()]}), "a state that cannot be kept: state['net'][1] must be of"),
    "a generator": (Epoch(GOOD, np.random.default_rng(0)), "give value.bit_generator.state"),
}


@pytest.mark.parametrize("case", CANNOT_BE_YIELDED)
def test_what_cannot_be_taken_ends_the_trial_in_the_words_of_its_author(case: str, small_digits: Dataset) -> None:
    yielded, words = CANNOT_BE_YIELDED[case]
    trial = trial_of(yielding(yielded), small_digits)
    assert trial.advance() is None
    assert trial.ended is not None and trial.ended.status == "failed" and words in trial.ended.reason
    if "is nan" not in words and "is inf" not in words:
        assert trial.ended.reason.startswith("trainable own (test_trainable.py) yielded")


def test_a_mistake_at_a_later_epoch_names_that_epoch(small_digits: Dataset) -> None:
    trial = trial_of(yielding(Epoch(GOOD, 1), Epoch({"val_loss": 1.0}, 2)), small_digits)
    assert len(run(trial)) == 1
    assert trial.ended is not None and "yielded at epoch 2 val_loss, and not val_accuracy" in trial.ended.reason


def test_every_metric_of_the_study_must_be_yielded(small_digits: Dataset) -> None:
    trial = trial_of(yielding(Epoch({"val_accuracy": 0.5}, 1)), small_digits, other_metrics=("val_auc",))
    run(trial)
    assert trial.ended is not None and "and not val_auc, which the study optimises" in trial.ended.reason


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (yielding(), "ended before it had yielded an epoch"),
        (raising(ValueError("no such layer\nmore")), "ValueError: no such layer (test_trainable.py, line "),
        (raising(MemoryError("cannot hold it")), "out of memory: cannot hold it"),
        (raising(SystemExit(0)), "SystemExit: 0"),
        (lambda configuration, data, state=None: [Epoch(GOOD, 1)], "must yield tuner.Epoch; it returned [tuner.Epoch("),
        (lambda configuration, data, state=None: None, "must yield tuner.Epoch; it returned None"),
    ],
    ids=["no epoch", "an error", "memory", "exit", "a list", "None"],
)  # fmt: skip
def test_whatever_a_function_raises_is_the_result_of_its_trial(
    function: Callable[..., Any], words: str, small_digits: Dataset
) -> None:
    trial = trial_of(function, small_digits)
    run(trial)
    assert trial.ended is not None and trial.ended.status == "failed" and words in trial.ended.reason


def test_a_function_that_predicts_must_yield_a_state(small_digits: Dataset) -> None:
    trial = trial_of(yielding(Epoch(GOOD)), small_digits, predict=lambda *given: None)
    run(trial)
    assert trial.ended is not None and "no state; predict needs one" in trial.ended.reason


def test_a_training_without_a_state_cannot_go_on_and_says_so(small_digits: Dataset, tmp_path: Path) -> None:
    trial = trial_of(yielding(Epoch(GOOD), Epoch(GOOD)), small_digits)
    trial.advance()
    trial.save(tmp_path)
    with pytest.raises(RunError, match=r"trainable own \(test_trainable.py\) yielded no state"):
        trial_of(yielding(Epoch(GOOD)), small_digits).load(tmp_path)


def test_a_value_that_a_parameter_does_not_take_is_refused(small_digits: Dataset) -> None:
    with pytest.raises(InputError, match=r"momentum must be between 0 and 0\.99; got 3"):
        TrainableTrial(softmax_regression, {"momentum": 3}, small_digits, SETTINGS)


def test_a_checkpoint_of_a_network_is_refused(small_digits: Dataset, tmp_path: Path) -> None:
    from tuner.training.checkpoint import Checkpoint, save_checkpoint

    save_checkpoint(tmp_path, Checkpoint({"epoch": 1}, {"weights": []}))
    with pytest.raises(RunError, match="not of a trainable"):
        trial_of(yielding(), small_digits).load(tmp_path)


# --- states ---

KEPT: dict[str, Any] = {
    "numbers": [0, -1, 2**70, 1.5, True, None, "text", ""],
    "special numbers": {"inf": math.inf, "minus": -math.inf},
    "tuples in lists": [(1, (2,)), [], (), {}],
    "keys that are numbers": {0: np.ones(2), "0": np.zeros(2)},
    "a random state": np.random.default_rng(3).bit_generator.state,
    "scalars of numpy": [np.float32(0.1), np.int8(3), np.bool_(True), np.datetime64("2026-01-01"), np.str_("a")],
    "arrays": [np.array(3.0), np.zeros((0, 4)), np.asfortranarray(np.ones((2, 3))), np.array(["a", "bc"])],
    "types": [np.ones(2, dtype) for dtype in ("float16", "complex64", ">i4", "bool", [("x", "f4"), ("y", "i2")])],
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray | np.generic):
        return type(one) is type(other) and one.dtype == other.dtype and bool(np.array_equal(one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("case", KEPT)
def test_a_state_comes_back_as_it_was_to_the_type(case: str, small_digits: Dataset, tmp_path: Path) -> None:
    trial = trial_of(yielding(Epoch(GOOD, KEPT[case])), small_digits)
    trial.advance()
    trial.save(tmp_path)
    again = trial_of(yielding(), small_digits)
    again.load(tmp_path)
    assert same(unpack(*again._state), KEPT[case])


def cyclic() -> list[Any]:
    found: list[Any] = [1]
    found.append(found)
    return found


def deep(levels: int) -> list[Any]:
    return [deep(levels - 1)] if levels else []


class Named(dict):
    pass


NOT_KEPT: dict[str, tuple[Any, str]] = {
    "a set": ({"a": {1, 2}}, r"state\['a'\] must be of .*; got set: give sorted\(value\)"),
    "bytes": (b"abc", r"state must be of .*; got bytes: give np.frombuffer"),
    "a function": ([len], r"state\[0\] must be of .*; got builtin_function_or_method"),
    "complex": ({"z": 1j}, r"state\['z'\] must be of .*; got complex"),
    "a pair as key": ({(1, 2): 3}, "the keys of state must be texts or whole numbers; got tuple"),
    "a truth value as key": ({True: 3}, "the keys of state must be texts or whole numbers; got bool"),
    "objects": ({"w": np.array([1, None])}, r"state\['w'\] must be an array of numbers or texts; got .* objects"),
    "records of objects": (np.zeros(1, [("x", object)]), "must be an array of numbers or texts"),
    "bfloat16": ({"w": np.ones(2, ml_dtypes.bfloat16)}, r"got bfloat16: give it .astype\('float32'\)"),
    "a masked array": ([np.ma.array([1], mask=[1])], "got numpy's MaskedArray: give its data and its mask"),
    "a class of dict": ({"inner": Named()}, r"got \w+'s Named: give dict\(value\)"),
    "itself": (cyclic(), r"state\[1\] must not hold itself"),
    "deep nesting": (deep(200), "must not be nested deeper than 100 levels"),
}


@pytest.mark.parametrize("case", NOT_KEPT)
def test_what_a_checkpoint_cannot_hold_is_named_by_its_place(case: str) -> None:
    state, words = NOT_KEPT[case]
    with pytest.raises(StateError, match=words):
        pack(state)


def test_an_exported_state_is_found_below_the_home_of_its_user(
    small_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = trial_of(yielding(Epoch({"val_accuracy": 0.5}, {"weights": np.ones(2)})), small_digits)
    run(trial)
    trial.save_model(tmp_path / "best.npz")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_state("~/best.npz")["weights"].tolist() == [1, 1]


def test_a_file_that_is_no_exported_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none.npz"):
        load_state(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", weights=np.ones(2))
    with pytest.raises(RunError, match=r"other\.npz"):
        load_state(tmp_path / "other.npz")


# --- data ---


@pytest.fixture
def given(small_digits: Dataset) -> TrainingData:
    return TrainingData(small_digits, 3, lambda: None)


def test_the_data_are_those_of_training_and_validation(given: TrainingData, small_digits: Dataset) -> None:
    assert len(given.train) == len(given.train.images) == 240 and len(given.validation) == 80
    assert given.train.images.shape == (240, 8, 8, 1) and given.train.weights is None
    assert given.class_names == small_digits.class_names and given.num_classes == 10 and given.seed == 3
    np.testing.assert_array_equal(given.train.labels, small_digits.train.labels)


INDICES = {
    "one": 3, "the last": -1, "a slice": slice(5, 60, 7), "backwards": slice(None, None, -1), "a list": [4, 1, 1],
    "an array": np.array([[3, 2], [1, 0]]), "nothing": np.array([], int), "inner": (slice(0, 9), slice(2, 5), 3),
    "an inner point": (7, 1, 2, 0), "all": Ellipsis, "a channel": (Ellipsis, 0), "an axis": (None, 3),
}  # fmt: skip


@pytest.mark.parametrize("case", INDICES)
def test_images_are_read_as_from_an_array(case: str, given: TrainingData) -> None:
    whole = np.asarray(given.train.images)
    assert whole.dtype == np.uint8 and np.array_equal(whole[INDICES[case]], given.train.images[INDICES[case]])


def test_images_are_read_by_a_mask_and_one_after_the_other(given: TrainingData) -> None:
    whole, mask = np.asarray(given.validation.images), given.validation.labels == 3
    assert np.array_equal(whole[mask], given.validation.images[mask])
    assert np.array_equal(whole, np.stack(list(given.validation.images)))
    with pytest.raises(IndexError):
        given.validation.images[80]


DONE_WITH = {
    "division": lambda images: images / 255, "the other way": lambda images: 1.0 - images,
    "comparison": lambda images: images > 3, "reshape": lambda images: images.reshape(len(images), -1),
    "astype": lambda images: images.astype("float32"), "a method": lambda images: images.mean(axis=(1, 2)),
    "a function": lambda images: np.mean(images, axis=0), "stacking": lambda images: np.concatenate([images, images]),
    "a copy": lambda images: images.copy(), "a transposition": lambda images: images.T,
    "size": lambda images: images.size,
    "another type": lambda images: np.asarray(images, dtype="float16"), "in a list": lambda images: list(images)[3],
}  # fmt: skip


@pytest.mark.parametrize("case", DONE_WITH)
def test_what_can_be_done_with_an_array_can_be_done_with_images(case: str, given: TrainingData) -> None:
    images = given.validation.images
    found, expected = (DONE_WITH[case](each) for each in (images, np.asarray(images)))
    assert np.array_equal(found, expected) and np.asarray(found).dtype == np.asarray(expected).dtype


def test_every_reading_is_a_sign_of_life(small_digits: Dataset) -> None:
    told: list[int] = []

    def train(configuration: Any, data: Any, state: Any = None) -> Iterator[Epoch]:
        for _ in range(2):
            data.train.images[:10]
            yield Epoch(GOOD, 1)

    run(TrainableTrial(made(train), {}, small_digits, SETTINGS, told.append))
    assert told == [1, 2]


def test_what_trials_share_cannot_be_written_to(given: TrainingData) -> None:
    with pytest.raises(ValueError, match="read-only"):
        given.train.labels[0] = 1
    given.train.images[:3][...] = 0
    assert given.train.images[:3].any()


def test_no_way_leads_to_the_test_images(given: TrainingData, small_digits: Dataset) -> None:
    test = small_digits.load_test()
    known = {image.tobytes() for image in test.batch(np.arange(len(test)))[0]}
    shown = {image.tobytes() for part in (given.train, given.validation) for image in np.asarray(part.images)}
    assert not known & shown
    names = [
        name for part in (given, given.train, given.train.images) for name in dir(part) if not name.startswith("__")
    ]
    assert not [name for name in names if "test" in name]
    for name in ("test", "test_images", "load_test"):
        assert not hasattr(given, name)
    with pytest.raises(AttributeError, match="no training function sees the test split"):
        attrgetter("test")(given)


def test_predict_is_given_facts_and_no_images() -> None:
    facts = Facts(("a", "b"), (8, 8, 1), 0)
    assert facts.num_classes == 2
    with pytest.raises(AttributeError, match=r"data.train is not there when predict is called.*keep in the state"):
        attrgetter("train")(facts)


# --- predictions ---


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (np.ones((3, 10)) / 10, r"an array \[80, 10\] for 80 images of 10 classes; got \(3, 10\)"),
        (np.zeros(80, int), r"got \(80,\)"),
        (np.full((80, 10), 3.0), "between 0 and 1; got 3: are these before a softmax"),
        (np.full((80, 10), -0.2), "between 0 and 1; got -0.2"),
        (np.full((80, 10), 0.5), "those of an image must sum to 1; got 5"),
        (np.full((80, 10), math.nan), "between 0 and 1; got nan"),
        ("cat", "of numbers; got str"),
        (None, "an array"),
        ([[1], [1, 2]], "of numbers; got list"),
    ],
    ids=["few", "labels", "logits", "negative", "sums", "nan", "text", "none", "ragged"],
)  # fmt: skip
def test_what_predict_returns_must_be_probabilities(found: Any, words: str, small_digits: Dataset) -> None:
    trial = trial_of(yielding(Epoch(GOOD, 1)), small_digits, predict=lambda *given: found)
    run(trial)
    with pytest.raises(RunError, match=f"predict of trainable own .* must return probabilities: .*{words}"):
        trial.probabilities(small_digits.validation)


def test_predict_may_return_lists_and_is_given_images_and_the_state(small_digits: Dataset) -> None:
    def predict(configuration: Any, data: Any, state: Any, images: np.ndarray) -> Any:
        assert images.dtype == np.uint8 and images.shape[1:] == data.image_shape and configuration["momentum"] == 0.9
        return [[state["share"]] + [0.0] * 8 + [1 - state["share"]] for _ in images]

    trial = trial_of(yielding(Epoch(GOOD, {"share": 0.25})), small_digits, predict=predict)
    run(trial)
    found = trial.probabilities(small_digits.validation)
    assert found.dtype == np.float32 and found.shape == (80, 10) and found[0, 9] == 0.75


def test_what_predict_raises_is_told_with_its_line(small_digits: Dataset) -> None:
    def predict(configuration: Any, data: Any, state: Any, images: np.ndarray) -> Any:
        return data.train.images

    trial = trial_of(yielding(Epoch(GOOD, 1)), small_digits, predict=predict)
    run(trial)
    with pytest.raises(
        RunError, match=r"predict of trainable own .* failed: AttributeError: .* \(test_trainable.py, line"
    ):
        trial.probabilities(small_digits.validation)


def test_without_predict_nothing_can_be_told_of_images(small_digits: Dataset) -> None:
    trial = trial_of(yielding(Epoch(GOOD, 1)), small_digits)
    run(trial)
    with pytest.raises(RunError, match="has no predict, so it cannot tell the classes of images"):
        trial.probabilities(small_digits.validation)


def test_a_metric_of_nobody_is_taken_as_it_is() -> None:
    assert metrics_problem({"val_accuracy": 0.5, "val_iou": 17}, ("val_accuracy",)) is None
