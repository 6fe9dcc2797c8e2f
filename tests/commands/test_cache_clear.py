"""`python -m tuner.cache clear`: what is asked for goes, nothing that is in use or foreign does."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.support.make_cache import fill, prepare_digits, run, statuses
from tests.training.test_activation_store import ALL, build, key_of, start_build, values_of
from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest
from tuner.training.activation_store import ARRAY, Build, Store
from tuner.training.cache_contents import list_items


def test_clear_removes_activations_and_keeps_data_sets_unless_all_is_asked_for(tmp_path, capsys):
    entries, data = fill(tmp_path, "a", "b"), prepare_digits(tmp_path)
    status, text = run(capsys, tmp_path, "clear")
    assert status == 0 and "removed in all: 2 entries of activations, " in text
    assert "kept, removed with --all only: 1 prepared data set, " in text
    assert data.exists() and not any(entry.exists() for entry in entries)
    assert "removed in all: 1 prepared data set, " in run(capsys, tmp_path, "clear", "--all", "--yes")[1]
    assert list_items(tmp_path) == [] and not data.exists()
    np.testing.assert_array_equal(build(Store(tmp_path), key_of("a")), values_of(ALL)[0])


def test_clear_keeps_what_was_used_lately_if_that_is_asked_for(tmp_path, capsys):
    old, new = fill(tmp_path, "a", "b")
    os.utime(old / "used", (1000, 1000))
    status, text = run(capsys, tmp_path, "clear", "--unused-days", "30")
    assert status == 0 and "kept, used within the last 30 days: 1 entry of activations" in text
    assert not old.exists() and new.exists()


def test_clear_keeps_what_another_process_uses_and_says_so(tmp_path, capsys):
    (free,) = fill(tmp_path, "b")
    process = start_build(tmp_path, 0.0, afterwards="time.sleep(60)")
    try:
        assert process.stdout is not None
        while process.stdout.readline() != "finished\n":
            pass
        used = Store(tmp_path).folder(key_of("a"))
        status, text = run(capsys, tmp_path, "clear", "--all", "--yes")
    finally:
        process.kill()
        process.wait()
    assert status == 0 and used.exists() and not free.exists()
    (line,) = [line for line in text.splitlines() if line.startswith("kept")]
    assert line.startswith("kept, in use: ") and str(used) in line


def test_clear_keeps_a_build_and_a_data_set_that_are_being_made(tmp_path, capsys):
    data = prepare_digits(tmp_path)
    store = Store(tmp_path)
    Build(store, [key_of("a")], ALL, values_of).work(0)
    with FileLock(data.with_suffix(".lock")):
        status, text = run(capsys, tmp_path, "clear", "--all")
        assert status == 0 and text.count("kept, in use: ") == 2 and data.exists()
    assert Build(store, [key_of("a")], ALL, values_of).work(60).is_finished
    store.release()


def test_an_array_that_is_mapped_stays_readable_when_its_data_set_is_removed(tmp_path, capsys):
    data = load_dataset(DataRequest("digits"), staged={}, seed=0, cache_dir=tmp_path, notify=lambda _text: None)
    rows = np.arange(5)
    before = data.train.batch(rows)[0].copy()
    assert run(capsys, tmp_path, "clear", "--all")[0] == 0 and list_items(tmp_path) == []
    np.testing.assert_array_equal(data.train.batch(rows)[0], before)


def test_what_an_interrupted_removal_has_left_goes_with_the_next_one(tmp_path, capsys):
    (entry,) = fill(tmp_path, "a")
    left = [path.rename(path.with_name(f".{path.name}.0123abcd.removed")) for path in (entry, prepare_digits(tmp_path))]
    assert statuses(tmp_path) == ["unfinished", "unfinished"]
    assert run(capsys, tmp_path, "clear", "--unused-days", "30")[0] == 0
    assert not any(path.exists() for path in left)


def test_nothing_is_removed_that_the_cache_has_not_made(tmp_path, capsys):
    (entry,) = fill(tmp_path, "a")
    foreign = [
        tmp_path / "notes.txt",
        tmp_path / "activations" / "mine" / "file",
        tmp_path / "activations" / ("5" * 24) / "photo.jpg",  # a name like ours
        tmp_path / "datasets" / ("5" * 24) / "photos" / "photo.jpg",
    ]
    for path in foreign:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    assert run(capsys, tmp_path, "clear", "--all")[0] == 0
    assert not entry.exists() and all(path.read_text() == "mine" for path in foreign)


def test_links_are_not_followed(tmp_path, capsys):
    (elsewhere,) = fill(tmp_path / "elsewhere", "a")
    cache = tmp_path / "cache"
    (cache / "activations").mkdir(parents=True)
    (cache / "activations" / elsewhere.name).symlink_to(elsewhere)
    assert run(capsys, cache, "clear", "--all")[0] == 0 and list_items(cache) == []
    (cache / "datasets").symlink_to(tmp_path / "elsewhere" / "activations")
    status, text = run(capsys, cache, "clear", "--all")
    assert status == 2 and f"{cache / 'datasets'} must be a folder; got a link" in text
    assert run(capsys, tmp_path / "elsewhere", "verify")[0] == 0 and (elsewhere / ARRAY).exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "is_kept"), [("\n", True), ("n\n", True), ("", True), ("y\n", False)])
def test_on_a_terminal_clear_asks_and_takes_only_yes_for_yes(tmp_path, capsys, monkeypatch, answer, is_kept):
    (entry,) = fill(tmp_path, "a")
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    status, text = run(capsys, tmp_path, "clear")
    assert status == 0 and "remove 1 entry of activations, " in text and "[y/N]" in text
    assert entry.exists() == is_kept == ("nothing was removed" in text)


def test_yes_asks_nothing(tmp_path, capsys, monkeypatch):
    (entry,) = fill(tmp_path, "a")
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert "[y/N]" not in run(capsys, tmp_path, "clear", "--yes")[1]
    assert not entry.exists()


def test_what_cannot_be_removed_is_said_ends_with_1_and_goes_with_the_next_one(tmp_path, capsys, monkeypatch):
    (entry,) = fill(tmp_path, "a")

    def refuse(_folder: Path) -> None:  # as for a folder of another user; the administrator, who may run this, can
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("tuner.cache.shutil.rmtree", refuse)
        status, text = run(capsys, tmp_path, "clear")
    assert status == 1 and "kept, it cannot be removed (Permission denied): " in text
    assert "removed in all: nothing" in text and not entry.exists() and statuses(tmp_path) == ["unfinished"]
    assert run(capsys, tmp_path, "clear")[0] == 0 and list_items(tmp_path) == []
