"""What a process keeps from trial to trial: networks that are built and compiled, by their structure.

Tracing a step function takes as long as some epochs on cached activations. Two trials whose networks differ only in
numbers (learning rate, dropout rates, batch size) can share one; everything that the first has changed is set back, so
that the second gives the numbers that it would have given in a process of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tuner.common.seeds import derive_seed
from tuner.models.architectures import ARCHITECTURES
from tuner.models.backbones import seed_layers
from tuner.models.backend import jit_compile, steps_per_execution
from tuner.models.network import TrialModel, build_model, freeze
from tuner.models.parameters import general
from tuner.models.preprocessing import parse_preprocess
from tuner.training.cut_points import Place, above

STRUCTURES_KEPT = 12
BACKBONES_KEPT = 2
RATES = ("dropout", "block_dropout")
"""Hyperparameters that a compiled network takes as they come."""


class AdjustableDropout(keras.layers.Layer):
    """The dropout of another layer, drawn from that layer's random stream, at a rate that can change between steps."""

    def __init__(self, plain: keras.layers.Dropout) -> None:
        super().__init__(name=plain.name)
        self._plain = plain
        self.rate = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(plain.rate),
            trainable=False,
            autocast=False,  # in half precision a rate would be another rate
            name="rate",
        )

    def call(self, inputs: Any, training: bool = False) -> Any:
        """`inputs` with a share of `rate` set to 0 and the rest scaled up, in training."""
        if not training:
            return inputs
        drawn = keras.random.uniform(keras.ops.shape(inputs), dtype="float32", seed=self._plain.seed_generator)
        scale = keras.ops.cast(1.0 / (1.0 - self.rate), inputs.dtype)
        return keras.ops.where(drawn >= self.rate, inputs * scale, keras.ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the inputs."""
        return input_shape


@dataclass
class Trainer:
    """A compiled network and the optimizer of one phase, ready to be started anew."""

    network: keras.Model
    variables: list[Any]
    """What the optimizer trains, in the order of the whole network."""
    dropouts: list[AdjustableDropout]
    _initial: list[np.ndarray] = field(default_factory=list)

    def start(self, configuration: Mapping[str, Any], learning_rate: float) -> None:
        """Forget what the optimizer has seen, and take on the numbers of a trial."""
        optimizer = self.network.optimizer
        if not self._initial:
            optimizer.build(self.variables)
            self._initial = [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]
        for variable, value in zip(optimizer.variables, self._initial, strict=True):
            variable.assign(value)
        optimizer.learning_rate = learning_rate
        for layer in self.dropouts:
            layer.rate.assign(_rate(layer.name, configuration))


@dataclass
class Backbone:
    """A backbone with the weights that it was built with."""

    model: keras.Model
    weights: str
    """SHA-256 over them."""
    _initial: list[np.ndarray]

    @classmethod
    def of(cls, model: keras.Model) -> Backbone:
        """A backbone as it was just built."""
        initial = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
        digest = hashlib.sha256()
        for value in initial:
            digest.update(np.ascontiguousarray(value).data.cast("B"))
        return cls(model, digest.hexdigest(), initial)

    def set_back(self) -> None:
        """Give it these weights again."""
        _assign(self.model.variables, self._initial)


class Structure:
    """The network of a trial with what has been compiled of it."""

    def __init__(self, trial_model: TrialModel, backbone: Backbone | None) -> None:
        self.trial_model, self.backbone = trial_model, backbone
        self._trainers: dict[str, Trainer] = {}
        own = set() if backbone is None else {id(variable) for variable in backbone.model.variables}
        self._head = [variable for variable in trial_model.model.variables if id(variable) not in own]
        self._initial = [keras.ops.convert_to_numpy(variable) for variable in self._head]

    def set_back(self, configuration: Mapping[str, Any], seed: int) -> None:
        """Give the head the weights and random streams that it would have if it were built with `seed`."""
        _assign(self._head, self._initial)
        model, backbone = self.trial_model.model, self.trial_model.backbone
        layers = [layer for layer in model.layers if layer is not backbone]
        seed_layers(layers, derive_seed(seed, "weights"))
        for layer in layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = _rate(layer.name, configuration)
                fresh = keras.random.SeedGenerator(derive_seed(derive_seed(seed, "dropout"), layer.name))
                layer.seed_generator.state.assign(fresh.state)

    def trainer(
        self, configuration: Mapping[str, Any], unfreeze_depth: int, place: Place | None, learning_rate: float
    ) -> Trainer:
        """What trains the top `unfreeze_depth` blocks and the head from the activations at `place` (None: images)."""
        freeze(self.trial_model, unfreeze_depth)
        settings = [general(configuration, name) for name in ("optimizer", "weight_decay", "label_smoothing")]
        key = json.dumps([unfreeze_depth, place.name if place else None, *settings])
        if key not in self._trainers:
            self._trainers[key] = self._compile(configuration, place)
        self._trainers[key].start(configuration, learning_rate)
        return self._trainers[key]

    def _compile(self, configuration: Mapping[str, Any], place: Place | None) -> Trainer:
        dropouts: list[AdjustableDropout] = []

        def adjustable(layer: Any) -> Any:
            if not isinstance(layer, keras.layers.Dropout):
                return layer
            dropouts.append(AdjustableDropout(layer))
            return dropouts[-1]

        network = above(self.trial_model, place, adjustable)
        network.compile(
            optimizer=_build_optimizer(configuration),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=general(configuration, "label_smoothing")),
            metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            steps_per_execution=steps_per_execution(),
            jit_compile=jit_compile(),
        )
        return Trainer(network, list(self.trial_model.model.trainable_variables), dropouts)


class Workbench:
    """The structures of one process; only one trial at a time may use them."""

    def __init__(self) -> None:
        self._structures: OrderedDict[str, Structure] = OrderedDict()
        self._backbones: OrderedDict[str, Backbone] = OrderedDict()

    def take(
        self, configuration: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int, seed: int
    ) -> Structure:
        """The network of a configuration as `build_model` would make it, built or set back; raises as that does."""
        backbone_key = _backbone_key(configuration, image_shape, seed)
        backbone = self._backbones.pop(backbone_key, None)
        if backbone is not None:
            backbone.set_back()
        key = json.dumps([backbone_key, _structure_of(configuration), image_shape, num_classes])
        structure = self._structures.pop(key, None)
        if structure is not None:
            structure.set_back(configuration, seed)
        else:
            shared = None if backbone is None else backbone.model
            trial_model = build_model(configuration, image_shape, num_classes, seed, shared)
            if backbone is None and trial_model.backbone is not None:
                backbone = Backbone.of(trial_model.backbone)
            structure = Structure(trial_model, backbone)
        if backbone is not None:
            self._backbones[backbone_key] = backbone
        self._structures[key] = structure
        self._clear_away()
        return structure

    def _clear_away(self) -> None:
        """Let go of what was used longest ago, a backbone with all structures on it."""
        while len(self._backbones) > BACKBONES_KEPT:
            _, old = self._backbones.popitem(last=False)
            for key in [key for key, structure in self._structures.items() if structure.backbone is old]:
                del self._structures[key]
        while len(self._structures) > STRUCTURES_KEPT:
            self._structures.popitem(last=False)


def _backbone_key(configuration: Mapping[str, Any], image_shape: tuple[int, int, int], seed: int) -> str:
    """What a backbone follows from; pretrained weights do not depend on the seed."""
    architecture = ARCHITECTURES[configuration["architecture"]]
    if not architecture.is_backbone:
        return ""
    values = architecture.values_of(configuration)
    size = parse_preprocess(str(general(configuration, "preprocess"))).output_shape(image_shape)[:2]
    own_seed = seed if values["weights"] == "none" else None
    return json.dumps([architecture.name, values.get("alpha"), values["weights"], size, own_seed])


def _structure_of(configuration: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The part of a configuration that decides on layers and shapes; of a rate, only whether there is one."""
    values = {"preprocess": "", **ARCHITECTURES[configuration["architecture"]].values_of(configuration)}
    values["preprocess"] = parse_preprocess(str(general(configuration, "preprocess"))).text
    values["architecture"] = configuration["architecture"]
    kept = {name: value for name, value in values.items() if name != "unfreeze_depth"}
    return sorted((name, value > 0 if name in RATES else value) for name, value in kept.items())


def _rate(layer_name: str, configuration: Mapping[str, Any]) -> float:
    """The rate of a dropout layer, by its name (`scratch.drop`)."""
    name = "block_dropout" if layer_name.startswith("block_") else "dropout"
    return float(ARCHITECTURES[configuration["architecture"]].values_of(configuration)[name])


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _build_optimizer(configuration: Mapping[str, Any]) -> Any:
    """The optimizer of a configuration; `Trainer.start` sets its learning rate."""
    weight_decay = float(general(configuration, "weight_decay")) or None
    match general(configuration, "optimizer"):
        case "adamw":
            return keras.optimizers.AdamW(weight_decay=weight_decay)
        case "sgd":
            return keras.optimizers.SGD(momentum=0.9, nesterov=True, weight_decay=weight_decay)
        case "rmsprop":
            return keras.optimizers.RMSprop(weight_decay=weight_decay)
        case _:
            return keras.optimizers.Adam(weight_decay=weight_decay)
