"""Copies: what is found, what is not, what is kept together, and what is told of it."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

import hypothesis.strategies as st
import imagehash
import numpy as np
import pytest
from hypothesis import given, settings

from benchmarks.copies.planting import CHANGES, copies_of, to_image
from tests.support.drawn_photos import drawn_photos
from tests.support.make_prepared import load
from tuner.common.threads import Threads
from tuner.datasets.account.copies import CopyAccount, describe_copies, take_account
from tuner.datasets.copies import (
    MOST_IN_GROUP,
    Found,
    find_copies,
    keep_together,
    perceptual_hashes,
    sketch_images,
)
from tuner.datasets.splits import split_stratified


def found_in(*parts: np.ndarray) -> Found:
    sketched = [sketch_images(part, Threads(2)) for part in parts]
    return find_copies(np.concatenate([hashes for hashes, _ in sketched]), [small for _, small in sketched])


def share_found(images: np.ndarray, copies: np.ndarray) -> float:
    groups = found_in(images, copies).groups
    return float(np.mean((groups[: len(copies)] == groups[len(images) :]) & (groups[len(images) :] >= 0)))


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return (load_digits().images * 255 / 16).astype(np.uint8)[..., None]


@cache
def photos(px: int, channels: int) -> np.ndarray:
    return drawn_photos(80, px, channels, seed=1)


# --- what is found ---


@pytest.mark.parametrize(("px", "channels"), [(100, 3), (32, 3), (28, 1)])
@pytest.mark.parametrize("kind", CHANGES)
def test_copies_of_photos_are_found_whatever_was_done_to_them(kind, px, channels) -> None:
    images = photos(px, channels)
    least = 0.75 if px == 28 and kind == "half the size" else 0.85
    assert share_found(images, copies_of(images[:40], kind)) >= least


@pytest.mark.parametrize(("px", "channels"), [(100, 3), (32, 3), (28, 1), (8, 1)])
def test_different_pictures_are_no_copies(px, channels) -> None:
    assert (found_in(drawn_photos(600 if px < 100 else 100, px, channels, seed=2)).groups == -1).all()


def test_different_digits_are_no_copies_and_equal_ones_are(digits) -> None:
    assert np.mean(found_in(digits).groups >= 0) < 0.01
    groups = found_in(digits, digits[:30]).groups
    assert (groups[:30] == groups[-30:]).all() and (groups[:30] >= 0).all()


def photos_of_one_thing(number: int, seed: int) -> np.ndarray:
    """One scene with another small thing in each image: alike at large, different in what matters."""
    generator = np.random.default_rng(seed)
    scene = np.repeat(drawn_photos(1, 64, 3, seed) // 2 + 60, number, axis=0)
    things = drawn_photos(number, 24, 3, seed + 1)
    for image, thing in zip(scene, things, strict=True):
        top, left = generator.integers(0, 40, 2)
        image[top : top + 24, left : left + 24] = thing
    return scene


def flat(values: list[int], channels: int) -> np.ndarray:
    return np.stack([np.full((16, 16, channels), value, np.uint8) for value in values])


def with_noise(images: np.ndarray) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.clip(images.astype(int) + generator.integers(-1, 2, images.shape), 0, 255).astype(np.uint8)


def in_other_colours(images: np.ndarray) -> np.ndarray:
    """Red for blue, and as bright in every place: only the colour tells the images apart."""
    luma = (images @ np.array([0.299, 0.587, 0.114]))[..., None]
    return np.clip(2 * luma - images, 0, 255).astype(np.uint8)


def gradients(number: int) -> np.ndarray:
    generator = np.random.default_rng(4)
    ramp = np.linspace(0, 1, 32)
    angles = generator.uniform(0, 2 * np.pi, number)
    planes = [np.cos(angle) * ramp[:, None] + np.sin(angle) * ramp for angle in angles]
    return np.stack([(plane - plane.min()) / np.ptp(plane) * 255 for plane in planes]).astype(np.uint8)[..., None]


@pytest.mark.parametrize(
    "images",
    [
        lambda: flat(list(range(0, 250, 5)), 3),
        lambda: with_noise(flat(list(range(0, 250, 5)), 3)),
        lambda: photos_of_one_thing(200, 5),
        lambda: gradients(50),
        lambda: np.concatenate([(p := drawn_photos(20, 64, 3, 6) // 2 + 64), in_other_colours(p)]),
        lambda: np.concatenate([(p := drawn_photos(40, 64, 3, 7)), 255 - p]),
        lambda: np.concatenate([(p := drawn_photos(40, 64, 3, 8)), p[:, :, ::-1]]),
        lambda: np.concatenate([(p := drawn_photos(40, 64, 3, 9)), np.rot90(p, axes=(1, 2))]),
        lambda: np.random.default_rng(0).integers(0, 256, (500, 32, 32, 3), dtype=np.uint8),
    ],
    ids=["flat", "flat with noise", "one scene", "gradients", "colours", "negatives", "mirrored", "turned", "noise"],
)
def test_images_that_only_look_alike_to_a_hash_are_no_copies(images) -> None:
    assert (found_in(images()).groups == -1).all()


def test_flat_images_of_the_same_pixels_are_copies() -> None:
    assert found_in(flat([3, 7, 3], 1)).groups.tolist() == [0, -1, 0]


def test_a_thousand_identical_images_are_one_group() -> None:
    groups = found_in(drawn_photos(50, 32, 3, 1), np.repeat(drawn_photos(1, 32, 3, 99), 1000, axis=0)).groups
    assert (groups[50:] == 0).all() and (groups[:50] == -1).all()


def test_a_long_chain_of_near_copies_is_cut_into_groups() -> None:
    frames = with_noise(np.repeat(drawn_photos(1, 64, 3, 3), 120, axis=0))
    found = found_in(drawn_photos(80, 64, 3, 4), frames)
    assert np.bincount(found.groups[80:]).max() <= MOST_IN_GROUP and found.cut == 120
    assert (found.groups[:80] == -1).all()


@pytest.mark.parametrize("numbers", [(1,), (2,), (1, 1), (3, 0), (0, 1)])
def test_a_handful_of_images_is_no_problem(numbers) -> None:
    parts = [drawn_photos(10, 16, 1, seed)[:number] for seed, number in enumerate(numbers)]
    assert (found_in(*parts).groups == -1).all()


def test_the_hash_has_the_bits_of_the_library(digits) -> None:
    for images in (digits[:200], drawn_photos(100, 48, 3, 4), flat([0, 100, 255], 3), gradients(20)):
        _, small = sketch_images(images, Threads(1))
        expected = [int(str(imagehash.phash(to_image(each))), 16) for each in small]
        assert perceptual_hashes(small).tolist() == expected


# --- what stays together ---


def save_archive(path: Path, seed: int, splits: dict[str, int]) -> Path:
    """Write an archive in which a tenth of all images are copies of others, of any kind, wherever these lie."""
    generator = np.random.default_rng(seed)
    number = sum(splits.values())
    images = drawn_photos(number, 32, 3, seed)
    labels = np.arange(number) % 3
    for place in generator.permutation(number)[: number // 10]:
        source, kind = generator.integers(number), generator.choice([*CHANGES])
        images[place], labels[place] = copies_of(images[source][None], kind, seed)[0], labels[source]
    ends = np.cumsum(list(splits.values()))[:-1]
    parts = zip(splits, np.split(images, ends), np.split(labels, ends), strict=True)
    arrays = {f"{kind}_{split}": part for split, *both in parts for kind, part in zip("xy", both, strict=True)}
    np.savez(path, **arrays)
    return path


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_copy_of_a_training_image_is_in_a_split_that_is_made(seed, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("copies")
    dataset, said = load(f"npz:{save_archive(folder / 'data.npz', seed, {'train': 150})}", folder / "cache")
    groups = dataset.prepared.column("train", "copies")
    assert groups is not None and dataset.prepared.copies.copies >= 8
    assert any("kept on one side of the splits that are made" in text for text in said)
    sides = [set(groups[split.rows]) - {-1} for split in (dataset.train, dataset.validation, dataset.load_test())]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    # Whatever is found, the same pixels are.
    pixels = [{image.tobytes() for image in split.batch(np.arange(len(split)))[0]} for split in
              (dataset.train, dataset.validation, dataset.load_test())]  # fmt: skip
    assert not (pixels[0] & pixels[1] or pixels[0] & pixels[2] or pixels[1] & pixels[2])


def test_no_copy_of_a_training_image_is_in_the_validation_images_of_its_fold(tmp_path) -> None:
    source = f"npz:{save_archive(tmp_path / 'data.npz', 3, {'train': 150})}"
    dataset, _ = load(source, tmp_path / "cache", validation={"folds": 3})
    groups = dataset.prepared.column("train", "copies")
    for fold in map(dataset.fold, range(3)):
        train, held = (set(groups[split.rows]) - {-1} for split in (fold.train, fold.validation))
        assert held and not train & held


def test_copies_across_given_splits_stay_and_are_told_with_their_names(tmp_path) -> None:
    images = drawn_photos(40, 24, 3, 1)
    for split, names in {"train": range(30), "test": [*range(30, 38), 5, 6]}.items():
        for place, row in enumerate(names):
            (tmp_path / "data" / split / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
            to_image(images[row]).save(tmp_path / "data" / split / "ab"[row % 2] / f"{place}.png")
    dataset, said = load(f"folder:{tmp_path / 'data'}", tmp_path / "cache")
    assert len(dataset.load_test()) == 10
    told = next(text for text in said if "test images are copies of train images" in text)
    assert told.startswith("2 test images are copies") and "the source gives these splits" in told
    assert (
        f"{tmp_path / 'data' / 'test' / 'b' / '8.png'} (test) = {tmp_path / 'data' / 'train' / 'b' / '5.png'}" in told
    )
    assert [each.images for each in dataset.prepared.copies.across] == [2]


def test_a_picture_under_two_labels_is_told_with_names_and_labels_and_broken_files_change_no_name(tmp_path) -> None:
    images = drawn_photos(30, 24, 3, 1)
    for row, image in enumerate(images):
        (tmp_path / "data" / "ab"[row % 2]).mkdir(parents=True, exist_ok=True)
        to_image(image).save(tmp_path / "data" / "ab"[row % 2] / f"{row:02}.png")
    (tmp_path / "data" / "a" / "00.png").write_bytes(b"broken")
    to_image(images[4]).save(tmp_path / "data" / "b" / "twin.png")
    _, said = load(f"folder:{tmp_path / 'data'}", tmp_path / "cache", broken_images="skip")
    folder = tmp_path / "data"
    assert (
        f"1 picture stands under several labels: left as they are; {folder / 'a' / '04.png'} (a) = "
        + (f"{folder / 'b' / 'twin.png'} (b)")
        in said
    )


@pytest.mark.parametrize("same", [(0,), (1,), (0, 1, 2)], ids=["one class", "another", "all classes"])
def test_a_class_of_one_picture_does_not_keep_the_data_from_being_split(same, tmp_path) -> None:
    images, labels = drawn_photos(90, 24, 3, 1), np.arange(90) % 3
    for label in same:
        images[labels == label] = images[label]
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    dataset, said = load(f"npz:{tmp_path / 'data.npz'}", tmp_path / "cache")
    for split in (dataset.train, dataset.validation, dataset.load_test()):
        assert set(split.labels) == {0, 1, 2}
    assert any("all images are copies of each other and split as if they were not" in text for text in said)


def test_a_thousand_copies_in_one_class_stay_together_beside_other_pictures(tmp_path) -> None:
    images, labels = drawn_photos(60, 16, 1, 1), np.arange(60) % 2
    images = np.concatenate([images, np.repeat(images[:1], 1000, axis=0)])
    np.savez(tmp_path / "data.npz", x=images, y=np.concatenate([labels, np.zeros(1000, int)]))
    dataset, _ = load(f"npz:{tmp_path / 'data.npz'}", tmp_path / "cache")
    numbers = [
        int((split.batch(np.arange(len(split)))[0] == images[0]).all(axis=(1, 2, 3)).sum())
        for split in (dataset.train, dataset.validation, dataset.load_test())
    ]
    assert sorted(numbers) == [0, 0, 1001]
    assert all(set(split.labels) == {0, 1} for split in (dataset.train, dataset.validation, dataset.load_test()))


def test_data_without_copies_are_split_as_ever(tmp_path) -> None:
    images, labels = drawn_photos(60, 16, 1, 1), np.arange(60) % 2
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    dataset, said = load(f"npz:{tmp_path / 'data.npz'}", tmp_path / "cache")
    kept, held = split_stratified(labels, 0.2, 0, ("0", "1"), "")
    assert dataset.load_test().rows.tolist() == held.tolist() and not said
    assert sorted([*dataset.train.rows, *dataset.validation.rows]) == kept.tolist()
    assert dataset.prepared.column("train", "copies") is None and dataset.prepared.copies.copies == 0


@pytest.mark.parametrize(
    ("labels", "groups", "copies", "units", "apart"),
    [
        ([0, 0, 1, 1], None, None, None, []),
        ([0, 0, 1, 1], None, [-1, -1, -1, -1], None, []),
        ([0, 0, 1, 1, 0], None, [0, 0, -1, -1, -1], [0, 0, 1, 2, 3], []),
        ([0, 0, 1, 1], None, [0, 0, -1, -1], None, [0]),
        ([0, 0, 1, 1], None, [0, 0, 1, 1], None, [0, 1]),
        ([0, 0, 1, 1, 1], None, [0, 0, 0, -1, -1], None, [0]),
        ([0, 0, 1, 1], [5, 5, -1, -1], [-1, -1, -1, -1], [0, 0, 1, 2], []),
        ([0, 0, 1, 1], [5, 5, -1, -1], [0, 0, -1, -1], [0, 0, 1, 2], []),
        ([0, 0, 1, 1, 1], [5, 6, 5, 7, 8], [0, 0, -1, -1, -1], [0, 1, 0, 2, 3], [0]),
    ],
)  # fmt: skip
def test_copies_are_kept_together_unless_a_class_would_be_on_one_side_alone(
    labels, groups, copies, units, apart
) -> None:
    given = [None if each is None else np.array(each) for each in (groups, copies)]
    found, told = keep_together(np.array(labels), *given)
    assert (None if found is None else found.tolist(), told.tolist()) == (units, apart)


# --- what is told ---


def account(
    groups: list[int], labels: dict[str, list[int]], exact: list[int] | None = None, cut: int = 0
) -> CopyAccount:
    found = Found(np.array(groups), np.array(exact or range(len(groups))), cut)
    arrays = {split: np.array(each) for split, each in labels.items()}
    return take_account(found, arrays, lambda split, row: f"{split}/{row}.png", ("cat", "dog"))


def test_an_account_counts_copies_conflicts_and_what_lies_across_splits() -> None:
    taken = account([0, -1, 0, 1, 1, 0], {"train": [0, 0, 1, 1], "test": [1, 0]}, exact=[0, 1, 0, 2, 3, 4])
    assert (taken.copies, taken.exact_copies, taken.groups, taken.largest_group, taken.conflicts) == (3, 1, 2, 3, 1)
    assert [(each.split, each.earlier, each.images) for each in taken.across] == [("test", "train", 2)]
    assert taken.conflict_examples == (("train/0.png (train, cat)", "train/2.png (train, dog)"),)
    assert taken.across[0].examples[0] == ("test/1.png (test)", "train/0.png (train)")
    assert CopyAccount.from_json(json.loads(json.dumps(asdict(taken)))) == taken


def test_notices_say_how_many_which_and_what_was_done() -> None:
    given = account([0, -1, 0, 1, 1, 0], {"train": [0, 0, 1, 1], "test": [1, 0]})
    assert describe_copies(given, is_split_here=False) == (
        "3 images are copies of others, 0 with the same pixels: left where they are; "
        "train/0.png (train) = train/2.png (train); train/3.png (train) = test/0.png (test)",
        "2 test images are copies of train images: left there, since the source gives these splits; results on them "
        "are too good; test/1.png (test) = train/0.png (train); test/0.png (test) = train/3.png (train)",
        "1 picture stands under several labels: left as they are; train/0.png (train, cat) = train/2.png (train, dog)",
    )
    assert describe_copies(account([0, 0], {"train": [1, 1]}, exact=[0, 0]), is_split_here=True) == (
        "1 image is a copy of others, 1 with the same pixels: kept on one side of the splits that are made; "
        "train/0.png = train/1.png",
    )
    assert describe_copies(account([-1, -1], {"train": [0, 1]}), is_split_here=True) == ()
    assert "chains of more than 50" in describe_copies(account([0, 0], {"train": [0, 0]}, cut=2), is_split_here=True)[1]
