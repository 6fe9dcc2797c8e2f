"""The frozen part of a network: the places where it can be cut, and the networks below and above a cut.

The activations at a place are a pure function of the images. In float16 they are rounded at every place on the way, not
only where they are kept: so they are the same numbers whether they were computed from the images or from the
activations of a place below, and a trial does not depend on what happened to be in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tuner.common.errors import TunerError
from tuner.models.backbones import infer
from tuner.models.blocks import calls
from tuner.models.network import TrialModel

FLOAT16_MAX = 65504.0
FLOAT16_NORMAL = 2.0**-14
"""The smallest value that float16 rounds to 11 bits; below it, the error is half of 2**-24 whatever the value."""


@dataclass(frozen=True)
class Place:
    """A place in a network where activations can be kept: a tensor that everything above it is computed from."""

    name: str
    """The operation of the backbone, or `pooled average`, `pooled max`."""
    shape: tuple[int, ...]
    """Shape of the activations of one image."""
    multiplications: int
    """Multiplications for one image, from the pixels up to here."""

    @property
    def values(self) -> int:
        """The number of values of one image here."""
        return int(np.prod(self.shape))


class PrecisionError(TunerError):
    """Activations that float16 cannot hold to its usual precision."""


def places(trial_model: TrialModel) -> tuple[Place, ...]:
    """Return the places of a network on a backbone, from the one nearest the pixels to the one that the head reads.

    Before each block, except where nothing lies below it; the output of the backbone; and the pooled vector, unless
    pooling is flattening, which only names the same values otherwise.
    """
    if trial_model.backbone is None:
        return ()
    backbone = trial_model.backbone
    names = [block.cut_before_operation for block in reversed(trial_model.blocks)]
    names = [name for name in names if name != _operation_of(backbone.inputs[0]).name]
    counted = _multiplications(backbone)
    found = [Place(name, _shape(_tensor_at(backbone, name)), counted[name]) for name in names]
    output = _operation_of(backbone.outputs[0]).name
    found.append(Place(output, _shape(backbone.outputs[0]), counted[output]))
    pooling = _operation_of(trial_model.pooled)
    if not isinstance(pooling, keras.layers.Flatten):
        kind = "average" if type(pooling).__name__.startswith("GlobalAverage") else "max"
        kind = output if output == "class_token" else kind  # of the same weights, but of one token
        found.append(Place(f"pooled {kind}", _shape(trial_model.pooled), counted[output]))
    return tuple(found)


def place_below(trial_model: TrialModel, known: Sequence[Place], unfreeze_depth: int) -> Place | None:
    """Return the last of the places `known` that stays frozen while so many blocks are trained; None: none does."""
    if not known or unfreeze_depth == 0:
        return known[-1] if known else None
    name = trial_model.blocks[unfreeze_depth - 1].cut_before_operation
    return next((place for place in known if place.name == name), None)


def above(trial_model: TrialModel, place: Place | None, replace: Callable[[Any], Any]) -> keras.Model:
    """Return the network from the activations at a place (None: from raw images) to the probabilities.

    It shares all layers, but for those of the head that `replace` gives another for.
    """
    outputs = trial_model.model.outputs[0]
    images = trial_model.model.inputs[0]
    if place is None and trial_model.shrinking is not None:  # it takes images that are shrunk already, too
        network = _with(keras.Model(trial_model.preprocessed, outputs, name="preprocessed"), replace)
        any_size = keras.Input((None, None, images.shape[3]), dtype=images.dtype, name=images.name)
        return keras.Model(any_size, network(trial_model.shrinking.apply(any_size)), name="whole")
    if place is None:
        return _with(keras.Model(images, outputs, name="whole"), replace)
    if place.name.startswith("pooled "):
        return _with(keras.Model(trial_model.pooled, outputs, name="head"), replace)
    head = _with(keras.Model(trial_model.maps, outputs, name="head"), replace)
    backbone = _backbone(trial_model)
    if place.name == _operation_of(backbone.outputs[0]).name:
        return head
    inputs = keras.Input(place.shape, name="activations")
    suffix = keras.Model(_tensor_at(backbone, place.name), backbone.outputs[0], name=f"{backbone.name}_suffix")
    return keras.Model(inputs, head(infer(suffix, inputs)), name=f"{trial_model.model.name}_above")


def _with(model: keras.Model, replace: Callable[[Any], Any]) -> keras.Model:
    return keras.models.clone_model(model, clone_function=replace)


def below(trial_model: TrialModel, source: Place | None, targets: Sequence[Place], dtype: str) -> keras.Model:
    """Return the network from `source` (None: raw images) to the activations at each of `targets`, and a check.

    The check is `[N, P, 2]`: the largest value and the mean square of each image at each place on the way, before
    rounding.
    """
    known = places(trial_model)
    backbone = _backbone(trial_model)
    if source is None:
        inputs = trial_model.model.inputs[0]
        x, at, left = trial_model.pixels, backbone.inputs[0], known
    else:
        inputs = x = keras.Input(source.shape, name="activations")
        at = _tensor_at(backbone, source.name)
        left = known[known.index(source) + 1 :]
    outputs, checks = [], []
    wanted = {target.name for target in targets}
    for place in left[: known.index(targets[-1]) + 1 - len(known) + len(left)]:
        if place.name.startswith("pooled "):
            x = _operation_of(trial_model.pooled)(x)
        else:
            after = _tensor_at(backbone, place.name)
            x = infer(keras.Model(at, after), x)
            at = after
        flat = keras.ops.reshape(keras.ops.cast(x, "float32"), (-1, place.values))
        largest, square = keras.ops.max(keras.ops.abs(flat), axis=1), keras.ops.mean(flat * flat, axis=1)
        checks.append(keras.ops.stack([largest, square], axis=1))
        kept = keras.ops.cast(x, dtype)
        x = keras.ops.cast(kept, "float32")
        if place.name in wanted:
            outputs.append(kept)
    model = keras.Model(inputs, [*outputs, keras.ops.stack(checks, axis=1)], name=f"{trial_model.model.name}_below")
    model.compile(jit_compile=False)  # compiling for one pass costs more than it gains
    return model


def check_precision(check: np.ndarray) -> None:
    """Check that float16 rounds to its 11 bits everywhere; `check` is the last output of `below`.

    Raises:
        PrecisionError: a value is too large for float16, or all are so small that it rounds them more coarsely.
    """
    largest, mean_square = check[..., 0], check[..., 1]
    if not np.isfinite(largest).all() or largest.max() > FLOAT16_MAX:
        raise PrecisionError(f"float16 holds values up to {FLOAT16_MAX:,.0f}; activations reach {largest.max():,.0f}")
    root = np.sqrt(mean_square.mean(axis=0))
    small = root[(root > 0) & (root < FLOAT16_NORMAL)]
    if len(small):
        least = f"{FLOAT16_NORMAL:.1e}"
        raise PrecisionError(f"float16 rounds values below {least} coarsely; activations are {small[0]:.1e}")


def _backbone(trial_model: TrialModel) -> keras.Model:
    if trial_model.backbone is None:
        raise TunerError(f"{trial_model.model.name} has no backbone, and so no frozen part")
    return trial_model.backbone


def _operation_of(tensor: Any) -> Any:
    return tensor._keras_history.operation


def _tensor_at(backbone: keras.Model, name: str) -> Any:
    return calls(backbone)[name].output_tensors[0]


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape[1:])


def _multiplications(backbone: keras.Model) -> dict[str, int]:
    """Return the multiplications for one image up to and including each operation, in the order of the graph."""
    total, found = 0, {}
    for name, call in calls(backbone).items():
        total += _own_multiplications(call.operation, call)
        found[name] = total
    return found


def _own_multiplications(operation: Any, call: Any) -> int:
    """Return the multiplications of a layer: each value of its kernel, once per position of the output of a call."""
    if isinstance(operation, keras.Model):
        inner = getattr(operation, "operations", None) or operation.layers
        return sum(_own_multiplications(layer, layer._inbound_nodes[0]) for layer in inner if layer._inbound_nodes)
    kernels = [variable for variable in getattr(operation, "weights", ()) if "kernel" in variable.name]
    if not kernels:
        return 0
    output = call.output_tensors[0].shape
    positions = int(np.prod([size or 1 for size in output[1:-1]], dtype=np.int64))
    return positions * sum(int(np.prod(kernel.shape)) for kernel in kernels)
