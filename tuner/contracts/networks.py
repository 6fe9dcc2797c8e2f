"""Networks of one architecture as checks need them: built in any variant, run, and looked into, layer by layer."""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import keras
import numpy as np

from tuner.contracts._process_state import state
from tuner.contracts.author import Author
from tuner.contracts.drawn import NUM_CLASSES, is_close
from tuner.models.architectures import Architecture
from tuner.models.backend import symbolic
from tuner.models.blocks import is_automatic_name
from tuner.models.network import TrialModel, build_model, freeze
from tuner.models.parameters import Parameter

SIZES_PX = (32, 48, 64, 96, 128, 224)
_KEPT = 3
_AS_LOADED = ("environment variables",)
"""What a file may change when it is loaded, as many do before they import a library."""
_LARGEST = 4_000_000
"""Networks of more weights than this, and than four times those of the default, are not filled with numbers."""
Changes = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """One operation as it was computed: its name in messages, and what it gave."""

    operation: Any
    given: np.ndarray


@dataclass
class Built:
    """A network of the product, its part below the class layer, and the lines that its layers come from."""

    network: TrialModel
    lines: dict[int, str]
    author: Author

    @cached_property
    def features(self) -> Any:
        """The network from raw images to the features `[N, F]`."""
        model = self.network.model
        return keras.Model(model.inputs[0], model.get_layer("probabilities").input, name="features")

    @property
    def own_variables(self) -> list[Any]:
        """All variables below the class layer."""
        return list(self.features.variables)

    @property
    def names(self) -> list[str]:
        """The names of the author's operations, in order; of those that Keras named, their kind."""
        backbone = self.network.backbone
        operations = (self.features if backbone is None else backbone).operations
        return [type(one).__name__ if is_automatic_name(one) else one.name for one in operations]

    def run(self, images: np.ndarray, *, training: bool = False) -> np.ndarray:
        """Return the features of raw images."""
        return np.asarray(keras.ops.convert_to_numpy(self.features(images, training=training)), dtype=np.float32)

    def steps(self, images: np.ndarray, *, training: bool = False) -> list[Step]:
        """Return what each operation gives for raw images, those within layers before the layer, in order."""
        found: list[Step] = []
        with _watched(lambda operation, _arguments, given: found.extend(_as_steps(operation, given))):
            self.features(images, training=training)
        return found

    def told(self, operation: Any) -> str:
        """Return an operation as the author knows it: `layer 'conv' (Conv2D, own.py:12)`."""
        kind = type(operation)
        line = self.lines.get(id(operation)) or self.author.class_line(kind)
        place = f", {line}" if line else ""
        own_class = self.author.class_line(kind)
        if own_class and own_class != line:
            place += f", its class at {own_class}"
        noun = "layer" if isinstance(operation, keras.Layer) else "operation"
        return f"{noun} {operation.name!r} ({kind.__name__}{place})"

    def told_variable(self, variable: Any) -> str:
        """Return a variable as the author knows it, with the layer that it belongs to."""
        owner = next((layer for layer in self.layers() if any(variable is one for one in _own_variables(layer))), None)
        shape = f"[{', '.join(map(str, variable.shape))}]"
        return f"{variable.name} {shape} of {self.told(owner)}" if owner is not None else f"{variable.path} {shape}"

    def attributes(self) -> dict[str, Any]:
        """Return the plain attributes of the author's own layers, by words for each; of lists how long they are."""
        found: dict[str, Any] = {}
        for layer in self.layers():
            if self.author.class_line(type(layer)):
                for name, value in vars(layer).items():
                    if isinstance(value, bool | int | float | str | list | dict) and not name.startswith("_"):
                        told = len(value) if isinstance(value, list | dict) else value
                        found[f"the attribute {name} of {self.told(layer)}"] = told
        return found

    def always_training(self) -> list[Any]:
        """Return the layers that the author calls with `training=True`, whatever the network is asked for.

        Keras 3.15 overrules this in a network of one graph, and others do not.
        """
        return [
            layer
            for layer in self.layers()
            if any(call.arguments.kwargs.get("training") is True for call in layer._inbound_nodes)
        ]

    def layers(self) -> list[Any]:
        """Return all layers below the class layer, those within layers too."""
        return [layer for layer in self.features._flatten_layers() if layer is not self.features]


def _own_variables(layer: Any) -> list[Any]:
    inner = {id(variable) for each in layer._flatten_layers(include_self=False) for variable in each.variables}
    return [variable for variable in layer.variables if id(variable) not in inner]


def _as_steps(operation: Any, given: Any) -> Iterator[Step]:
    for tensor in keras.tree.flatten(given):
        try:
            yield Step(operation, np.asarray(keras.ops.convert_to_numpy(tensor)))
        except (TypeError, ValueError, NotImplementedError):  # it is no array
            continue


@contextmanager
def _watched(see: Callable[[Any, tuple[Any, ...], Any], None]) -> Iterator[None]:
    """Call `see(operation, arguments, given)` after each call of a Keras operation."""
    plain = keras.Operation.__call__

    def call(operation: Any, *arguments: Any, **options: Any) -> Any:
        given = plain(operation, *arguments, **options)
        see(operation, arguments, given)
        return given

    keras.Operation.__call__ = call
    try:
        yield
    finally:
        keras.Operation.__call__ = plain


@contextmanager
def _lines_noted(author: Author, lines: dict[int, str]) -> Iterator[None]:
    """Note for every operation that is made the line of the author's that makes it."""
    plain = keras.Operation.__new__

    def make(kind: Any, *arguments: Any, **options: Any) -> Any:
        made = plain(kind, *arguments, **options)
        if (line := author.calling_line()) is not None:
            lines[id(made)] = line
        return made

    keras.Operation.__new__ = make
    try:
        yield
    finally:
        keras.Operation.__new__ = plain


@dataclass
class ArchitectureSubject:
    """A registered architecture under test, with the networks of it that were built last.

    `small` are values in place of defaults, so that tuner's own large networks are tested small.
    """

    architecture: Architecture
    author: Author
    function: Callable[..., Any] | None = None
    small: Mapping[str, Any] = field(default_factory=dict)
    own_parameters: frozenset[str] | None = None
    """Those that the author declared; None: all."""
    elsewhere: Callable[[str], Mapping[str, Any]] | None = None
    """What `fresh_process` found of it in a process of its own; None: not asked for."""
    px: int = 0
    variants: dict[str, Any] = field(default_factory=dict)
    """What checks of hyperparameters found of values, kept for one another."""
    _kept: OrderedDict[str, Built] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.before = state() | {name: value for name, value in self.author.before.items() if name not in _AS_LOADED}
        smallest = self.architecture.minimum_px
        self.px = self.px or next((px for px in SIZES_PX if px >= smallest), smallest)

    @property
    def name(self) -> str:
        """The name of the architecture."""
        return self.architecture.name

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The hyperparameters that the author declared."""
        every = self.architecture.parameters
        return {name: every[name] for name in every if self.own_parameters is None or name in self.own_parameters}

    def configuration(self, changes: Changes | None = None) -> dict[str, Any]:
        """Return a whole configuration: the defaults, what is kept small, and some changes."""
        known = {name: value for name, value in self.small.items() if name in self.architecture.parameters}
        values = {"architecture": self.name, "preprocess": "scale(0,1)", **known}
        if "weights" in self.architecture.parameters:
            values["weights"] = "none"
        return {**values, **(changes or {})}

    def shape(self, channels: int = 3, px: int | None = None) -> tuple[int, int, int]:
        """Return the shape of square images."""
        return (px or self.px, px or self.px, channels)

    def build(self, changes: Changes | None = None, shape: tuple[int, int, int] | None = None, seed: int = 1) -> Built:
        """Return a new network, as a trial builds it."""
        lines: dict[int, str] = {}
        with _lines_noted(self.author, lines), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = build_model(self.configuration(changes), shape or self.shape(), NUM_CLASSES, seed)
        return Built(network, lines, self.author)

    def built(self, changes: Changes | None = None, shape: tuple[int, int, int] | None = None, seed: int = 1) -> Built:
        """Return a network that was built before, or a new one; what it is must not be changed."""
        key = json.dumps([dict(changes or {}), shape or self.shape(), seed], sort_keys=True, default=str)
        if key not in self._kept:
            self._kept[key] = self.build(changes, shape, seed)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def release(self) -> None:
        """Drop the networks that are kept."""
        self._kept.clear()

    def takes(self, changes: Changes, px: int) -> bool:
        """Return whether a network for images of this size is built, as far as that shows without its numbers."""
        return bool(self._shapes(changes, px))

    def _shapes(self, changes: Changes, px: int | None = None) -> list[tuple[int, ...]]:
        try:
            with symbolic():
                model = build_model(self.configuration(changes), self.shape(px=px), NUM_CLASSES, 1).model
                return [tuple(variable.shape) for variable in model.variables]
        except Exception:  # noqa: BLE001  whatever it is, it comes again where the network is built in earnest
            return []

    def shapes_if_large(self, changes: Changes) -> list[tuple[int, ...]]:
        """Return the shapes of the weights of a network that has too many to be filled with numbers; else nothing."""
        shapes = self._shapes(changes)
        default = sum(int(np.prod(variable.shape)) for variable in self.built().network.model.variables)
        return shapes if sum(int(np.prod(shape)) for shape in shapes) > max(_LARGEST, 4 * default) else []


def first_difference(steps: list[Step], others: list[Step], rows: slice = slice(None)) -> Any:
    """Return the first operation that gives another result for some images; None: there is none, or they differ."""
    for step, other in zip(steps, others, strict=False):
        if step.operation.name != other.operation.name:
            return None
        one, another = (step.given, other.given)
        if one.ndim and another.ndim and one.shape[0] != another.shape[0]:
            one = one[rows]
        if one.dtype.kind == "f" and not is_close(one, another):
            return step.operation
    return None


def train_step(built: Built, model: Any, images: np.ndarray, labels: np.ndarray) -> float:
    """Train one step, and return the loss."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some weights have no gradient is told by their name
        return float(np.asarray(model.train_on_batch(images, labels)))


def trainable(built: Built) -> Any:
    """Return the network, compiled so that every gradient, however small, moves what it belongs to."""
    freeze(built.network, len(built.network.blocks))
    model = built.network.model
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-30), "categorical_crossentropy", run_eagerly=True)
    return model
