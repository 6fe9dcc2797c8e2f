"""Architectures as someone else may write them: with dropout of any kind, at rates of any name, named or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import pytest
from keras import layers

from tuner.models.architectures import ARCHITECTURES, Architecture
from tuner.models.parameters import Parameter

_RATE = Parameter("float", low=0.0, high=0.9, default=0.3)
Values = Mapping[str, Any]


def _dense(x: Any, units: int = 12) -> Any:
    return layers.Dense(units, activation="relu")(x)


def _fixed(values: Values, inputs: Any, seed: int) -> Any:
    return layers.Dropout(0.4)(_dense(layers.Flatten()(inputs)))


def _two_fixed(values: Values, inputs: Any, seed: int) -> Any:
    x = layers.Dropout(0.1, seed=seed)(layers.Flatten()(inputs))
    return layers.Dropout(0.6, seed=seed + 1)(_dense(x))


def _three_rates(values: Values, inputs: Any, seed: int) -> Any:
    x = layers.Dropout(values["input_rate"], name="dropout")(layers.Flatten()(inputs))
    x = layers.Dropout(values["hidden_rate"], name="block_hidden")(_dense(x))
    return layers.Dropout(values["dropout"], name="last")(_dense(x))


def _of_another_kind(kind: Callable[..., Any]) -> Callable[[Values, Any, int], Any]:
    def build(values: Values, inputs: Any, seed: int) -> Any:
        x = layers.Conv2D(6, 3, activation="relu")(inputs)
        x = kind(values["dropout"])(x)
        return layers.Dropout(0.25)(layers.Flatten()(x))

    return build


class HalvedDropout(layers.Dropout):
    """A subclass with a way of its own."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return half of what dropout gives."""
        return 0.5 * super().call(inputs, training=training)


def _shared_noise(rate: float) -> Any:
    return layers.Dropout(rate, noise_shape=(None, 1, 1, 6))


def _nested(values: Values, inputs: Any, seed: int) -> Any:
    inner = keras.Sequential([layers.Flatten(), layers.Dense(12), layers.Dropout(values["dropout"])])
    return layers.Dropout(values["hidden_rate"])(inner(inputs))


def _scaled(values: Values, inputs: Any, seed: int) -> Any:
    """A number that is no rate, and that a network shows in the arguments of an operation alone."""
    return layers.Dropout(values["dropout"])(_dense(layers.Flatten()(inputs) * values["factor"]))


def _own_function(values: Values, inputs: Any, seed: int) -> Any:
    factor = values["factor"]
    return layers.Dense(12, activation=lambda x: x * factor)(layers.Flatten()(inputs))


def _attention(values: Values, inputs: Any, seed: int) -> Any:
    x = layers.Reshape((8, 8))(inputs)
    x = layers.MultiHeadAttention(2, 4, dropout=values["dropout"])(x, x)
    return layers.Bidirectional(layers.LSTM(4, dropout=0.2))(x)


def _noise(values: Values, inputs: Any, seed: int) -> Any:
    x = layers.GaussianNoise(values["dropout"], seed=seed)(layers.Flatten()(inputs))
    return layers.Dropout(values["hidden_rate"], seed=seed)(_dense(x))


def _l2(values: Values, inputs: Any, seed: int) -> Any:
    x = layers.Dense(12, kernel_regularizer=keras.regularizers.L2(values["factor"]))(layers.Flatten()(inputs))
    return layers.Dropout(values["dropout"])(x)


_KINDS = {
    "spatial": layers.SpatialDropout2D,
    "gaussian": layers.GaussianDropout,
    "alpha": layers.AlphaDropout,
    "subclass": HalvedDropout,
    "shared_noise": _shared_noise,
}
_BUILDS = {
    "fixed": _fixed,
    "two_fixed": _two_fixed,
    "three_rates": _three_rates,
    "nested": _nested,
    "scaled": _scaled,
    "own_function": _own_function,
    "attention": _attention,
    "noise": _noise,
    "l2": _l2,
    **{name: _of_another_kind(kind) for name, kind in _KINDS.items()},
}
OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "fixed": ({}, {"learning_rate": 0.02}, True),
    "two_fixed": ({}, {"batch_size": 48}, True),
    "three_rates": (
        {"input_rate": 0.1, "hidden_rate": 0.2, "dropout": 0.7},
        {"input_rate": 0.3, "hidden_rate": 0.5, "dropout": 0.4},
        True,
    ),
    "nested": ({"dropout": 0.6, "hidden_rate": 0.1}, {"dropout": 0.2, "hidden_rate": 0.3}, False),
    "scaled": ({"factor": 0.5, "dropout": 0.1}, {"factor": 2.0, "dropout": 0.1}, False),
    "own_function": ({"factor": 0.5}, {"factor": 2.0}, False),
    "attention": ({"dropout": 0.4}, {"dropout": 0.1}, False),
    "noise": ({"dropout": 0.4}, {"hidden_rate": 0.1}, True),
    "l2": ({"factor": 0.1}, {"factor": 0.3}, False),
    **{name: ({"dropout": 0.6}, {"dropout": 0.2}, False) for name in _KINDS},
}
"""By name: a configuration, what another one changes, and whether both are known to be one network but for numbers."""


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add all of them to the registry until the test ends."""
    parameters = dict.fromkeys(("dropout", "input_rate", "hidden_rate"), _RATE)
    factor = {"factor": Parameter("float", low=0.0, high=10.0, default=1.0)}
    for name, build in _BUILDS.items():
        known = {} if "fixed" in name else {**parameters, **factor}
        monkeypatch.setitem(ARCHITECTURES._values, name, Architecture(name, name, known, 4, build))
