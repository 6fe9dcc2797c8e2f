"""Hyperparameters: kind, range and default of each, those of all architectures and those of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tuner.common.errors import InputError
from tuner.common.registry import NEVER_NOTHING, is_nothing, nearest_name
from tuner.models.applications import BACKBONES, Backbone

Scalar = bool | int | float | str | None


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter: its kind, its range (`low` and `high` included, None: no bound), its default."""

    kind: Literal["int", "float", "choice", "bool", "text"]
    low: float | None = None
    high: float | None = None
    values: tuple[Scalar, ...] = ()
    default: Scalar = None
    description: str = ""

    @property
    def rule(self) -> str:
        """The rule that a value must keep.

        >>> Parameter("float", low=0, high=0.9).rule
        'must be a number between 0 and 0.9'
        """
        if self.kind == "choice":
            return f"must be one of {', '.join(str(value) for value in self.values)}"
        noun = {"int": "a whole number", "float": "a number", "bool": "true or false", "text": "text"}[self.kind]
        return f"must be {noun}{self._bounds}"

    @property
    def _bounds(self) -> str:
        low, high = (f"{bound:.15g}" if bound is not None else None for bound in (self.low, self.high))
        if low is not None and high is not None:
            return f" between {low} and {high}"
        return f" of at least {low}" if low is not None else f" of at most {high}" if high is not None else ""

    def misfit(self, value: Any) -> str | None:
        """Return why `value` breaks the rule, or None.

        >>> Parameter("float", low=0, high=0.9).misfit(1.2)
        'must be between 0 and 0.9; got 1.2'
        """
        if self._has_kind(value):
            if self.kind not in ("int", "float") or self._in_range(value):
                return None
            return f"must be{self._bounds.replace(' of at', ' at')}; got {value!r}"
        nearest = self._nearest(value)
        return f"{self.rule}{NEVER_NOTHING if is_nothing(value) else ''}; got {_shown(value)}{nearest}"

    def _nearest(self, value: Any) -> str:
        """Return a question for the choice that a word may have been meant to be; empty where none is near."""
        names = [known for known in self.values if isinstance(known, str)]
        found = nearest_name(value, names) if isinstance(value, str) and not is_nothing(value) else None
        return "" if found is None else f"; did you mean {found}?"

    @property
    def nothing(self) -> Scalar:
        """The value that is kept where a file says nothing of the kind; None where it cannot.

        >>> Parameter("float", low=0, high=0.9).nothing, Parameter("text").nothing, Parameter("int", low=1).nothing
        (0, 'none', None)
        """
        if self.kind == "text" or "none" in self.values:
            return "none"
        return False if self.kind == "bool" else self.low if self.low == 0 else None

    def range_misfit(self, low: Any, high: Any) -> str | None:
        """Return why a search cannot go from `low` to `high`, both included, or None."""
        if self.kind not in ("int", "float"):
            return f"{self.rule}, not a range; got {_shown(low)} to {_shown(high)}"
        return self.misfit(low) or self.misfit(high)

    def _has_kind(self, value: Any) -> bool:
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "text":
            return isinstance(value, str)
        if self.kind == "choice":  # 1 and 1.0 are one choice, 1 and true are not
            return any(value == known and isinstance(value, bool) == isinstance(known, bool) for known in self.values)
        number = int if self.kind == "int" else (int, float)
        return isinstance(value, number) and not isinstance(value, bool)

    def _in_range(self, value: float) -> bool:
        above = self.low is None or value >= self.low  # False for NaN
        below = self.high is None or value <= self.high
        return above and below and abs(value) != float("inf")


def values_of(parameters: Mapping[str, Parameter], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return every parameter with its value in `configuration`, or its default.

    Raises:
        InputError: a value is not one that its parameter takes.
    """
    values = {name: configuration.get(name, parameter.default) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        if problem := parameter.misfit(values[name]):
            raise InputError(f"{name} {problem}")
    return values


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


OPTIMIZERS = (
    *("adam", "adamw", "sgd", "rmsprop", "nadam", "adamax", "adagrad", "adadelta", "adafactor"),
    *("lamb", "lion", "muon", "schedule_free_adamw"),
)
GENERAL: dict[str, Parameter] = {
    "preprocess": Parameter("text", default="scale(0,1)", description="preprocessing variant, part of the model"),
    "augment": Parameter("text", default="none", description="augmentation of training images"),
    "batch_size": Parameter("int", low=1, high=65_536, default=64, description="images per training step"),
    "learning_rate": Parameter(
        "float", low=1e-8, high=10.0, default=1e-3, description="of the head phase, or of a network from scratch"
    ),
    "fine_tune_learning_rate_factor": Parameter(
        "float", low=1e-6, high=10.0, default=0.1, description="times learning_rate once blocks are unfrozen"
    ),
    "optimizer": Parameter("choice", values=OPTIMIZERS, default="adam", description="of Keras, by its name there"),
    "momentum": Parameter(
        "float",
        low=0.0,
        high=0.999,
        description="of sgd (Nesterov's, else 0.9), muon (else 0.95) and rmsprop (else 0); no other has one",
    ),
    "schedule": Parameter(
        "choice",
        values=("constant", "cosine", "linear", "one_cycle", "plateau"),
        default="constant",
        description="of the learning rate, over the epochs that a phase has at most",
    ),
    "warmup_epochs": Parameter(
        "float", low=0.0, high=1000.0, default=0.0, description="in which the rate rises to its value, in each phase"
    ),
    "clip_norm": Parameter(
        "float", low=0.0, high=1e6, default=0.0, description="most norm of all gradients together; 0: any"
    ),
    "ema": Parameter(
        "float",
        low=0.0,
        high=0.99999,
        default=0.0,
        description="share of the average of the weights that each step keeps, validated instead of them; 0: none",
    ),
    "layer_decay": Parameter(
        "float", low=0.01, high=1.0, default=1.0, description="of unfrozen blocks, times the rate of the one above"
    ),
    "unfreeze": Parameter(
        "choice",
        values=("together", "gradual"),
        default="together",
        description="gradual: one block more in each epoch, from the output",
    ),
    "gradient_accumulation": Parameter(
        "int", low=1, high=1024, default=1, description="batches whose gradients make one step"
    ),
    "weight_decay": Parameter("float", low=0.0, high=1.0, default=0.0, description="decoupled, per step"),
    "label_smoothing": Parameter(
        "float", low=0.0, high=0.9, default=0.0, description="share of the label spread over all classes"
    ),
    "class_weight": Parameter(
        "choice",
        values=("none", "balanced"),
        default="none",
        description="balanced: in the loss that is trained, all classes count alike, however many images they have",
    ),
    "loss": Parameter(
        "choice",
        values=("cross_entropy", "focal"),
        default="cross_entropy",
        description="focal: what is already answered surely counts less",
    ),
}


def general(configuration: Mapping[str, Any], name: str) -> Any:
    """Return the value of a general hyperparameter in `configuration`, or its default."""
    return configuration.get(name, GENERAL[name].default)


def _dropout(default: float, where: str) -> Parameter:
    return Parameter("float", low=0.0, high=0.9, default=default, description=f"share of values dropped {where}")


def _choice(description: str, default: str, *values: str) -> Parameter:
    return Parameter("choice", values=values, default=default, description=description)


_POOLING = "how a feature map becomes a vector"
_BATCH_NORMALIZATION = Parameter("bool", default=False, description="normalise by batch before each ReLU")
_DENSE_UNITS = Parameter("int", low=1, high=16_384, default=512, description="units of the first hidden dense layer")
_DENSE_GROWTH = Parameter("float", low=0.1, high=4.0, default=1.0, description="units times this at each next layer")
HEAD = {
    "weights": _choice("none: random weights from the seed", "imagenet", "imagenet", "none"),
    "unfreeze_depth": Parameter(
        "int", low=0, default=0, description="blocks trained after the head phase, from the output; 0: head only"
    ),  # at most the blocks of each
    "pooling": _choice(_POOLING, "average", "average", "max", "flatten"),
    "head_batch_normalization": Parameter("bool", default=False, description="normalise by batch after pooling"),
    "head_layers": Parameter("int", low=1, high=10, default=1, description="hidden dense layers, if head_units"),
    "head_units": Parameter("int", low=0, high=16_384, default=0, description="units of each; 0: no hidden layers"),
    "dropout": _dropout(0.0, "before the softmax"),
}


def _of_backbone(backbone: Backbone) -> dict[str, Parameter]:
    alphas = backbone.alphas
    width = {"alpha": Parameter("choice", values=alphas, default=1.0, description="width")} if alphas else {}
    return {**width, **HEAD, "unfreeze_depth": replace(HEAD["unfreeze_depth"], high=backbone.blocks)}


OF_TRAINABLES: dict[str, Mapping[str, Parameter]] = {}
"""Those of each training function of one's own that is known in this process; reports ask for their ranges."""
OF_ARCHITECTURES: dict[str, dict[str, Parameter]] = {
    "dense": {
        "hidden_layers": Parameter("int", low=0, high=20, default=3, description="hidden dense layers (ReLU)"),
        "dense_units": _DENSE_UNITS,
        "dense_growth": _DENSE_GROWTH,
        "dropout": _dropout(0.0, "after each hidden layer"),
        "batch_normalization": _BATCH_NORMALIZATION,
    },
    "cnn": {
        "blocks": Parameter("int", low=1, high=8, default=2, description="blocks, each ending in 2x2 max pooling"),
        "convolutions_per_block": Parameter("int", low=1, high=6, default=2, description="convolutions (ReLU)"),
        "filters": Parameter("int", low=1, high=2048, default=32, description="filters in the first block"),
        "filters_growth": Parameter("float", low=0.5, high=4.0, default=2.0, description="times this per block"),
        "max_filters": Parameter("int", low=1, high=4096, default=512, description="filters where growth ends"),
        "kernel_px": Parameter("int", low=1, high=15, default=3, description="kernel of the first block"),
        "kernel_growth_px": Parameter("int", low=0, high=4, default=0, description="kernel grows by this per block"),
        "padding": _choice(
            "last_valid: only the last convolution of each block is unpadded", "same", "same", "valid", "last_valid"
        ),
        "block_dropout": _dropout(0.0, "after each block"),
        "pooling": _choice(_POOLING, "flatten", "flatten", "average", "max"),
        "dense_layers": Parameter("int", low=0, high=10, default=1, description="hidden dense layers (ReLU)"),
        "dense_units": _DENSE_UNITS,
        "dense_growth": _DENSE_GROWTH,
        "dropout": _dropout(0.5, "before the softmax"),
        "batch_normalization": _BATCH_NORMALIZATION,
    },
    "inception": {
        "stem_filters": Parameter("int", low=1, high=512, default=64, description="filters of the 7x7 stem"),
        "stem_pooling": Parameter("bool", default=True, description="3x3 max pooling of stride 2 after the stem"),
        "modules": Parameter("int", low=1, high=9, default=2, description="modules, with GoogLeNet's filters"),
        "width": Parameter("float", low=0.1, high=4.0, default=1.0, description="times GoogLeNet's filters"),
        "reduction": Parameter("bool", default=False, description="1x1 convolutions before 3x3 and 5x5"),
        "pooling": _choice(_POOLING, "average", "average", "max", "flatten"),
        "dropout": _dropout(0.0, "before the softmax"),
        "batch_normalization": _BATCH_NORMALIZATION,
    },
    **{name: _of_backbone(backbone) for name, backbone in BACKBONES.items()},
}
"""Those of each architecture that comes with tuner, beside the general ones."""
