"""Architectures of own code: built, seeded, trained, cut and saved as our own, and told of in one line where wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tuner
from tuner.common.errors import InputError
from tuner.common.plugins import forget_plugins, load_plugins
from tuner.models.architectures import ARCHITECTURES
from tuner.models.network import build_model, freeze

STRANGERS = Path(__file__).parents[1] / "support" / "strangers.py"
NAMES = ("stranger_residual", "stranger_vit", "stranger_wrapped", "stranger_inner", "stranger_shared")
BACKBONES = ("stranger_wrapped", "stranger_shared")


@pytest.fixture(scope="module", autouse=True)
def strangers():
    load_plugins([str(STRANGERS)])
    yield
    forget_plugins()


def built(name: str, seed: int = 1, **values: Any):
    px = max(8, ARCHITECTURES[name].minimum_px)
    return build_model({"architecture": name, "preprocess": "scale(0,1)", **values}, (px, px, 1), 3, seed)


def images(model: Any, number: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, *model.input_shape[1:])).astype("float32")


@pytest.mark.parametrize("name", NAMES)
def test_a_strangers_network_is_drawn_from_the_seed_alone_whatever_was_built_before(name):
    first = built(name)
    layers.Dense(3)(keras.Input((2,)))
    again, other = built(name), built(name, seed=2)
    for one, same in zip(first.model.variables, again.model.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(same), err_msg=one.path)
    if name != "stranger_wrapped":  # whose weights are its author's, whatever the seed
        drawn = [(a, b) for a, b in zip(first.model.weights, other.model.weights, strict=True) if "kernel" in a.path]
        assert drawn and all((np.asarray(a) != np.asarray(b)).mean() > 0.9 for a, b in drawn)
    np.testing.assert_allclose(first.model.predict(images(first.model), verbose=0).sum(axis=1), 1, rtol=1e-5)


def test_the_weights_of_an_author_stay_as_they_are():
    one, other = built("stranger_wrapped", 1), built("stranger_wrapped", 2)
    assert one.backbone is not None and other.backbone is not None
    for weight, same in zip(one.backbone.weights, other.backbone.weights, strict=True):
        if "kernel" in weight.path:
            np.testing.assert_array_equal(np.asarray(weight), np.asarray(same))


def test_the_global_generators_are_left_as_they_were():
    import random

    random.seed(5)
    before = random.getstate()
    entry = ARCHITECTURES["stranger_residual"]
    entry.build(entry.values_of({}), keras.Input((8, 8, 1)), 3)
    assert random.getstate() == before


def test_blocks_are_found_within_a_wrapped_network():
    trial_model = built("stranger_wrapped")
    assert len(trial_model.blocks) == 18  # those of MobileNetV2
    freeze(trial_model, 2)
    assert 0 < len(trial_model.backbone.trainable_weights) < len(trial_model.backbone.weights)


def test_calls_of_one_layer_are_in_one_block():
    trial_model = built("stranger_shared", times=3)
    homes = [block for block in trial_model.blocks if any(name.startswith("again") for name in block.operations)]
    assert len(homes) == 1 and {"again", "again#2", "again#3"} <= set(homes[0].operations)
    assert [block.name for block in trial_model.blocks] == ["top", "sum_2", "half"]
    freeze(trial_model, 2)
    assert {w.path.split("/")[0] for w in trial_model.backbone.trainable_weights} == {"top", "again"}


def own(function: Any, name: str = "own_net", values: dict[str, Any] | None = None, **settings: Any):
    try:
        tuner.architecture(function, name=name, **settings)
        return build_model({"architecture": name, "preprocess": "scale(0,1)", **(values or {})}, (8, 8, 3), 3, 0)
    finally:
        ARCHITECTURES.remove(name)


def _vector(images):
    return layers.Flatten()(images)


def _split(images):
    x = layers.Conv2D(4, 3, name="stem")(images)
    one, other = keras.ops.split(x, 2, axis=-1)
    x = layers.Concatenate(name="joined")([layers.Conv2D(2, 1, name="left")(one), other])
    return keras.Model(images, layers.Conv2D(2, 3, name="top")(x))


def _of_any_size(images):
    inner = keras.Input((None, None, 3))
    return keras.Model(inner, layers.Conv2D(4, 1)(layers.MaxPooling2D()(layers.Conv2D(4, 3)(inner))))


def _sequence(images):
    return keras.Sequential([layers.Conv2D(4, 3), layers.MaxPooling2D(), layers.Conv2D(4, 1)])


class ConvLike(layers.Layer):
    """A layer with a word of convolutions in its name, and no activation."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(1, 1, shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        return keras.ops.conv(x, self.kernel)


class Whole(keras.Model):
    """A subclass of a model, whose graph nobody knows."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Conv2D(4, 3)

    def call(self, x):
        return self.inner(x)


BACKBONE_FUNCTIONS: dict[str, tuple[Any, int]] = {
    "with an operation of two outputs": (_split, 2),
    "of an own layer called like a convolution": (
        lambda images: keras.Model(images, layers.Add()([ConvLike()(images), images])),
        1,
    ),
    "subclassed": (lambda images: Whole(), 1),
    "a sequence": (
        lambda images: keras.Sequential([layers.Conv2D(4, 3), layers.MaxPooling2D(), layers.Conv2D(4, 1)]),
        2,
    ),
    "of any size": (
        _of_any_size,
        2,
    ),
    "a vector": (lambda images: keras.Model(images, layers.GlobalMaxPooling2D()(layers.Conv2D(4, 3)(images))), 1),
    "tokens": (lambda images: keras.Model(images, layers.Reshape((-1, 4))(layers.Conv2D(4, 3)(images))), 1),
}


@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
@pytest.mark.parametrize("kind", BACKBONE_FUNCTIONS)
def test_a_backbone_of_any_form_has_a_head_blocks_and_a_training_step(kind, pooling):
    from tuner.training.cut_points import above, below, places

    function, number = BACKBONE_FUNCTIONS[kind]
    tuner.architecture(function, name="own_backbone", pixel_scaling="tf")
    try:
        values = {"architecture": "own_backbone", "pooling": pooling, "unfreeze_depth": 1}
        trial_model = build_model(values, (8, 8, 3), 3, 0)
    finally:
        ARCHITECTURES.remove("own_backbone")
    assert len(trial_model.blocks) == number
    freeze(trial_model, 0)
    assert not trial_model.backbone.trainable_weights
    raw = images(trial_model.model)
    expected = trial_model.model.predict(raw, verbose=0)
    known = places(trial_model)
    *kept, _ = below(trial_model, None, known, "float32").predict(raw, verbose=0)
    for place, values in zip(known, kept, strict=True):
        found = above(trial_model, place, lambda layer: layer).predict(values, verbose=0)
        np.testing.assert_allclose(found, expected, atol=2e-5)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "maps": (lambda images: layers.Conv2D(4, 3)(images), {}, r"features \[N, F\]; it returns \[N, 6, 6, 4\]: end with"),
    "nothing": (lambda images: None, {}, r"must return the features \[N, F\]; it returns nothing"),
    "a number": (lambda images: 3, {}, "it returns a int"),
    "a list": (lambda images: [_vector(images)], {}, "it returns a list"),
    "a model without scaling": (lambda images: keras.Model(images, _vector(images)), {}, r"pixel_scaling='tf'"),
    "a tensor with scaling": (_vector, {"pixel_scaling": "tf"}, "must return a keras.Model; it returns a KerasTensor"),
    "fails": (
        lambda images: images.nothing,
        {},
        r"networks.py:\d+: architecture own_net cannot be built .*Attr",
    ),
    "two outputs": (
        lambda images: keras.Model(images, [_vector(images), _vector(images)]),
        {"pixel_scaling": "tf"},
        "must have one input and one output; it has 1 and 2",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_network_that_is_none_is_told_in_one_line(case):
    function, settings, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        own(function, **settings)
    assert len(caught.value.lines()) == 1 and "own_net" in str(caught.value)


def _width(images, width):
    return images


REFUSED: dict[str, tuple[Any, str]] = {
    "unknown to the function": (
        lambda: tuner.architecture(_width, parameters={"witdh": tuner.Int(1, 2, default=1)}),
        r"_width: the function does not take unknown parameter 'witdh'; did you mean 'width'",
    ),
    "not declared": (lambda: tuner.architecture(_width), r"needs width, which parameters do not declare"),
    "no default": (
        lambda: tuner.architecture(_width, parameters={"width": tuner.Int(1, 2)}),
        r"width must have a default: tuner.Int",
    ),
    "general": (
        lambda: tuner.architecture(lambda i, augment: i, name="a", parameters={"augment": tuner.Bool()}),
        "augment is a hyperparameter of every search already",
    ),
    "of the head": (
        lambda: tuner.architecture(
            lambda i, dropout: i, name="a", parameters={"dropout": tuner.Float(0, 1, default=0)}, pixel_scaling="tf"
        ),
        "dropout is a hyperparameter of the head on a backbone already",
    ),
    "a list": (lambda: tuner.architecture(_width, parameters=["width"]), "parameters must be by name"),
    "a number": (lambda: tuner.architecture(_width, parameters={"width": 3}), "width must be a tuner.Int, Float"),
    "no images": (lambda: tuner.architecture(lambda: 3, name="a"), "must take the images first"),
    "no function": (lambda: tuner.architecture(3, name="a"), "belongs to a function; got 3"),
    "no name": (lambda: tuner.architecture(lambda images: images), "name must be a word"),
    "name of nothing": (lambda: tuner.architecture(_vector, name="none"), "name must be a word"),
    "taken": (lambda: tuner.architecture(_vector, name="cnn"), "'cnn' is registered already, as tuner's own"),
    "scaling": (lambda: tuner.architecture(_vector, pixel_scaling="imagenet"), "pixel_scaling must be one of 'tf', "),
    "pixels": (lambda: tuner.architecture(_vector, minimum_px=0), "minimum_px must be a whole number of at least 1"),
    "bounds": (lambda: tuner.Int(4, 2, default=3), "tuner.Int: low must be at most high; got 4 and 2"),
    "no bound": (lambda: tuner.Int(1, float("inf"), default=3), "tuner.Int must have whole numbers as bounds; got inf"),
    "text as bound": (lambda: tuner.Float("0", 1, default=3), "tuner.Float must have finite numbers as bounds"),
    "default outside": (lambda: tuner.Float(0, 1, default=3), "tuner.Float: default must be between 0 and 1; got 3"),
    "default of another kind": (lambda: tuner.Bool(default=3), "tuner.Bool: default must be true or false"),
    "default of the function": (
        lambda: tuner.architecture(lambda i, w=9: i, name="a", parameters={"w": tuner.Int(1, 3)}),
        "the default of w must be between 1 and 3; got 9",
    ),
    "no values": (lambda: tuner.Choice(), "tuner.Choice must have values"),
    "twice": (lambda: tuner.Choice(1, 1), "each value once"),
    "no choice": (lambda: tuner.Choice(1, 2, default=3), "tuner.Choice: default must be one of 1, 2; got 3"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_declaration_is_refused_with_the_rule(case):
    declare, message = REFUSED[case]
    before = list(ARCHITECTURES)
    with pytest.raises(InputError, match=message):
        declare()
    assert list(ARCHITECTURES) == before
