"""Augmentation in the graph of a training step: the same operations as on the host, from the same distributions."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from scipy.stats import ks_2samp

from tuner.models.augment import changes
from tuner.models.augment.on_device import _MOVES, DeviceAugment, Draw, can_go_there, form_of, move_pixels
from tuner.models.augment.operations import AUGMENTATION
from tuner.models.augmentation import parse_augment

TEXTS = [
    "flip", "flip(both)", "shift(3)", "rotate(30)", "zoom(0.4)", "random_resized_crop(0.3)", "brightness(0.4)",
    "contrast(0.6)", "color_jitter", "color_jitter(hue=0.5)", "noise(0.2)", "erase(0.4)", "mixup(0.2)", "mixup(2)",
    "cutmix(1)", "flip|rotate(15)|zoom(0.2)|brightness(0.2)|contrast(0.2)",
    "contrast(0.3)|mixup(1)|rotate(20)|erase(0.3)",
]  # fmt: skip


def on_device(
    text: str, images: np.ndarray, labels: np.ndarray, seed: int = 5, batch: int = 0, weights: Any = None
) -> Any:
    calls = parse_augment(text).calls
    augment = DeviceAugment(calls)
    augment.start(calls, seed, batch)
    found = augment.apply(images, keras.ops.convert_to_tensor(labels), weights)
    return tuple(None if one is None else keras.ops.convert_to_numpy(one) for one in found)


@pytest.fixture(scope="module")
def digits(small_digits) -> np.ndarray:
    """A thousand real digits of 24 px in colours that differ."""
    images = np.kron(small_digits.train.batch(np.arange(240))[0], np.ones((1, 3, 3, 1)))[np.arange(960) % 240]
    tinted = images * np.random.default_rng(0).uniform(0.3, 1.0, (960, 1, 1, 3))
    return (tinted * 255 / max(1, tinted.max())).astype(np.uint8)


def seen(images: np.ndarray, labels: np.ndarray, raw: np.ndarray) -> dict[str, np.ndarray]:
    """What augmentation does to images, a number for each."""
    values, centred = images.astype(float), np.arange(raw.shape[1]) - (raw.shape[1] - 1) / 2
    light = values.sum(axis=(1, 2, 3)) + 1
    return {
        "brightness": values.mean(axis=(1, 2, 3)),
        "contrast": values.std(axis=(1, 2, 3)),
        "change": np.abs(values - raw).mean(axis=(1, 2, 3)),
        "column": (values.sum(axis=(1, 3)) * centred).sum(axis=1) / light,
        "row": (values.sum(axis=(2, 3)) * centred).sum(axis=1) / light,
        "hue": (values[..., 0] - values[..., 2]).mean(axis=(1, 2)),
        "own label": labels[np.arange(len(labels)), np.arange(len(labels)) % labels.shape[1]].round(3),
    }


@pytest.mark.parametrize("text", TEXTS)
def test_both_ways_do_the_same_to_real_images_as_far_as_chance_shows(text, digits) -> None:
    labels = np.eye(10, dtype=np.float32)[np.arange(len(digits)) % 10]
    host = seen(*parse_augment(text).apply(digits, labels, 1), digits)
    device = seen(*on_device(text, digits, labels)[:2], digits)
    for name, values in host.items():
        assert ks_2samp(values, device[name]).statistic < 0.09, name  # two of the host differ by 0.06


def test_as_much_of_small_images_is_exchanged_on_both() -> None:
    images, labels = np.zeros((1000, 8, 8, 1), np.uint8), np.eye(1000, dtype=np.float32)
    host, device = parse_augment("cutmix(0.2)").apply(images, labels, 1), on_device("cutmix(0.2)", images, labels)
    own = [np.diagonal(mixed[1]).round(3) for mixed in (host, device)]
    assert ks_2samp(*own).statistic < 0.09


@pytest.mark.parametrize(
    ("text", "turned", "mirrored"), [("rotate(40)", 40.0, 0.0), ("flip", 0.0, 0.5), ("zoom(0.3)", 0.0, 0.0)]
)
def test_angles_and_mirrors_are_drawn_alike(text, turned, mirrored, digits) -> None:
    (call,) = parse_augment(text).calls
    host = call.operation.effect.draw(call.values, digits.shape, np.random.default_rng(0)).maps[:, :2]
    numbers = {
        name: keras.ops.convert_to_tensor(value) if not isinstance(value, str) else value
        for name, value in call.values.items()
    }
    device = np.asarray(_MOVES[call.name](numbers, Draw(keras.random.SeedGenerator(1), digits)))
    for maps in (host, device):
        angles = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 1, 1]))
        assert np.abs(angles).max() <= turned + 1e-3 and abs(np.mean(angles)) < 2.5
        assert abs(np.std(angles) - turned / np.sqrt(3)) < 1
        assert abs((np.linalg.det(maps[:, :, :2]) < 0).mean() - mirrored) < 0.05
    sizes = [np.sqrt(np.abs(np.linalg.det(maps[:, :, :2]))).round(4) for maps in (host, device)]
    assert ks_2samp(*sizes).statistic < 0.09


def test_the_same_maps_give_the_same_images_on_both(digits) -> None:
    images, number = digits[:64, 1:, :22], 64
    by = np.random.default_rng(3)
    maps = changes.rotation_maps(by.uniform(-60, 60, number)) @ changes.shift_maps(*by.uniform(-4, 4, (2, number)))
    maps = maps @ changes.diagonal_maps(by.choice([-1, 0.7, 1.4], number), by.uniform(0.6, 1.5, number))
    maps[:8] = np.eye(3)
    maps[8:16] = changes.diagonal_maps(np.full(8, -1), np.ones(8))
    maps[16:24] = changes.shift_maps(np.full(8, 3), np.full(8, -2))
    expected = np.empty_like(images)
    changes.move_pixels(np.ascontiguousarray(images), maps, expected)
    found = np.asarray(
        move_pixels(keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(maps[:, :2], "float32"))
    )
    np.testing.assert_array_equal(found[:24], expected[:24])  # whole pixels
    apart = np.abs(found - expected)
    assert apart.mean() < 0.6 and np.quantile(apart, 0.999) < 8  # OpenCV places pixels to a 32nd


def test_a_batch_is_the_same_for_its_seed_and_index_and_another_one_otherwise(digits) -> None:
    images, labels = digits[:16], np.eye(16, dtype=np.float32)
    text = "rotate(20)|color_jitter|noise(0.1)|erase(0.5)|mixup(1)"
    calls = parse_augment(text).calls
    augment = DeviceAugment(calls)
    augment.start(calls, 3**40, 0)
    in_turn = [np.asarray(augment.apply(images, labels)[0]) for _ in range(3)]
    for batch, made in enumerate(in_turn):
        np.testing.assert_array_equal(on_device(text, images, labels, 3**40, batch)[0], made)
    other = on_device(text, images, labels, 3**40 + 1)[0]
    assert not any(np.array_equal(in_turn[0], one) for one in (*in_turn[1:], other))


def test_what_an_operation_draws_does_not_depend_on_what_follows(digits) -> None:
    images, labels = digits[:16], np.eye(16, dtype=np.float32)
    alone = on_device("flip", images, labels)[0]
    np.testing.assert_array_equal(on_device("flip|brightness(1e-9)", images, labels)[0], alone)


@pytest.mark.parametrize("text", ["mixup(1)", "cutmix(1)"])
def test_labels_and_weights_of_images_are_mixed_in_the_shares_of_the_images(text) -> None:
    flat = np.repeat(np.arange(64, dtype=np.uint8), 120).reshape(64, 10, 12, 1)
    weights = np.arange(64, dtype=np.float32)
    images, labels, mixed = on_device(text, flat, np.eye(64, dtype=np.float32), weights=weights)
    np.testing.assert_allclose(mixed, labels @ weights, atol=1e-4)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), labels @ np.arange(64), atol=0.51)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    assert (labels.max(axis=1) < 0.99).sum() > 30


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 3, 4), (3, 7, 9, 1), (1, 4, 4, 3)], ids=str)
def test_every_operation_of_the_device_takes_images_of_any_shape(shape) -> None:
    for text in TEXTS[:-2]:
        images, labels, _ = on_device(text, np.full(shape, 255, np.uint8), np.eye(3, dtype=np.float32)[: shape[0]])
        assert images.shape == shape and images.dtype == np.uint8 and labels.shape == (shape[0], 3), text


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 10.0])
def test_shares_have_the_distribution_that_is_asked_for(alpha) -> None:
    flat = np.zeros((4000, 1, 1, 1), np.uint8)
    flat[::2] = 255
    (call,) = parse_augment(f"mixup({alpha})").calls
    augment = DeviceAugment([call])
    quantiles = augment._calls[0][1]["alpha"]
    shares = np.asarray(Draw(keras.random.SeedGenerator(2), flat).beta(quantiles))
    expected = np.random.default_rng(0).beta(alpha, alpha, 4000)
    assert ks_2samp(shares.round(3), expected.round(3)).statistic < 0.05


def test_what_the_device_lacks_stays_on_the_host() -> None:
    there = {
        "flip",
        "shift",
        "rotate",
        "zoom",
        "random_resized_crop",
        "brightness",
        "contrast",
        "color_jitter",
        "noise",
    }
    there |= {"noise", "erase", "mixup", "cutmix"}
    assert {parse_augment(text).calls[0].name for text in TEXTS} == there
    for lacking in set(AUGMENTATION) - there:
        calls = parse_augment(f"flip|{lacking}(1)" if lacking == "blur" else f"flip|{lacking}").calls
        assert not can_go_there(calls) and can_go_there(calls[:1])
    assert form_of(parse_augment("rotate(5)|flip").calls) == form_of(parse_augment("rotate(15)|flip").calls)
    assert form_of(parse_augment("flip").calls) != form_of(parse_augment("flip(vertical)").calls)


@pytest.mark.full
def test_xla_compiles_all_of_it_and_draws_the_same_for_the_same_seed(digits) -> None:
    import tensorflow

    text = "flip|shift(2)|rotate(20)|zoom(0.2)|random_resized_crop(0.5)|color_jitter|erase(0.2)|mixup(1)"
    images, labels = digits[:8], np.eye(8, dtype=np.float32)
    calls = parse_augment(text).calls
    augment = DeviceAugment(calls)
    augment.start(calls, 5)
    compiled = tensorflow.function(augment.apply, jit_compile=True)
    first, labels_of_first, _ = compiled(tensorflow.constant(images), tensorflow.constant(labels))
    augment.start(calls, 5)
    again, _, _ = compiled(tensorflow.constant(images), tensorflow.constant(labels))
    other, _, _ = compiled(tensorflow.constant(images), tensorflow.constant(labels))
    np.testing.assert_array_equal(first, again)  # its random numbers are not those of a step without XLA
    assert not np.array_equal(first, other) and np.asarray(first).dtype == np.uint8
    np.testing.assert_allclose(np.asarray(labels_of_first).sum(axis=1), 1, atol=1e-6)
