"""The optimizers of Keras by their names, with numbers that trials set without compiling anew.

Each is a class made of Keras's own and of `_Adjustable`. Weight decay is ours for all alike: decoupled, by the rate of
its variable. `MultiOptimizer` would be the way of Keras to rates by block: it clips each group by itself, and has no
single rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tuner.models.parameters import general
from tuner.training.recipes.numbers import SCHEDULE_FREE, ema_of, is_scaled, is_scheduled, momentum_of, schedule_of
from tuner.training.recipes.schedules import factor

CLASSES = {
    "adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "rmsprop": "RMSprop", "nadam": "Nadam", "adamax": "Adamax",
    "adagrad": "Adagrad", "adadelta": "Adadelta", "adafactor": "Adafactor", "lamb": "Lamb",
    "lion": "Lion", "muon": "Muon", "schedule_free_adamw": "ScheduleFreeAdamW",
}  # fmt: skip
_OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "adamw": {"weight_decay": 0.0},  # it insists on a number
    "muon": {"exclude_layers": ["probabilities"]},  # as its authors do with the last layer
}


def compiled_in(configuration: Mapping[str, Any], depth: int) -> list[Any]:
    """Return what of a recipe is compiled: with another, an optimizer is another graph; all else are numbers."""
    schedule = schedule_of(configuration) if is_scheduled(configuration) else None
    names = (general(configuration, name) for name in ("optimizer", "gradient_accumulation"))
    return [*names, schedule, *_used(configuration, depth)]


def _used(configuration: Mapping[str, Any], depth: int) -> list[str]:
    """Return the numbers that an optimizer needs as variables while so many blocks are unfrozen."""
    found = ["shift", "steps", "warm_up"] if is_scheduled(configuration) else []
    found += [name for name in ("weight_decay", "clip_norm") if general(configuration, name)]
    found += ["momentum"] if momentum_of(configuration) is not None else []
    found += ["ema"] if ema_of(configuration) else []
    return [*found, "scales"] if is_scaled(configuration, depth) else found


class _Momentum(keras.Variable):
    """A momentum that an optimizer never takes for none: what it keeps for one is there whatever its value."""

    def __ne__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return True

    __hash__ = keras.Variable.__hash__


class _Adjustable:
    """Additions to optimizers of Keras: numbers that are variables, of the class, so that they are no state."""

    numbers: Mapping[str, Any] = {}
    schedule = "constant"
    blocks: Sequence[int] = ()
    """For each variable the block from the output that it is of; 0: the head."""
    statistics: Sequence[Any] = ()
    """Variables that are averaged beside those that are trained."""
    _averages: Sequence[Any] = ()

    def build(self: Any, variables: Any) -> None:
        """Make what the optimizer keeps for its variables, and their averages."""
        if self.built:
            return
        super().build(variables)  # type: ignore[misc]  # of the class of Keras
        if "ema" in self.numbers:  # not as an attribute, which would be kept a second time
            vars(self)["_averages"] = [
                self.add_variable_from_reference(one, name="average") for one in (*variables, *self.statistics)
            ]

    def begin_phase(self: Any) -> None:
        """Let averages begin at the weights of now."""
        for average, variable in self.averages():
            average.assign(variable)

    def averages(self: Any) -> list[tuple[Any, Any]]:
        """Return what is validated for each variable that is not validated as it is trained, and the variable."""
        averaged = [*self._trainable_variables, *self.statistics] if self._averages else []
        return list(zip(self._averages, averaged, strict=True))

    def apply(self: Any, grads: Any, trainable_variables: Any = None) -> None:
        """Do a step, and take it into the averages: less of what was before while there are few steps."""
        super().apply(grads, trainable_variables)  # type: ignore[misc]  # of the class of Keras
        if not self._averages:
            return
        count = ops.cast(self.iterations, "float32")
        kept = ops.minimum(self.numbers["ema"], (1.0 + count) / (10.0 + count))
        if self.gradient_accumulation_steps:
            kept = ops.where(self._iterations % self.gradient_accumulation_steps == 0, kept, 1.0)
        for average, variable in self.averages():
            self.assign(average, average + (1.0 - kept) * (variable - average))

    @property
    def learning_rate(self: Any) -> Any:
        """The rate of the next step."""
        base = super().learning_rate  # type: ignore[misc]  # of the class of Keras
        if "shift" not in self.numbers:
            return base
        step = ops.cast(self._iterations, "float32") + self.numbers["shift"]
        return base * factor(self.schedule, step, self.numbers["steps"], self.numbers["warm_up"], ops)

    @learning_rate.setter
    def learning_rate(self: Any, rate: Any) -> None:
        self._learning_rate.assign(rate)

    def begin_epoch(self: Any, rate: float, numbers: Mapping[str, Any]) -> None:
        """Set the rate and the other numbers of an epoch; its first step is `first_step` of the phase."""
        self.learning_rate = rate
        now = {**numbers, "shift": numbers["first_step"] - int(ops.convert_to_numpy(self._iterations))}
        for name, variable in self.numbers.items():
            variable.assign(now[name])

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Let weights decay, then do as the optimizer does."""
        rate = self._rate(variable, learning_rate)
        if "weight_decay" in self.numbers:
            decay, cast_rate = (ops.cast(number, variable.dtype) for number in (self.numbers["weight_decay"], rate))
            self.assign_sub(variable, variable * decay * cast_rate)
        super().update_step(gradient, variable, rate)  # type: ignore[misc]  # of the class of Keras

    def _rate(self: Any, variable: Any, rate: Any) -> Any:
        return rate * self._scale(variable) if "scales" in self.numbers else rate

    def _scale(self: Any, variable: Any) -> Any:
        """Return what the rate of a variable's block is multiplied by."""
        return self.numbers["scales"][self.blocks[self._get_variable_index(variable)]]

    def _apply_weight_decay(self, variables: Any) -> None:
        """Do nothing: `update_step` does."""

    def _backend_update_step(self: Any, gradients: Any, variables: Any, learning_rate: Any) -> None:
        """Clip the gradients of a step by the norm of all that is trained together, then do the step."""
        if "clip_norm" in self.numbers:
            squares = [ops.sum(ops.square(gradient)) for gradient in gradients]
            if "scales" in self.numbers:
                trained = [ops.sign(self._scale(variable)) for variable in variables]
                squares = [square * sign for square, sign in zip(squares, trained, strict=True)]
            most = self.numbers["clip_norm"]
            scale = most / ops.maximum(ops.sqrt(sum(squares)), most)
            gradients = [gradient * scale for gradient in gradients]
        super()._backend_update_step(gradients, variables, learning_rate)  # type: ignore[misc]  # of the class of Keras


class _ScheduleFree(_Adjustable):
    """Schedule-free AdamW (arXiv:2405.15682) by its own steps: those of Keras take the average from a changed place.

    What is trained lies between the average, which is validated, and where the last step led.
    """

    def begin_phase(self: Any) -> None:
        """Let steps begin at the weights of now."""
        for last, variable in zip(self._momentums, self._trainable_variables, strict=True):
            last.assign(variable)

    def averages(self: Any) -> list[tuple[Any, Any]]:
        """Return the average of each variable, and the variable."""
        pairs = zip(self._trainable_variables, self._momentums, strict=True)
        return [(self._average(variable, last), variable) for variable, last in pairs]

    def _average(self: Any, variable: Any, last: Any) -> Any:
        return (variable - (1 - self.beta_1) * last) / self.beta_1

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Do a step from where the last one led, with the gradient of what is trained."""
        index, step = self._get_variable_index(variable), ops.cast(self.iterations + 1, "float32")
        last, squares = self._momentums[index], self._velocities[index]
        self.assign_add(squares, (1 - self.beta_2) * (ops.square(gradient) - squares))
        direction = gradient / (ops.sqrt(squares / (1 - self.beta_2**step)) + self.epsilon)
        if "weight_decay" in self.numbers:
            direction = direction + self.numbers["weight_decay"] * variable
        average = self._average(variable, last)
        led = last - self._rate(variable, learning_rate) * direction
        average = average + (led - average) / step
        self.assign(last, led)
        self.assign(variable, (1 - self.beta_1) * led + self.beta_1 * average)


def build_optimizer(
    configuration: Mapping[str, Any], depth: int = 0, blocks: Sequence[int] = (), statistics: Sequence[Any] = ()
) -> Any:
    """Return a new optimizer of a configuration while `depth` blocks are unfrozen; `begin_epoch` sets its numbers.

    Its variables will be of these `blocks`; where weights are averaged, the `statistics` of batches are too.
    """
    name = general(configuration, "optimizer")
    kind = getattr(keras.optimizers, CLASSES[name])
    numbers: dict[str, Any] = {}
    for number in _used(configuration, depth):
        variable = _Momentum if number == "momentum" else keras.Variable
        start = np.zeros(depth + 1 if number == "scales" else (), np.float32)
        numbers[number] = variable(start, trainable=False, dtype="float32", autocast=False, name=number)
    attributes: dict[str, Any] = {
        "numbers": numbers, "schedule": schedule_of(configuration), "blocks": blocks, "statistics": statistics,
    }  # fmt: skip
    if "momentum" in numbers:
        attributes["momentum"] = property(lambda _self: numbers["momentum"], lambda _self, _given: None)
    accumulated = int(general(configuration, "gradient_accumulation"))
    options = {"gradient_accumulation_steps": accumulated} if accumulated > 1 else {}
    adjustable = _ScheduleFree if name in SCHEDULE_FREE else _Adjustable
    return type(kind.__name__, (adjustable, kind), attributes)(**_OPTIONS.get(name, {}), **options)
