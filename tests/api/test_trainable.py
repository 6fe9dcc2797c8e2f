"""`@tuner.trainable`: what it takes, and what it refuses in the words of the function's author."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tuner
from tests.support.own_loop import softmax_regression
from tuner.api.trainable import trainable
from tuner.common.errors import InputError
from tuner.models.parameters import Parameter
from tuner.training.trainable import TRAINABLES

UNITS = {"units": Parameter("int", low=1, high=64, default=8)}
RATE = {"learning_rate": Parameter("float", low=0.1, high=1.0, default=0.5)}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = set(TRAINABLES)
    yield
    for name in set(TRAINABLES) - before:
        TRAINABLES.remove(name)


def good(configuration: Any, data: Any, state: Any = None) -> Iterator[Any]:
    """Train as it should.

    And more of it.
    """
    yield tuner.Epoch({"val_accuracy": 0.5}, state)


def test_a_function_is_registered_with_its_name_words_and_parameters() -> None:
    made = trainable(parameters=UNITS)(good)
    assert TRAINABLES["good"] is made and made.parameters == UNITS and made.description == "Train as it should"
    assert made.words == "trainable good (test_trainable.py)"
    (epoch,) = made({"units": 3}, None)
    assert epoch.metrics == {"val_accuracy": 0.5}


def test_a_name_and_words_may_be_given_and_brackets_may_be_left_out() -> None:
    assert trainable(name="mine", description="my own")(good) is TRAINABLES["mine"]
    assert TRAINABLES["mine"].description == "my own" and trainable(good) is TRAINABLES["good"]


def test_predict_may_be_given_or_written_below() -> None:
    def tell(configuration: Any, data: Any, state: Any, images: Any) -> Any:
        return np.ones(1)

    assert trainable(name="one", predict=tell)(good).predicts is tell
    two = trainable(name="two")(good)
    assert two.predict(tell) is tell and two.predicts is tell
    with pytest.raises(InputError, match=r"trainable two .*: predict is given already"):
        two.predict(tell)


def test_functions_within_decorators_and_partials_are_generators_too() -> None:
    @functools.wraps(good)
    def logged(*given: Any) -> Any:
        return good(*given)

    def with_more(more: int, configuration: Any, data: Any, state: Any = None) -> Iterator[Any]:
        yield tuner.Epoch({"val_accuracy": 0.5}, more)

    assert trainable(name="logged")(logged) and trainable(name="partial")(functools.partial(with_more, 3))


def test_what_may_change_in_a_running_training_is_known_by_name_or_said() -> None:
    both = {**UNITS, **RATE}
    assert trainable(name="a", parameters=both)(good).changeable == ("learning_rate",)
    assert trainable(name="b", parameters=both, changeable=["units"])(good).changeable == ("units",)
    assert trainable(name="c", parameters=both, changeable=[])(good).changeable == ()


def plain(configuration: Any, data: Any, state: Any = None) -> Any:
    return []


async def asynchronous(configuration: Any, data: Any, state: Any = None) -> Any:
    yield 1


def without_state(configuration: Any, data: Any) -> Iterator[Any]:
    yield 1


def with_more(configuration: Any, data: Any, state: Any, more: Any) -> Iterator[Any]:
    yield 1


def by_name(*, configuration: Any, data: Any, state: Any = None) -> Iterator[Any]:
    yield 1


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no generator": (plain, {}, "the function must be a generator, which yields tuner.Epoch.*; it has no yield"),
    "async": (asynchronous, {}, "must not be async"),
    "no state": (without_state, {}, r"without_state\(.*\) -> .* must be a function train\(configuration, data, state"),
    "more arguments": (with_more, {}, r"with_more\(.* must be a function train\(configuration, data, state=None\)"),
    "arguments by name alone": (by_name, {}, "must be a function train"),
    "a class": (dict, {}, "the decorator belongs to a generator function"),
    "no function": (3, {"name": "x"}, "the decorator belongs to a generator function"),
    "a list of parameters": (good, {"parameters": ["units"]}, "parameters must be by name"),
    "a bare range": (good, {"parameters": {"units": (1, 64)}}, r"units must be a tuner.Int, Float, Choice or Bool"),
    "a name with spaces": (good, {"parameters": {"my units": UNITS["units"]}}, "must be a word of letters"),
    "a name of tuner's": (good, {"parameters": {"trial": UNITS["units"]}}, "trial has a meaning of its own"),
    "no default": (good, {"parameters": {"units": Parameter("int", low=1, high=2)}}, r"units must have a default"),
    "a bad name": (good, {"name": "my loop"}, 'give another: name="my_loop"'),
    "nothing as name": (good, {"name": "none"}, "the name must be a word"),
    "what is not there may change": (good, {"parameters": UNITS, "changeable": ["unit"]}, "did you mean 'units'"),
    "a predict that takes less": (
        good,
        {"predict": lambda images: images},
        r"must be a function predict\(configuration",
    ),
    "a predict that is none": (good, {"predict": "tell"}, "must be a function predict.*; got str"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_training_function_is_refused(case: str) -> None:
    function, given, words = REFUSED[case]
    with pytest.raises(InputError, match=words) as refused:
        trainable(**given)(function)
    assert str(refused.value).startswith("trainable ") or "predict" in words
    assert set(TRAINABLES) - {softmax_regression.name} == set() or "good" not in TRAINABLES


def test_tuner_offers_what_an_author_needs() -> None:
    assert tuner.trainable is trainable and callable(tuner.load_state)
    assert tuner.Epoch({"a": 1.0}).state is None and repr(tuner.Epoch({"a": 1.0}, 3)) == "tuner.Epoch({'a': 1.0}, ...)"
