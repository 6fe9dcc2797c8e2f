"""Augmentation: pure functions of images, labels and a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tuner import models
from tuner.common.errors import PipelineError
from tuner.contracts.augmentations import AUGMENTATION_CHECKS
from tuner.contracts.author import Author
from tuner.contracts.check import problems_of
from tuner.contracts.preprocessing import OperationSubject
from tuner.models.augment.changes import brightness, move_pixels, rotation_maps
from tuner.models.augment.operations import AUGMENTATION, Drawn, OnBatch
from tuner.models.augmentation import _changed, augment_of, parse_augment
from tuner.models.operations import Argument, Operation

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 9, 11, 3)).astype(np.uint8)
LABELS = np.eye(10, dtype=np.float32)[np.arange(64) % 10]
EXAMPLES = {
    "flip": "flip",
    "shift": "shift(2)",
    "rotate": "rotate(20)",
    "zoom": "zoom(0.2)",
    "mixup": "mixup(0.4)",
    "erase": "erase(0.3)",
    "brightness": "brightness(0.2)",
    "contrast": "contrast(0.3)",
    "noise": "noise(0.1)",
    "random_resized_crop": "random_resized_crop(0.3)",
    "color_jitter": "color_jitter(hue=0.2)",
    "blur": "blur(2)",
    "randaugment": "randaugment(magnitude=15)",
    "trivial_augment": "trivial_augment",
    "augmix": "augmix",
    "cutmix": "cutmix(1)",
}
EVERY = "flip(both)|shift(2)|rotate(20)|zoom(0.2)|brightness(0.2)|noise(0.1)|erase(0.3)|randaugment|augmix|mixup(0.4)"


def test_every_operation_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(AUGMENTATION)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_operation_keeps_what_is_promised_of_an_augmentation(name) -> None:
    subject = OperationSubject(name, AUGMENTATION[name].arguments, Author(Path(models.__file__).parent))
    for check in AUGMENTATION_CHECKS:
        assert problems_of(subject, check) == (), check.promise


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES.keys())
@pytest.mark.parametrize("shape", [(0, 5, 7, 2), (3, 1, 1, 1), (2, 5, 3, 4)], ids=str)
def test_every_operation_takes_images_of_any_shape(text, shape) -> None:
    images, labels = parse_augment(text).apply(np.full(shape, 255, np.uint8), np.eye(3)[: shape[0]], 1)
    assert images.shape == shape and images.dtype == np.uint8
    assert labels.shape == (shape[0], 3) and labels.dtype == np.float32


AT_ANY_SIZE = [
    "flip(both)",
    "shift(9)",
    "rotate(20)",
    "zoom(0.2)",
    "random_resized_crop(0.3)",
    "brightness(0.2)",
    "contrast(0.3)",
    "color_jitter(hue=0.5)",
    "blur(4)",
    "mixup(0.4)",
    "cutmix(1)",
]


@pytest.mark.parametrize(
    "text", [*AT_ANY_SIZE, "none", "flip|shift(9)|zoom(0.2)|contrast(0.2)", "mixup(1)|shift(9)|blur(4)"]
)
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 40, 40), (1, 30, 60), (3, 96, 40), (1, 48, 42)])
def test_images_shrunk_on_the_way_are_those_that_a_network_shrinks_afterwards(text, channels, height, width) -> None:
    waves = np.add.outer(np.arange(96) / 9, np.arange(84) / 7)
    phases = np.random.default_rng(2).uniform(0, 7, (24, 1, 1, channels))
    photos = 127 + 90 * np.sin(waves[None, :, :, None] + phases) * np.cos(phases + 3 * waves[None, :, ::-1, None] / 4)
    augment = parse_augment(text)
    assert augment.at_any_size
    large, of_large = augment.apply(photos, np.eye(24), 3)
    small, of_small = augment.apply(photos, np.eye(24), 3, (height, width))
    assert small.shape == (24, height, width, channels) and small.dtype == np.uint8
    planes = [[Image.fromarray(image[..., channel]) for channel in range(channels)] for image in large]
    shrunk = [[plane.resize((width, height), Image.Resampling.BILINEAR) for plane in one] for one in planes]
    away = np.abs(np.stack([np.stack(one, axis=-1) for one in shrunk]).astype(float) - small)
    assert away.mean() < 1.5 and np.quantile(away, 0.98) < 10
    np.testing.assert_allclose(of_small, of_large, atol=0.12 if "cutmix" in text else 1e-6)


def test_what_shrinking_would_make_something_else_of_is_done_at_the_full_size() -> None:
    of_one = {name for name in AUGMENTATION if AUGMENTATION[name].effect.at_any_size}
    assert of_one == {parse_augment(text).calls[0].name for text in AT_ANY_SIZE}
    assert not parse_augment("flip|noise(0.1)|mixup(1)").at_any_size


def test_all_that_moves_pixels_is_one_interpolation_wherever_it_stands_between_changes_of_values() -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)[None, :, :, None]
    turned_there_and_back = [rotation_maps(np.array([degrees])) for degrees in (30.0, -30.0)]
    at_once = _changed(smooth, [Drawn(one) for one in turned_there_and_back], smooth.shape, (64, 64))
    np.testing.assert_array_equal(at_once, smooth)
    between = [Drawn(turned_there_and_back[0]), Drawn(changes=[[brightness(9)]]), Drawn(turned_there_and_back[1])]
    np.testing.assert_array_equal(_changed(smooth, between, smooth.shape, (64, 64)), smooth + 9)


def test_flip_gives_each_image_or_its_mirror_image() -> None:
    images, _ = parse_augment("flip").apply(IMAGES, LABELS, 0)
    mirrored = np.array([np.array_equal(new, old[:, ::-1]) for new, old in zip(images, IMAGES, strict=True)])
    same = np.array([np.array_equal(new, old) for new, old in zip(images, IMAGES, strict=True)])
    assert np.all(mirrored ^ same) and 16 < mirrored.sum() < 48
    both, _ = parse_augment("flip(both)").apply(IMAGES, LABELS, 0)
    assert not np.array_equal(both, images)


def test_shift_moves_by_whole_pixels_and_repeats_the_edge() -> None:
    image = np.arange(49, dtype=np.uint8).reshape(1, 7, 7, 1)
    padded = np.pad(image[0, :, :, 0], 2, mode="edge")
    possible = {padded[down : down + 7, right : right + 7].tobytes() for down in range(5) for right in range(5)}
    seen = {parse_augment("shift(2)").apply(image, LABELS[:1], seed)[0].tobytes() for seed in range(200)}
    assert seen <= possible and len(seen) > 20


def test_rotation_and_zoom_of_nothing_change_nothing_and_of_a_quarter_turn_the_image() -> None:
    for text in ("rotate(0)", "zoom(0)"):
        images, _ = parse_augment(text).apply(IMAGES, LABELS, 0)
        np.testing.assert_array_equal(images, IMAGES)
    square, turned = IMAGES[:, :9, :9], np.empty((64, 9, 9, 3), np.uint8)
    move_pixels(np.ascontiguousarray(square), rotation_maps(np.full(64, 90.0)), turned)
    np.testing.assert_array_equal(turned, np.rot90(square, axes=(1, 2), k=1))


def test_a_rotation_is_that_of_another_library() -> None:
    from scipy.ndimage import rotate

    smooth = (127 + 100 * np.sin(np.add.outer(np.arange(40) / 7, np.arange(40) / 5))).astype(np.uint8)[None, :, :, None]
    turned = np.empty_like(smooth)
    move_pixels(smooth, rotation_maps(np.array([25.0])), turned)
    expected = rotate(smooth[0, :, :, 0].astype(float), 25.0, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(turned[0, 8:-8, 8:-8, 0], expected[8:-8, 8:-8], atol=1.5)


def test_a_random_crop_fills_the_image_with_a_part_of_at_least_its_share() -> None:
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 1))
    images, _ = parse_augment("random_resized_crop(0.25)").apply(np.stack([ramp] * 50), LABELS[:50], 0)
    width = images[:, 0, -1, 0].astype(int) - images[:, 0, 0, 0]
    assert width.min() >= 199 * np.sqrt(0.25 * 3 / 4) - 3 and width.max() <= 199 and np.ptp(width) > 50


def test_mixup_mixes_images_and_labels_in_the_same_shares() -> None:
    flat = np.repeat(np.arange(64, dtype=np.uint8), 9).reshape(64, 3, 3, 1)
    labels = np.eye(64, dtype=np.float32)
    images, mixed = parse_augment("mixup(1)").apply(flat, labels, 0)
    np.testing.assert_allclose(images[:, 0, 0, 0], mixed @ np.arange(64), atol=0.51)
    assert (mixed.max(axis=1) < 0.99).sum() > 30


def test_cutmix_mixes_labels_by_the_area_that_came_from_the_other_image() -> None:
    flat = np.repeat(np.arange(64, dtype=np.uint8), 120).reshape(64, 10, 12, 1)
    images, mixed = parse_augment("cutmix(1)").apply(flat, np.eye(64), 0)
    shares = np.stack([(images == one).mean(axis=(1, 2, 3)) for one in range(64)], axis=1)
    np.testing.assert_allclose(shares, mixed, atol=1e-6)
    assert (mixed.max(axis=1) < 0.99).sum() > 30
    assert ((images != flat).any(axis=(1, 2, 3)) == (mixed[np.arange(64), np.arange(64)] < 1)).all()


@pytest.mark.parametrize("text", ["color_jitter", "randaugment(n=10)", "trivial_augment", "augmix"])
def test_grey_images_stay_grey(text) -> None:
    grey = np.repeat(IMAGES[..., :1], 3, axis=3)
    images, _ = parse_augment(text).apply(grey, LABELS, 0)
    assert np.ptp(images.astype(int), axis=3).max() <= 1


def test_randaugment_of_no_magnitude_is_gentle_and_a_larger_one_changes_more() -> None:
    smooth = (127 + 100 * np.sin(np.add.outer(np.arange(40) / 7, np.arange(40) / 5))).astype(np.uint8)
    images = np.repeat(np.repeat(smooth[None, :, :, None], 64, axis=0), 3, axis=3)
    changed = [
        np.abs(parse_augment(f"randaugment(magnitude={by})").apply(images, LABELS, 0)[0] - images.astype(float)).mean()
        for by in (0, 9, 30)
    ]
    assert changed[0] < changed[1] < changed[2]


@pytest.mark.parametrize("text", ["shift(1)|my_own", "my_own|shift(1)"])
def test_an_effect_on_batches_stands_where_it_is_written(text, monkeypatch) -> None:
    def darken(values, images, labels, generator):
        assert images.dtype == np.uint8
        return images * 0.5 + 0.2, labels

    monkeypatch.setitem(AUGMENTATION._values, "my_own", Operation((), OnBatch(darken), "half as bright"))
    images, _ = parse_augment(text).apply(IMAGES, LABELS, 0)
    halved = np.rint(IMAGES * 0.5 + 0.2).astype(np.uint8)
    if text.startswith("shift"):
        expected = np.rint(parse_augment("shift(1)").apply(IMAGES, LABELS, 0)[0] * 0.5 + 0.2).astype(np.uint8)
    else:
        moves = (
            parse_augment("shift(1)")
            .calls[0]
            .operation.effect.draw({"px": 1}, IMAGES.shape, np.random.default_rng([0, 1]))
        )
        expected = _changed(halved, [moves], halved.shape, (9, 11))
    np.testing.assert_array_equal(images, expected)


def test_erase_fills_one_rectangle_in_about_half_of_the_images() -> None:
    images, _ = parse_augment("erase(0.3)").apply(IMAGES, LABELS, 0)
    changed = (images != IMAGES).any(axis=3)
    erased = changed.any(axis=(1, 2))
    assert 16 < erased.sum() < 48
    for mask in changed[erased]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert len(rows) == np.ptp(rows) + 1 and len(columns) == np.ptp(columns) + 1


def test_what_an_operation_draws_does_not_depend_on_what_follows() -> None:
    alone, _ = parse_augment("flip").apply(IMAGES, LABELS, 3)
    followed, _ = parse_augment("flip|brightness(0)").apply(IMAGES, LABELS, 3)
    np.testing.assert_array_equal(alone, followed)


def test_none_is_the_identity_and_wrong_texts_are_refused() -> None:
    assert parse_augment("none").is_identity and parse_augment("none").text == "none"
    np.testing.assert_array_equal(parse_augment("none").apply(IMAGES, LABELS, 0)[0], IMAGES)
    with pytest.raises(PipelineError, match="unknown augmentation 'flop'; did you mean 'flip'"):
        parse_augment("flop")
    with pytest.raises(PipelineError, match=r"flip: direction must be one of horizontal, vertical, both; got 'left'"):
        parse_augment("flip(left)")
    with pytest.raises(PipelineError, match="shift: px must be given"):
        parse_augment("shift")


SAME = {
    "flip(both)|rotate(12.5)": {"augment.flip": "both", "augment.rotate": 12.5},
    "rotate(12.5)|flip(both)": {"augment.rotate": 12.5, "augment.flip": "both"},
    "flip": {"augment.flip": True},
    "shift(2)|flip|shift(1)": {"augment.shift": 2, "augment.flip": "horizontal", "augment.shift_2": 1},
    "zoom(0.1)": {"augment.zoom.fraction": 0.1},
    "mixup(1e-05)": {"augment.mixup": 1e-5},
    "none": {"augment.flip": "none", "augment.rotate": 0, "augment.mixup": 0.0, "augment.erase": False},
    "brightness(0)|flip|noise(0)": {"augment.brightness": 0, "augment.flip": True, "augment.noise": 0.0},
}


@pytest.mark.parametrize(("text", "strengths"), SAME.items())
def test_strengths_are_the_augmentation_of_the_text_that_says_the_same(text, strengths) -> None:
    assert augment_of({"augment": "own", **strengths}) == augment_of({"augment": text}) == parse_augment(text)


@pytest.mark.parametrize("written", ["none", "off", None, False, "No"])
def test_a_branch_without_operations_changes_nothing(written) -> None:
    assert augment_of({"augment": written}).is_identity and augment_of({}).is_identity


ONE_STRENGTH = [name for name in AUGMENTATION if [each.is_strength for each in AUGMENTATION[name].arguments] == [True]]


@pytest.mark.parametrize("text", [EXAMPLES[name] for name in ONE_STRENGTH])
def test_every_strength_may_be_nothing_and_the_least_one_changes_almost_nothing(text) -> None:
    name = text.partition("(")[0]
    assert parse_augment(f"{name}(0)").is_identity and not parse_augment(f"{name}(0)").mixes_labels
    if name in ("shift", "mixup", "cutmix", "erase"):  # by whole pixels; and two images change places
        return
    least, _ = parse_augment(f"{name}(1e-9)").apply(IMAGES, LABELS, 0)
    np.testing.assert_allclose(least, IMAGES, atol=1e-2)


def test_several_strengths_are_nothing_only_together() -> None:
    assert parse_augment("color_jitter(0,0,0,0)").is_identity and not parse_augment("color_jitter(0,0,0)").is_identity


def test_an_erased_rectangle_is_as_small_as_was_asked_for() -> None:
    images, _ = parse_augment("erase(0.001)").apply(np.tile(IMAGES[:, :8, :8], (1, 4, 4, 1)), LABELS, 0)
    changed = (images != np.tile(IMAGES[:, :8, :8], (1, 4, 4, 1))).any(axis=3).mean(axis=(1, 2))
    assert 0 < changed.max() < 0.01


NUMBERS = {
    **{name: st.floats(0, 0.9) for name in ("zoom", "erase", "brightness", "contrast", "noise")},
    "mixup": st.floats(0, 10),
    "rotate": st.floats(0, 180) | st.integers(0, 180),
    "shift": st.integers(0, 256),
    "flip": st.sampled_from(("horizontal", "vertical", "both", "none")),
    "random_resized_crop": st.floats(0.01, 1),
    "blur": st.floats(0, 32),
    "cutmix": st.floats(0, 10),
}
STRENGTHS = st.lists(st.sampled_from(sorted(NUMBERS)), unique=True, min_size=1, max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: NUMBERS[name] for name in names})
)


@settings(deadline=None, max_examples=60)
@given(STRENGTHS, st.integers(0, 2**31))
def test_a_text_and_strengths_give_the_same_images(strengths, seed) -> None:
    text = "|".join(f"{name}({value})" for name, value in strengths.items() if value != "none")
    configuration = {"augment": "own", **{f"augment.{name}": value for name, value in strengths.items()}}
    images, labels = augment_of(configuration).apply(IMAGES[:6], LABELS[:6], seed)
    same_images, same_labels = parse_augment(text).apply(IMAGES[:6], LABELS[:6], seed)
    np.testing.assert_array_equal(images, same_images)
    np.testing.assert_array_equal(labels, same_labels)
    assert parse_augment(augment_of(configuration).text) == augment_of(configuration)


def _darken(values, images, labels, _generator):
    return images * (1 - values["most"]) + values["least"], labels


@pytest.fixture
def own():
    arguments = (Argument("least", float, 0.0, 0.5), Argument("most", float, 0.1, 1.0, default=0.5))
    AUGMENTATION.add("darken", Operation(arguments, OnBatch(_darken), ""))
    AUGMENTATION.add("swap", Operation((), OnBatch(_darken), ""))
    yield
    for name in ("darken", "swap"):
        AUGMENTATION.remove(name)


@pytest.mark.parametrize(
    ("strengths", "text"),
    [
        ({"augment.darken.least": 0.2, "augment.darken.most": 0.3, "augment.flip": True}, "darken(0.2,0.3)|flip"),
        ({"augment.darken.most": 0.3, "augment.darken.least": 0.2}, "darken(0.2,0.3)"),
        ({"augment.darken": "0.2, most=0.3"}, "darken(0.2,0.3)"),
        ({"augment.darken": 0}, "darken(0)"),  # only its author knows what 0 is there
        ({"augment.darken": "none"}, "none"),
        ({"augment.swap": True}, "swap"),
        ({"augment.swap": False}, "none"),
    ],
)
def test_own_operations_take_several_arguments_or_none(own, strengths, text) -> None:
    assert augment_of({"augment": "own", **strengths}).text == text
