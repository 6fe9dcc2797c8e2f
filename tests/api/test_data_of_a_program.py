"""Arrays and tables of a program become a source by their content, or are refused in words of the program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from tests.support.make_data import encoded, images_of, load, make_folder, picture
from tuner.api._data import as_bytes, source_of
from tuner.common.errors import DataError
from tuner.datasets.request import DataRequest, list_images

GREY = (np.arange(12 * 6 * 6).reshape(12, 6, 6) % 256).astype(np.uint8)
LABELS = np.arange(12) % 3
TEXTS = np.array(["cat", "dog", "eel"])[LABELS]


def listed(source: str) -> Any:
    return list_images(DataRequest(source), source)


def pixels_of(data: Any, cache: Path, split: str = "train") -> np.ndarray:
    return listed(source_of(data, cache)).splits[split].pixels


# --- arrays ---


@pytest.mark.parametrize(
    ("images", "same"),
    [
        (GREY, GREY),
        (GREY[..., None], GREY[..., None]),
        (np.stack([GREY] * 3, axis=-1), np.stack([GREY] * 3, axis=-1)),
        (GREY.astype(np.int64), GREY),
        (GREY.astype(np.float32), GREY),
        (np.minimum(GREY + 0.2, 255.0), GREY),
        (GREY / 255, GREY),
        ((GREY / 255).astype(np.float16), GREY),
        (GREY > 100, np.where(GREY > 100, 255, 0)),
        (GREY.tolist(), GREY),
        (GREY[:, ::-1], GREY[:, ::-1]),
        (GREY // 20, GREY // 20),
    ],
    ids=lambda value: "",
)
def test_images_of_every_usual_form_are_the_same_bytes(images: Any, same: np.ndarray, tmp_path: Path) -> None:
    found = pixels_of((images, LABELS), tmp_path)
    assert found.dtype == np.uint8 and np.array_equal(found, same)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS, "012"),
        (LABELS.tolist(), "012"),
        (LABELS[:, None], "012"),
        (LABELS.astype(np.float32), "012"),
        (LABELS.astype(np.uint8), "012"),
        (np.eye(3)[LABELS], "012"),
        (np.eye(3, dtype=bool)[LABELS], "012"),
        (LABELS > 0, "01"),
        (TEXTS, ("cat", "dog", "eel")),
        (TEXTS.astype(object), ("cat", "dog", "eel")),
        (list(TEXTS), ("cat", "dog", "eel")),
        (TEXTS.astype("S"), ("cat", "dog", "eel")),
        (pd.Series(TEXTS), ("cat", "dog", "eel")),
        (pd.Series(TEXTS, dtype="category"), ("cat", "dog", "eel")),
        (pd.Series(LABELS, dtype="Int64"), "012"),
        (pa.array(LABELS), "012"),
    ],
    ids=lambda value: "",
)
def test_labels_of_every_usual_form_are_classes(labels: Any, names: Any, tmp_path: Path) -> None:
    assert tuple(listed(source_of((GREY, labels), tmp_path)).class_names) == tuple(names)


@pytest.mark.parametrize(
    "data",
    [
        ((GREY, LABELS), (GREY[:6], LABELS[:6])),
        [(GREY, LABELS), (GREY[:6], LABELS[:6])],
        {"test": (GREY[:6], LABELS[:6]), "train": (GREY, LABELS)},
    ],
    ids=["tuples", "lists", "names"],
)
def test_training_and_test_are_splits(data: Any, tmp_path: Path) -> None:
    found = listed(source_of(data, tmp_path)).splits
    assert {name: len(split.labels) for name, split in found.items()} == {"train": 12, "test": 6}


@pytest.mark.parametrize("white", [1, 255])
def test_some_images_may_be_dark_or_black_whatever_the_range_of_all(white: int, tmp_path: Path) -> None:
    dark, black = GREY[1:2] // 3, np.zeros((1, 6, 6), np.uint8)
    parts = [GREY, dark, black]
    found = as_bytes({f"image {row}": part * (white / 255) for row, part in enumerate(parts)})
    assert [part.tolist() for part in found] == [part.tolist() for part in parts]
    assert 1 < dark.max() < 128 and as_bytes({"images": black * 1.0})[0].tolist() == black.tolist()
    whole = as_bytes({"a": GREY.astype(np.int64), "b": dark.astype(np.int64)})
    assert [part.tolist() for part in whole] == [GREY.tolist(), dark.tolist()]


def test_masks_beside_bytes_are_refused_for_they_may_be_black_and_white() -> None:
    with pytest.raises(DataError, match="masks"):
        as_bytes({"images": GREY, "masks": GREY > 100})


def test_two_images_with_two_labels_are_a_pair_and_no_splits(tmp_path: Path) -> None:
    assert len(pixels_of(([GREY[0], GREY[1]], [0, 1]), tmp_path)) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((GREY.reshape(12, 36), LABELS), ["images of train", "[N, height, width]", "[12, 36]", "reshape"]),
        ((np.zeros((12, 3, 6, 6), np.uint8), LABELS), ["[12, 3, 6, 6]", "np.moveaxis"]),
        ((np.zeros((12, 6, 6, 4), np.uint8), LABELS), ["[12, 6, 6, 4]", "[..., :3]"]),
        ((np.zeros((12, 0, 6), np.uint8), LABELS), ["[12, 0, 6]"]),
        ((np.zeros((12, 6, 3), np.uint8), LABELS), ["[12, 6, 3]", "one image in colour is images[None]"]),
        ((np.zeros((0, 6, 6), np.uint8), LABELS[:0]), ["[0, 6, 6]"]),
        ((GREY[:11], LABELS), ["11 images", "12 labels"]),
        ((GREY.astype(float) - 300, LABELS), ["0 to 255", "-300 to"]),
        ((GREY.astype(float) * 4, LABELS), ["0 to 255", "float64 of 0 to 1020"]),
        ((GREY.astype(float) / 16, LABELS), ["0 to 255, or fractions of 0 to 1", "0 to 15.9375", "astype('uint8')"]),
        ((GREY.astype(np.uint16) * 200, LABELS), ["uint16 of 0 to 51000"]),
        ((GREY / 127.5 - 1, LABELS), ["-1 to 1"]),
        ((np.where(GREY == 5, np.nan, GREY / 255), LABELS), ["finite", "are not"]),
        ((TEXTS, LABELS), ["one array of numbers", "<U3"]),
        (([GREY[0], GREY[0][:3]], [0, 1]), ["one array of numbers", "different sizes"]),
        ((GREY, LABELS + 0.5), ["the labels of train must be whole numbers or texts", "float64"]),
        ((GREY, np.where(LABELS == 0, np.nan, 1.0)), ["4 that are missing"]),
        ((GREY, [None, *TEXTS[1:]]), ["image 0 is missing"]),
        ((GREY, ["cat", 1] * 6), ["all be whole numbers, or all texts", "int and str"]),
        ((GREY, np.ones((12, 3))), ["one for each image, or rows of zeros with one 1", "[12, 3]"]),
        ((GREY,), ["(images, labels)", "1 parts"]),
        ((GREY, LABELS, LABELS), ["(images, labels)", "3 parts"]),
        (GREY, ["arrays (images, labels)", "numpy.ndarray"]),
        ({"training": (GREY, LABELS)}, ["train, test, validation", "training"]),
        ({"train": GREY}, ["(images, labels)"]),
        (((GREY, LABELS), (GREY, TEXTS)), ["labels of one kind", "numbers for train, texts for test"]),
        (((GREY / 255, LABELS), (GREY.astype(float), LABELS)), ["the images of train", "0 to 1"]),
        (7, ["a source such as 'folder:photos'", "int"]),
    ],
    ids=lambda value: "",
)
def test_what_is_wrong_is_refused_in_words_of_the_program(data: Any, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        source_of(data, tmp_path)
    assert all(word in str(refused.value) for word in words), refused.value
    assert len(refused.value.lines()) == 1 and not list(tmp_path.rglob("*.npz"))


def test_the_same_arrays_are_the_same_data_even_when_the_cache_was_removed(tmp_path: Path) -> None:
    first = source_of((GREY, LABELS), tmp_path / "cache")
    before, _ = load(first, tmp_path / "prepared")
    Path(first.removeprefix("npz:")).unlink()
    assert source_of((GREY.tolist(), LABELS.tolist()), tmp_path / "cache") == first
    after, _ = load(first, tmp_path / "prepared")
    assert after.prepared.path == before.prepared.path
    assert source_of((GREY, LABELS[::-1]), tmp_path / "cache") != first


def test_a_source_stays_as_it_is_written(tmp_path: Path) -> None:
    assert source_of("folder:photos", tmp_path) == "folder:photos"
    assert source_of(Path("photos"), tmp_path) == "photos"


# --- tables ---


def rows(tmp_path: Path) -> dict[str, list[Any]]:
    make_folder(tmp_path / "photos", {"cat": 6, "dog": 6})
    files = sorted((tmp_path / "photos").rglob("*.png"))
    return {"path": [str(file) for file in files], "label": [file.parent.name for file in files]}


@pytest.mark.parametrize("form", ["pandas", "arrow", "bytes", "paths", "pillow", "hub"])
def test_a_table_of_images_is_the_folder_that_it_was_made_from(form: str, tmp_path: Path) -> None:
    table = rows(tmp_path)
    content = [Path(path).read_bytes() for path in table["path"]]
    own: dict[str, list[Any]] = {
        "bytes": content,
        "paths": [Path(path) for path in table["path"]],
        "pillow": [Image.open(path) for path in table["path"]],
        "hub": [{"bytes": each, "path": None} for each in content],
    }
    data: Any = pd.DataFrame({"picture": own.get(form, table["path"]), "species": table["label"]})
    data = pa.Table.from_pandas(data) if form == "arrow" else data
    found, _ = load(source_of(data, tmp_path / "cache"), tmp_path / "prepared")
    meant, _ = load(f"folder:{tmp_path / 'photos'}", tmp_path / "prepared")
    assert images_of(found) == images_of(meant)


def _open_all(tmp_path: Path, make: Any, suffix: str) -> tuple[pd.DataFrame, Path]:
    """Return a table of opened images, and the folder in which they lie."""
    opened, labels, generator = [], [], np.random.default_rng(0)
    for row in range(12):
        path = tmp_path / "photos" / "ab"[row % 2] / f"{row:02}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        make(generator.integers(0, 255, (12, 20, 3), np.uint8), path)
        opened.append(Image.open(path))
        labels.append("ab"[row % 2])
    return pd.DataFrame({"image": opened, "label": labels}), tmp_path / "photos"


def _save_turned(pixels: np.ndarray, path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=turned)


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (_save_turned, "jpg"),
        (_save_turned, "tif"),
        (lambda pixels, path: Image.fromarray(pixels).convert("CMYK").save(path), "jpg"),
        (lambda pixels, path: Image.fromarray(pixels).convert("CMYK").save(path), "tif"),
        (lambda pixels, path: Image.fromarray(pixels[..., 0].astype(np.int32) * 257).save(path), "tif"),
        (lambda pixels, path: Image.fromarray(pixels).quantize(7).save(path), "png"),
        (lambda pixels, path: Image.fromarray(pixels).convert("LA").save(path), "png"),
    ],
    ids=["turned", "turned tiff", "cmyk", "cmyk tiff", "32 bits", "palette", "grey with transparency"],
)
def test_images_of_pillow_are_those_of_the_files_they_were_opened_from(make: Any, suffix: str, tmp_path: Path) -> None:
    table, folder = _open_all(tmp_path, make, suffix)
    found, _ = load(source_of(table, tmp_path / "cache"), tmp_path / "prepared")
    meant, _ = load(f"folder:{folder}", tmp_path / "prepared")
    assert found.image_shape == meant.image_shape and found.prepared.counts == meant.prepared.counts
    every = [{image.tobytes() for image in each.prepared.open("train")[0]} for each in (found, meant)]
    assert every[0] == every[1]


def test_an_image_of_pillow_that_cannot_be_decoded_is_refused_by_row_and_column(tmp_path: Path) -> None:
    table, _ = _open_all(tmp_path, lambda pixels, path: Image.fromarray(pixels).save(path), "png")
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    table.at[3, "image"] = Image.open(path)
    with pytest.raises(DataError, match="data row 3: image cannot be decoded: "):
        source_of(table, tmp_path / "cache")
    table.at[3, "image"] = Image.new("F", (8, 8))
    with pytest.raises(DataError, match="data row 3: image cannot be decoded: its pixels are floats"):
        source_of(table, tmp_path / "cache")


def test_split_group_and_weight_are_read_as_in_other_tables(tmp_path: Path) -> None:
    table = rows(tmp_path)
    table |= {"split": ["train", "test"] * 6, "patient": list("aabbccddeeff"), "weight": [1, 2.5] * 6}
    listing = listed(source_of(pd.DataFrame(table), tmp_path / "cache"))
    assert {name: len(split.labels) for name, split in listing.splits.items()} == {"train": 6, "test": 6}
    assert listing.group_names == tuple("abcdef") and set(listing.splits["test"].weights.tolist()) == {2.5}


def test_cells_that_are_no_images_or_values_are_no_matter(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {**rows(tmp_path), "notes": [["a"]] * 12, "day": [pd.Timestamp("2026-01-01")] * 12, "image": 0}
    )
    assert len(listed(source_of(table, tmp_path / "cache")).splits["train"].labels) == 12


def test_labels_of_a_table_may_be_nullable_numbers_or_categories(tmp_path: Path) -> None:
    table = pd.DataFrame(rows(tmp_path))
    for kind in ("category", pd.CategoricalDtype(["dog", "cat"]), object, "string"):
        changed = table.assign(label=table["label"].astype(kind))
        assert listed(source_of(changed, tmp_path / "cache")).class_names == ("cat", "dog")
    numbers = table.assign(label=pd.Series([0, 1] * 6, dtype="Int64"))
    assert listed(source_of(numbers, tmp_path / "cache")).class_names == ("0", "1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.iloc[:0], ["must have rows"]),
        (lambda table: table[["label"]], ["a column of images", "label ('cat')"]),
        (lambda table: table.assign(path=table["path"] + "x"), ["a column of images", "path ("]),
        (lambda table: table.assign(mask=table["path"]), ["one column of images", "path, mask"]),
        (lambda table: table.assign(path=["gone.png", *table["path"][1:]]), ["data row 0: path", "'gone.png'"]),
        (lambda table: table.assign(path=[*table["path"][:-1], None]), ["data row 11: path", "got nothing"]),
        (lambda table: table.assign(path=[b"", *[b"x"] * 11]), ["data row 0: path", "got nothing"]),
        (lambda table: pd.concat([table, table], axis=1), ["different names", "label, path"]),
    ],
    ids=lambda value: "",
)
def test_a_wrong_table_is_refused_by_row_and_column(change: Any, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        source_of(change(pd.DataFrame(rows(tmp_path))), tmp_path / "cache")
    assert all(word in str(refused.value) for word in words), refused.value


def test_the_same_table_is_the_same_file_and_another_is_another(tmp_path: Path) -> None:
    table = pd.DataFrame(rows(tmp_path))
    first = source_of(table, tmp_path / "cache")
    assert source_of(table.copy(), tmp_path / "cache") == first
    assert source_of(table.assign(label=table["label"].iloc[::-1].tolist()), tmp_path / "cache") != first
    picture(99).save(table["path"][0])
    assert source_of(table, tmp_path / "cache") != first
    assert source_of(table.assign(path=[encoded(5)] * 12), tmp_path / "cache") != first
