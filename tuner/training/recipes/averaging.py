"""Averages of weights: they are validated, kept as the best and exported; training goes on from the weights themselves.

Keras's own would be written over the weights at the end of each `fit`, and a trial fits once per epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


class Averages(keras.callbacks.Callback):
    """The averages of an optimizer, in place of the weights while their network is validated."""

    def __init__(self, optimizer: Any) -> None:
        super().__init__()
        self._optimizer = optimizer
        self._trained: list[tuple[Any, np.ndarray]] = []

    def put_in(self, _logs: Any = None) -> None:
        """Set the network to the averages."""
        averages = [(variable, keras.ops.convert_to_numpy(value)) for value, variable in self._optimizer.averages()]
        self._trained = [(variable, keras.ops.convert_to_numpy(variable)) for variable, _ in averages]
        _assign(averages)

    def put_back(self, _logs: Any = None) -> None:
        """Set the network back to the weights that are trained, if it is not."""
        trained, self._trained = self._trained, []
        _assign(trained)

    on_test_begin = on_predict_begin = put_in
    on_test_end = on_predict_end = put_back

    def validated(self, variables: Sequence[Any]) -> list[np.ndarray]:
        """Return the values of variables that are validated: their averages, where they have one."""
        averages = {id(variable): value for value, variable in self._optimizer.averages()}
        return [keras.ops.convert_to_numpy(averages.get(id(variable), variable)) for variable in variables]


def _assign(pairs: Sequence[tuple[Any, np.ndarray]]) -> None:
    for variable, value in pairs:
        variable.assign(value)
