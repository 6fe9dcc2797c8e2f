"""Cache of the networks that a process keeps built and compiled from trial to trial.

Tracing a step function takes as long as some epochs on cached activations. Two trials whose networks differ only in
numbers (learning rate, dropout rates, batch size, seed) can share one. A trial always builds its own network, or its
own head on a shared backbone, which is cheap; where this is found to be the same graph as an earlier one, the earlier
one takes over its weights, random streams and rates, and gives the numbers of a process of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from tuner.common.metrics import LOSS, METRICS
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augment.on_device import DeviceAugment, augment_in_steps, form_of
from tuner.models.augmentation import Augment
from tuner.models.backend import STEPS_PER_EXECUTION, jit_compile
from tuner.models.data_parallel import local, on_all_devices, parted
from tuner.models.losses import build_loss, is_plain, keras_metric
from tuner.models.network import TrialModel, block_depths, build_head, build_model, freeze
from tuner.models.parameters import general
from tuner.models.preprocessing import parse_preprocess
from tuner.training._batches import Stream
from tuner.training.cut_points import Place, above
from tuner.training.recipes.optimizers import build_optimizer, compiled_in

STRUCTURES_KEPT = 12
BACKBONES_KEPT = 2
TRAINERS_KEPT = 8
UNWEIGHTED = "cross_entropy"
"""The name of a metric beside a loss that is more than the cross-entropy: what trials are compared by."""
_COMPILED = ("label_smoothing", "loss")
"""General hyperparameters that are part of what is compiled, beside those of the recipe."""


class AdjustableDropout(keras.layers.Layer):
    """Dropout in place of another such layer, with its random stream, at a rate that can change between steps."""

    def __init__(self, plain: keras.layers.Dropout, rate: keras.Variable) -> None:
        super().__init__(name=plain.name, dtype=plain.dtype_policy)
        self._plain = plain
        self.rate = rate
        self.supports_masking = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return `inputs` with a share of `rate` set to 0 and the rest scaled up, in training."""
        if not training:
            return inputs
        drawn = keras.random.uniform(keras.ops.shape(inputs), dtype="float32", seed=self._plain.seed_generator)
        scale = keras.ops.cast(1.0 / (1.0 - self.rate), inputs.dtype)
        return keras.ops.where(drawn >= self.rate, inputs * scale, keras.ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the inputs."""
        return input_shape


def _is_adjustable(operation: Any) -> bool:
    """Return whether this is dropout of single values, which `AdjustableDropout` computes; its relatives differ."""
    return type(operation) is keras.layers.Dropout and operation.noise_shape is None and 0 < operation.rate < 1


@dataclass
class Trainer:
    """A compiled network and the optimizer of one phase, ready to be started anew."""

    network: keras.Model
    variables: list[Any]
    """The variables that the optimizer trains, in the order of the whole network."""
    own: Any
    """Its optimizer, which Keras wraps in float16 in one that scales the loss."""
    augment: DeviceAugment | None = None
    """What its training steps begin with; None: images are augmented elsewhere, or not."""
    _initial: list[np.ndarray] = field(default_factory=list)

    def start(self) -> None:
        """Reset the optimizer."""
        optimizer = self.network.optimizer
        if not self._initial:
            with on_all_devices():
                optimizer.build(self.variables)
            self._initial = [keras.ops.convert_to_numpy(variable) for variable in optimizer.variables]
        _assign(optimizer.variables, self._initial)
        self.own.begin_phase()


@dataclass
class Backbone:
    """A backbone with the weights that it was built with."""

    model: keras.Model
    weights: str
    """SHA-256 over them."""
    _initial: list[np.ndarray]

    @classmethod
    def of(cls, model: keras.Model) -> Backbone:
        """Return a backbone that has just been built, with its weights as they are now."""
        initial = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
        digest = hashlib.sha256()
        for weight in model.weights:  # not its random streams, which inference leaves alone
            digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).data.cast("B"))
        return cls(model, digest.hexdigest(), initial)

    def set_back(self) -> None:
        """Set its weights to those it was built with."""
        _assign(self.model.variables, self._initial)


class Structure:
    """The network of a trial with its compiled forms, and a variable for the rate of each dropout layer."""

    def __init__(self, trial_model: TrialModel, backbone: Backbone | None) -> None:
        self.trial_model, self.backbone = trial_model, backbone
        self._trainers: OrderedDict[str, Trainer] = OrderedDict()
        model = trial_model.model
        self._own = model if backbone is None else keras.Model(trial_model.maps, model.outputs[0])
        self._rates = {
            layer: keras.Variable(layer.rate, trainable=False, dtype="float32", autocast=False, name="rate")
            for layer in self._own.operations
            if _is_adjustable(layer)
        }  # without autocast: in half precision a rate would be another rate

    def take_over(self, fresh: keras.Model) -> None:
        """Copy the weights, random streams and dropout rates of a part built alike, for another trial."""
        _assign(self._own.variables, [keras.ops.convert_to_numpy(variable) for variable in fresh.variables])
        rates = [layer.rate for layer in fresh.operations if _is_adjustable(layer)]
        for (layer, variable), rate in zip(self._rates.items(), rates, strict=True):
            layer.rate = rate
            variable.assign(rate)

    def trainer(
        self,
        configuration: Mapping[str, Any],
        unfreeze_depth: int,
        place: Place | None,
        augment: Augment | None = None,
    ) -> Trainer:
        """Return the trainer of the head and the top `unfreeze_depth` blocks, reading from `place` (None: images).

        Its steps begin with `augment`; trials that differ in strengths share it.
        """
        freeze(self.trial_model, unfreeze_depth)
        settings = [general(configuration, name) for name in _COMPILED]
        recipe = compiled_in(configuration, unfreeze_depth)
        form = None if augment is None else form_of(augment.calls)
        key = json.dumps([unfreeze_depth, place.name if place else None, *settings, form, recipe])
        trainer = self._trainers.pop(key, None)
        if trainer is None:
            trainer = self._compile(configuration, unfreeze_depth, place)
            if augment is not None:
                trainer.augment = DeviceAugment(augment.calls)
                augment_in_steps(trainer.network, trainer.augment)
        self._trainers[key] = trainer
        while len(self._trainers) > TRAINERS_KEPT:  # of those used longest ago: a trial has two
            self._trainers.popitem(last=False)
        trainer.start()
        return trainer

    def _compile(self, configuration: Mapping[str, Any], unfreeze_depth: int, place: Place | None) -> Trainer:
        def adjustable(layer: Any) -> Any:
            return AdjustableDropout(layer, self._rates[layer]) if layer in self._rates else layer

        network = parted(above(self.trial_model, place, adjustable))
        variables = list(self.trial_model.model.trainable_variables)
        of_blocks = block_depths(self.trial_model, unfreeze_depth)
        blocks = [of_blocks.get(id(variable), 0) for variable in variables]
        statistics = [one for one in self._own.non_trainable_weights if "float" in one.dtype]
        is_comparable = is_plain(configuration) and not network.losses and not _may_add_losses(self.trial_model.model)
        with on_all_devices():
            optimizer = local(build_optimizer(configuration, unfreeze_depth, blocks, statistics))
        network.compile(
            optimizer=optimizer,
            loss=build_loss(configuration),
            metrics=[*keras_metrics(), *([] if is_comparable else [keras.metrics.CategoricalCrossentropy(UNWEIGHTED)])],
            steps_per_execution=STEPS_PER_EXECUTION,
            jit_compile=jit_compile(),
        )
        return Trainer(network, variables, optimizer)


def keras_metrics() -> list[Any]:
    """Return a new metric of Keras for each entry of `METRICS` that it measures beside the loss, by its name."""
    found = []
    for name in METRICS:
        identifier = METRICS[name].keras
        if identifier is not None and identifier != LOSS:
            metric = keras_metric(identifier)
            metric.name = name
            found.append(metric)
    return found


class CompiledModels:
    """The structures of one process; only one trial at a time may use them."""

    def __init__(self) -> None:
        self._structures: OrderedDict[str, Structure] = OrderedDict()
        self._backbones: OrderedDict[str, Backbone] = OrderedDict()
        self.training_stream, self.validation_stream = Stream(), Stream()

    def take(
        self, configuration: Mapping[str, Any], image_shape: tuple[int, int, int], num_classes: int, seed: int
    ) -> Structure:
        """Return the network of a configuration as `build_model` would make it; raises as that does.

        Networks from scratch, and heads, are always built. An earlier one takes the place of the new one where the
        two are the same but for numbers that can be carried over, which is seen in the networks alone.
        """
        backbone_key = _backbone_key(configuration, image_shape, seed)
        backbone = self._backbones.pop(backbone_key, None)
        built = None
        if backbone is not None:
            backbone.set_back()
        else:
            built = build_model(configuration, image_shape, num_classes, seed)
            backbone = None if built.backbone is None else Backbone.of(built.backbone)
            if backbone is not None and ARCHITECTURES[configuration["architecture"]].is_own:
                backbone_key = json.dumps([backbone_key, backbone.weights])
                backbone, built = self._known(backbone_key) or (backbone, built)
        if backbone is not None:
            self._backbones[backbone_key] = backbone
            fresh = build_head(configuration, backbone.model, num_classes, seed)
        elif built is not None:
            fresh = built.model
        identity = _identity(fresh)
        key = json.dumps([backbone_key, _preprocess(configuration), image_shape, identity])
        structure = self._structures.pop(key, None)
        if structure is not None:
            structure.take_over(fresh)
        else:
            shared = None if backbone is None else backbone.model
            built = built or build_model(configuration, image_shape, num_classes, seed, shared)
            structure = Structure(built, backbone)
        if identity is not None:
            self._structures[key] = structure
        self._clear_away()
        return structure

    def _known(self, backbone_key: str) -> tuple[Backbone, None] | None:
        """Return an earlier backbone of own code that was built with the same weights, in place of a new one."""
        known = self._backbones.pop(backbone_key, None)
        if known is None:
            return None
        known.set_back()
        return known, None

    def _clear_away(self) -> None:
        """Drop the entries used longest ago, a backbone with all structures on it."""
        while len(self._backbones) > BACKBONES_KEPT:
            _, old = self._backbones.popitem(last=False)
            for key in [key for key, structure in self._structures.items() if structure.backbone is old]:
                del self._structures[key]
        while len(self._structures) > STRUCTURES_KEPT:
            self._structures.popitem(last=False)


def _backbone_key(configuration: Mapping[str, Any], image_shape: tuple[int, int, int], seed: int) -> str:
    """Return a text of everything that determines a backbone; pretrained weights do not depend on the seed.

    Of own code only the weights tell, when it is built, whether they do.
    """
    architecture = ARCHITECTURES[configuration["architecture"]]
    if not architecture.is_backbone:
        return ""
    values = architecture.values_of(configuration)
    own_seed: int | None = seed
    if architecture.backbone_parameters is not None:
        values = {name: values[name] for name in architecture.backbone_parameters}
        own_seed = None if architecture.is_own or values.get("weights", "none") != "none" else seed
    size = parse_preprocess(_preprocess(configuration)).output_shape(image_shape)[:2]
    return json.dumps([architecture.name, sorted(values.items()), size, own_seed])


def _preprocess(configuration: Mapping[str, Any]) -> str:
    return parse_preprocess(str(general(configuration, "preprocess"))).text


def _identity(fresh: keras.Model) -> str | None:
    """Return a text of everything that determines a network's compiled steps; None where a part may hide something.

    Left out are numbers that `Structure.take_over` carries over: the seeds of initial weights and of random streams
    that are among the variables, and the rates of adjustable dropout. Layers that are not of Keras, and functions of
    one's own in those that are, may depend on anything.
    """
    if not all(_tells_all(operation) for operation in _with_inner(fresh)):
        return None
    try:
        config = fresh.get_config()
        carried = {layer.name: layer for layer in fresh.layers}
        for described in config["layers"]:
            layer = carried.get(described["name"])
            if layer is None:
                continue
            described["config"] = _without_initial_seeds(described["config"])
            if _has_carried_stream(layer):
                del described["config"]["seed"]
            if _is_adjustable(layer):
                del described["config"]["rate"]
        return json.dumps(config, sort_keys=True)
    except (NotImplementedError, TypeError, ValueError):  # some operation cannot be written down
        return None


def _with_inner(model: keras.Model) -> Iterator[Any]:
    """Yield every operation of a network, those within layers and nested networks too."""
    for operation in getattr(model, "operations", None) or model.layers:
        yield operation
        if isinstance(operation, keras.Layer):
            yield from operation._flatten_layers(include_self=False)


def _tells_all(operation: Any) -> bool:
    """Return whether an operation is Keras's own, and every function that it was given to call is too."""
    return _is_of_keras(type(operation)) and all(
        _is_of_keras(value) for value in vars(operation).values() if callable(value)
    )


def _is_of_keras(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).partition(".")[0] == "keras"


def _may_add_losses(model: keras.Model) -> bool:
    """Return whether a layer may add to the loss when it is called: until then, Keras does not list it in `losses`."""
    return any(
        getattr(operation, "activity_regularizer", None) is not None
        or type(operation).__module__.partition(".")[0] not in ("keras", "keras_hub")
        for operation in _with_inner(model)
    )


def _has_carried_stream(layer: Any) -> bool:
    stream = getattr(layer, "seed_generator", None)
    return stream is not None and "seed" in layer.get_config() and any(stream.state is each for each in layer.variables)


def _without_initial_seeds(config: Any) -> Any:
    """Return a layer's configuration without the seeds of its initializers, which have done their work."""
    if isinstance(config, list | tuple):
        return [_without_initial_seeds(part) for part in config]
    if not isinstance(config, dict):
        return config
    kept = {name: _without_initial_seeds(part) for name, part in config.items()}
    if kept.get("module") == "keras.initializers" and isinstance(kept.get("config"), dict):
        kept["config"].pop("seed", None)
    return kept


def _assign(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
