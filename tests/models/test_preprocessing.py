"""Preprocessing and its language: pure functions of image and text, saved with the model. Real Keras."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner import models
from tuner.common.errors import PipelineError
from tuner.common.registry import Registry
from tuner.contracts.author import Author
from tuner.contracts.check import problems_of
from tuner.contracts.preprocessing import PREPROCESSING_CHECKS, OperationSubject
from tuner.models.augment.operations import AUGMENTATION
from tuner.models.operations import Operation
from tuner.models.preprocessing import KERNELS, PREPROCESSING, asked_size, parse_preprocess, shrink

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 12, 10, 3)).astype(np.uint8)
EXAMPLES = {
    "scale": "scale(-1,1)",
    "standardise": "standardise",
    "invert": "invert",
    "resize": "resize(9,11,method=bicubic)",
    "crop": "crop(7)",
    "grayscale": "grayscale",
    "rgb": "rgb",
    "smooth": "smooth(3)",
    "noise": "noise(0.1)",
}


def apply(text: str, images: np.ndarray = IMAGES) -> np.ndarray:
    return keras.ops.convert_to_numpy(parse_preprocess(text).apply(images))


def test_every_operation_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(PREPROCESSING)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_operation_keeps_what_is_promised_of_preprocessing(name) -> None:
    ours = Author(Path(models.__file__).parent)
    subject = OperationSubject(name, PREPROCESSING[name].arguments, ours, EXAMPLES[name])
    for check in PREPROCESSING_CHECKS:
        assert problems_of(subject, check) == (), check.promise
    assert (parse_preprocess(EXAMPLES[name]).value_range is None) == (name == "standardise")


def test_a_saved_model_preprocesses_without_tuner_as_it_did_with_it(tmp_path) -> None:
    text = "noise(0.1)|invert|resize(24)|smooth(3)|crop(20)|grayscale|rgb|scale(-1,1)|standardise"
    inputs = keras.Input(IMAGES.shape[1:])
    model = keras.Model(inputs, parse_preprocess(text).apply(inputs))
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "expected.npy", model.predict(IMAGES, verbose=0))
    script = (
        "import sys; sys.modules['tuner'] = None\n"  # importing it would fail
        "import keras, numpy\n"
        "model = keras.models.load_model('model.keras')\n"
        "result = model.predict(numpy.load('images.npy'), verbose=0)\n"
        "numpy.testing.assert_allclose(result, numpy.load('expected.npy'), atol=1e-4)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_scale_standardise_and_grayscale_do_what_they_say() -> None:
    np.testing.assert_allclose(apply("scale(-1,1)"), IMAGES / 127.5 - 1, atol=1e-5)
    standardised = apply("standardise")
    np.testing.assert_allclose(standardised.mean(axis=(1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(standardised.std(axis=(1, 2, 3)), 1, atol=1e-3)
    luma = IMAGES @ np.array([0.2989, 0.587, 0.114])
    np.testing.assert_allclose(apply("grayscale")[..., 0], luma, atol=0.1)
    np.testing.assert_allclose(apply("standardise", np.zeros((1, 4, 4, 1), np.uint8)), 0)


def test_scales_follow_each_other() -> None:
    np.testing.assert_allclose(apply("scale(0,1)|scale(-1,1)"), apply("scale(-1,1)"), atol=1e-5)
    assert parse_preprocess("scale(0,1)|invert").value_range == (0.0, 1.0)


@pytest.mark.parametrize("batch", [1, 12, 32])
def test_noise_is_that_of_the_image_whatever_the_batch(batch) -> None:
    # 12 images of 12 rows: Keras takes the addition of [N, 1, 1, 1] for that of a bias when N is the number of rows.
    images = np.random.default_rng(1).integers(0, 256, (batch, 12, 10, 3)).astype(np.uint8)
    alone = np.concatenate([apply("noise(0.2)", images[place : place + 1]) for place in range(batch)])
    np.testing.assert_allclose(apply("noise(0.2)", images), alone, atol=1e-3)
    inputs = keras.Input((12, 10, 3))
    model = keras.Model(inputs, parse_preprocess("noise(0.2)").apply(inputs))
    np.testing.assert_allclose(model.predict(images, verbose=0), alone, atol=1e-3)


def test_noise_is_normal_and_independent_between_pixels_images_and_seeds() -> None:
    images = np.random.default_rng(2).integers(120, 136, (64, 24, 24, 1)).astype(np.uint8)
    noise = (apply("noise(0.05)", images) - images) / (0.05 * 255)
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
    assert abs((noise**3).mean()) < 0.1 and abs((noise**4).mean() - 3) < 0.3
    other_seed = (apply("noise(0.05,seed=1)", images) - images) / (0.05 * 255)
    changed = images.copy()
    changed[:, 3, 3, 0] ^= 1  # one bit of one pixel
    other_image = (apply("noise(0.05)", changed) - changed) / (0.05 * 255)
    for left, right in (
        (noise[:, 1:], noise[:, :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
        (noise[1:], noise[:-1]),
        (noise, other_seed),
        (noise, other_image),
    ):
        assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.03


def test_images_of_any_size_are_resized_as_images_of_a_known_size() -> None:
    for text in ("resize(16)|noise(0.1)|standardise", "noise(0.1)|resize(8)", "grayscale|smooth(3)|resize(24)"):
        inputs = keras.Input((None, None, 3), dtype="uint8")
        model = keras.Model(inputs, parse_preprocess(text).apply(inputs))
        np.testing.assert_allclose(model(IMAGES), apply(text), atol=1e-2)
        assert model.output.shape[1:] == parse_preprocess(text).output_shape((5, 7, 3))


@pytest.mark.parametrize("method", KERNELS)
@pytest.mark.parametrize("size", [(5, 4), (12, 3), (7, 13), (1, 1), (12, 10)])
@pytest.mark.parametrize("channels", [1, 3])
def test_products_with_matrices_resize_as_the_operation_that_antialiases(method, size, channels) -> None:
    images = IMAGES[..., :channels].astype(np.float32)
    expected = keras.ops.image.resize(images, size, interpolation=method, antialias=True)
    np.testing.assert_allclose(shrink(images, size, method), expected, atol=2e-3)
    inputs = keras.Input((None, None, channels))
    model = keras.Model(inputs, shrink(inputs, size, method))
    np.testing.assert_allclose(model(images), expected, atol=2e-3)
    assert model.output.shape[1:] == (*size, channels)


def test_what_shrinks_images_is_compiled_by_xla_where_steps_are_and_saved(monkeypatch, tmp_path) -> None:
    import tensorflow

    text = "resize(9,width_px=4)|scale(-1,1)"
    expected = apply(text)
    monkeypatch.setenv("TUNER_XLA", "on")
    compiled = tensorflow.function(parse_preprocess(text).apply, jit_compile=True)
    np.testing.assert_allclose(compiled(tensorflow.constant(IMAGES)), expected, atol=1e-4)
    inputs = keras.Input(IMAGES.shape[1:])
    keras.Model(inputs, parse_preprocess(text).apply(inputs)).save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras")(IMAGES), expected, atol=1e-4)


@pytest.mark.parametrize("text", ["crop(4)", "standardise"])
def test_what_needs_the_size_of_images_is_refused_where_it_is_not_known(text) -> None:
    with pytest.raises(PipelineError, match=r"(crop|standardise) must come after resize"):
        parse_preprocess(text).apply(keras.Input((None, None, 3)))


def test_a_model_with_noise_holds_no_constant_of_the_size_of_an_image(tmp_path) -> None:
    sizes = []
    for size_px in (16, 256):
        inputs = keras.Input((size_px, size_px, 3))
        keras.Model(inputs, parse_preprocess("noise(0.1)").apply(inputs)).save(tmp_path / "model.keras")
        sizes.append((tmp_path / "model.keras").stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]


# --- the language ---


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("resise(64)", "unknown preprocessing 'resise'; did you mean 'resize'"),
        ("resize", "resize: px must be given; it must be a whole number between 1 and 2048"),
        ("resize(0)", "resize: px must be a whole number between 1 and 2048; got '0'"),
        ("resize(64.5)", "resize: px must be a whole number between 1 and 2048; got '64.5'"),
        ("resize(64,64,bilinear,1)", "resize must have at most 3 arguments; got 4"),
        (
            "resize(64,method=cubic)",
            "resize: method must be one of bilinear, bicubic, nearest, lanczos3, lanczos5; got 'cubic'",
        ),
        ("resize(64,metod=bicubic)", "resize: unknown argument 'metod'; did you mean 'method'"),
        ("resize(64,px=3)", "resize: px must be given once"),
        ("scale(1,1)", "scale: low must be below high; got 1 and 1"),
        ("scale(nan,1)", "scale: low must be a number"),
        ("noise(-1)", "noise: stddev must be a number between 0 and 10; got '-1'"),
        ("standardise|scale(0,1)", "scale must come before standardise"),
        ("scale(0,1)||grayscale", "must be written name or name"),
        ("scale(0,1", "must be written name or name"),
        ("__import__('os')", "must be written name or name|unknown preprocessing"),
        ("x" * 600, "must be at most 500 characters; got 600"),
    ],
)
def test_a_wrong_text_is_refused_with_the_rule_and_the_value(text, words) -> None:
    with pytest.raises(PipelineError, match=words.replace("(", r"\(").replace(")", r"\)")):
        parse_preprocess(text)


def test_an_operation_that_does_not_fit_the_image_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"crop: px must be at most the image's 12x10; got 11x11"):
        parse_preprocess("crop(11)").output_shape((12, 10, 3))
    with pytest.raises(PipelineError, match="grayscale must have images of 1 or 3 channels; got 2"):
        parse_preprocess("grayscale").output_shape((12, 10, 2))


@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for parse in (parse_preprocess,):
        try:
            parsed = parse(text)
        except PipelineError:
            continue
        assert parse(parsed.text).text == parsed.text


def written(registry: Registry[Operation]) -> st.SearchStrategy[str]:
    """Any text of any operations of a registry, with odd spaces."""

    def call(name: str) -> st.SearchStrategy[str]:
        arguments = []
        for argument in registry[name].arguments:
            if argument.kind is str:
                values: st.SearchStrategy = st.sampled_from(argument.words)
            elif argument.kind is int:
                values = st.integers(int(argument.low), int(argument.high))
            else:
                values = st.floats(argument.low, argument.high, allow_nan=False)
            arguments.append(values.map(lambda value, key=argument.name: f" {key} = {value!r} ".replace("'", "")))
        return st.tuples(*arguments).map(lambda values: f" {name} ({','.join(values)})" if values else f"{name} ")

    return st.lists(st.sampled_from(list(registry)).flatmap(call), min_size=1, max_size=3).map("|".join)


@settings(max_examples=200)
@given(written(PREPROCESSING) | written(AUGMENTATION))
def test_the_canonical_text_is_canonical_and_means_the_same(text: str) -> None:
    from tuner.models.augmentation import parse_augment

    for parse in (parse_preprocess, parse_augment):
        try:
            parsed = parse(text)
        except PipelineError:
            continue
        again = parse(parsed.text)
        assert again.text == parsed.text
        assert [(call.name, call.values) for call in again.calls] == [(call.name, call.values) for call in parsed.calls]


def test_none_and_nothing_are_the_identity() -> None:
    for text in ("none", "", "  "):
        assert parse_preprocess(text).text == "none"
        np.testing.assert_array_equal(apply(text), IMAGES)


@pytest.mark.parametrize(
    ("texts", "asked"),
    [
        (["none"], None),
        ([], None),
        (["grayscale|standardise", "scale(0,1)"], None),
        (["resize(64)|scale(-1,1)"], (64, 64, False)),
        (["resize(64)", "resize(96)"], (96, 96, False)),
        (["resize(96)", "none", "resize(64)"], (96, 96, True)),
        (["resize(64,width_px=96)", "resize(128,width_px=192)"], (128, 192, False)),
        (["resize(64,width_px=96)", "resize(80)"], (96, 96, False)),
        (["resize(64,width_px=96)", "resize(96,width_px=64)"], (96, 96, False)),
        (["resize(96)|crop(64)"], (96, 96, False)),
        (["resize(32)|resize(128)"], (32, 32, False)),
        (["crop(200)|resize(64)"], (224, 224, True)),
        (["crop(300)|resize(64)", "resize(96)"], (300, 300, True)),
        (["noise(0.1)|resize(48,method=nearest)"], (48, 48, False)),
    ],
)
def test_the_size_that_preprocessing_asks_for_is_the_largest_that_any_text_begins_with(texts, asked) -> None:
    assert asked_size(texts) == asked


@pytest.mark.parametrize(
    ("text", "px"),
    [
        ("resize(32)", (32, 32)),
        ("resize(32,width_px=48)|noise(0.1)|standardise|smooth(3)|crop(8)", (32, 48)),
        ("grayscale|scale(-1,1)|invert|rgb|resize(32)|resize(16)", (32, 32)),
        ("resize(64,width_px=48)", (64, 48)),
        ("resize(64)", None),
        ("resize(32,width_px=96)", None),
        ("resize(96)", None),
        ("resize(32,method=nearest)", None),
        ("resize(32,method=bicubic)", None),
        ("crop(48)|resize(32)", None),
        ("smooth(3)|resize(32)", None),
        ("noise(0.1)|resize(32)", None),
        ("standardise|resize(32)", None),
        ("scale(0,1)", None),
        ("none", None),
    ],
)
def test_images_can_be_shrunk_first_where_nothing_before_looks_at_more_than_a_pixel(text, px) -> None:
    assert parse_preprocess(text).shrinks_to((64, 64, 3)) == px
