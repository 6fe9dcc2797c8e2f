"""The account of a data set: every kind of oddity is found and named, and nothing ends it at the first."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.make_data import encoded, load, make_folder, write_parquet
from tuner.common.errors import DataError
from tuner.datasets.account._classes import class_facts, find_groups, find_imbalance, guess_groups, short_name
from tuner.datasets.account.facts import Account, load_account, save_account
from tuner.datasets.account.taking import Aims, Gallery
from tuner.datasets.loading import look_at_data
from tuner.datasets.request import DataRequest
from tuner.reports.data_section import draw_sheets

AIMS = Aims()


def look(source: str, tmp_path: Path, aims: Aims = AIMS, is_quick: bool = False, **settings) -> Account:
    return look_with_pictures(source, tmp_path, aims, is_quick, **settings)[0]


def look_with_pictures(
    source: str, tmp_path: Path, aims: Aims = AIMS, is_quick: bool = False, **settings
) -> tuple[Account, Gallery]:
    request = DataRequest(source, **settings)
    return look_at_data(request, staged={}, cache_dir=tmp_path / "cache", aims=aims, is_quick=is_quick)


def pets(tmp_path: Path, **classes: int) -> Path:
    return make_folder(tmp_path / "pets", classes or {"cat": 12, "dog": 12})


# --- broken images ---


def _cut(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty.png": lambda path: path.touch(),
    "text.png": lambda path: path.write_text("no image"),
    "cut.png": _cut,
    "cut.jpg": _cut,
    "page.jpg": lambda path: path.write_text("<html>404</html>"),
    "link.png": lambda path: path.symlink_to("nowhere"),
    "loop.png": lambda path: path.symlink_to(path.name),
    "pipe.png": os.mkfifo,
    "header.gif": lambda path: path.write_bytes(b"GIF89a"),
    "vector.png": lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "line\nend \x1b[31m <b>.png": lambda path: path.touch(),
    "\u202egnp.exe.png": lambda path: path.touch(),
    "bytes \udcff.png": lambda path: path.touch(),
}


def test_every_broken_image_is_named_with_its_reason_and_none_ends_it(tmp_path) -> None:
    root = pets(tmp_path)
    for name, make in BROKEN.items():
        make(root / "cat" / name)
    account = look(f"folder:{root}", tmp_path)
    found = {image.name: image.reason for image in account.broken}
    assert len(found) == len(BROKEN) and all(found.values())
    assert {"cat/empty.png", "cat/cut.jpg", "cat/bytes \\xff.png"} <= set(found)
    assert account.images == 24 and account.is_decoded
    assert account.refusals == (
        f"{len(BROKEN)} broken images: remove or repair them, or set data.broken_images to skip",
    )
    assert not look(f"folder:{root}", tmp_path, broken_images="skip").refusals


def test_a_class_of_which_no_image_is_whole_has_none(tmp_path) -> None:
    root = pets(tmp_path)
    (root / "fish").mkdir()
    (root / "fish" / "1.png").touch()
    account = look(f"folder:{root}", tmp_path, broken_images="skip")
    assert {one.name: one.images for one in account.classes} == {"cat": 12, "dog": 12, "fish": 0}
    assert account.refusals


@pytest.mark.parametrize("is_quick", [False, True])
@pytest.mark.parametrize("split", ["train", "test"])
def test_what_skipping_would_lose_is_refused_as_by_a_search(split, is_quick, tmp_path) -> None:
    for name in ("train", "val", "test"):
        make_folder(tmp_path / "pets" / name, {"cat": 3, "dog": 3})
    for file in (tmp_path / "pets" / split / ("dog" if split == "train" else "")).rglob("*.png"):
        file.write_bytes(b"broken")
    account = look(f"folder:{tmp_path / 'pets'}", tmp_path, is_quick=is_quick, broken_images="skip")
    with pytest.raises(DataError) as refused:
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache", broken_images="skip")
    assert account.refusals == (str(refused.value),)


def test_a_class_whose_whole_images_all_fall_to_the_test_split_is_refused_as_by_a_search(tmp_path) -> None:
    refusals = []
    for whole in range(4):
        root = tmp_path / str(whole)
        make_folder(root / "train", {"cat": 6, "dog": 6, "eel": 4})
        make_folder(root / "val", {"cat": 2, "dog": 2, "eel": 2})
        for number, file in enumerate(sorted((root / "train" / "eel").iterdir())):
            file.write_bytes(file.read_bytes() if number == whole else b"broken")
        account = look(f"folder:{root}", tmp_path, broken_images="skip")
        try:
            load(f"folder:{root}", tmp_path / "cache", broken_images="skip")
        except DataError as error:
            refusals.append(str(error))
            assert account.refusals == (str(error).replace(f"{tmp_path}/", ""),)
        else:
            assert not account.refusals
    (refused,) = refusals
    assert refused.endswith("too many images are broken to split the others: none is left for train an image of eel")


@pytest.mark.parametrize("field", ["max_train_images", "max_validation_images"])
def test_fewer_images_than_classes_are_refused_as_by_a_search(field, tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"cat": 12, "dog": 12, "eel": 12})
    account = look(f"folder:{root}", tmp_path, validation_fraction=0.25, **{field: 2})
    with pytest.raises(DataError) as refused:
        load(f"folder:{root}", tmp_path / "cache", **{field: 2})
    assert account.refusals == (str(refused.value),)
    assert not look(f"folder:{root}", tmp_path, validation_fraction=0.25, **{field: 3}).refusals


def test_a_header_is_enough_when_asked_and_that_is_said(tmp_path) -> None:
    root = pets(tmp_path)
    _cut(root / "cat" / "cut.png")
    (root / "cat" / "empty.png").touch()
    account = look(f"folder:{root}", tmp_path, is_quick=True)
    assert [image.name for image in account.broken] == ["cat/empty.png"]
    assert not account.is_decoded and account.colours is not None and account.colours.brightness is None


def test_sizes_and_colours_are_those_of_whole_images_also_where_these_were_prepared(tmp_path) -> None:
    root = pets(tmp_path)
    _cut(root / "cat" / "cut.png")  # its header can be read, and has another size
    (root / "dog" / "empty.png").touch()
    before = look(f"folder:{root}", tmp_path, broken_images="skip")
    load(f"folder:{root}", tmp_path / "cache", broken_images="skip")
    after = look(f"folder:{root}", tmp_path, is_quick=True, broken_images="skip")
    assert after.is_decoded and after.sizes is not None and after.sizes.largest.width == 8
    assert (after.images, after.sizes, after.colours, after.broken) == (
        before.images,
        before.sizes,
        before.colours,
        before.broken,
    )


def test_broken_images_of_a_table_are_named_by_their_rows(tmp_path) -> None:
    (tmp_path / "pets").mkdir()
    images = [
        {"bytes": b"x" if index == 3 else None if index == 5 else encoded(index), "path": None} for index in range(8)
    ]
    write_parquet(tmp_path / "pets" / "train.parquet", 8, image=images)
    account = look(f"parquet:{tmp_path / 'pets'}", tmp_path)
    assert [image.name for image in account.broken] == ["train.parquet row 3", "train.parquet row 5"]


@pytest.mark.parametrize("is_quick", [False, True])
def test_groups_of_images_of_which_none_can_be_read_are_told_as_broken_images(is_quick, tmp_path) -> None:
    root = pets(tmp_path)
    for file in root.rglob("*.png"):
        file.write_text("version https://git-lfs.github.com/spec/v1")  # as a clone without git-lfs leaves them
    account = look(f"folder:{root}", tmp_path, is_quick=is_quick, group="image ([0-9])")
    assert account.images == 0 and account.groups is None and len(account.broken) == 24
    assert account.refusals[0].startswith("24 broken images: remove or repair them")


# --- sizes and colours ---


def test_sizes_and_colours_are_those_of_the_files(tmp_path) -> None:
    root = pets(tmp_path)
    Image.new("RGB", (300, 2), "white").save(root / "cat" / "strip.png")
    Image.new("RGBA", (8, 8)).save(root / "cat" / "clear.png")
    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(root / "cat" / "deep.png")
    Image.new("L", (20, 20)).save(root / "cat" / "grey.jpg")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (10, 30)).save(root / "dog" / "turned.jpg", exif=turned)
    account = look(f"folder:{root}", tmp_path)
    sizes, colours = account.sizes, account.colours
    assert sizes is not None and colours is not None
    assert (sizes.smallest.width, sizes.smallest.height, sizes.smallest.images) == (8, 8, 26)
    assert (sizes.largest.width, sizes.largest.height) == (300, 2)
    assert {(size.width, size.height) for size in sizes.commonest} == {(8, 8), (300, 2), (20, 20), (30, 10)}
    assert sizes.different == 4 and sizes.oblong_share == pytest.approx(2 / 29)
    assert (colours.grey, colours.coloured, colours.transparent) == (2, 27, 1)
    assert colours.bits == {"8": 28, "16": 1} and colours.formats == {"PNG": 27, "JPEG": 2}
    assert colours.blank == 29, "all of these are of one colour"


SIXTEEN_BITS = {
    "grey.png": np.zeros((4, 6), np.uint16),
    "colour.png": np.zeros((4, 6, 3), np.uint16),
    "clear.png": np.zeros((4, 6, 4), np.uint16),
    "colour.tiff": np.zeros((4, 6, 3), np.uint16),
    "grey.tiff": np.zeros((4, 6), np.uint16),
    "colour.ppm": np.zeros((4, 6, 3), np.uint16),
    "grey.pgm": np.zeros((4, 6), np.uint16),
}


@pytest.mark.parametrize("name", SIXTEEN_BITS)
def test_sixteen_bits_are_told_in_every_format(name, tmp_path) -> None:
    import cv2

    from tuner.datasets.images import look_at, read_original

    cv2.imwrite(str(tmp_path / name), SIXTEEN_BITS[name])
    original, small = look_at(tmp_path / name, 4)
    assert original == read_original(tmp_path / name)
    assert (original.bits, original.width, original.height) == (16, 6, 4)
    assert original.is_grey == name.startswith("grey") and original.is_transparent == name.startswith("clear")
    assert max(small.shape[:2]) == 4 and small.shape[2] == 3


def test_the_digits_have_one_size_and_no_files(tmp_path) -> None:
    account = look("digits", tmp_path)
    assert account.sizes is not None and account.sizes.different == 1 and account.sizes.commonest[0].images == 1797
    assert account.colours is not None and account.colours.formats == {"pixels": 1797} and account.colours.grey == 1797


# --- splits ---


def test_splits_are_those_that_a_search_makes(tmp_path) -> None:
    root = pets(tmp_path, cat=40, dog=60)
    account = look(f"folder:{root}", tmp_path, Aims(seed=5), validation_fraction=0.25)
    dataset, _ = load(f"folder:{root}", tmp_path / "cache", seed=5)
    found = {split.name: split for split in account.splits}
    assert {name: split.images for name, split in found.items()} == {
        "train": len(dataset.train),
        "test": len(dataset.load_test()),
        "validation": len(dataset.validation),
    }
    assert {name: split.origin for name, split in found.items()} == {
        "train": "left",
        "test": "made",
        "validation": "made",
    }
    assert (found["test"].share, found["test"].seed, found["validation"].seed) == (0.2, None, 5)


def test_folds_are_those_that_a_search_makes(tmp_path) -> None:
    root = pets(tmp_path, cat=40, dog=60)
    account = look(f"folder:{root}", tmp_path, validation={"folds": 4})
    dataset, _ = load(f"folder:{root}", tmp_path / "cache", validation={"folds": 4})
    validation = next(split for split in account.splits if split.name == "validation")
    assert (validation.images, validation.folds, validation.share) == (len(dataset.validation), 4, 0.25)


def test_what_is_shown_is_what_is_trained_on(tmp_path) -> None:
    root = pets(tmp_path, cat=40, dog=60)
    dataset, _ = load(f"folder:{root}", tmp_path / "cache")
    _, gallery = look_with_pictures(f"folder:{root}", tmp_path, validation_fraction=0.25)
    shown = {int(gallery.picture(place)[0, 0, 0]) for place in range(len(gallery.labels))}
    assert shown == {int(image[0, 0, 0]) for image in dataset.train.batch(np.arange(len(dataset.train)))[0]}
    assert gallery.name(0).startswith("cat/image ")


def test_given_splits_are_said_to_be_given(tmp_path) -> None:
    for split in ("train", "test", "validation"):
        make_folder(tmp_path / "pets" / split, {"a": 8, "b": 8})
    account = look(f"folder:{tmp_path / 'pets'}", tmp_path, max_train_images=10)
    assert [(split.name, split.origin, split.images, split.used) for split in account.splits] == [
        ("train", "given", 16, 10),
        ("test", "given", 16, None),
        ("validation", "given", 16, None),
    ]
    assert account.classes[0].splits == {"train": 8, "test": 8, "validation": 8}


REFUSED: dict[str, tuple[dict[str, int], str]] = {
    "a class of one image": ({"a": 1, "b": 9}, "every class must have at least two images to be split; too few: a"),
    "more classes than the part holds": ({"a": 2, "b": 2}, "cannot be split by 0.2"),
    "one class of the test split is not trained": (
        {"train/a": 4, "train/b": 4, "test/a": 4, "test/c": 4},
        "the classes of test must be among those of the training images",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED)[:2])
def test_what_a_search_would_refuse_is_said_and_the_rest_is_told(case, tmp_path) -> None:
    classes, message = REFUSED[case]
    account = look(f"folder:{make_folder(tmp_path / 'pets', classes)}", tmp_path)
    assert any(message in text for text in account.refusals)
    assert account.images == sum(classes.values()) and account.sizes is not None


def test_a_class_of_which_the_test_split_leaves_too_few_is_refused_as_by_a_search(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 10, "b": 10, "c": 10, "d": 2})
    with pytest.raises(DataError) as refused:
        load(f"folder:{root}", tmp_path / "cache")
    assert str(refused.value).endswith(
        "pets, without its test images: every class must have at least two images to be split; too few: d"
    )
    account = look(f"folder:{root}", tmp_path)
    assert account.refusals == (str(refused.value).replace(f"{tmp_path}/", ""),)


def test_what_cannot_be_listed_is_an_error(tmp_path) -> None:
    classes, message = REFUSED["one class of the test split is not trained"]
    with pytest.raises(DataError, match=message):
        look(f"folder:{make_folder(tmp_path / 'pets', classes)}", tmp_path)


# --- copies ---


def noise(seed: int) -> Image.Image:
    """A picture unlike any of another seed."""
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 255, (8, 8, 3), np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)


def album(tmp_path: Path) -> Path:
    """Make twelve pictures of two classes, one of them three times in one, one in both classes, and one saved anew."""
    root = tmp_path / "album"
    for number in range(24):
        folder = root / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        noise(number).save(folder / f"{number:02d}.png")
    noise(1).save(root / "cat" / "again.png")
    noise(1).save(root / "cat" / "and again.png")
    noise(3).save(root / "dog" / "wrong.png")
    noise(5).save(root / "cat" / "compressed.jpg", quality=80)
    return root


def test_copies_and_pictures_under_two_labels_are_listed_and_stay_on_one_side(tmp_path) -> None:
    root = album(tmp_path)
    account = look(f"folder:{root}", tmp_path)
    assert account.copies is not None
    assert (account.copies.copies, account.copies.exact_copies, account.copies.conflicts) == (4, 3, 1)
    (conflict,) = account.conflicts
    assert set(zip(conflict.names, conflict.classes, strict=True)) == {("cat/03.png", "cat"), ("dog/wrong.png", "dog")}
    assert any("labels" in text for text in account.advice)
    dataset, _ = load(f"folder:{root}", tmp_path / "cache", validation_fraction=0.1)
    assert {split.name: split.images for split in account.splits} == {
        "train": len(dataset.train),
        "validation": len(dataset.validation),
        "test": dataset.test_images,
    }
    assert look(f"folder:{root}", tmp_path) == account, "from the prepared copy, the same"


def test_copies_are_shown_side_by_side_those_under_two_labels_first(tmp_path) -> None:
    _, gallery = look_with_pictures(f"folder:{album(tmp_path)}", tmp_path)
    conflict, *others = gallery.alike
    assert conflict.is_conflict and set(conflict.names) == {"cat/03.png", "dog/wrong.png"}
    assert conflict.about in ("2 images, cat or dog", "2 images, dog or cat")
    assert others and not any(one.is_conflict for one in others)
    for one in gallery.alike:
        first, *more = [picture().astype(int) for picture in one.pictures]
        assert len(more) == len(one.names) - 1 > 0
        assert all(np.abs(other - first).mean() < 20 for other in more)
    kinds = [sheet.kind for sheet in draw_sheets(gallery)]
    assert kinds == ["class", "class", "two labels", *["copies"] * len(others)]


def test_copies_across_given_splits_are_told_with_their_names(tmp_path) -> None:
    root = tmp_path / "album"
    for split, first in (("train", 0), ("test", 20)):
        for number in range(first, first + 12):
            folder = root / split / ("cat" if number % 2 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            noise(number).save(folder / f"{number:02d}.png")
    noise(3).save(root / "test" / "cat" / "leaked.png")
    account = look(f"folder:{root}", tmp_path)
    assert account.copies is not None
    (across,) = account.copies.across
    assert (across.split, across.earlier, across.images) == ("test", "train", 1)
    assert across.examples == (("test/cat/leaked.png (test)", "train/cat/03.png (train)"),)
    assert any("too good" in text for text in account.advice)


def test_copies_are_not_looked_for_in_headers(tmp_path) -> None:
    account = look(f"folder:{album(tmp_path)}", tmp_path, is_quick=True)
    assert account.copies is None and account.conflicts == ()


# --- prepared ---


def test_a_prepared_copy_tells_the_same_as_the_files(tmp_path) -> None:
    root = pets(tmp_path, cat=30, dog=30)
    (root / "cat" / "torn.png").write_bytes(b"x")
    before = look(f"folder:{root}", tmp_path, broken_images="skip", image_px=8)
    load(f"folder:{root}", tmp_path / "cache", broken_images="skip", image_px=8, validation_fraction=0.1)
    seen: list[int] = []
    request = DataRequest(f"folder:{root}", broken_images="skip", image_px=8)
    after, _ = look_at_data(
        request, staged={}, cache_dir=tmp_path / "cache", aims=AIMS, watch=lambda done, total: seen.append(total - done)
    )
    assert after == before and seen[-1] == 0
    quick = look(f"folder:{root}", tmp_path, is_quick=True, broken_images="skip", image_px=8)
    assert quick == before, "what is known is told, however quick it is to be"


def test_looking_writes_nothing(tmp_path) -> None:
    look(f"folder:{pets(tmp_path)}", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]


# --- classes and groups ---


def test_imbalance_and_few_images_are_told() -> None:
    labels = np.repeat([0, 1, 2], [95, 5, 1])
    balance = find_imbalance(class_facts(("a", "b", "c"), {"train": labels}))
    assert (balance.largest, balance.smallest, balance.ratio, balance.few) == ("a", "c", 95, ("c", "b"))
    assert balance.largest_share == pytest.approx(95 / 101)


def test_classes_that_live_in_one_group_are_named() -> None:
    facts = find_groups("patient", ("a", "b"), np.array([1, 1, 2, 3, 3, 3]), np.array([0, 0, 0, 1, 1, 1]))
    assert (facts.number, facts.smallest, facts.median, facts.largest) == (3, 1, 2.0, 3)
    assert facts.lone_classes == ("b",)


def test_groups_of_a_pattern_are_counted_in_each_split_and_asked_about_no_more(tmp_path) -> None:
    root = tmp_path / "album"
    for number in range(60):
        folder = root / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        noise(number).save(folder / f"patient{number // 3:02d}_{number % 3}.png")
    asked = look(f"folder:{root}", tmp_path)
    assert any("data.group: '(patient[0-9]+)'" in text for text in asked.advice) and asked.groups is None
    account = look(f"folder:{root}", tmp_path, group="(patient[0-9]+)")
    assert account.groups is not None and not any("data.group" in text for text in account.advice)
    assert (account.groups.given_by, account.groups.number, account.groups.largest) == ("(patient[0-9]+)", 20, 3)
    assert sum(split.groups or 0 for split in account.splits) == 20


GROUPED: dict[str, tuple[list[str], str | None]] = {
    "patients": ([f"c{i % 2}/patient{i // 4:02d}_{i % 4}.png" for i in range(80)], "patient00"),
    "frames of videos": ([f"c{i % 2}/video{i // 10}-frame{i:05d}.jpg" for i in range(200)], "video0"),
    "Market-1501": ([f"c{i % 3}/{i // 6:04d}_c1s1_{i:06d}_00.jpg" for i in range(120)], "0000"),
    "folders below classes": ([f"c{i % 2}/subject {i // 8}/{i}.png" for i in range(160)], "c0/subject 0"),
    "ISIC-like views": ([f"c{i % 2}/p{i // 5:03d}v{i % 5}.png" for i in range(100)], "p000"),
    "numbers that begin anew in each class": ([f"c{i % 2}/{i // 2}.png" for i in range(100)], None),
    "numbers alone": ([f"c{i % 2}/{i:05d}.png" for i in range(100)], None),
    "a camera": ([f"c{i % 2}/IMG_{i:04d}.JPG" for i in range(100)], None),
    "the name of the class": ([f"c{i % 2}/c{i % 2}_{i:04d}.png" for i in range(100)], None),
    "Flickr": ([f"c{i % 2}/{i * 7919}_{i * 104729:x}_n.jpg" for i in range(100)], None),
    "Kaggle cats": ([f"c{i % 2}/cat.{i}.jpg" for i in range(100)], None),
    "ImageNet": ([f"c{i % 2}/n0208562{i % 2}_{i}.JPEG" for i in range(100)], None),
    "one photo of each": ([f"c{i % 2}/patient{i}_1.png" for i in range(100)], None),
    "no names": ([f"image {i}" for i in range(100)], None),
    "a few videos": ([f"c{i % 2}/v{i % 3}_{i:05d}.png" for i in range(100)], "v0"),
    "some that are called otherwise": ([*(f"c{i % 2}/p{i // 5}_{i}.png" for i in range(95)), "c0/x.png"], "p0"),
    "one folder for each class": ([f"c{i % 2}/all/{i}.png" for i in range(100)], None),
}


@pytest.mark.parametrize("case", GROUPED)
def test_names_that_may_be_of_groups_are_asked_about_and_others_are_not(case) -> None:
    names, example = GROUPED[case]
    labels = np.array([sum(map(ord, name.partition("/")[0])) for name in names])
    guess = guess_groups(names, labels)
    assert (guess.example if guess is not None else None) == example
    if guess is not None:
        parts = [re.search(guess.pattern, name) for name in names]
        assert all(parts) and len({part[1] for part in parts if part}) - 1 <= guess.parts
        assert re.compile(guess.pattern).groups == 1


def test_shards_of_parquet_are_no_groups_and_files_in_a_table_may_be_some(tmp_path) -> None:
    (tmp_path / "hub").mkdir()
    for shard in range(4):
        write_parquet(tmp_path / "hub" / f"train-{shard:05}-of-00004.parquet", 10, first=10 * shard)
    asked = look(f"parquet:{tmp_path / 'hub'}", tmp_path)
    assert asked.group_guess is None and not any("data.group" in text for text in asked.advice)
    rows = []
    for number in range(60):
        noise(number).save(tmp_path / f"patient{number // 3:02d}_{number % 3}.png")
        rows.append(f"patient{number // 3:02d}_{number % 3}.png,{'ab'[number % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    guess = look(f"csv:{tmp_path / 'labels.csv'}", tmp_path).group_guess
    assert guess is not None and (guess.pattern, guess.parts, guess.example) == ("(patient[0-9]+)", 20, "patient00")
    account = look(f"csv:{tmp_path / 'labels.csv'}", tmp_path, group=guess.pattern)
    assert account.groups is not None and account.groups.number == 20


def test_the_pattern_that_is_asked_about_is_as_plain_as_it_can_be() -> None:
    names, _ = GROUPED["patients"]
    labels = np.array([name[1] == "1" for name in names], np.int64)
    plain, mixed = (
        guess_groups(names, labels),
        guess_groups([*names, "c0/scan.png", "c1/old.png"], np.append(labels, [0, 1])),
    )
    assert plain is not None and plain.pattern == "(patient[0-9]+)"
    assert mixed is not None and mixed.pattern == "(patient[0-9]+|[^/]+$)"


ADVISED: dict[str, tuple[dict[str, int], Aims, tuple[str, ...], tuple[str, ...]]] = {
    "even": ({"a": 20, "b": 20}, Aims(), (), ("metric:", "class_weight")),
    "somewhat uneven": ({"a": 30, "b": 20}, Aims(), (), ("metric:", "class_weight")),
    "uneven": ({"a": 57, "b": 12}, Aims(), ("metric: val_balanced_accuracy", "class_weight: {choice"), ()),
    "uneven, judged well": ({"a": 57, "b": 12}, Aims(("val_balanced_accuracy",)), ("class_weight",), ("metric:",)),
    "uneven, all done": (
        {"a": 57, "b": 12},
        Aims(("val_macro_f1",), frozenset({"class_weight"})),
        (),
        ("metric:", "class_weight"),
    ),
    "few": ({"a": 8, "b": 8}, Aims(), ("fewer than 10",), ("metric:",)),
}


@pytest.mark.parametrize("case", ADVISED)
def test_advice_follows_from_the_facts_and_from_what_a_study_does_already(case, tmp_path) -> None:
    classes, aims, wanted, unwanted = ADVISED[case]
    advice = " | ".join(look(f"folder:{pets(tmp_path, **classes)}", tmp_path, aims).advice)
    assert all(text in advice for text in wanted) and not any(text in advice for text in unwanted)


# --- names and files ---


def test_names_are_without_the_way_to_the_data(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert short_name(str(tmp_path / "pets/cat/1.png"), "folder:pets") == "cat/1.png"
    assert short_name("pets/cat/1.png", "folder:pets/") == "cat/1.png"
    assert short_name("petshop/cat/1.png", "folder:pets") == "petshop/cat/1.png"
    assert short_name("image 3", "npz:pets.npz") == "image 3"
    assert short_name(f"pets.parquet row 3 ({tmp_path}/a.png)", "parquet:pets.parquet") == "pets.parquet row 3 (a.png)"
    assert short_name(f"{tmp_path}/link/a.csv line 3 ({tmp_path}/a/1.png)", f"csv:{tmp_path}/link/a.csv") == (
        "a.csv line 3 (a/1.png)"
    )
    assert short_name("/a.csv line 3 (/a/1.png)", "csv:/a.csv") == "/a.csv line 3 (/a/1.png)"


def test_an_account_is_read_as_it_was_written_and_nothing_else_is(tmp_path) -> None:
    account = look("digits", tmp_path)
    save_account(tmp_path / "data.json", account)
    assert load_account(tmp_path / "data.json") == account
    text = (tmp_path / "data.json").read_text()
    for other in ("", "[]", "{}", "nothing", text[:-20], text.replace('"version": 1', '"version": 2'), "[" * 9000):
        (tmp_path / "data.json").write_text(other)
        assert load_account(tmp_path / "data.json") is None
    assert load_account(tmp_path / "gone") is None
