"""Tables that name images: CSV, JSON lines and Parquet, as people and programs write them."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tests.support.make_data import encoded, load, picture
from tuner.common.errors import DataError
from tuner.datasets.request import list_unlabelled
from tuner.datasets.sources import PREFIXED

NUMBER = 20
LABELS = ["cat", "dog"] * (NUMBER // 2)


def make_images(root: Path, folder: str = "images", number: int = NUMBER, suffix: str = ".png") -> list[str]:
    """Write images whose values are their numbers; returns their paths from `root`."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"{folder}/{index:02d}{suffix}".removeprefix("./") for index in range(number)]
    for index, name in enumerate(names):
        picture(index).save(root / name)
    return names


def write_csv(path: Path, *rows: object, header: str = "path,label") -> str:
    path.write_text("\n".join([header, *map(str, rows)]) + "\n", encoding="utf-8")
    return f"csv:{path}"


def labels_by_value(dataset) -> dict[int, str]:
    found = {}
    for split in (dataset.train, dataset.validation, dataset.load_test()):
        images, labels = split.batch(np.arange(len(split)))
        found.update(zip(images[:, 0, 0, 0].tolist(), [dataset.class_names[label] for label in labels], strict=True))
    return found


def rows_of(names: list[str], labels: list[str] = LABELS, delimiter: str = ",") -> list[str]:
    return [f"{name}{delimiter}{label}" for name, label in zip(names, labels, strict=True)]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["labels.csv"], r"a folder, which holds csv:.*data/labels.csv$"),
        (["b.csv", "a.csv", "x.jsonl"], r"which holds csv:.*data/a.csv, csv:.*data/b.csv$"),
        (["x.JSONL"], r"which holds jsonl:.*data/x.JSONL$"),
        (["deep/er/train.parquet"], r"which holds parquet:.*data/deep/er/train.parquet$"),
        (["notes.txt"], r"a folder without tables; for images in folders of classes write folder:.*data$"),
    ],
)
def test_a_folder_is_refused_with_the_tables_that_it_holds(files, words, tmp_path) -> None:
    for file in files:
        (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / file).write_text("path,label\n")
    with pytest.raises(DataError, match=words):
        PREFIXED["csv"].read(str(tmp_path / "data"))


# --- as they are written ---


@pytest.mark.parametrize(
    ("header", "delimiter", "encoding", "newline"),
    [
        ("path,label", ",", "utf-8", "\n"),
        ("Image Path;Class", ";", "utf-8", "\r\n"),
        ("filename\tcategory", "\t", "utf-8-sig", "\n"),
        ("img|target", "|", "utf-16", "\r\n"),
        ("sep=;\nfile_name;dx", ";", "utf-8", "\n"),
        ('"image_path" , "diagnosis"'.replace(" , ", ","), ",", "utf-8", "\r"),
        ("\n\npath,label", ",", "utf-8", "\n"),
        ("\n;\npath;label", ";", "utf-8", "\n"),
    ],
)
def test_a_csv_is_read_as_it_is_written(header, delimiter, encoding, newline, tmp_path) -> None:
    names = make_images(tmp_path, "bilder für été, 1")
    rows = [f'"{name}"{delimiter}"{label}"' for name, label in zip(names, LABELS, strict=True)]
    text = "\n".join([header, *rows, "", ""]).replace("\n", newline)
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    dataset, said = load(f"csv:{tmp_path / 'labels.csv'}", tmp_path / "cache")
    assert labels_by_value(dataset) == dict(enumerate(LABELS)) and "read path from" in said[0]


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["3", "7"], ("3", "7")),
        (["10", "9"], ("9", "10")),
        (["1.0", "0"], ("0", "1")),
        (["01", "02"], ("1", "2")),
        (["-1", "1"], ("-1", "1")),
        ([" cat ", "dog"], ("cat", "dog")),
        (["e\u0301te\u0301", "\u00e9t\u00e9 2"], ("\u00e9t\u00e9", "\u00e9t\u00e9 2")),
        (["0.5", "1.5"], ("0.5", "1.5")),
        (["NA", "EU"], ("EU", "NA")),
        (["Nan", "NAN"], ("NAN", "Nan")),
    ],
)
def test_classes_are_texts_or_numbers_however_they_are_written(cells, names, tmp_path) -> None:
    source = write_csv(tmp_path / "l.csv", *rows_of(make_images(tmp_path), cells * (NUMBER // 2)))
    assert load(source, tmp_path / "cache")[0].class_names == names


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_all_kinds_of_tables_say_splits_groups_and_weights(kind, tmp_path) -> None:
    names = make_images(tmp_path)
    splits = ["Training"] * 12 + ["val"] * 4 + ["TEST"] * 4
    columns = {
        "file_name": names,
        "label": LABELS,
        "split": splits,
        "patient_id": [float(index // 3) for index in range(NUMBER)],
        "weight": [1 + index / 10 for index in range(NUMBER)],
    }
    path = tmp_path / f"labels.{kind}"
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if kind == "parquet":
        parquet.write_table(pa.table(columns), path)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        write_csv(path, *(",".join(map(str, row.values())) for row in rows), header=",".join(columns))
    dataset, said = load(f"{kind}:{path}", tmp_path / "cache")
    assert dataset.prepared.counts == {"train": 12, "test": 4, "validation": 4}
    assert labels_by_value(dataset) == dict(enumerate(LABELS))
    assert np.allclose(dataset.load_test().weights, [1 + index / 10 for index in range(16, 20)])
    assert dataset.prepared.column("validation", "groups").tolist() == [4, 4, 4, 5]
    text = "\n".join(said)
    assert "group from patient_id, weight from weight" in text and "validation and test share 1 groups" not in text
    assert "test and validation share 1 groups, so that validation flatters: 5" in text


def test_a_parquet_table_of_bytes_has_groups_too(tmp_path) -> None:
    columns = {
        "image": [{"bytes": encoded(index), "path": None} for index in range(NUMBER)],
        "label": LABELS,
        "subject": [index // 4 for index in range(NUMBER)],
    }
    parquet.write_table(pa.table(columns), tmp_path / "own.parquet")
    dataset, _ = load(f"parquet:{tmp_path / 'own.parquet'}", tmp_path / "cache")
    groups = dataset.prepared.column("train", "groups")
    parts = [set(groups[part.rows].tolist()) for part in (dataset.train, dataset.validation, dataset.load_test())]
    assert sum(map(len, parts)) == 5 == len(set.union(*parts))


def test_a_column_of_splits_in_files_that_are_named_after_splits_is_not_said_to_be_read(tmp_path) -> None:
    for name, labels in (("train", LABELS), ("test", LABELS[:4])):
        images = [{"bytes": encoded(index), "path": None} for index in range(len(labels))]
        columns = {"image": images, "label": labels, "split": ["val", "train"] * (len(labels) // 2)}
        parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    dataset, said = load(f"parquet:{tmp_path}", tmp_path / "cache", columns={"split": "split"})
    assert dataset.prepared.counts == {"train": NUMBER, "test": 4}
    text = "\n".join(said)
    assert "column split not used: the files are named after splits" in text and "split from split" not in text


def test_labels_of_minus_one_are_withheld_where_no_training_image_has_that_label(tmp_path) -> None:
    names = make_images(tmp_path)
    header = "path,label,split"

    def rows(*labels: int) -> list[str]:
        splits = ["train"] * 14 + ["test"] * 6
        return [f"{name},{label},{split}" for name, label, split in zip(names, labels, splits, strict=True)]

    source = write_csv(tmp_path / "l.csv", *rows(*[0, 1] * 7, *[-1] * 6), header=header)
    dataset, said = load(source, tmp_path / "cache")
    assert dataset.class_names == ("0", "1") and dataset.prepared.counts == {"train": 14}
    assert any("6 images of test not used: their labels are withheld" in text for text in said)
    source = write_csv(tmp_path / "l.csv", *rows(*[-1, 1] * 7, *[-1] * 6), header=header)
    dataset, _ = load(source, tmp_path / "cache")
    assert dataset.class_names == ("-1", "1") and dataset.prepared.counts == {"train": 14, "test": 6}
    with pytest.raises(DataError, match="line 16: label must name a class; got '-1'"):
        load(write_csv(tmp_path / "l.csv", *rows(*[0, 1] * 7, -1, *[0] * 5), header=header), tmp_path / "cache")


# --- where the images lie ---


@pytest.mark.parametrize(
    ("written", "folders"),
    [
        (lambda name: Path(name).stem, ["train"]),
        (lambda name: Path(name).name, ["images"]),
        (lambda name: Path(name).stem, ["a/b", "c"]),
        (lambda name: name.replace("/", "\\"), ["images"]),
        (lambda name: f"./{name}", ["images"]),
        (lambda name: f"x/../{name}", ["images"]),
        (lambda name: f"  {name} ", ["images"]),
    ],
)
def test_images_are_found_where_no_other_can_be_meant(written, folders, tmp_path) -> None:
    names = [name for folder in folders for name in make_images(tmp_path, folder, NUMBER)]
    for index, name in enumerate(names):  # other names in each folder
        target = (tmp_path / name).with_name(f"i{index}.png")
        picture(index).save(target)
        (tmp_path / name).unlink()
        names[index] = target.relative_to(tmp_path).as_posix()
    source = write_csv(
        tmp_path / "train.csv", *rows_of(list(map(written, names)), LABELS * len(folders)), header="id,label"
    )
    assert labels_by_value(load(source, tmp_path / "cache")[0]) == dict(enumerate(LABELS * len(folders)))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("/etc/hostname", "line 2: path must be a path below .*: put the table into a folder above its images; got"),
        ("../secret.png", r"line 2: path must be a path below .*got '../secret.png'"),
        ("images/../../secret.png", "line 2: path must be a path below"),
        ("https://x.org/a.png", "line 2: path must be a path, not a URL; got"),
        ("", "line 2: path must name an image; got nothing"),
        ("link.png", "line 2: path must not lead out of .* by a link; got 'link.png'"),
        ("away/secret.png", "line 2: path must not lead out of .* by a link"),
    ],
)
def test_no_table_chooses_files_that_lie_elsewhere(cell, words, tmp_path) -> None:
    root = tmp_path / "data"
    names = make_images(root)
    (tmp_path / "away").mkdir()
    for place in ("secret.png", "away/secret.png"):
        picture(1).save(tmp_path / place)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "away").symlink_to(tmp_path / "away")
    source = write_csv(root / "labels.csv", *rows_of([cell, *names[1:]]))
    with pytest.raises(DataError, match=words):
        load(source, tmp_path / "cache")


def test_a_refusal_names_the_folder_of_a_table_as_it_was_given(tmp_path) -> None:
    make_images(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    write_csv(tmp_path / "real" / "l.csv", "../a.png,cat")
    with pytest.raises(DataError, match=rf"must be a path below {tmp_path}/link: put"):
        load(f"csv:{tmp_path}/link/l.csv", tmp_path / "cache")
    write_csv(tmp_path / "real" / "l.csv", "gone.png,cat")
    with pytest.raises(DataError, match=rf"no such image lies in {tmp_path}/link or below"):
        load(f"csv:{tmp_path}/link/l.csv", tmp_path / "cache")


def test_an_absolute_path_may_lead_into_the_folder_of_the_table(tmp_path) -> None:
    names = [str(tmp_path / name) for name in make_images(tmp_path)]
    assert len(labels_by_value(load(write_csv(tmp_path / "l.csv", *rows_of(names)), tmp_path / "c")[0])) == NUMBER


def test_an_absolute_path_may_name_the_folder_of_the_table_by_a_link(tmp_path) -> None:
    names = make_images(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_csv(tmp_path / "real" / "l.csv", *rows_of([str(tmp_path / "link" / name) for name in names]))
    for folder in ("real", "link"):
        source = f"csv:{tmp_path / folder / 'l.csv'}"
        assert len(labels_by_value(load(source, tmp_path / "cache")[0])) == NUMBER


@pytest.mark.parametrize("of_table", ["NFC", "NFD"])
@pytest.mark.parametrize("written", [lambda name: name, lambda name: Path(name).stem])
def test_images_are_found_however_the_accents_of_their_names_are_written(written, of_table, tmp_path) -> None:
    folder = unicodedata.normalize("NFD", "\u00e9t\u00e9")  # as in an archive from macOS
    names = [unicodedata.normalize(of_table, f"{folder}/{folder} {index}.png") for index in range(NUMBER)]
    for index, name in enumerate(make_images(tmp_path, folder)):
        (tmp_path / name).rename(tmp_path / folder / f"{folder} {index}.png")
    source = write_csv(tmp_path / "l.csv", *rows_of(list(map(written, names))))
    assert labels_by_value(load(source, tmp_path / "cache")[0]) == dict(enumerate(LABELS))


def test_a_folder_is_walked_once_for_a_table_with_accents_and_without_suffixes(tmp_path, monkeypatch) -> None:
    names = []
    for index, name in enumerate(make_images(tmp_path, "images", 4)):
        (tmp_path / name).rename(tmp_path / "images" / f"\u00e9t\u00e9 {index}.png")
        names.append(f"\u00e9t\u00e9 {index}")
    source = write_csv(tmp_path / "l.csv", *rows_of(names, LABELS[:4]))
    looked, scandir = list[str](), os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(str(folder)) or scandir(folder))
    listing = PREFIXED["csv"].read(source.partition(":")[2])
    assert len(listing.splits["train"].labels) == 4 and looked.count(str(tmp_path / "images")) == 1


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("of_table", ["NFC", "NFD"])
def test_images_with_other_accents_than_their_table_are_found_beside_those_without_any(
    kind, of_table, tmp_path
) -> None:
    apart = unicodedata.normalize("NFD", "\u00e9t\u00e9")
    folder = unicodedata.normalize("NFC", apart) if kind == "csv" else apart  # made here, its files from macOS
    names = []
    for index in range(NUMBER):
        name = f"{folder}/{apart} {index}.png" if index % 4 else f"{index}.png"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(index).save(tmp_path / name)
        names.append(unicodedata.normalize(of_table, name))
    if kind == "csv":
        source = write_csv(tmp_path / "l.csv", *rows_of(names))
    else:
        parquet.write_table(pa.table({"image": names, "label": LABELS}), tmp_path / "l.parquet")
        source = f"parquet:{tmp_path / 'l.parquet'}"
    assert labels_by_value(load(source, tmp_path / "cache")[0]) == dict(enumerate(LABELS))


def test_images_that_may_be_several_files_or_none_are_refused(tmp_path) -> None:
    stems = [Path(name).stem for name in make_images(tmp_path, "images")]
    make_images(tmp_path, "masks")
    with pytest.raises(DataError, match=r"line 2: id '00' may be images/00.png or masks/00.png: write paths from"):
        load(write_csv(tmp_path / "l.csv", *rows_of(stems), header="id,label"), tmp_path / "c")
    with pytest.raises(DataError, match=r"none of its 2 images is there: line 2 has 'x.png' in id, and no such image"):
        load(write_csv(tmp_path / "l.csv", "x.png,a", "y.png,b", header="id,label"), tmp_path / "c")


def test_missing_images_are_named_with_their_lines_and_are_skipped_as_broken_ones(tmp_path) -> None:
    names = make_images(tmp_path)
    source = write_csv(tmp_path / "l.csv", *rows_of(names), "images/no.png,cat")
    with pytest.raises(DataError, match=r"1 broken image: .*l\.csv line 22 \(.*no\.png\) is not there"):
        load(source, tmp_path / "cache")
    dataset, said = load(source, tmp_path / "cache", broken_images="skip")
    assert len(labels_by_value(dataset)) == NUMBER
    assert any("l.csv: 1 image is not there: line 22 (images/no.png)" in text for text in said)


def test_missing_images_of_parquet_rows_are_not_there_and_those_elsewhere_are_not_looked_at(tmp_path) -> None:
    names = [f"images/{index // 2}_{index}.png" for index in range(NUMBER)]
    (tmp_path / "data" / "images").mkdir(parents=True)
    picture(99).save(tmp_path / "elsewhere.png")
    (tmp_path / "data" / "images" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    for index, name in enumerate(names):
        picture(index).save(tmp_path / "data" / name)

    def source(**changed: str) -> str:
        paths = [changed.get(f"row_{row}", name) for row, name in enumerate(names)]
        parquet.write_table(pa.table({"image": paths, "label": LABELS}), tmp_path / "data" / "train.parquet")
        return f"parquet:{tmp_path / 'data'}"

    missing = source(row_7="images/9_no.png")
    with pytest.raises(DataError, match=r"1 broken image: .*train\.parquet row 7 is not there"):
        load(missing, tmp_path / "cache")
    with pytest.raises(DataError, match=r"1 broken image: .*train\.parquet row 0 is not there"):
        load(source(row_0="images/no.png"), tmp_path / "cache")
    missing = source(row_7="images/9_no.png")
    dataset, said = load(missing, tmp_path / "cache", broken_images="skip", group=r"/(\d+)_")
    assert len(labels_by_value(dataset)) == NUMBER - 1
    assert any("20 training images in 10 groups" in text for text in said)
    for way in ("../elsewhere.png", str(tmp_path / "elsewhere.png"), "images/link.png", "../no.png"):
        with pytest.raises(DataError, match=r"row 7 is not an image: it is empty"):
            load(source(row_7=way), tmp_path / "cache")


# --- what is wrong with a table ---


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("path,label", "{0},", "line 22: label must name a class; got nothing"),
        ("path,label", "{0},nan", "line 22: label must name a class; got 'nan', which stands for an empty cell"),
        ("path,label", "{0},dog", "line 22: .*00.png has label 'dog', and 'cat' on line 2: an image must have one"),
        ("path,label", "{0}", "line 22: must have 2 cells as the first line; got 1"),
        ("path,label", "{0},cat,x", "line 22: must have 2 cells as the first line; got 3"),
        ("path,label", '"{0},cat', "line 22: cannot be read as CSV"),
        ("path,label,weight", "{0},cat,-1", "line 22: weight must be a number, 0 or above; got '-1'"),
        ("path,label,weight", "{0},cat,much", "line 22: weight must be a number, 0 or above; got 'much'"),
        ("path,label,weight", "{0},cat,inf", "line 22: weight must be a number, 0 or above; got 'inf'"),
        ("path,label,weight", "{0},cat,", "line 22: weight must be a number, 0 or above; got nothing"),
        ("path,label,split", "{0},cat,tset", "line 22: split must be one of train, test, validation, or a word for it"),
        ("path,label,split", "{0},cat,", "line 22: split must be one of train, .*; got nothing"),
        ("path,label,split", "{0},cat,test", "line 22: .*00.png has split 'test', and 'train' on line 2"),
        ("name,what", "{0},cat", r"must have a column for the path and label .* got name, what: set data.columns"),
        (
            "path,class,category",
            "{0},cat,cat",
            "the label may be in class, category: set data.columns to {label: class}",
        ),
        (
            "images/a.png,cat",
            "{0},cat",
            "its first line must be names of columns, for example path,label; got images/a",
        ),
        ("path,path,label", "{0},x,cat", "must have one column path; got 2"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(header, row, words, tmp_path) -> None:
    names = make_images(tmp_path)
    filler = {"weight": "1", "split": "train", "category": "cat"}
    more = "".join(f",{filler.get(name, 'x')}" for name in header.split(",")[2:])
    rows = [f"{text}{more}" for text in rows_of(names)]
    source = write_csv(tmp_path / "l.csv", *rows, row.format(names[0]), header=header)
    with pytest.raises(DataError, match=words) as failure:
        load(source, tmp_path / "cache")
    assert str(tmp_path / "l.csv") in str(failure.value)


def test_one_column_for_each_class_is_refused_with_their_names(tmp_path) -> None:
    rows = [f"{name},{index % 2}.0,{1 - index % 2}.0" for index, name in enumerate(make_images(tmp_path))]
    with pytest.raises(DataError, match=r"one column for each class \(MEL, NV\): write their names into one column"):
        load(write_csv(tmp_path / "l.csv", *rows, header="image,MEL,NV"), tmp_path / "c")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "must hold a line with the names of the columns, and rows; it has 0"),
        (b"path,label\n", "must hold a line with the names of the columns, and rows; it has 1"),
        (b"path,label\na.png,caf\xe9\n", "line 2: must be UTF-8 text; save it as UTF-8"),
        (b"\x89PNG\r\n\x00\x00", "must be"),
        (b"PK\x03\x04\x00\x00", "must be UTF-8 text; it holds"),
    ],
)
def test_a_file_that_is_no_table_is_refused(content, words, tmp_path) -> None:
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(f"csv:{tmp_path / 'l.csv'}", tmp_path / "c")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: must be a JSON object"),
        ("[1]", "line 2: must be a JSON object, one a line; got list"),
        ('{"path": ["a"], "label": "x"}', "line 2: path must be a text or a number; got"),
        ('{"path": "images/01.png", "label": ["a", "b"]}', "line 2: label must be a text or a number"),
        ('{"path": "images/01.png"}', "line 2: label must name a class; got nothing"),
    ],
)
def test_lines_that_are_no_rows_are_told(line, words, tmp_path) -> None:
    names = make_images(tmp_path)
    (tmp_path / "l.jsonl").write_text(f"{json.dumps({'path': names[0], 'label': 'x'})}\n{line}\n")
    with pytest.raises(DataError, match=words):
        load(f"jsonl:{tmp_path / 'l.jsonl'}", tmp_path / "c")


def test_an_image_that_is_named_twice_alike_is_used_once_and_that_is_said(tmp_path) -> None:
    names = make_images(tmp_path)
    source = write_csv(tmp_path / "l.csv", *rows_of(names), f"./{names[3]},dog", f"{names[4]},cat")
    dataset, said = load(source, tmp_path / "cache")
    assert len(labels_by_value(dataset)) == NUMBER == sum(dataset.prepared.counts.values())
    assert any("2 rows name an image once more, and are used once: line 22, line 23" in text for text in said)


def test_the_same_number_written_otherwise_is_not_another_label_of_an_image(tmp_path) -> None:
    names = make_images(tmp_path)
    cells = [f"{name},{row % 2},p{row // 4},1" for row, name in enumerate(names)]
    source = write_csv(tmp_path / "l.csv", *cells, f"{names[5]},1.0,p1,1.0", header="path,label,patient_id,weight")
    _, said = load(source, tmp_path / "cache")
    assert any("used once: line 22" in text for text in said)


def test_columns_can_be_named_and_a_name_that_is_not_there_is_told_with_the_nearest(tmp_path) -> None:
    rows = [
        f"{name},{label},x,p{index // 4}"
        for index, (name, label) in enumerate(zip(make_images(tmp_path), LABELS, strict=True))
    ]
    source = write_csv(tmp_path / "l.csv", *rows, header="where,kind,label,who")
    columns = {"path": "where", "label": "kind"}
    dataset, _ = load(source, tmp_path / "cache", columns=columns, group="who")
    assert dataset.class_names == ("cat", "dog") and len(set(dataset.prepared.column("train", "groups").tolist())) == 5
    with pytest.raises(DataError, match=r"data\.columns\.path: unknown column 'wher'; did you mean 'where'"):
        load(source, tmp_path / "cache", columns={**columns, "path": "wher"})
    with pytest.raises(DataError, match=r"data\.columns\.group: unknown column 'whoo'; did you mean 'who'"):
        load(source, tmp_path / "cache", columns=columns, group="whoo")


# --- copies, packages and staging ---


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_changed_image_is_seen_and_all_files_of_a_table_are_known(kind, tmp_path) -> None:
    names = make_images(tmp_path)
    make_images(tmp_path, "others", 3)
    path = tmp_path / f"l.{kind}"
    if kind == "csv":
        write_csv(path, *rows_of(names))
    else:
        parquet.write_table(pa.table({"path": names, "label": LABELS}), path)
    first, _ = load(f"{kind}:{path}", tmp_path / "cache")
    root, files = PREFIXED[kind].files(str(path))
    assert sorted(file.relative_to(root).as_posix() for file in files) == sorted([path.name, *names])
    picture(200).save(tmp_path / names[0], compress_level=0)
    assert load(f"{kind}:{path}", tmp_path / "cache")[0].fingerprint != first.fingerprint


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_images_to_be_labelled_need_no_more_of_a_table_than_their_column(kind, tmp_path) -> None:
    names = make_images(tmp_path)
    columns = {"path": names, "class": ["cat", None] * 10, "category": [None] * 20, "user_id": [1] * 20}
    columns |= {"session_id": [2] * 20, "weight": ["heavy"] * 20, "split": ["later"] * 20}
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    file = tmp_path / f"new.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.table(columns), file)
    elif kind == "jsonl":
        file.write_text("\n".join(map(json.dumps, rows)))
    else:
        write_csv(file, *(",".join(str(cell or "") for cell in row.values()) for row in rows), header=",".join(columns))
    (listed,) = list_unlabelled(f"{kind}:{file}")
    assert [Path(str(listed.encoded[row])).name for row in range(20)] == [Path(name).name for name in names]
    with pytest.raises(DataError, match="the label may be in class, category"):
        load(f"{kind}:{file}", tmp_path / "cache")


def test_a_table_to_be_labelled_without_a_column_of_images_is_told_so(tmp_path) -> None:
    with pytest.raises(DataError, match="must have a column for the path of each image; got a, b"):
        list_unlabelled(write_csv(tmp_path / "new.csv", "1,2", header="a,b"))


def test_a_folder_with_a_table_is_staged_as_that(tmp_path) -> None:
    names = make_images(tmp_path / "mine")
    write_csv(tmp_path / "mine" / "labels.csv", *rows_of(names))
    dataset, _ = load("mine", tmp_path / "cache", staged={"mine": str(tmp_path / "mine")})
    assert dataset.source == f"csv:{tmp_path / 'mine' / 'labels.csv'}" and len(labels_by_value(dataset)) == NUMBER


# --- groups ---


@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_a_pattern_over_paths_keeps_groups_together(kind, tmp_path) -> None:
    rows = []
    for index in range(48):
        place = tmp_path / "pets" / f"c{index % 2}" / f"p{index // 4:02d}_{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture(index).save(place)
        rows.append(f"{place.relative_to(tmp_path / 'pets').as_posix()},c{index % 2}")
    write_csv(tmp_path / "pets" / "labels.csv", *rows)
    source = f"folder:{tmp_path / 'pets'}" if kind == "folder" else f"csv:{tmp_path / 'pets' / 'labels.csv'}"
    dataset, said = load(source, tmp_path / "cache", group=r"/(p\d+)_")
    parts = []
    for split in (dataset.train, dataset.validation, dataset.load_test()):
        parts.append({value // 4 for value in split.batch(np.arange(len(split)))[0][:, 0, 0, 0].tolist()})
    assert sum(map(len, parts)) == 12 == len(set.union(*parts)) and all(parts)
    assert any("48 training images in 12 groups" in text for text in said)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_of_groups_is_neither_read_nor_told_where_a_pattern_says_them(kind, tmp_path) -> None:
    names = make_images(tmp_path)
    patients = ["", *(str(index // 5) for index in range(1, NUMBER))]
    if kind == "csv":
        rows = [f"{name},{label},{one}" for name, label, one in zip(names, LABELS, patients, strict=True)]
        source = write_csv(tmp_path / "labels.csv", *rows, header="path,label,patient")
    else:
        parquet.write_table(pa.table({"path": names, "label": LABELS, "patient": patients}), tmp_path / "l.parquet")
        source = f"parquet:{tmp_path / 'l.parquet'}"
    _, said = load(source, tmp_path / "cache", group=r"/\d(\d)")
    text = "\n".join(said)
    assert f"{NUMBER} training images in 10 groups" in text
    assert "group from" not in text and "rows without" not in text


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("patient", r"must be a pattern with one group in parentheses, .* has no columns; got 'patient'"),
        (r"(a)(b)", "must have one group in parentheses"),
        (r"(?:a)", "must have one group in parentheses"),
        ("(", "must be a regular expression; got"),
        (
            r"x(\d+)",
            r"data\.group: the pattern .* must find a name in the path of every image; it finds none in a/0\.png",
        ),
    ],
)
def test_a_group_that_cannot_be_meant_is_refused(group, words, tmp_path) -> None:
    for name in "ab":
        make_images(tmp_path / "pets", name, 4)
        (tmp_path / "pets" / name / "00.png").rename(tmp_path / "pets" / name / "0.png")
    with pytest.raises(DataError, match=words):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache", group=group)


@pytest.mark.parametrize("group", ["site", r"/(\d)"])
def test_groups_that_two_settings_say_otherwise_are_refused(group, tmp_path) -> None:
    rows = [f"{row},p{index // 4},s{index // 5}" for index, row in enumerate(rows_of(make_images(tmp_path)))]
    source = write_csv(tmp_path / "l.csv", *rows, header="path,label,patient,site")
    with pytest.raises(DataError, match=r"must be left out where data\.columns says that groups are in 'patient'; got"):
        load(source, tmp_path / "cache", group=group, columns={"group": "patient"})
    dataset, _ = load(source, tmp_path / "cache", group="patient", columns={"group": "patient"})
    assert dataset.prepared.column("train", "groups") is not None


def test_what_groups_do_to_splits_is_said(tmp_path) -> None:
    names = make_images(tmp_path, number=40)
    labels = ["a"] * 18 + ["b"] * 18 + ["rare"] * 4
    groups = [index // 3 for index in range(36)] + [99] * 4
    rows = [f"{name},{label},{group}" for name, label, group in zip(names, labels, groups, strict=True)]
    dataset, said = load(write_csv(tmp_path / "l.csv", *rows, header="path,label,patient"), tmp_path / "cache")
    text = "\n".join(said)
    assert "classes of one group alone are trained on, and cannot be judged: rare (99)" in text
    assert "the test split has no image of rare" in text and "the validation split has no image of rare" in text
    assert (dataset.train.labels == 2).sum() == 4
    alone = [f"{name},{label},{index}" for index, (name, label) in enumerate(zip(names, labels, strict=True))]
    _, said = load(write_csv(tmp_path / "l.csv", *alone, header="path,label,patient"), tmp_path / "cache")
    assert "every image is a group of its own: groups change nothing" in "\n".join(said)


# --- as nobody meant them ---


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("csv", "path,label,label\nP,cat,cat\n", "t.csv: must have one column label; got 2$"),
        (
            "csv",
            "path,label,weight,split\nP,cat,0,train\nQ,dog,0,train\nR,cat,1,test\n",
            "of some image to train",
        ),
        (
            "csv",
            "path,label\nimages/00.PNG,cat\nimages/01.PNG,dog\n",
            "; images/00.png does: small and capital",
        ),
        ("csv", "path,label\nP,cat\nQ,dog\nimages/99.png,cat\n", r"line 4 \(.*images/99.png\) is not there; remove"),
        ("csv", "path,label\n\0P,cat\n", "must be UTF-8 text; it holds bytes of 0: save it as UTF-8"),
        ("jsonl", '{"path": "P", "label": "a", "label": "b"}\n', "line 1: .*: 'label' stands in it 2 times"),
        (
            "jsonl",
            '{"path": "P"}\n{"path": "Q", "label": "b"}\n',
            "line 1: label must name a class; got nothing",
        ),
        (
            "jsonl",
            '{"path": "P", "label": null}\n{"path": "Q", "label": "b"}\n',
            "label must name a class; got nothing",
        ),
    ],
)
def test_odd_tables_are_refused_in_words_that_say_what_to_change(kind, content, words, tmp_path) -> None:
    names = make_images(tmp_path)
    for letter, name in zip("PQR", names, strict=False):
        content = content.replace(f'"{letter}"', f'"{name}"').replace(f"\n{letter},", f"\n{name},")
    (tmp_path / f"t.{kind}").write_text(content)
    with pytest.raises(DataError, match=words):
        load(f"{kind}:{tmp_path}/t.{kind}", tmp_path / "cache")


def test_a_class_of_which_all_training_images_weigh_nothing_is_named(tmp_path) -> None:
    names = make_images(tmp_path)
    rows = [f"{name},{label},{int(label == 'dog')}" for name, label in zip(names, LABELS, strict=True)]
    source = write_csv(tmp_path / "t.csv", *rows, header="path,label,weight")
    assert any(
        "nothing is learnt of cat: all training images there weigh 0" in text
        for text in load(source, tmp_path / "cache")[1]
    )


def test_turned_images_and_those_in_other_formats_are_copies(tmp_path) -> None:
    def made(seed: int) -> Image.Image:
        small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
        return Image.fromarray(small).resize((40, 30), Image.Resampling.BICUBIC)

    (tmp_path / "i").mkdir()
    turned = Image.Exif()
    turned[0x112] = 6
    for seed in range(20):
        made(seed).save(tmp_path / "i" / f"{seed:02d}.png")
    made(0).save(tmp_path / "i" / "a.jpg", quality=95)
    made(1).save(tmp_path / "i" / "b.webp", lossless=True)
    made(2).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "i" / "c.jpg", exif=turned, quality=95)
    labels = {"a.jpg": "cat", "b.webp": "dog", "c.jpg": "cat"}
    rows = [f"i/{seed:02d}.png,{'cat' if seed % 2 == 0 else 'dog'}" for seed in range(20)]
    source = write_csv(tmp_path / "t.csv", *rows, *(f"i/{name},{label}" for name, label in labels.items()))
    dataset, said = load(source, tmp_path / "cache")
    assert (dataset.prepared.copies.copies, dataset.prepared.copies.exact_copies) == (3, 1), said
    assert dataset.prepared.copies.conflicts == 0
