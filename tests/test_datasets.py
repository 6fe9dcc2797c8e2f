"""Data sets of every kind, from real files: splits, subsets, staged copies, the prepared copy, refusals."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from tuner.datasets import DataRequest, Dataset, check_source, load_dataset, staged_sources
from tuner.errors import DataError
from tuner.sources import NAMED, PREFIXED
from tuner.splits import split_stratified, subset_stratified

CLASSES = {"cat": 12, "dog": 18, "été🐟": 10}


def picture(value: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.full((*size, 3), value, dtype=np.uint8))


def make_folder(root: Path, classes: dict[str, int] = CLASSES, suffix: str = "png") -> Path:
    value = 0
    for name, number in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(number):
            picture((value := value + 1) % 256).save(root / name / f"image {index}.{suffix}")
    return root


def load(source: str, cache: Path, seed: int = 0, **options) -> tuple[Dataset, list[str]]:
    said: list[str] = []
    staged = options.pop("staged", {})
    request = DataRequest(source, **{"validation_fraction": 0.25, **options})
    return load_dataset(request, staged=staged, seed=seed, cache_dir=cache, notify=said.append), said


def images_of(dataset: Dataset) -> dict[str, set[bytes]]:
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.load_test()}
    return {
        name: {image.tobytes() for image in split.batch(np.arange(len(split)))[0]} for name, split in splits.items()
    }


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


def test_a_link_to_nothing_is_a_broken_image_with_a_name(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 6, "b": 6})
    (root / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(
        DataError, match=r"1 broken image: .*gone\.png cannot be decoded: it is a folder, a pipe or a link"
    ):
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
    assert said == [
        "not used, for they are no splits with class folders: test",
        f"{root / 'Train'}: 1 files not used: .txt",
        f"{root / 'Train'}: 1 files not used: beside the class folders",
    ]
    assert len(dataset.load_test()) == 4


def test_split_folders_must_hold_training_images_and_the_same_classes(tmp_path) -> None:
    make_folder(tmp_path / "pets" / "test", {"a": 4, "b": 4})
    with pytest.raises(DataError, match="must hold a folder train beside test"):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")
    make_folder(tmp_path / "pets" / "train", {"a": 4, "c": 4})
    with pytest.raises(DataError, match=r"classes of test must be among those .* \(a, c\); got b"):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not text")
def test_names_that_are_not_text_can_be_printed(tmp_path) -> None:
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


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    picture(value).save(file, format="PNG")
    return file.getvalue()


def write_parquet(path: Path, number: int, names: tuple[str, ...] = ("a", "b"), first: int = 0, **options) -> None:
    """Images whose values are their numbers from `first` on, with labels in turn; an option replaces a column."""
    columns = {
        "image": [{"bytes": encoded(first + index), "path": f"{index}.png"} for index in range(number)],
        "label": [index % max(1, len(names)) for index in range(number)],
    }
    row_group_size = options.pop("row_group_size", 1000)
    table = pa.table({**columns, **options})
    if names:
        features = {"features": {"label": {"_type": "ClassLabel", "names": list(names)}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": features})})
    parquet.write_table(table, path, row_group_size=row_group_size)


def test_parquet_in_the_layout_of_the_hub_is_read_with_its_class_names(tmp_path) -> None:
    (tmp_path / "hub").mkdir()
    write_parquet(tmp_path / "hub" / "train-00000-of-00002.parquet", 20, ("ape", "bee"))
    write_parquet(tmp_path / "hub" / "train-00001-of-00002.parquet", 20, ("ape", "bee"))
    write_parquet(tmp_path / "hub" / "test.parquet", 10, ("ape", "bee"))
    dataset, _ = load(f"parquet:{tmp_path / 'hub'}", tmp_path / "cache")
    assert dataset.class_names == ("ape", "bee")
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (30, 10, 10)
    single, _ = load(f"parquet:{tmp_path / 'hub' / 'test.parquet'}", tmp_path / "cache")
    assert len(single.load_test()) == 2


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


def test_broken_images_in_parquet_are_named_by_file_and_row(tmp_path) -> None:
    images = [{"bytes": encoded(index), "path": None} for index in range(20)]
    images[3], images[13], images[16] = {"bytes": None, "path": "elsewhere.png"}, None, {"bytes": b"x", "path": ""}
    write_parquet(tmp_path / "train-0.parquet", 20, image=images, row_group_size=6)
    write_parquet(tmp_path / "test.parquet", 4)
    with pytest.raises(DataError, match=r"3 broken images: .*train-0\.parquet row 3 is .*row 13 is .*row 16 is"):
        load(f"parquet:{tmp_path}", tmp_path / "cache")


def test_a_parquet_file_that_is_damaged_inside_is_refused_even_where_broken_images_are_skipped(tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 2000), dtype=np.uint8)
    images = [{"bytes": row.tobytes(), "path": None} for row in noise]
    write_parquet(tmp_path / "train.parquet", 40, image=images, row_group_size=10)
    content = bytearray((tmp_path / "train.parquet").read_bytes())
    content[1000:1100] = bytes(100)  # inside the first row group: its page no longer unpacks
    start = parquet.ParquetFile(tmp_path / "train.parquet").metadata.row_group(1).column(0).data_page_offset
    content[start : start + 30] = b"\xff" * 30
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read as Parquet"):
        load(f"parquet:{tmp_path}", tmp_path / "cache", broken_images="skip")


@pytest.mark.parametrize(
    ("names", "columns", "words"),
    [
        (("a", "b"), {"label": [0.5] * 8}, "label must be a whole number in every row; got double with 0 missing"),
        (("a", "b"), {"label": [0, None] * 4}, "label must be a whole number in every row; got int64 with 4 missing"),
        (("a", "b"), {"label": ["cat", "dog"] * 4}, "label must be a whole number in every row; got"),
        (("a", "b"), {"label": [0, 2] * 4}, "train labels must be 0 to 1; got 2"),
        (("a", "b"), {"label": [0, -1] * 4}, "train labels must be 0 to 1; got -1"),
        (("a", "a"), {}, "class names must be different; got a more than once"),
        (("a",), {"label": [0] * 8}, "must have at least two classes; got a"),
        ((), {"label": [0, 10**9] * 4}, "without gaps; got 2 different ones from 0 to 1000000000"),
        (("a", "b"), {"image": [b"x"] * 8}, r"must have the columns image \(a struct of bytes and path\) and label"),
    ],
)
def test_parquet_columns_that_are_no_data_set_are_refused(names, columns, words, tmp_path) -> None:
    write_parquet(tmp_path / "train.parquet", 8, names, **columns)
    with pytest.raises(DataError, match=words):
        load(f"parquet:{tmp_path}", tmp_path / "cache")


def test_other_names_of_columns_are_known_and_classes_without_names_are_numbered(tmp_path) -> None:
    images = [{"bytes": encoded(index), "path": None} for index in range(12)]
    table = pa.table({"img": images, "fine_label": [0, 1, 2] * 4, "coarse_label": [7] * 12})
    parquet.write_table(table, tmp_path / "any.parquet")
    assert load(f"parquet:{tmp_path / 'any.parquet'}", tmp_path / "cache")[0].class_names == ("0", "1", "2")


def test_parquet_files_that_disagree_about_the_classes_are_refused(tmp_path) -> None:
    write_parquet(tmp_path / "train.parquet", 8, ("a", "b"))
    write_parquet(tmp_path / "test.parquet", 8, ("b", "a"))
    with pytest.raises(DataError, match=r"test\.parquet: must have the classes of the other files; got b, a"):
        load(f"parquet:{tmp_path}", tmp_path / "cache")


def test_the_same_images_have_the_same_fingerprint_from_any_source(tmp_path) -> None:
    images, labels = np.arange(20, dtype=np.uint8), np.arange(20) % 2
    pixels = np.broadcast_to(images[:, None, None, None], (20, 8, 8, 3))
    np.savez(tmp_path / "own.npz", x_train=pixels, y_train=labels, class_names=np.array(["a", "b"]))
    write_parquet(tmp_path / "own.parquet", 20)
    sources = (f"npz:{tmp_path / 'own.npz'}", f"parquet:{tmp_path / 'own.parquet'}")
    first, second = (load(source, tmp_path / "cache")[0] for source in sources)
    assert first.fingerprint == second.fingerprint and first.class_names == second.class_names == ("a", "b")


ARRAYS = {"x_train": np.zeros((8, 4, 4), np.uint8), "y_train": np.arange(8) % 2}


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y_train": np.arange(8) / 2}, "y_train must be whole numbers; got float64"),
        ({"y_train": np.eye(8, 2, dtype=np.int64)}, r"with a label each; got uint8 \[8, 4, 4\] and 16 labels"),
        ({"x_train": np.zeros((8, 4, 4, 4), np.uint8)}, r"\[N, H, W, 1 or 3\] .* got uint8 \[8, 4, 4, 4\]"),
        ({"x_train": np.zeros((8, 0, 4), np.uint8)}, "images of at least one pixel"),
        ({"x_test": np.zeros((2, 4, 4), np.uint8)}, "must hold x_test and y_test; got x_train, y_train, x_test"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8), "y_train": np.zeros(0, int)}, "at least two classes; got none"),
        ({"class_names": np.array(["a", "b", "a"])}, "class names must be different; got a more than once"),
        (
            {"x_test": ARRAYS["x_train"][:0], "y_test": ARRAYS["y_train"][:0]},
            "test must hold at least one image; it holds none",
        ),
    ],
)
def test_archives_that_are_no_data_set_are_refused(arrays, words, tmp_path) -> None:
    np.savez(tmp_path / "own.npz", **{**ARRAYS, **arrays})
    with pytest.raises(DataError, match=words):
        load(f"npz:{tmp_path / 'own.npz'}", tmp_path / "cache")


@pytest.mark.parametrize("cut", [0, 3, 100, -30])
def test_archives_that_are_torn_are_refused(cut, tmp_path) -> None:
    np.savez_compressed(tmp_path / "own.npz", **ARRAYS)
    (tmp_path / "own.npz").write_bytes((tmp_path / "own.npz").read_bytes()[:cut])
    with pytest.raises(DataError, match=r"own\.npz: cannot be read as a numpy archive of plain arrays"):
        load(f"npz:{tmp_path / 'own.npz'}", tmp_path / "cache")


def test_a_single_array_is_not_an_archive(tmp_path) -> None:
    np.save(tmp_path / "own.npy", ARRAYS["x_train"])
    with pytest.raises(DataError, match="cannot be read as a numpy archive of plain arrays"):
        load(f"npz:{tmp_path / 'own.npy'}", tmp_path / "cache")


def test_wrong_parquet_and_npz_files_are_refused_with_what_they_hold(tmp_path) -> None:
    parquet.write_table(pa.table({"x": [1], "label": [0]}), tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match=r"must have the columns image .* got x: int64, label: int64"):
        load(f"parquet:{tmp_path / 'wrong.parquet'}", tmp_path / "cache")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(f"parquet:{tmp_path / 'torn.parquet'}", tmp_path / "cache")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"must hold train\*.parquet; got none"):
        load(f"parquet:{tmp_path / 'nothing'}", tmp_path / "cache")
    np.savez(tmp_path / "floats.npz", x_train=np.zeros((4, 8, 8)), y_train=np.zeros(4))
    with pytest.raises(DataError, match=r"x_train must be uint8 .* got float64 \[4, 8, 8\]"):
        load(f"npz:{tmp_path / 'floats.npz'}", tmp_path / "cache")
    np.savez(tmp_path / "objects.npz", x_train=np.array([object()]), y_train=np.zeros(1))
    with pytest.raises(DataError, match="plain arrays"):
        load(f"npz:{tmp_path / 'objects.npz'}", tmp_path / "cache")


def test_an_npz_archive_is_read_with_its_splits(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6)).astype(np.uint8)
    labels = np.arange(40) % 4
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels, x_validation=images[:8], y_validation=labels[:8])
    dataset, _ = load(f"npz:{tmp_path / 'own.npz'}", tmp_path / "cache")
    assert dataset.class_names == ("0", "1", "2", "3") and len(dataset.validation) == 8
    assert len(dataset.train) == 32 and len(dataset.load_test()) == 8


def test_subsets_are_of_the_size_asked_for_and_keep_the_classes_in_proportion(cache_dir) -> None:
    dataset, _ = load("digits", cache_dir, max_train_images=200, max_validation_images=50)
    assert len(dataset.train) == 200 and len(dataset.validation) == 50
    assert np.bincount(dataset.train.labels).min() >= 19
    images, labels = dataset.train.batch(np.array([3, 7]))
    assert images.shape == (2, 8, 8, 1) and labels.tolist() == dataset.train.labels[[3, 7]].tolist()


def test_staged_copies_are_found_by_name_and_the_command_line_wins(tmp_path, monkeypatch) -> None:
    (tmp_path / "data" / "cifar100").mkdir(parents=True)
    write_parquet(tmp_path / "data" / "cifar100" / "train.parquet", 20)
    make_folder(tmp_path / "data" / "kmnist", {"a": 5, "b": 5})
    np.savez(tmp_path / "data" / "own.npz", x_train=np.zeros((4, 2, 2), np.uint8), y_train=np.arange(4) % 2)
    (tmp_path / "data" / "readme.txt").write_text("not data")
    staged = staged_sources({"TUNER_DATA": str(tmp_path / "data")}, {"own": "digits"})
    assert staged["cifar100"] == f"parquet:{tmp_path / 'data' / 'cifar100'}"
    assert staged["kmnist"].startswith("folder:") and staged["own"] == "digits" and len(staged) == 3
    dataset, _ = load("cifar100", tmp_path / "cache", staged=staged)
    assert dataset.name == "cifar100" and dataset.class_names == ("a", "b")
    assert load("tfds:kmnist", tmp_path / "cache", staged=staged)[0].class_names == ("a", "b")
    check_source("own", staged)


def test_unknown_and_unreachable_sources_say_what_to_do(tmp_path, monkeypatch) -> None:
    with pytest.raises(
        DataError, match=r"unknown data source 'cifar1000'; did you mean 'cifar100'.*--data NAME=SOURCE"
    ):
        check_source("cifar1000", {})
    with pytest.raises(DataError, match="must name what to read after folder:"):
        check_source("folder:", {})
    with pytest.raises(DataError, match="must name a folder or file that exists"):
        load(f"folder:{tmp_path / 'nowhere'}", tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # as if it were not installed
    with pytest.raises(DataError, match=r"pip install 'tuner\[tfds\]'; or stage a copy with --data kmnist=SOURCE"):
        load("tfds:kmnist", tmp_path / "cache")


def test_a_data_set_that_cannot_be_fetched_says_how_to_stage_it(tmp_path) -> None:
    script = (
        "from pathlib import Path\nfrom tuner.datasets import *\n"
        "import socket\n"
        "def refuse(*_a, **_k): raise OSError('no network')\n"
        "socket.getaddrinfo = refuse\n"
        f"load_dataset(DataRequest('cifar10'), staged={{}}, seed=0, cache_dir=Path({str(tmp_path)!r}), notify=print)\n"
    )
    environment = {**os.environ, "KERAS_HOME": str(tmp_path / "keras")}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert "DataError: cifar10 cannot be fetched" in result.stderr and "--data cifar10=SOURCE" in result.stderr


TINY_TENSORFLOW_DATASET = """
import sys
from pathlib import Path
import numpy as np
import tensorflow_datasets as tfds
from tuner.datasets import DataRequest, load_dataset

class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        features = tfds.features.FeaturesDict({
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
            "id": tfds.features.Text(),
        })
        return tfds.core.DatasetInfo(builder=self, features=features)
    def _split_generators(self, download):
        return {"train": self._generate_examples(20), "test": self._generate_examples(6)}
    def _generate_examples(self, number):
        for index in range(number):
            yield str(index), {"image": np.full((4 + index % 2, 4, 3), index, np.uint8), "label": index % 2, "id": "x"}

class Words(Tiny):
    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()}))
    def _generate_examples(self, number):
        yield "0", {"text": "x"}

request = DataRequest(sys.argv[1], validation_fraction=0.2, image_px=4)
data = load_dataset(request, staged={}, seed=0, cache_dir=Path(sys.argv[2]), notify=print)
images, labels = data.train.batch(np.arange(len(data.train)))
right = (images[:, 0, 0, 0] % 2 == labels).all()
print(data.class_names, data.image_shape, len(data.validation), len(data.load_test()), right)
"""


@pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow_datasets"), reason="the extra tuner[tfds] is not installed"
)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tiny", "('a', 'b') (4, 4, 3) 4 6 True"),
        ("words", "DataError: tfds:words must have an image and a label for each example; it has text"),
        ("tinny", "DataError: tfds:tinny cannot be prepared (Dataset tinny not found"),
    ],
)
def test_tensorflow_datasets_are_read_whatever_the_sizes_of_their_images(name, words, tmp_path) -> None:
    environment = {**os.environ, "TFDS_DATA_DIR": str(tmp_path / "tfds"), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", TINY_TENSORFLOW_DATASET, f"tfds:{name}", str(tmp_path / "cache")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=Path.cwd())
    assert words in result.stdout + result.stderr


def test_sources_are_known_by_the_names_of_the_documentation() -> None:
    assert sorted(NAMED) == ["cifar10", "cifar100", "digits", "fashion_mnist", "mnist"]
    assert sorted(PREFIXED) == ["folder", "npz", "parquet", "tfds"]
    with pytest.raises(DataError, match="unknown data source 'foldr:'; did you mean 'folder:'"):
        check_source("foldr:images", {})


def test_the_light_part_of_the_program_can_import_data_sets_without_their_libraries() -> None:
    script = (
        "import sys, tuner.datasets; print({'keras', 'tensorflow', 'sklearn', 'PIL', 'pyarrow'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"source": " "}, "data.source must name a data set; got ' '"),
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


# --- staged copies ---


def test_a_staged_copy_may_be_given_as_a_path_of_any_kind(tmp_path) -> None:
    make_folder(tmp_path / "classes", {"a": 5, "b": 5})
    (tmp_path / "hub" / "data").mkdir(parents=True)
    write_parquet(tmp_path / "hub" / "data" / "train.parquet", 20)
    (tmp_path / "archive").mkdir()
    np.savez(tmp_path / "archive" / "own.npz", **ARRAYS)
    paths = {"p": "classes", "q": "hub", "r": "archive", "s": "hub/data/train.parquet", "t": "archive/own.npz"}
    staged = staged_sources({}, {name: str(tmp_path / path) for name, path in paths.items()})
    assert staged == {
        "p": f"folder:{tmp_path / 'classes'}",
        "q": f"parquet:{tmp_path / 'hub'}",
        "r": f"npz:{tmp_path / 'archive' / 'own.npz'}",
        "s": f"parquet:{tmp_path / 'hub' / 'data' / 'train.parquet'}",
        "t": f"npz:{tmp_path / 'archive' / 'own.npz'}",
    }
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"the staged copy of mine must be Parquet files, one .npz or class folders; "):
        staged_sources({}, {"mine": str(tmp_path / "empty")})
    with pytest.raises(DataError, match=r"unknown data source '.*nowhere'"):
        check_source("mine", staged_sources({}, {"mine": str(tmp_path / "nowhere")}))


def test_of_several_folders_of_staged_copies_the_first_wins_and_each_must_exist(tmp_path) -> None:
    for place in ("one", "two"):
        make_folder(tmp_path / place / "pets", {"a": 2, "b": 2})
    make_folder(tmp_path / "two" / "more", {"a": 2, "b": 2})
    both = os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two")])
    staged = staged_sources({"TUNER_DATA": both}, {})
    assert staged == {"pets": f"folder:{tmp_path / 'one' / 'pets'}", "more": f"folder:{tmp_path / 'two' / 'more'}"}
    with pytest.raises(DataError, match=r"TUNER_DATA must name folders that can be read; got .*three"):
        staged_sources({"TUNER_DATA": str(tmp_path / "three")}, {})


# --- splits and subsets ---

some_labels = st.lists(st.integers(1, 60), min_size=2, max_size=8).map(
    lambda numbers: np.repeat(np.arange(len(numbers)), numbers)
)


@given(labels=some_labels, seed=st.integers(0, 99), data=st.data())
def test_a_subset_has_every_class_nearly_in_proportion_and_lies_in_every_larger_one(labels, seed, data) -> None:
    classes = labels.max() + 1
    number = data.draw(st.integers(int(classes), len(labels)))
    taken = subset_stratified(labels, number, seed, "data.max_train_images")
    assert len(taken) == number == len(np.unique(taken)) and (np.diff(taken) > 0).all()
    found, all_of_them = np.bincount(labels[taken], minlength=classes), np.bincount(labels)
    assert found.min() >= 1
    share = found / all_of_them  # the k-th of n stands at k/n, so that no class is more than one image ahead
    assert ((found - 1) / all_of_them).max() <= share.min()
    larger = subset_stratified(labels, data.draw(st.integers(number, len(labels))), seed, "data.max_train_images")
    assert set(taken) <= set(larger)


def test_a_subset_smaller_than_the_number_of_classes_is_refused(cache_dir) -> None:
    with pytest.raises(DataError, match=r"data.max_train_images must be at least the number of classes, 10; got 9"):
        load("digits", cache_dir, max_train_images=9)


@given(labels=some_labels.filter(lambda labels: np.bincount(labels).min() >= 10), seed=st.integers(0, 99))
def test_a_split_parts_all_rows_and_every_class_in_proportion(labels, seed) -> None:
    names = tuple(str(label) for label in range(labels.max() + 1))
    kept, held = split_stratified(labels, 0.2, seed, names, "mine")
    assert sorted([*kept, *held]) == list(range(len(labels))) and (np.diff(kept) > 0).all()
    assert (np.abs(np.bincount(labels[held]) - 0.2 * np.bincount(labels)) <= 1).all()


def test_a_stratified_split_is_refused_when_it_would_leave_out_a_class() -> None:
    labels = np.repeat(np.arange(10), 4)
    with pytest.raises(DataError, match=r"40 images of 10 classes cannot be split by 0.1"):
        split_stratified(labels, 0.1, 0, tuple("abcdefghij"), "mine")


def test_all_of_cifar_100_is_prepared_from_parquet(tmp_path) -> None:
    staged = staged_sources(os.environ, {})
    if "cifar100" not in staged:
        pytest.skip("TUNER_DATA names no folder with cifar100/train.parquet")
    dataset, _ = load("cifar100", tmp_path / "cache", staged=staged, validation_fraction=0.1)
    assert dataset.image_shape == (32, 32, 3) and len(dataset.class_names) == 100
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (45_000, 5_000, 10_000)
    assert np.bincount(dataset.validation.labels).tolist() == [50] * 100
