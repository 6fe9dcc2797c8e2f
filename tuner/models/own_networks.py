"""Own code in a process that trains, and architectures of own functions. Light: Keras is loaded when needed."""

from __future__ import annotations

import inspect
import random
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from tuner.common.errors import InputError, first_line, printable
from tuner.common.files import shown
from tuner.common.plugins import Plugin, load_plugins
from tuner.common.process import logging_to
from tuner.common.seeds import derive_seed
from tuner.models.applications import PixelScaling
from tuner.models.architectures import Architecture
from tuner.models.parameters import HEAD, Parameter

SCALINGS = tuple(get_args(PixelScaling))
_HEAD_OF_OWN = {name: parameter for name, parameter in HEAD.items() if name != "weights"}
"""The hyperparameters that an own backbone has beside its own; its weights are its author's."""


def load_own_code(
    references: Iterable[str], load: Callable[[Iterable[str]], tuple[Plugin, ...]] = load_plugins
) -> tuple[Plugin, ...]:
    """Load plugins, as for a command; Keras is set up first, since most of them import it."""
    every = tuple(references)
    if every:
        from tuner.models.backend import configure_backend

        with logging_to(None):  # what libraries say of the machine is not told
            configure_backend()
    return load(every)


def own_network(
    name: str,
    description: str,
    function: Callable[..., Any],
    parameters: Mapping[str, Parameter],
    minimum_px: int,
    pixel_scaling: Any,
) -> Architecture:
    """Return the architecture of a function of symbolic images and of parameters by name."""
    if isinstance(minimum_px, bool) or not isinstance(minimum_px, int) or minimum_px < 1:
        raise InputError(f"architecture {name}: minimum_px must be a whole number of at least 1; got {minimum_px!r}")
    if pixel_scaling is not None and pixel_scaling not in SCALINGS:
        words = ", ".join(map(repr, SCALINGS))
        raise InputError(f"architecture {name}: pixel_scaling must be one of {words}; got {pixel_scaling!r}")
    is_backbone = pixel_scaling is not None

    def build(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
        import keras

        images = keras.Input(inputs, dtype="float32", name="pixels") if is_backbone else inputs
        with seeded(derive_seed(seed, "own")):
            made = _called(name, function, images, {each: values[each] for each in parameters})
        return _backbone(name, made, images) if is_backbone else _features(name, made)

    return Architecture(
        name=name,
        description=description,
        parameters={**parameters, **(_HEAD_OF_OWN if is_backbone else {})},
        minimum_px=minimum_px,
        build=build,
        pixel_scaling=pixel_scaling,
        backbone_parameters=tuple(parameters) if is_backbone else None,
        is_own=True,
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let what is drawn without a seed within, as layers do for their weights and streams, follow from `seed`.

    Weights are not drawn again afterwards, as those of our own layers are: they may be an author's, read from a file.
    """
    import numpy as np

    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 own code may use it
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 as above
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)  # noqa: NPY002 as above


def _called(name: str, function: Callable[..., Any], images: Any, values: Mapping[str, Any]) -> Any:
    """Return what a function gives; raises InputError with the place in it where it fails."""
    try:
        return function(images, **values)
    except Exception as error:
        if isinstance(error, MemoryError | InputError) or type(error).__module__.startswith("tensorflow"):
            raise  # what it lacks is told as of any trial
        own = inspect.getsourcefile(inspect.unwrap(function))
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == own]
        place = f"{shown(Path(own))}:{lines[-1]}: " if own is not None and lines else ""
        told = printable(f"{type(error).__name__}: {first_line(error)}")
        with_values = ", ".join(f"{each} {value}" for each, value in values.items()) or "no parameters"
        raise InputError(f"{place}architecture {name} cannot be built with {with_values}: {told}") from error


def _features(name: str, made: Any) -> Any:
    """Return the features that a function gave; raises InputError where they are none."""
    import keras

    if isinstance(made, keras.Model):
        raise InputError(
            f"architecture {name}: the function returns a keras.Model; as a backbone it must say which pixel values "
            f"it reads: @tuner.architecture(pixel_scaling={SCALINGS[0]!r}), one of {', '.join(map(repr, SCALINGS))}"
        )
    hint = "end with keras.layers.GlobalAveragePooling2D() or Flatten()"
    return _tensor(name, made, (2,), "the features [N, F]", hint)


def _tensor(name: str, made: Any, ranks: tuple[int, ...], what: str, hint: str) -> Any:
    import keras

    rule = f"architecture {name}: the function must return {what}"
    if not isinstance(made, keras.KerasTensor):
        raise InputError(f"{rule}; it returns {'nothing' if made is None else f'a {type(made).__name__}'}")
    if len(made.shape) not in ranks or None in made.shape[1:]:
        sizes = ", ".join("N" if place == 0 else str(size) for place, size in enumerate(made.shape))
        raise InputError(f"{rule}; it returns [{sizes}]: {hint}")
    if not hasattr(made, "_keras_history"):
        raise InputError(f"{rule}, computed from the images that it is given")
    return made


def _backbone(name: str, made: Any, images: Any) -> Any:
    """Return the backbone that a function gave, as one graph; raises InputError where it is none."""
    import keras

    from tuner.models.backbones import number_automatic_names

    if not isinstance(made, keras.Model):
        raise InputError(
            f"architecture {name}: with pixel_scaling, the function must return a keras.Model; it returns "
            f"{'nothing' if made is None else f'a {type(made).__name__}'}"
        )
    if getattr(made, "_nodes_by_depth", None) is None or made.inputs[0].shape != images.shape:
        made = keras.Model(images, _called(name, made, images, {}), name=name)
    if len(made.inputs) != 1 or len(made.outputs) != 1:
        raise InputError(
            f"architecture {name}: the backbone must have one input and one output; "
            f"it has {len(made.inputs)} and {len(made.outputs)}"
        )
    what = "a keras.Model that gives maps [N, h, w, c], tokens [N, t, c] or vectors [N, F]"
    _tensor(name, made.outputs[0], (2, 3, 4), what, "leave out its top")
    backbone = _opened(made)
    number_automatic_names(backbone)
    return backbone


def _opened(network: Any) -> Any:
    """Return a network whose inner networks are parts of its own graph, where their names do not clash.

    So blocks and places are found within a network of Keras Applications that another one is put around.
    """
    import keras

    def call(operation: Any, *arguments: Any, **settings: Any) -> Any:
        if isinstance(operation, keras.Model) and getattr(operation, "inputs", None) is not None:
            return operation.call(*arguments, **settings)
        return operation(*arguments, **settings)

    while any(isinstance(one, keras.Sequential | type(network)) for one in network.operations):
        try:
            network = keras.models.clone_model(network, call_function=call, clone_function=lambda operation: operation)
        except ValueError:  # two layers of one name
            return network
    return network
