"""Data sets from real files: folders of images, the three splits, refusals."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.support import needs
from tests.support.make_data import encoded, images_of, load, make_folder, picture, write_parquet
from tuner.common.errors import DataError
from tuner.datasets.loading import describe_data, image_names
from tuner.datasets.request import DataRequest


def test_a_folder_is_split_into_three_parts_that_share_no_image_with_every_class_in_proportion(tmp_path) -> None:
    dataset, _ = load(f"folder:{make_folder(tmp_path / 'pets')}", tmp_path / "cache")
    assert dataset.class_names == ("cat", "dog", "été🐟")
    assert dataset.image_shape == (8, 8, 3)
    parts = images_of(dataset)
    assert (len(parts["train"]), len(parts["validation"]), len(parts["test"])) == (24, 8, 8)
    assert not parts["train"] & parts["validation"] and not (parts["train"] | parts["validation"]) & parts["test"]
    assert np.bincount(dataset.load_test().labels).tolist() == [2, 4, 2]


def test_the_seed_changes_the_validation_split_and_never_the_test_split(tmp_path) -> None:
    source = f"folder:{make_folder(tmp_path / 'pets')}"
    first, again, other = (images_of(load(source, tmp_path / "cache", seed=seed)[0]) for seed in (0, 0, 1))
    assert first == again and first["test"] == other["test"] and first["validation"] != other["validation"]


@pytest.mark.parametrize("folds", [2, 3, 5, 20])
def test_folds_hold_every_training_image_once_and_no_test_image(cache_dir, folds: int) -> None:
    data, _ = load("digits", cache_dir, validation={"folds": folds})
    parts = [data.fold(number) for number in range(folds)]
    held = np.concatenate([one.validation.rows for one in parts])
    assert len(np.unique(held)) == len(held) == 1437 and not np.isin(data.test_rows, held).any()
    for one in parts:
        assert np.union1d(one.train.rows, one.validation.rows).tolist() == sorted(held)
        assert len(one.train) + len(one.validation) == 1437
        every, own = np.bincount(np.append(one.train.labels, one.validation.labels)), np.bincount(one.validation.labels)
        assert (abs(own - every / folds) < 1).all()
    np.testing.assert_array_equal(parts[0].validation.rows, data.validation.rows)  # the search's


def test_folds_are_drawn_by_the_seed_and_test_images_are_not(cache_dir) -> None:
    one, other, again = (load("digits", cache_dir, seed=seed, validation={"folds": 4})[0] for seed in (0, 1, 0))
    assert one.validation.rows.tolist() == again.validation.rows.tolist() != other.validation.rows.tolist()
    assert one.test_rows.tolist() == other.test_rows.tolist()


def test_images_of_a_fold_are_limited_as_those_of_a_split(cache_dir) -> None:
    data, _ = load("digits", cache_dir, validation={"folds": 4}, max_train_images=100, max_validation_images=30)
    for number in range(4):
        part = data.fold(number)
        assert (len(part.train), len(part.validation)) == (100, 30)
        assert not np.isin(part.train.rows, part.validation.rows).any()


def test_folds_of_a_source_with_a_validation_split_are_refused_with_the_way_out(tmp_path) -> None:
    for split in ("train", "val"):
        make_folder(tmp_path / "pets" / split)
    words = r"data.validation must be left out with folder:.*pets, which has a validation split of its own; or give"
    with pytest.raises(DataError, match=words):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache", validation={"folds": 3})
    with pytest.raises(DataError, match=words):  # now that it is prepared
        describe_data(DataRequest(f"folder:{tmp_path / 'pets'}", validation={"folds": 3}), {}, tmp_path / "cache")
    with pytest.raises(DataError, match=words):  # and before
        describe_data(
            DataRequest(f"folder:{tmp_path / 'pets'}", validation={"folds": 3}), {}, tmp_path / "another cache"
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "8x8 px, colour, arrays of 3.4 KiB if the disk has room, else encoded"),
        ({"image_px": 16, "storage": "encoded"}, "16x16 px, colour, encoded; arrays would take 13.5 KiB"),
        ({"colour": "grey", "storage": "arrays"}, "8x8 px, grey, arrays of 1.1 KiB"),
    ],
)
def test_a_plan_tells_the_prepared_size_before_and_after_it_is_there(settings, words, tmp_path) -> None:
    request = DataRequest(f"folder:{make_folder(tmp_path / 'pets', {'cat': 9, 'dog': 9})}", **settings)
    known = describe_data(request, {}, tmp_path / "cache")
    assert (known.prepared, known.num_classes) == (words, 2)
    load(request.source, tmp_path / "cache", **settings)
    storage = settings.get("storage", "arrays")
    after = describe_data(request, {}, tmp_path / "cache").prepared
    assert after.startswith(", ".join([*words.split(", ")[:2], storage])) and after.endswith(", prepared before")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "cat" / "image 0.png").unlink(),
        lambda root: (root / "cat" / "image 0.png").rename(root / "dog" / "image 99.png"),
        lambda root: picture(77).save(root / "dog" / "image 99.png"),
        lambda root: (root / "dog").rename(root / "wolf"),
    ],
    ids=["removed", "moved", "added", "renamed"],
)
def test_images_are_named_by_their_rows_as_long_as_these_are_theirs(change, tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"cat": 9, "dog": 9})
    (root / "cat" / "image 3.png").write_bytes(b"broken")
    request = DataRequest(f"folder:{root}", broken_images="skip")
    prepared = load(request.source, tmp_path / "cache", broken_images="skip")[0].prepared
    name = image_names(request, {}, prepared)
    first = [Path(name("train", row)).name for row in range(4)]
    assert first == ["image 0.png", "image 1.png", "image 2.png", "image 4.png"]
    change(root)
    with pytest.raises(DataError, match="cannot be named by their rows: it has changed since it was prepared"):
        image_names(request, {}, prepared)


def test_a_class_of_one_image_cannot_be_parted_into_folds(tmp_path) -> None:
    for split, classes in (("train", {"cat": 9, "dog": 1}), ("test", {"cat": 2, "dog": 2})):
        make_folder(tmp_path / "pets" / split, classes)
    with pytest.raises(DataError, match=r"data.validation.folds: folder:.*pets.*too few: dog"):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache", validation={"folds": 2})


def test_folders_named_after_splits_are_the_splits(tmp_path) -> None:
    for split in ("train", "val", "test"):
        make_folder(tmp_path / "pets" / split, {"a": 4, "b": 6})
    dataset, _ = load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (10, 10, 10)


def test_images_of_any_size_and_depth_become_one_shape_and_that_is_said(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 4, "b": 4})
    picture(9, (20, 30)).save(root / "a" / "large.jpg")
    Image.new("L", (5, 6)).save(root / "b" / "grey.gif")
    Image.fromarray(np.full((9, 9), 4000, np.uint16)).save(root / "b" / "deep.png")
    dataset, said = load(f"folder:{root}", tmp_path / "cache")
    assert dataset.image_shape == (224, 224, 3) and "4 different sizes" in said[0]
    dataset, said = load(f"folder:{root}", tmp_path / "cache", image_px=16, colour="grey")
    assert dataset.image_shape == (16, 16, 1) and not said


def test_grey_images_stay_grey_unless_asked_otherwise(tmp_path, cache_dir) -> None:
    for name in ("a", "b"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(5):
            Image.new("L", (8, 8), index).save(tmp_path / "pets" / name / f"{index}.png")
    assert load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")[0].image_shape == (8, 8, 1)
    assert load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache", colour="rgb")[0].image_shape == (8, 8, 3)
    assert load("digits", cache_dir, colour="rgb", image_px=10)[0].image_shape == (10, 10, 3)


def test_broken_images_are_named_and_fail_the_load_or_are_skipped_as_the_file_says(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 10, "b": 10})
    (root / "a" / "empty.png").write_bytes(b"")
    (root / "b" / "torn.png").write_bytes((root / "b" / "image 1.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"2 broken|1 broken") as failure:
        load(f"folder:{root}", tmp_path / "cache")
    assert "data.broken_images" in str(failure.value)
    dataset, said = load(f"folder:{root}", tmp_path / "cache", broken_images="skip")
    assert sum(len(part) for part in images_of(dataset).values()) == 20
    assert "empty.png is not an image" in " ".join(said) and "torn.png" in " ".join(said)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"only": 5}, "must have at least two classes; got only"),
        ({"a": 5, "b": 1}, "every class must have at least two images to be split; too few: b"),
        ({"a": 5, "empty": 0}, "a class folder must hold images"),
        ({}, "must have at least two classes; got none"),
    ],
)
def test_folders_that_cannot_be_a_data_set_are_refused(classes, words, tmp_path) -> None:
    (tmp_path / "pets").mkdir()
    with pytest.raises(DataError, match=words):
        load(f"folder:{make_folder(tmp_path / 'pets', classes)}", tmp_path / "cache")


def test_a_loop_of_links_ends(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 6, "b": 6})
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    (root / "round").symlink_to(root / "round")
    assert len(load(f"folder:{root}", tmp_path / "cache")[0].load_test()) == 3
    (root / "up").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(DataError, match="up: a class folder must not be a link to a folder that holds it"):
        load(f"folder:{root}", tmp_path / "cache")


def test_a_class_folder_may_be_a_link_and_its_changes_are_seen(tmp_path) -> None:
    make_folder(tmp_path / "elsewhere", {"b": 6})
    root = make_folder(tmp_path / "pets", {"a": 6})
    (root / "b").symlink_to(tmp_path / "elsewhere" / "b", target_is_directory=True)
    first, _ = load(f"folder:{root}", tmp_path / "cache")
    picture(200).save(tmp_path / "elsewhere" / "b" / "one more.png")
    assert load(f"folder:{root}", tmp_path / "cache")[0].fingerprint != first.fingerprint


def test_a_folder_that_is_named_by_a_link_is_refused_by_the_name_of_the_link(tmp_path) -> None:
    make_folder(tmp_path / "elsewhere" / "disk 7", {"cat": 4})
    (tmp_path / "pets").symlink_to(tmp_path / "elsewhere" / "disk 7", target_is_directory=True)
    with pytest.raises(DataError, match="pets: must have at least two classes; got cat") as told:
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")
    assert "disk 7" not in str(told.value)


def test_a_link_to_nothing_is_a_broken_image_with_a_name(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 6, "b": 6})
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"1 broken image: .*gone\.png is a link to nothing"):
        load(f"folder:{root}", tmp_path / "cache")


def test_a_class_may_be_called_train(tmp_path) -> None:
    root = make_folder(tmp_path / "vehicles", {"bus": 8, "train": 8, "tram": 8})
    assert load(f"folder:{root}", tmp_path / "cache")[0].class_names == ("bus", "train", "tram")


def test_what_of_a_folder_is_not_used_is_said(tmp_path) -> None:
    root = tmp_path / "pets"
    make_folder(root / "Train", {"a": 8, "b": 8})
    (root / "test").mkdir()
    picture(1).save(root / "test" / "unlabelled.png")
    (root / "Train" / "a" / "notes.txt").write_text("x")
    (root / "Train" / "a" / ".hidden.png").write_text("x")
    picture(1).save(root / "Train" / "loose.png")
    dataset, said = load(f"folder:{root}", tmp_path / "cache")
    words = "1 .txt file (Train/a/notes.txt); 2 files outside the class folders (Train/loose.png, ...)"
    assert said == [f"{root}: not used: {words}"]
    assert len(dataset.load_test()) == 4


def test_split_folders_must_hold_training_images_and_the_same_classes(tmp_path) -> None:
    make_folder(tmp_path / "pets" / "test", {"a": 4, "b": 4})
    with pytest.raises(DataError, match="must hold a folder train beside test"):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")
    make_folder(tmp_path / "pets" / "train", {"a": 4, "c": 4})
    with pytest.raises(DataError, match=r"classes of test must be among those .* \(a, c\); got b"):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")


def test_names_that_are_not_text_can_be_printed(tmp_path) -> None:
    needs.linux()
    root = make_folder(tmp_path / "pets", {"a": 6})
    odd = root / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    for index in range(5):
        (odd / f"{index}.png").write_bytes(encoded(index))
    assert load(f"folder:{root}", tmp_path / "cache")[0].class_names == ("a", "caf\\xe9")
    (odd / "torn.png").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"caf\\xe9/torn\.png is not an image") as failure:
        load(f"folder:{root}", tmp_path / "cache")
    str(failure.value).encode()


def test_every_image_of_many_row_groups_and_files_keeps_its_label(tmp_path) -> None:
    for part in range(3):
        write_parquet(tmp_path / f"train-{part}.parquet", 40, tuple("abcd"), first=40 * part, row_group_size=7)
    dataset, _ = load(f"parquet:{tmp_path}", tmp_path / "cache")
    seen = []
    for split in (dataset.train, dataset.validation, dataset.load_test()):
        images, labels = split.batch(np.arange(len(split)))
        assert (images[:, 0, 0, 0] % 4 == labels).all()
        seen += images[:, 0, 0, 0].tolist()
    assert sorted(seen) == list(range(120))


def test_other_names_of_columns_are_known_and_classes_without_names_are_numbered(tmp_path) -> None:
    images = [{"bytes": encoded(index), "path": None} for index in range(12)]
    table = pa.table({"img": images, "fine_label": [0, 1, 2] * 4, "coarse_label": [7] * 12})
    parquet.write_table(table, tmp_path / "any.parquet")
    assert load(f"parquet:{tmp_path / 'any.parquet'}", tmp_path / "cache")[0].class_names == ("0", "1", "2")


def test_the_same_images_have_the_same_fingerprint_from_any_source(tmp_path) -> None:
    images, labels = np.arange(20, dtype=np.uint8), np.arange(20) % 2
    pixels = np.broadcast_to(images[:, None, None, None], (20, 8, 8, 3))
    np.savez(tmp_path / "own.npz", x_train=pixels, y_train=labels, class_names=np.array(["a", "b"]))
    write_parquet(tmp_path / "own.parquet", 20)
    sources = (f"npz:{tmp_path / 'own.npz'}", f"parquet:{tmp_path / 'own.parquet'}")
    first, second = (load(source, tmp_path / "cache")[0] for source in sources)
    assert first.fingerprint == second.fingerprint and first.class_names == second.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": " "}, "data.source must name a data set; got ' '"),
        ({"validation": {"folds": 1}}, "data.validation.folds must be 2 to 20; got 1"),
        ({"validation": {"folds": 21}}, "data.validation.folds must be 2 to 20; got 21"),
        ({"validation_fraction": 1.0}, "data.validation_fraction must be above 0 and below 1; got 1.0"),
        ({"validation_fraction": float("nan")}, "data.validation_fraction must be above 0 and below 1; got nan"),
        ({"image_px": 3}, "data.image_px must be 4 to 2048; got 3"),
        ({"colour": "gray"}, "data.colour: unknown colour 'gray'; did you mean 'grey'"),
        ({"broken_images": "skp"}, "data.broken_images: unknown broken_images 'skp'; did you mean 'skip'"),
        ({"max_train_images": 0}, "data.max_train_images must be at least 2; got 0"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(values, words) -> None:
    with pytest.raises(DataError, match=words):
        DataRequest(**{"source": "digits", **values})
