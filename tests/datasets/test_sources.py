"""Sources: Parquet, numpy archives, TensorFlow Datasets, and what cannot be reached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support import needs
from tests.support.make_data import ARRAYS, encoded, load, write_parquet
from tuner.common.errors import DataError
from tuner.datasets.request import check_source
from tuner.datasets.sources import NAMED, PREFIXED


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


def test_a_file_of_many_may_be_without_rows_whatever_labels_are(tmp_path) -> None:
    write_parquet(tmp_path / "train-0.parquet", 20, (), label=["cat", "dog"] * 10)
    parquet.write_table(parquet.read_table(tmp_path / "train-0.parquet").slice(0, 0), tmp_path / "train-1.parquet")
    dataset, _ = load(f"parquet:{tmp_path}", tmp_path / "cache")
    assert dataset.class_names == ("cat", "dog") and dataset.prepared.counts == {"train": 20}


def test_images_of_a_file_without_weights_weigh_one_beside_others_that_have_some(tmp_path) -> None:
    write_parquet(tmp_path / "train.parquet", 20, weight=[2.5] * 20)
    write_parquet(tmp_path / "test.parquet", 4, first=20)
    dataset, _ = load(f"parquet:{tmp_path}", tmp_path / "cache")
    assert (dataset.train.weights == 2.5).all() and (dataset.load_test().weights == 1).all()


@pytest.mark.parametrize("text", [pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
@pytest.mark.parametrize("binary", [pa.binary_view(), pa.large_binary()])
def test_texts_and_bytes_in_parquet_are_of_any_kind(text, binary, tmp_path) -> None:
    columns = {"image": pa.array([encoded(index) for index in range(20)], binary)}
    write_parquet(tmp_path / "train.parquet", 20, (), **columns, label=pa.array(["cat", "dog"] * 10, text))
    dataset, _ = load(f"parquet:{tmp_path}", tmp_path / "cache")
    assert dataset.class_names == ("cat", "dog") and dataset.prepared.counts == {"train": 20}


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
        (
            ("a", "b"),
            {"label": [0.5] * 8},
            "label must be a whole number or a text in every row; got double with 0 missing",
        ),
        (
            ("a", "b"),
            {"label": [0, None] * 4},
            "label must be a whole number or a text in every row; got int64 with 4 missing",
        ),
        (("a", "b"), {"label": ["cat", "dog"] * 4}, r"labels must be names of classes \(a, b\); got cat, dog"),
        (("a", "b"), {"label": [0, 2] * 4}, "train labels must be 0 to 1; got 2"),
        (("a", "b"), {"label": [0, -1] * 4}, "train labels must be 0 to 1; got -1"),
        (("a", "a"), {}, "class names must be different; got a more than once"),
        (("a",), {"label": [0] * 8}, "must have at least two classes; got a"),
        (
            ("a", "b"),
            {"label": ["a", None] * 4},
            "label must be a whole number or a text in every row; got string with 4",
        ),
        (
            (),
            {"label": ["a", "b", "a", " "] * 2},
            r"labels must name a class; that of image 3 of train is empty \(and 1 more\)",
        ),
        (
            ("a", "b"),
            {"image": [{"bytes": None, "path": "/x/1.png"}] * 8},
            "its rows hold paths such as '/x/1.png', and no",
        ),
        ((), {"label": [0, 10**9] * 4}, "without gaps; got 2 different ones from 0 to 1000000000"),
        (
            ("a", "b"),
            {"image": [1] * 8},
            r"must have the columns image \(a struct of bytes and path, or a path\) and label",
        ),
    ],
)
def test_parquet_columns_that_are_no_data_set_are_refused(names, columns, words, tmp_path) -> None:
    write_parquet(tmp_path / "train.parquet", 8, names, **columns)
    with pytest.raises(DataError, match=words):
        load(f"parquet:{tmp_path}", tmp_path / "cache")


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_a_split_whose_labels_are_all_empty_texts_has_none(kind, tmp_path) -> None:
    labels, none = ["cat", "dog"] * 10, [""] * 4
    if kind == "parquet":
        write_parquet(tmp_path / "train.parquet", 20, (), label=labels)
        write_parquet(tmp_path / "test.parquet", 4, (), label=none)
    else:
        x = np.arange(24 * 16, dtype=np.int64).astype(np.uint8).reshape(24, 4, 4)
        np.savez(tmp_path / "own.npz", x_train=x[:20], y_train=labels, x_test=x[20:], y_test=none)
    source = f"{kind}:{tmp_path / 'own.npz' if kind == 'npz' else tmp_path}"
    dataset, said = load(source, tmp_path / "cache")
    assert dataset.class_names == ("cat", "dog") and dataset.test_rows is not None
    assert any("4 images of test not used: their labels are withheld" in notice for notice in said)


@pytest.mark.parametrize("kind", ["int", "float", "text", "empty", "dictionary", "files"])
def test_rows_that_a_column_puts_into_the_test_split_may_withhold_their_labels(kind, tmp_path) -> None:
    split = ["train", "test", "val"] * 10
    texts = [None if where == "test" else ["cat", "dog"][index % 2] for index, where in enumerate(split)]
    numbers = [None if text is None else int(text == "dog") for text in texts]
    labels = {
        "int": pa.array(numbers, pa.int64()),
        "float": pa.array(numbers, pa.float64()),
        "empty": pa.array([text or "" for text in texts]),
        "dictionary": pa.array(texts).dictionary_encode(),
    }.get(kind, pa.array(texts))
    write_parquet(tmp_path / "own.parquet", 30, (), split=split, label=labels)
    if kind == "files":  # one has no label at all
        table = parquet.read_table(tmp_path / "own.parquet")
        order = sorted(range(30), key=lambda row: split[row] == "test")
        for number, rows in enumerate((order[:20], order[20:])):
            parquet.write_table(table.take(rows), tmp_path / f"own-{number}.parquet")
        (tmp_path / "own.parquet").unlink()
    dataset, said = load(f"parquet:{tmp_path}", tmp_path / "cache")
    assert dataset.prepared.counts == {"train": 10, "validation": 10}
    assert dataset.class_names == (("0", "1") if kind in ("int", "float") else ("cat", "dog"))
    assert any("10 images of test not used: their labels are withheld" in notice for notice in said)
    images, found = dataset.validation.batch(np.arange(10))
    assert (images[:, 0, 0, 0] % 2 == found).all()


def test_labels_that_lack_in_rows_to_train_on_are_refused_whatever_a_column_says_of_others(tmp_path) -> None:
    write_parquet(tmp_path / "own.parquet", 8, (), split=["train", "test"] * 4, label=[None, None, 1, 0] * 2)
    with pytest.raises(
        DataError, match="label must be a whole number or a text in every row; got int64 with 2 missing"
    ):
        load(f"parquet:{tmp_path}", tmp_path / "cache")


def test_parquet_files_that_disagree_about_the_classes_are_refused(tmp_path) -> None:
    write_parquet(tmp_path / "train.parquet", 8, ("a", "b"))
    write_parquet(tmp_path / "test.parquet", 8, ("b", "a"))
    with pytest.raises(DataError, match=r"test\.parquet: must have the classes of the other files; got b, a"):
        load(f"parquet:{tmp_path}", tmp_path / "cache")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y_train": np.arange(8) / 2}, "y_train must be whole numbers or texts; got float64"),
        ({"y_train": np.eye(8, 2, dtype=np.int64)}, "y_train must have one label for each image, or rows"),
        ({"x_train": np.zeros((8, 4, 4, 4), np.uint8)}, r"\[N, H, W, 1 or 3\] .* got uint8 \[8, 4, 4, 4\]"),
        ({"x_train": np.zeros((8, 0, 4), np.uint8)}, "images of at least one pixel"),
        ({"y_test": np.zeros(2, int)}, "must hold x_test and y_test; got x_train, y_train, y_test"),
        (
            {"class_names": np.array(["a", "b"], dtype=object)},
            r"save it without objects: texts as np.array\(texts, dtype=str\)",
        ),
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
    np.savez(tmp_path / "floats.npz", x_train=np.zeros((4, 8, 8)), y_train=np.zeros(4, int))
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


X, Y = np.arange(24, dtype=np.uint8).repeat(16).reshape(24, 4, 4), np.arange(24) % 3
V, T = X[:6] + np.uint8(100), X[:9] + np.uint8(200)
NPZ = {
    "MedMNIST": {"train_images": X, "train_labels": Y[:, None], "val_images": V, "val_labels": Y[:6, None], "test_images": T, "test_labels": Y[:9, None]},
    "capitals": {"X_train": X, "Y_train": Y, "X_val": V, "Y_val": Y[:6], "X_test": T, "Y_test": Y[:9]},
    "valid": {"x_train": X, "y_train": Y, "x_valid": V, "y_valid": Y[:6], "xTest": T, "yTest": Y[:9]},
    "the other way round": {"trainX": X, "trainY": Y, "valX": V, "valY": Y[:6], "testX": T, "testY": Y[:9]},
    "images and labels": {"images_train": X, "labels_train": Y, "images_validation": V, "labels_validation": Y[:6], "images_test": T, "labels_test": Y[:9]},
    "data and targets": {"train_data": X, "train_targets": Y, "dev_data": V, "dev_targets": Y[:6], "test_data": T, "test_targets": Y[:9]},
    "abbreviated": {"X_tr": X, "y_tr": Y, "X_va": V, "y_va": Y[:6], "X_te": T, "y_te": Y[:9]},
    "MNIST's files": {"train-images": X, "train-labels": Y, "val-images": V, "val-labels": Y[:6], "t10k-images": T, "t10k-labels": Y[:9]},
    "whole floats": {"x_train": X, "y_train": Y.astype(float), "x_val": V, "y_val": Y[:6].astype(np.float16), "x_test": T, "y_test": Y[:9].astype(np.uint64)},
    "one-hot": {"x_train": X, "y_train": np.eye(3)[Y], "x_val": V, "y_val": np.eye(3, dtype=bool)[Y[:6]], "x_test": T, "y_test": Y[:9]},
    "texts": {"x_train": X, "y_train": np.array(["0", "1", "2"])[Y], "x_val": V, "y_val": np.array(["0", "1", "2"])[Y[:6]], "x_test": T, "y_test": np.array([b"0", b"1", b"2"])[Y[:9]]},
}  # fmt: skip


@pytest.mark.parametrize("name", NPZ)
def test_archives_are_read_by_any_usual_names_of_their_arrays(name, tmp_path) -> None:
    np.savez(tmp_path / "own.npz", **NPZ[name])
    dataset, said = load(f"npz:{tmp_path / 'own.npz'}", tmp_path / "cache")
    assert dataset.class_names == ("0", "1", "2") and not said
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (24, 6, 9)
    assert (dataset.train.images[:, 0, 0, 0] % 3 == dataset.train.labels).all()


@pytest.mark.parametrize(
    ("arrays", "names", "said"),
    [
        ({"images": X, "labels": Y}, ("0", "1", "2"), []),
        ({"x_train": X, "y_train": Y, "class_names": np.array([b"cat", "dœg".encode(), b"fox"])}, ("cat", "dœg", "fox"), []),
        ({"x_train": X, "y_train": Y, "label_names": np.array(["cat", "dog", "fox"])}, ("cat", "dog", "fox"), []),
        ({"x_train": X, "y_train": np.array(["fox", "cat"])[Y % 2]}, ("cat", "fox"), []),
        ({"x_train": X, "y_train": Y % 2 == 1}, ("0", "1"), []),
        ({"x_train": X, "y_train": np.array(["cat", "Cat "])[Y % 2]}, ("Cat ", "cat"), ["own.npz: classes of their own, though their names are alike: Cat , cat"]),
        ({"x_train": X, "y_train": np.array(["a", "A"])[Y % 2]}, ("A", "a"), []),
        ({"x_train": X, "y_train": Y, "x_test": X[:6]}, ("0", "1", "2"), ["own.npz: 6 images of x_test not used: without labels"]),
        ({"x_train": X, "y_train": Y, "ids": Y, "mask": X}, ("0", "1", "2"), ["own.npz: arrays not used: ids, mask"]),
        ({"x_train": X, "y_train": Y, "x_test": X[:6], "y_test": np.full(6, -1)}, ("0", "1", "2"), ["own.npz: 6 images of test not used: their labels are withheld"]),
        ({"x_train": X, "y_train": Y % 2, "class_names": np.array(["cat", "dog", "fox"])}, ("cat", "dog"), ["own.npz: 1 of 3 classes left out, for no image is of them: fox"]),
        ({"x_train": X, "y_train": 2 - 2 * (Y % 2), "class_names": np.array(["cat", "dog", "fox"])}, ("cat", "fox"), ["own.npz: 1 of 3 classes left out, for no image is of them: dog"]),
    ],
)  # fmt: skip
def test_what_an_archive_holds_beside_its_splits_is_understood_or_said(arrays, names, said, tmp_path) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    dataset, heard = load(f"npz:{tmp_path / 'own.npz'}", tmp_path / "cache")
    assert dataset.class_names == names and len(dataset.load_test()) == 5
    assert [text.replace(f"{tmp_path}/", "").removeprefix("npz:") for text in heard] == said
    assert set(dataset.train.labels.tolist()) == set(range(len(names)))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_train": X, "y_train": Y, "X_train": X}, "must hold one of x_train and X_train, which mean the same"),
        ({"weights": Y, "bias": Y}, "must hold x_train and y_train; got weights, bias"),
        ({"x_train": X, "y_train": np.eye(3)[Y] * 0.5}, "y_train must have one label for each image, or rows with one 1"),
        ({"x_train": X, "y_train": np.ones((24, 3), int)}, "y_train must have one label for each image, or rows with one 1"),
        ({"x_train": X, "y_train": Y % 2, "x_test": X, "y_test": Y}, "every class must have training images; there is none of 2"),
        ({"x_train": X, "y_train": np.array(["a", "b", "c"])[Y], "class_names": np.array(["a", "b"])}, r"labels must be names of classes \(a, b\); got c"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": np.where(Y, Y, -1)}, "test labels must be 0 to 2; got -1"),
    ],
)  # fmt: skip
def test_archives_that_can_be_understood_in_two_ways_are_refused(arrays, words, tmp_path) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=words):
        load(f"npz:{tmp_path / 'own.npz'}", tmp_path / "cache")


def write_all(root: Path, files: dict[str, int]) -> Path:
    first = 0
    for name, number in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(root / name, number, first=first)
        first += number
    return root


@pytest.mark.parametrize(
    ("files", "sizes"),
    [
        ({"default/train/0000.parquet": 20, "default/test/0000.parquet": 6}, (15, 5, 6)),
        ({"default/train/0000.parquet": 10, "default/train/0001.parquet": 10, "default/test/0000.parquet": 6}, (15, 5, 6)),
        ({"default/partial-train/0000.parquet": 20, "default/validation/0.parquet": 4, "default/test/0.parquet": 6}, (20, 4, 6)),
        ({"data/train-00000-of-00001.parquet": 20, "data/test-00000-of-00001.parquet": 6}, (15, 5, 6)),
        ({"data/train-0.parquet": 20, "data/test-0.parquet": 6, "data/.ipynb_checkpoints/train-0-checkpoint.parquet": 20}, (15, 5, 6)),
        ({"data/train-0.parquet": 20, "data/test-0.parquet": 6, "data/._train-0.parquet": 20, "__MACOSX/train.parquet": 3}, (15, 5, 6)),
        ({"split=train/part-0.parquet": 20, "split=test/part-0.parquet": 6}, (15, 5, 6)),
        ({"cifar_train.parquet": 20, "cifar_val.parquet": 4, "cifar_test.parquet": 6}, (20, 4, 6)),
        ({"part-0.parquet": 10, "part-1.parquet": 10}, (12, 4, 4)),
    ],
)  # fmt: skip
def test_splits_of_parquet_are_told_by_the_names_of_files_or_folders_and_copies_are_left_out(
    files, sizes, tmp_path
) -> None:
    dataset, said = load(f"parquet:{write_all(tmp_path / 'hub', files)}", tmp_path / "cache")
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == sizes and not said


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"data/train-0.parquet": 8, "default/train/0000.parquet": 8}, "must hold its splits in one folder; got data, default: name one of them"),
        ({"large/train/0.parquet": 8, "small/train/0.parquet": 8}, "must hold its splits in one folder; got large, small"),
        ({"test.parquet": 8}, r"must hold train\*.parquet; got test.parquet"),
    ],
)  # fmt: skip
def test_parquet_that_may_be_read_twice_or_lacks_training_images_is_refused(files, words, tmp_path) -> None:
    with pytest.raises(DataError, match=words):
        load(f"parquet:{write_all(tmp_path / 'hub', files)}", tmp_path / "cache")


def test_what_lies_beside_parquet_files_is_said_and_so_are_labels_that_are_withheld(tmp_path) -> None:
    hub = write_all(tmp_path / "hub", {"train.parquet": 20, "other.parquet": 8})
    write_parquet(hub / "validation.parquet", 4, label=[-1] * 4)
    table = parquet.read_table(hub / "other.parquet")
    parquet.write_table(table.drop_columns(["label"]), hub / "test.parquet")
    (hub / "README.md").write_text("x")
    dataset, said = load(f"parquet:{hub}", tmp_path / "cache")
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (12, 4, 4)
    assert said == [
        f"{hub}: not used: 1 .md file (README.md); 1 file named after no split (other.parquet)",
        f"parquet:{hub}: 8 images of test not used: their labels are withheld",
        f"parquet:{hub}: 4 images of validation not used: their labels are withheld",
    ]


@pytest.mark.parametrize("labels", [[1.0, 0.0] * 10, [True, False] * 10, [1, 0] * 10])
def test_parquet_labels_are_whole_numbers_of_whatever_type(labels, tmp_path) -> None:
    write_parquet(tmp_path / "train.parquet", 20, label=labels)
    dataset, said = load(f"parquet:{tmp_path / 'train.parquet'}", tmp_path / "cache")
    assert dataset.class_names == ("a", "b") and not said
    images, found = dataset.train.batch(np.arange(len(dataset.train)))
    assert (images[:, 0, 0, 0] % 2 == 1 - found).all()


@pytest.mark.parametrize("kind", ["text", "bytes", "dictionary", "names", "unused"])
def test_parquet_labels_may_be_texts_and_classes_without_images_are_left_out(kind, tmp_path) -> None:
    labels = ["dog", "cat"] * 10
    columns = {"text": {"label": labels}, "dictionary": {"label": pa.array(labels).dictionary_encode()}}
    columns |= {"bytes": {"label": [text.encode() for text in labels]}}
    columns |= {"names": {"label": labels}, "unused": {"label": [2, 1] * 10}}
    names = {"names": ("dog", "cat"), "unused": ("ant", "cat", "dog")}.get(kind, ())
    write_parquet(tmp_path / "train.parquet", 20, names, **columns[kind])
    dataset, said = load(f"parquet:{tmp_path / 'train.parquet'}", tmp_path / "cache")
    assert dataset.class_names == (("dog", "cat") if kind == "names" else ("cat", "dog"))
    right = ["dog", "cat"]
    images, found = dataset.train.batch(np.arange(len(dataset.train)))
    assert [dataset.class_names[label] for label in found] == [right[value % 2] for value in images[:, 0, 0, 0]]
    assert bool(said) == (kind == "unused")


@pytest.mark.parametrize("form", ["struct", "path", "bytes"])
def test_rows_may_hold_bytes_or_paths_of_images_that_lie_below_the_folder(form, tmp_path) -> None:
    (tmp_path / "hub" / "pictures").mkdir(parents=True)
    for index in range(20):
        (tmp_path / "hub" / "pictures" / f"{index}.png").write_bytes(encoded(index))
    paths = [f"pictures/{index}.png" for index in range(20)]
    struct = [{"bytes": None, "path": path} for path in paths]
    image = {"struct": struct, "path": paths, "bytes": [encoded(index) for index in range(20)]}[form]
    write_parquet(tmp_path / "hub" / "train.parquet", 20, image=image)
    dataset, _ = load(f"parquet:{tmp_path / 'hub'}", tmp_path / "cache")
    images, labels = dataset.train.batch(np.arange(len(dataset.train)))
    assert (images[:, 0, 0, 0] % 2 == labels).all() and len(labels) == 12


def test_unknown_and_unreachable_sources_say_what_to_do(tmp_path, monkeypatch) -> None:
    with pytest.raises(
        DataError, match=r"unknown data source 'cifar1000'; did you mean 'cifar100'.*--data NAME=SOURCE"
    ):
        check_source("cifar1000", {})
    (tmp_path / "Pets" / "cat").mkdir(parents=True)
    (tmp_path / "pets.zip").touch()
    monkeypatch.chdir(tmp_path)
    for source, words in {
        "Pets": r"unknown data source 'Pets'; did you mean 'folder:Pets'\?",
        "./Pets/": r"did you mean 'folder:\./Pets/'\?",
        "folder:pets": r"pets does not; did you mean 'Pets'\?",
        "folder: Pets": r"does not; did you mean 'Pets'\?",
        "folder:$HOME/pets": "pets does not; of it, .* does$",
        "folder:pets.zip": "must be a folder of class folders; .*pets.zip is a file: unpack it",
    }.items():
        with pytest.raises(DataError, match=words):
            load(source, tmp_path / "cache")
    with pytest.raises(DataError, match="must name what to read after folder:"):
        check_source("folder:", {})
    with pytest.raises(DataError, match="must name a folder or file that exists"):
        load(f"folder:{tmp_path / 'nowhere'}", tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # as if it were not installed
    with pytest.raises(DataError, match=r"pip install tensorflow-datasets; or stage a copy with --data kmnist=SOURCE"):
        load("tfds:kmnist", tmp_path / "cache")


def test_a_data_set_that_cannot_be_fetched_says_how_to_stage_it(tmp_path) -> None:
    script = (
        "from pathlib import Path\nfrom tuner.datasets.loading import *\nfrom tuner.datasets.request import *\n"
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
from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest

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
    assert sorted(PREFIXED) == ["csv", "folder", "jsonl", "npz", "parquet", "tfds"]
    with pytest.raises(DataError, match="unknown data source 'foldr:'; did you mean 'folder:'"):
        check_source("foldr:images", {})


def test_the_light_part_of_the_program_can_import_data_sets_without_their_libraries() -> None:
    libraries = "{'keras', 'tensorflow', 'sklearn', 'PIL', 'pyarrow'}"
    script = f"import sys, tuner.datasets.loading; print({libraries} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_all_of_cifar_100_is_prepared_from_parquet(cache_dir) -> None:
    staged = needs.staged_images("cifar100")
    dataset, _ = load("cifar100", cache_dir, staged=staged, validation_fraction=0.1)
    assert dataset.image_shape == (32, 32, 3) and len(dataset.class_names) == 100
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (45_000, 5_000, 10_000)
    assert np.bincount(dataset.validation.labels).tolist() == [50] * 100
