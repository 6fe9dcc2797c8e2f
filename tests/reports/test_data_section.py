"""The account of a data set as it is told: words, tables, contact sheets, a part of the report."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.reports.test_page import EVIL, Parsed
from tests.support.make_account import make_account, make_gallery
from tests.support.make_record import DOUBTED, PROBES, small_state
from tuner.datasets.account.copies import Across, CopyAccount
from tuner.datasets.account.facts import ClassFacts, Conflict, GroupFacts, save_account
from tuner.reports.data_section import (
    account_lines,
    class_table,
    data_markdown,
    data_view,
    draw_sheets,
    load_sheets,
    save_sheets,
)
from tuner.reports.writer import write_report
from tuner.runs.directory import RunDirectory
from tuner.runs.predictions import save_pictures

PAIR = ("a/1.png", "b/2.png")
COPIES = CopyAccount(5, 3, 4, 3, 0, 1, (PAIR,), (PAIR,), (Across("test", "train", 2, (("c.png", "d.png"),)),))
CONFLICT = Conflict(PAIR, ("a", "b"))
GROUPS = GroupFacts("patient", 40, 1, 3.0, 9, ("rare",))


def told(**changes: object) -> dict[str, str]:
    """What is told about each thing, of an account with changes."""
    lines: dict[str, str] = {}
    for about, text in account_lines(replace(make_account(), **changes)):
        lines[about] = f"{lines[about]} | {text}" if about in lines else text
    return lines


def test_every_fact_has_its_line() -> None:
    lines = told(
        copies=COPIES, conflicts=(CONFLICT,), groups=GROUPS, notices=("notes.txt is not used",), refusals=("too few",)
    )
    assert lines["images"] == "100 images of 2 classes, and 1 broken one"
    assert lines["splits"].startswith("train: 80 images in 30 groups, what is left") and "20%" in lines["splits"]
    assert "groups and copies on one side" in lines["splits"]
    assert lines["broken"] == "a/torn.png (train) is empty"
    assert lines["copies"].startswith("3 images equal to another") and "2 of test in train" in lines["copies"]
    assert "pixel by pixel; 2 nearly" in lines["copies"] and "c.png = d.png" in lines["copies"]
    assert lines["two labels"].endswith("a/1.png (a) = b/2.png (b)")
    assert "95.0%" in lines["balance"] and "19 times" in lines["balance"]
    assert lines["groups"].startswith("40 groups by patient") and lines["groups"].endswith(
        "on both sides of a split: rare"
    )
    assert told(weights=(0.5, 3.0))["weights"].startswith("training images weigh 0.5 to 3 ")
    assert (lines["noted"], lines["refused"]) == ("notes.txt is not used", "too few")


def test_a_class_that_is_nearly_empty_and_groups_that_are_large_are_told_without_powers_of_ten() -> None:
    lines = told(
        imbalance=replace(make_account().imbalance, ratio=12_345.6), groups=replace(GROUPS, largest=9000, median=1234.5)
    )
    assert "12,346 times as large" in lines["balance"] and "1,234 in the median" in lines["groups"]


@pytest.mark.parametrize(
    ("changes", "about", "words"),
    [
        ({"copies": None}, "copies", "not looked for"),
        ({"copies": replace(COPIES, copies=0, exact_copies=0)}, "copies", "none"),
        ({"broken": ()}, "broken", "none"),
        ({"broken": (), "is_decoded": False}, "broken", "only headers were read: more may be broken"),
    ],
)
def test_what_is_not_there_and_what_is_not_known_are_different(changes, about, words) -> None:
    assert told(**changes)[about] == words


def test_of_many_classes_the_largest_and_the_smallest_are_shown() -> None:
    classes = tuple(ClassFacts(f"c{number}", 10 * number, {"train": 10 * number}) for number in range(1, 101))
    heads, rows, left_out = class_table(replace(make_account(), classes=classes), most=6)
    assert [one.name for one in rows] == ["c100", "c99", "c98", "c3", "c2", "c1"]
    assert heads == ["class", "images", "share"]
    assert left_out == "94 classes between them, of 40 to 970 images, are not shown"


def test_given_splits_are_columns_of_the_table() -> None:
    classes = (ClassFacts("a", 7, {"train": 4, "test": 3}), ClassFacts("b", 4, {"train": 4, "test": 0}))
    assert class_table(replace(make_account(), classes=classes))[0] == ["class", "train", "test", "images", "share"]


# --- contact sheets ---


def test_sheets_show_different_images_of_one_class_the_same_each_time() -> None:
    gallery = make_gallery({"a": 50, "b": 3})
    first, second = draw_sheets(gallery, per_sheet=4)
    assert (first.class_name, first.of, len(set(first.names))) == ("a", 50, 4)
    assert (second.class_name, second.of, len(second.names)) == ("b", 3, 3)
    assert draw_sheets(gallery, per_sheet=4) == (first, second)
    with Image.open(io.BytesIO(first.jpeg)) as image:
        assert image.size == (first.width, first.height) == (4 * 96 + 3 * 4, 96)


@pytest.mark.parametrize("shape", [(1, 1, 3), (8, 8, 1), (3000, 2, 3), (2, 3000, 1), (96, 96, 3), (97, 500, 3)])
def test_images_of_any_shape_have_a_place_in_a_sheet(shape) -> None:
    gallery = replace(make_gallery({"a": 2}), picture=lambda place: np.full(shape, 200, np.uint8))
    (sheet,) = draw_sheets(gallery)
    with Image.open(io.BytesIO(sheet.jpeg)) as image:
        values = np.asarray(image.convert("L"))
    assert image.size == (2 * 96 + 4, 96) and values.max() > 180


def test_of_many_classes_some_have_sheets_and_that_is_said() -> None:
    sheets = draw_sheets(make_gallery({f"c{number}": 2 for number in range(30)}), most_sheets=5)
    assert len(sheets) == 5
    assert data_view(make_account(), sheets[:1]).sheets_words.startswith(
        "1 of 2 classes, training images drawn by chance"
    )


def test_sheets_are_read_as_they_were_written_and_nothing_else_is(tmp_path) -> None:
    sheets = draw_sheets(make_gallery({"a": 5, EVIL: 2}))
    save_sheets(tmp_path / "sheets.npz", sheets)
    assert load_sheets(tmp_path / "sheets.npz") == sheets
    content = (tmp_path / "sheets.npz").read_bytes()
    for other in (b"", b"x", content[:-100], content[:200]):
        (tmp_path / "sheets.npz").write_bytes(other)
        assert load_sheets(tmp_path / "sheets.npz") == ()
    np.savez(tmp_path / "sheets.npz", about=np.array('[{"names": 3}]'))
    assert load_sheets(tmp_path / "sheets.npz") == () == load_sheets(tmp_path / "gone.npz")


# --- the report of a search ---


def report(tmp_path: Path, **changes: object) -> tuple[str, str]:
    """The page and the leaderboard of a run that holds an account."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    save_account(run.data, replace(make_account(), **changes))
    save_sheets(run.contact_sheets, draw_sheets(make_gallery({"a": 5, "b": 5})))
    paths = write_report(small_state(), tmp_path / "report", formats=["png"], run=run)
    return paths.page.read_text(encoding="utf-8"), paths.leaderboard.read_text(encoding="utf-8")


def test_the_report_shows_images_whose_labels_look_wrong_and_what_frozen_features_give(tmp_path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    save_account(run.data, make_account())
    state = small_state(*PROBES, DOUBTED)
    for has_pictures in (False, True):
        if has_pictures:
            save_pictures(run.suspects, np.zeros((1, 8, 8, 1), np.uint8))
        paths = write_report(state, tmp_path / "report", formats=["png"], run=run)
        page, leaderboard = paths.page.read_text(encoding="utf-8"), paths.leaderboard.read_text(encoding="utf-8")
        parsed = Parsed(page)
        assert not parsed.open and "<script>alert" not in page and "right for 60%" in page
        assert "most of these are rather its own mistakes" in page and "no test image was looked at" in page
        assert sum(str(image["src"]).startswith("data:image/jpeg") for image in parsed.all("img")) == has_pictures
    assert "looks like cat</bdi>: <bdi>75%" in page and "What frozen features give" in page
    assert "## Labels that look wrong" in leaderboard and "| validation | " in leaderboard and "| 75% |" in leaderboard
    assert "## What frozen features give" in leaderboard and "out of memory" in leaderboard


def test_the_report_has_the_account_that_its_run_holds_and_needs_no_data(tmp_path) -> None:
    page, leaderboard = report(tmp_path)
    parsed = Parsed(page)
    assert not parsed.open and 'href="#data"' in page and "What were the data?" in page
    assert sum(str(image["src"]).startswith("data:image/jpeg") for image in parsed.all("img")) == 2
    assert "## The data" in leaderboard and "- **Broken**: a/torn.png (train) is empty" in leaderboard
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_run_without_an_account_has_a_report_without_the_section(tmp_path) -> None:
    page = write_report(small_state(), tmp_path / "report", formats=["png"], run=RunDirectory(tmp_path)).page
    assert 'href="#data"' not in page.read_text(encoding="utf-8")


def test_names_of_classes_and_files_are_text_in_page_and_leaderboard(tmp_path) -> None:
    evil = (ClassFacts(EVIL, 90, {"train": 90}), ClassFacts("\u202eb|c", 10, {"train": 10}))
    page, leaderboard = report(
        tmp_path, classes=evil, notices=(EVIL,), advice=(EVIL,), source=f"folder:/home/me/{EVIL}"
    )
    parsed = Parsed(page)
    assert not parsed.open and len(parsed.all("script")) == 2
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert "\u202e" not in page + leaderboard
    assert "<script" not in leaderboard.replace("\\<script", "")
    assert all(
        line.count(" | ") == 2 for line in data_markdown(replace(make_account(), classes=evil)) if line[:1] == "|"
    )
