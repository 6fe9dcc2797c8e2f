"""The network of a trial: the published models, pixel values, what is trained."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from tests.support.backbones import BACKBONES, as_keras_builds_it
from tuner.common.errors import InputError
from tuner.common.seeds import derive_seed
from tuner.models.architectures import ARCHITECTURES
from tuner.models.backbones import adapt_pixels
from tuner.models.network import TrialModel, build_model, freeze, parameter_counts

KMNIST = {"architecture": "dense", "hidden_layers": 3, "dense_units": 512}
CIFAR10_CNN = {
    "architecture": "cnn",
    "blocks": 2,
    "convolutions_per_block": 2,
    "filters": 32,
    "filters_growth": 2.0,
    "padding": "last_valid",
    "block_dropout": 0.25,
    "dense_units": 512,
    "dropout": 0.5,
}
FINGERS = {
    "architecture": "cnn",
    "blocks": 3,
    "convolutions_per_block": 1,
    "filters": 6,
    "filters_growth": 3.0,
    "max_filters": 16,
    "kernel_px": 3,
    "kernel_growth_px": 1,
    "padding": "valid",
    "dense_layers": 2,
    "dense_units": 256,
    "dense_growth": 0.5,
    "dropout": 0.0,
}
ROCK_PAPER_SCISSORS = {
    "architecture": "cnn",
    "blocks": 4,
    "convolutions_per_block": 1,
    "filters": 32,
    "max_filters": 128,
    "padding": "valid",
    "dense_units": 512,
    "dropout": 0.5,
}
CIFAR10_INCEPTION = {"architecture": "inception"}
# The weights are left out: those of ImageNet are not on every machine, and the layers are the same.
CIFAR10_TRANSFER = {
    "architecture": "mobilenet_v2",
    "weights": "none",
    "pooling": "average",
    "head_batch_normalization": True,
    "head_layers": 3,
    "head_units": 256,
    "dropout": 0.3,
}
FINGERS_TRANSFER = {
    "architecture": "mobilenet_v2",
    "weights": "none",
    "alpha": 0.35,
    "head_units": 100,
    "dropout": 0.5,
}
VGG16_FEATURES = {"architecture": "vgg16", "weights": "none", "pooling": "flatten", "head_units": 256, "dropout": 0.5}


def layer_kinds(trial_model: TrialModel) -> list[str]:
    """What follows the backbone (or the preprocessing), without activations."""
    names = [type(layer).__name__ for layer in trial_model.model.layers]
    start = names.index("Functional") + 1 if "Functional" in names else 0
    return [name for name in names[start:] if name not in {"ReLU", "InputLayer"}]


def layers_of(trial_model: TrialModel, kind: type) -> list[Any]:
    return [layer for layer in trial_model.model.layers if isinstance(layer, kind)]


def test_cifar10_cnn_has_the_published_number_of_parameters() -> None:
    built = build_model(CIFAR10_CNN, (32, 32, 3), 10, seed=0)
    assert parameter_counts(built.model) == (1_250_858, 1_250_858)
    convolutions = layers_of(built, keras.layers.Conv2D)
    assert [(layer.filters, layer.padding) for layer in convolutions] == [
        (32, "same"),
        (32, "valid"),
        (64, "same"),
        (64, "valid"),
    ]
    assert [layer.rate for layer in layers_of(built, keras.layers.Dropout)] == [0.25, 0.25, 0.5]


def test_cifar10_inception_has_the_published_number_of_parameters() -> None:
    built = build_model(CIFAR10_INCEPTION, (32, 32, 1), 10, seed=0)
    assert parameter_counts(built.model) == (1_245_738, 1_245_738)
    stem = built.model.get_layer("stem")
    assert (stem.kernel_size, stem.strides) == ((7, 7), (2, 2))
    assert len(layers_of(built, keras.layers.Concatenate)) == 2


def test_fingers_is_three_convolutions_and_dense_layers_of_256_128_and_4() -> None:
    built = build_model(FINGERS, (224, 224, 3), 4, seed=0)
    convolutions = layers_of(built, keras.layers.Conv2D)
    assert [(layer.filters, layer.kernel_size[0]) for layer in convolutions] == [(6, 3), (16, 4), (16, 5)]
    assert [layer.units for layer in layers_of(built, keras.layers.Dense)] == [256, 128, 4]
    assert len(layers_of(built, keras.layers.MaxPooling2D)) == 3


def test_rock_paper_scissors_takes_300_px() -> None:
    built = build_model(ROCK_PAPER_SCISSORS, (300, 300, 3), 3, seed=0)
    assert [layer.filters for layer in layers_of(built, keras.layers.Conv2D)] == [32, 64, 128, 128]
    assert built.model.output_shape == (None, 3)


def test_kmnist_has_three_hidden_layers() -> None:
    built = build_model(KMNIST, (28, 28, 1), 10, seed=0)
    assert [layer.units for layer in layers_of(built, keras.layers.Dense)] == [512, 512, 512, 10]
    assert len(layers_of(built, keras.layers.ReLU)) == 3
    assert parameter_counts(built.model)[0] == 785 * 512 + 2 * 513 * 512 + 513 * 10


def test_cifar10_transfer_has_the_published_head() -> None:
    built = build_model(CIFAR10_TRANSFER, (32, 32, 3), 10, seed=0)
    kinds = ["GlobalAveragePooling2D", "BatchNormalization", "Dense", "Dense", "Dense", "Dropout", "Dense"]
    assert layer_kinds(built) == kinds


def test_fingers_transfer_has_the_published_head() -> None:
    built = build_model(FINGERS_TRANSFER, (64, 64, 3), 4, seed=0)
    assert layer_kinds(built) == ["GlobalAveragePooling2D", "Dense", "Dropout", "Dense"]
    freeze(built, 0)
    assert parameter_counts(built.model) == (410_208 + 1281 * 100 + 101 * 4, 1281 * 100 + 101 * 4)


def test_vgg16_gives_its_features_to_a_dense_head() -> None:
    built = build_model(VGG16_FEATURES, (32, 32, 3), 2, seed=0)
    assert layer_kinds(built) == ["Flatten", "Dense", "Dropout", "Dense"]


def test_a_model_from_scratch_has_no_blocks_and_is_trained_whole() -> None:
    built = build_model(KMNIST, (8, 8, 1), 10, seed=0)
    assert (built.backbone, built.blocks) == (None, ())
    freeze(built, 0)
    total, trainable = parameter_counts(built.model)
    assert total == trainable
    with pytest.raises(InputError, match=r"between 0 and 0 \(dense is trained from scratch .*\); got 1"):
        freeze(built, 1)


def test_a_negative_depth_is_refused() -> None:
    built = build_model(FINGERS_TRANSFER, (32, 32, 3), 4, seed=0)
    with pytest.raises(InputError, match=r"unfreeze_depth must be between 0 and 18 .*; got -1"):
        freeze(built, -1)


def test_unfreezing_less_freezes_again() -> None:
    built = build_model(FINGERS_TRANSFER, (32, 32, 3), 4, seed=0)
    freeze(built, 0)
    head = parameter_counts(built.model)[1]
    freeze(built, 18)
    everything = parameter_counts(built.model)[1]
    freeze(built, 1)
    last_block = parameter_counts(built.model)[1] - head
    assert last_block == 112 * 1280 + 2 * 1280  # Conv_1 without bias, scale and offset of its normalisation
    assert everything > head + last_block
    freeze(built, 0)
    assert parameter_counts(built.model)[1] == head


def test_normalisation_in_a_network_from_scratch_follows_the_batches() -> None:
    built = build_model({**KMNIST, "batch_normalization": True}, (8, 8, 1), 10, seed=0)
    freeze(built, 0)
    statistics = built.model.get_layer("dense_1_normalization").moving_mean
    before = keras.ops.convert_to_numpy(statistics).copy()
    built.model.compile("sgd", "categorical_crossentropy")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    built.model.train_on_batch(images, np.eye(10, dtype=np.float32)[:4])
    assert not np.array_equal(before, keras.ops.convert_to_numpy(statistics))


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_statistics_of_unfrozen_blocks_stay_also_in_a_compiled_step(run_eagerly: bool) -> None:
    built = build_model(FINGERS_TRANSFER, (32, 32, 3), 4, seed=0)
    freeze(built, 2)
    assert built.backbone is not None
    layer = built.backbone.get_layer("Conv_1_bn")
    before = [variable.copy() for variable in layer.get_weights()]
    built.model.compile(keras.optimizers.Adam(epsilon=1e-30), "categorical_crossentropy", run_eagerly=run_eagerly)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    built.model.train_on_batch(images, np.eye(4, dtype=np.float32))
    moved = [not np.array_equal(one, other) for one, other in zip(before, layer.get_weights(), strict=True)]
    assert moved == [True, True, False, False]  # scale, offset, mean, variance


def test_dropout_draws_the_same_from_the_same_seed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    configuration = {**KMNIST, "dropout": 0.5}

    def two_draws(seed: int) -> list[np.ndarray]:
        model = build_model(configuration, (8, 8, 1), 10, seed).model
        return [keras.ops.convert_to_numpy(model(images, training=True)) for _ in range(2)]

    first, second = two_draws(3)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal([first, second], two_draws(3))
    assert not np.array_equal(first, two_draws(4)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocks": 3, "padding": "valid"}, r"blocks must leave .* of the 8x9 px images; got 3, .* in block 2"),
        ({"blocks": 8}, r"blocks must leave at least one pixel of the 8x9 px images; got 8, .* in block 4"),
        ({"dropout": 1.0}, r"dropout must be between 0 and 0\.9; got 1\.0"),
        ({"padding": "full"}, r"padding must be one of same, valid, last_valid; got 'full'"),
    ],
)
def test_a_network_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_model({"architecture": "cnn", **changes}, (8, 9, 3), 10, seed=0)


def test_one_class_is_refused() -> None:
    with pytest.raises(InputError, match="num_classes must be at least 2; got 1"):
        build_model(KMNIST, (8, 8, 1), 1, seed=0)


def test_a_backbone_takes_grey_and_colour_only() -> None:
    with pytest.raises(InputError, match="images of 1 or 3 channels; got 4"):
        build_model(FINGERS_TRANSFER, (32, 32, 4), 4, seed=0)


def test_nine_inception_modules_are_googlenet_with_its_reductions() -> None:
    built = build_model({**CIFAR10_INCEPTION, "modules": 9, "reduction": True}, (32, 32, 1), 10, seed=0)
    assert built.model.get_layer("module_9").output.shape == (None, 2, 2, 1024)
    parts = ("1x1", "reduction_3x3", "3x3", "reduction_5x5", "5x5", "projection")
    filters = [built.model.get_layer(f"module_4_{part}").filters for part in parts]
    assert filters == [160, 112, 224, 24, 64, 64]  # 4b in table 1 of the paper


def as_imagenet_weights_saw_it(name: str, raw: np.ndarray) -> np.ndarray:
    """Keras' own way from 0..255 to the first convolution: `preprocess_input`, or layers at the start of the model."""
    module = {
        "mobilenet_v3_small": "mobilenet_v3",
        "mobilenet_v3_large": "mobilenet_v3",
        "resnet50": "resnet",
        "resnet50_v2": "resnet_v2",
        "densenet121": "densenet",
        "efficientnet_b0": "efficientnet",
        "efficientnet_v2_b0": "efficientnet_v2",
        "efficientnet_v2_s": "efficientnet_v2",
        "convnext_tiny": "convnext",
        "nasnet_mobile": "nasnet",
    }.get(name, name)
    prepared = getattr(keras.applications, module).preprocess_input(raw.copy())
    model = as_keras_builds_it(name)
    inside = [layer for layer in model.layers if type(layer).__name__ in {"Rescaling", "Normalization"}]
    if inside and ARCHITECTURES[name].pixel_scaling != "0 to 255":  # then they are inside ours, too
        prepared = keras.Model(model.inputs[0], inside[-1].output)(prepared)
    return np.asarray(keras.ops.convert_to_numpy(prepared))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_value_range_becomes_what_imagenet_weights_saw(name: str) -> None:
    size = ARCHITECTURES[name].minimum_px
    raw = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    expected = as_imagenet_weights_saw_it(name, raw)
    for low, high in [(0.0, 255.0), (0.0, 1.0), (-1.0, 1.0)]:
        inputs = keras.Input(raw.shape[1:])
        adapted = keras.Model(inputs, adapt_pixels(inputs, (low, high), ARCHITECTURES[name].pixel_scaling))
        found = keras.ops.convert_to_numpy(adapted(low + raw / 255 * (high - low)))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg16"])
def test_weights_see_a_standardised_image_of_imagenets_mean_and_deviation_as_it_was(name: str) -> None:
    shape = (*[ARCHITECTURES[name].minimum_px] * 2, 3)
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    image = 255 * (0.449 + 0.226 * (image - image.mean()) / image.std())
    backbone, seen = None, []
    for text in ("none", "standardise", "grayscale|rgb|standardise|smooth(3)"):
        configuration = {"architecture": name, "weights": "none", "preprocess": text}
        built = build_model(configuration, shape, 4, seed=0, backbone=backbone)
        backbone = built.backbone
        seen.append(np.asarray(keras.Model(built.model.inputs, built.pixels)(image)))
    raw, standardised, smooth = seen
    np.testing.assert_allclose(standardised, raw, rtol=1e-3, atol=1e-3 * np.abs(raw).max())
    np.testing.assert_allclose(smooth.mean(), raw.mean(), atol=0.1 * raw.std())


def test_images_of_no_range_are_passed_on_and_grey_ones_repeated() -> None:
    inputs = keras.Input((2, 2, 1))
    adapted = keras.Model(inputs, adapt_pixels(inputs, None, "caffe"))
    grey = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(adapted(grey)), np.repeat(grey, 3, axis=-1))


@pytest.mark.parametrize("architecture", ["dense", "cnn", "inception"])
def test_layers_that_the_product_names_keep_their_names_and_with_them_their_initial_weights(architecture) -> None:
    configuration = {"architecture": architecture, "dropout": 0.2, "preprocess": "grayscale|scale(0,1)"}
    first, second = (build_model(configuration, (32, 32, 3), 10, seed=3).model for _ in range(2))
    assert [operation.name for operation in first.operations] == [operation.name for operation in second.operations]
    assert {"dense": "dense_1", "cnn": "dense_1", "inception": "dropout"}[architecture] in [
        layer.name for layer in first.layers
    ]
    for layer in first.layers:
        if hasattr(layer, "kernel"):
            seed = derive_seed(derive_seed(3, "weights"), layer.name, "kernel_initializer")
            drawn = keras.initializers.GlorotUniform(seed)(layer.kernel.shape)
            assert np.array_equal(layer.kernel, drawn), layer.name
