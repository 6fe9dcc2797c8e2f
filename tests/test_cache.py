"""`python -m tuner.cache`: what is kept is listed as it is, damage is found, nothing in use or foreign is removed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from test_activation_store import build, key_of, rows_of, start_build

from tuner.activation_build import Build
from tuner.activation_store import ARRAY, META, Store
from tuner.cache import main, parse_cache_options
from tuner.cache_items import list_items
from tuner.datasets import DataRequest, load_dataset

ROOT = Path(__file__).parent.parent


def fill(cache: Path, *names: str) -> list[Path]:
    """Whole entries that no process uses; their folders."""
    store = Store(cache)
    for name in names:
        build(store, key_of(name))
    store.release()
    return [store.folder(key_of(name)) for name in names]


def prepare_digits(cache: Path) -> Path:
    load_dataset(DataRequest("digits"), staged={}, seed=0, cache_dir=cache, notify=lambda _text: None)
    return next(path for path in (cache / "datasets").iterdir() if path.is_dir())


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def run(capsys: pytest.CaptureFixture[str], cache: Path, *arguments: str) -> tuple[int, str]:
    """The exit status and what was printed."""
    status = main([*arguments, "--cache", str(cache)])
    printed = capsys.readouterr()
    return status, printed.out + printed.err


def statuses(cache: Path) -> list[str]:
    return sorted(item.status for item in list_items(cache))


# --- list ---


def test_an_empty_cache_is_said_to_be_empty_and_is_not_made(tmp_path, capsys):
    cache = tmp_path / "none"
    for action in ("list", "verify", "clear"):
        status, text = run(capsys, cache, action)
        assert status == 0 and str(cache) in text
    assert "the cache is empty" in run(capsys, cache)[1]
    assert not cache.exists()


def test_a_file_is_no_cache(tmp_path, capsys):
    path = tmp_path / "file"
    path.write_text("mine")
    assert run(capsys, path, "clear") == (2, f"the cache must be a folder; got {path}\n")


def test_the_list_tells_data_sets_and_activations_with_their_sizes(tmp_path, capsys):
    fill(tmp_path, "a", "b")
    prepare_digits(tmp_path)
    status, text = run(capsys, tmp_path)
    assert status == 0
    assert text.splitlines()[0].split() == ["data", "set", "what", "images", "size", "last", "used", "status"]
    assert text.count("whole") == 3 and "images 8x8x1, 10 classes (0, 1, 2, ...), train/test" in text
    assert "1 prepared data set and 2 entries of activations, " in text


def test_the_list_as_json_holds_what_each_entry_follows_from(tmp_path, capsys):
    (folder,) = fill(tmp_path, "a")
    prepare_digits(tmp_path)
    status, text = run(capsys, tmp_path, "list", "--json")
    listed = json.loads(text)
    entries = {entry["kind"]: entry for entry in listed["entries"]}
    assert status == 0 and len(listed["entries"]) == 2
    assert entries["activations"]["folder"] == str(folder)
    assert entries["activations"]["details"] == {"what": "a", "dtype": "float16"}
    assert entries["activations"]["images"] == key_of("a").shape[0]
    assert entries["datasets"]["images"] == 1797 and entries["datasets"]["status"] == "whole"
    assert listed["size_bytes"] == sum(entry["size_bytes"] for entry in listed["entries"]) > key_of("a").size_bytes


def test_a_data_set_has_the_name_that_its_activations_know(tmp_path):
    fingerprint = json.loads((prepare_digits(tmp_path) / META).read_text())["fingerprint"]
    assert [item.name for item in list_items(tmp_path)] == ["-"]
    key = key_of("a")
    object.__setattr__(key, "identity", {"data": fingerprint, "name": "digits", "split": "train"})
    store = Store(tmp_path)
    build(store, key)
    items = {item.kind: item for item in list_items(tmp_path)}
    assert items["datasets"].name == "digits" and items["datasets"].in_use  # as long as its activations are
    store.release()
    assert not any(item.in_use for item in list_items(tmp_path))


def test_every_state_of_an_entry_is_told(tmp_path, capsys):
    cut, unreadable, outdated = fill(tmp_path, "cut", "unreadable", "outdated")
    os.truncate(cut / ARRAY, 500)
    (unreadable / META).write_text("{")
    outdated.rename(outdated.with_name("0" * 24))  # the key of another version
    store = Store(tmp_path)
    store.refuse(key_of("refused"), "values up to 70,000")
    Build(store, [key_of("unfinished")], rows_of).work(0)
    assert statuses(tmp_path) == ["damaged", "damaged", "outdated", "refused", "unfinished"]
    text = run(capsys, tmp_path)[1]
    for words in ("it is cut short", "its description cannot be read", "another version", "values up to 70,000"):
        assert words in text
    assert "unfinished, in use" in text
    store.release()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"version": 1}, "outdated"),
        ({"counts": {"train": 7}}, "damaged"),
        ({"counts": 7}, "damaged"),
        ({"class_names": None}, "damaged"),
    ],
    ids=str,
)
def test_a_data_set_that_would_be_made_again_is_not_listed_as_whole(tmp_path, capsys, change, status):
    path = prepare_digits(tmp_path) / META
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert statuses(tmp_path) == [status]
    assert run(capsys, tmp_path)[0] == 0


# --- verify ---


def test_verify_passes_what_is_whole_and_keeps_it(tmp_path, capsys):
    fill(tmp_path, "a", "b")
    prepare_digits(tmp_path)
    status, text = run(capsys, tmp_path, "verify")
    assert status == 0 and "whole: 1 prepared data set and 2 entries of activations" in text
    assert "damaged: nothing" in text
    assert not any(item.in_use for item in list_items(tmp_path)) and statuses(tmp_path) == ["whole"] * 3


def test_verify_finds_a_changed_value_even_if_the_entry_was_read_through_just_now(tmp_path, capsys):
    good, bad = fill(tmp_path, "a", "b")
    assert run(capsys, tmp_path, "verify")[0] == 0
    before = (bad / ARRAY).stat()
    flip_last_bit(bad / ARRAY)
    os.utime(bad / ARRAY, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a failing disk leaves it
    status, text = run(capsys, tmp_path, "verify")
    assert status == 1
    (line,) = [line for line in text.splitlines() if line.startswith("damaged: ")]
    assert str(bad) in line and "its values are not those that were written" in line and str(good) not in text
    assert "it will be made again when it is needed" in text


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy"])
def test_verify_finds_a_changed_value_in_a_data_set_and_clear_removes_it(tmp_path, capsys, name):
    folder = prepare_digits(tmp_path)
    (entry,) = fill(tmp_path, "a")
    flip_last_bit(folder / name)
    status, text = run(capsys, tmp_path, "verify")
    assert status == 1 and f"({folder})" in text and "its values are not those that were written" in text
    status, text = run(capsys, tmp_path, "clear", "--damaged")
    assert status == 0 and "kept, not damaged: 1 entry of activations" in text
    assert not folder.exists() and entry.exists()
    assert prepare_digits(tmp_path) == folder and run(capsys, tmp_path, "verify")[0] == 0


# --- clear ---


def test_clear_removes_activations_and_keeps_data_sets_unless_all_is_asked_for(tmp_path, capsys):
    entries, data = fill(tmp_path, "a", "b"), prepare_digits(tmp_path)
    status, text = run(capsys, tmp_path, "clear")
    assert status == 0 and "removed in all: 2 entries of activations, " in text
    assert "kept, removed with --all only: 1 prepared data set, " in text
    assert data.exists() and not any(entry.exists() for entry in entries)
    assert "removed in all: 1 prepared data set, " in run(capsys, tmp_path, "clear", "--all", "--yes")[1]
    assert list_items(tmp_path) == [] and not data.exists()
    np.testing.assert_array_equal(build(Store(tmp_path), key_of("a")), rows_of(0, key_of("a").shape[0])[0])


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
    Build(store, [key_of("a")], rows_of).work(0)
    with FileLock(data.with_suffix(".lock")):
        status, text = run(capsys, tmp_path, "clear", "--all")
        assert status == 0 and text.count("kept, in use: ") == 2 and data.exists()
    assert Build(store, [key_of("a")], rows_of).work(60).is_finished
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


# --- the command line ---


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["remove"], "invalid choice: 'remove'"),
        (["--all"], "--all can only be used with clear"),
        (["verify", "--damaged"], "--damaged can only be used with clear"),
        (["list", "--unused-days", "0"], "--unused-days can only be used with clear"),
        (["clear", "--json"], "--json can only be used with list"),
        (["clear", "--unused-days", "-1"], "--unused-days must be a number of days, 0 or more; got -1"),
        (["clear", "--unused-days", "nan"], "--unused-days must be a number of days, 0 or more; got nan"),
        (["clear", "--unused-days", "soon"], "invalid float value: 'soon'"),
        (["clear", "--damaged", "--all"], "--damaged cannot be used together with --all or --unused-days"),
        (["clear", "--damaged", "--unused-days", "3"], "--damaged cannot be used together with"),
    ],
)
def test_options_that_cannot_be_right_end_with_2_and_a_usage_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        parse_cache_options(arguments)  # not main: what is not refused must not clear the user's cache
    printed = capsys.readouterr().err
    assert end.value.code == 2 and printed.startswith("usage: python -m tuner.cache") and words in printed


def test_help_is_answered_without_loading_what_a_cache_needs():
    code = (
        "import sys\nfrom tuner.cache import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', [name for name in ('numpy', 'keras', 'tensorflow', 'ray', 'rich') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "exit status:" in result.stdout and result.stdout.endswith("loaded: []\n")


def test_the_module_runs_as_a_command_on_the_cache_of_the_environment(tmp_path):
    command = [sys.executable, "-m", "tuner.cache"]
    environment = os.environ | {"TUNER_CACHE": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert (result.returncode, result.stdout) == (0, f"the cache is empty: {tmp_path}\n")
