"""What a network costs those who use it, measured on real ones."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.datasets.images import FITS, convert_pixels
from tuner.models.export import BATCH_SIZE, FEWEST_PASSES, any_size, seconds_per_image, stored_mb
from tuner.models.network import build_model


def network(units: int = 512):
    return build_model({"architecture": "dense", "dense_units": units, "hidden_layers": 2}, (8, 8, 1), 10, 0).model


def test_the_size_is_that_of_the_exported_file(tmp_path):
    model = network(1024)
    any_size(model, (8, 8, 1)).save(tmp_path / "model.keras")
    assert stored_mb(model) == pytest.approx((tmp_path / "model.keras").stat().st_size / 2**20, rel=0.02)


def test_half_precision_weights_take_half_the_room():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, dtype="bfloat16")])
    assert stored_mb(model) == 2 * (8 * 4 + 4) / 2**20
    assert stored_mb(keras.Sequential([keras.Input((8,)), keras.layers.Flatten()])) == 0


class Clock:
    """Passes of these durations, in seconds."""

    def __init__(self, *durations_s: float) -> None:
        self.now_s, self._durations = 0.0, itertools.cycle(durations_s)
        self.readings = 0

    def __call__(self) -> float:
        self.readings += 1
        if self.readings % 2 == 0:
            self.now_s += next(self._durations)
        return self.now_s


def test_the_time_is_the_median_of_some_passes_of_one_batch(small_digits):
    clock = Clock(0.32, 9.0, 0.064)
    assert seconds_per_image(network(8), small_digits.validation, clock) == pytest.approx(0.32 / BATCH_SIZE)
    assert clock.readings == 2 * FEWEST_PASSES, "it took long enough"


def test_a_larger_network_takes_longer_and_nothing_of_it_changes(small_digits):
    small, large = network(8), network(4096)
    before = [np.array(weight) for weight in large.weights]
    assert seconds_per_image(large, small_digits.validation) > seconds_per_image(small, small_digits.validation) > 0
    assert all((np.array(weight) == old).all() for weight, old in zip(large.weights, before, strict=True))


# --- an exported model sees what it was trained on ---

HEIGHT, WIDTH = 12, 20
SEEN = {
    (channels, fit): any_size(
        keras.Sequential([keras.Input((HEIGHT, WIDTH, channels))]), (HEIGHT, WIDTH, channels), fit
    )
    for channels in (1, 3)
    for fit in FITS
}


def photo(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def assert_is_seen_as_trained(images: np.ndarray, fit: str = "crop") -> None:
    trained = np.stack([convert_pixels(image, (HEIGHT, WIDTH), images.shape[3] == 1, fit) for image in images])
    seen = SEEN[images.shape[3], fit].predict_on_batch(images)
    assert np.abs(seen - trained).max() <= 2, "what lies between two whole numbers is rounded the other way, twice"
    assert (seen != trained).mean() < 0.3  # the most, where thirds of whole numbers are often halves


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(120, 200), (300, 61), (5, 7), (1, 50), (12, 20), (700, 900)])
def test_raw_images_that_are_padded_or_squeezed_are_seen_as_the_training_sees_them(height, width, fit) -> None:
    assert_is_seen_as_trained(photo(height, width, 3)[None], fit)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width"),
    [
        (120, 200),  # its proportions
        (12, 21),  # nearly its size
        (13, 20),
        (300, 60),  # portrait
        (60, 300),  # landscape
        (9, 400),  # panorama
        (400, 9),
        (5, 7),  # smaller
        (1, 1),
        (1, 50),
        (50, 1),
        (11, 19),
        (700, 900),  # much larger
        (2000, 31),
    ],
)
def test_raw_images_of_any_size_are_seen_as_the_training_sees_them(height, width, channels) -> None:
    assert_is_seen_as_trained(photo(height, width, channels)[None])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 4), st.sampled_from([1, 3]), st.sampled_from(FITS))
def test_batches_of_any_size_are_seen_as_the_training_sees_them(height, width, number, channels, fit) -> None:
    assert_is_seen_as_trained(np.stack([photo(height, width, channels, each) for each in range(number)]), fit)


def test_images_of_its_own_size_are_seen_as_they_are() -> None:
    for height, width in ((HEIGHT, WIDTH), (3, 10), (224, 224), (299, 331)):
        model = any_size(keras.Sequential([keras.Input((height, width, 3))]), (height, width, 3))
        image = photo(height, width, 3)
        assert (model.predict_on_batch(image[None])[0] == image).all()
