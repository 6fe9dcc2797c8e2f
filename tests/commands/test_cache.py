"""`python -m tuner.cache`: what is kept is listed as it is, damage is found, nothing in use or foreign is removed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support import ROOT
from tests.support.make_cache import bring, fill, flip_last_bit, prepare_digits, run, statuses
from tests.support.needs import without_roots_rights
from tests.training.test_activation_store import ALL, LockOfAnotherUser, build, key_of
from tuner.cache import parse_cache_options
from tuner.training import activation_store, cache_contents
from tuner.training.activation_store import ARRAY, META, Store
from tuner.training.cache_contents import list_items

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
    assert run(capsys, path, "clear") == (2, f"the cache must be a folder that can be read; {path} is a file\n")


def test_the_list_tells_data_sets_and_activations_with_their_sizes(tmp_path, capsys):
    fill(tmp_path, "a", "b")
    prepare_digits(tmp_path)
    status, text = run(capsys, tmp_path)
    assert status == 0
    assert text.splitlines()[0].split() == ["data", "set", "what", "images", "size", "last", "used", "status"]
    assert text.count("whole") == 3 and "images 8x8x1, 10 classes (0, 1, 2, ...), train" in text
    assert "1 prepared data set and 2 entries of activations, " in text


def test_the_cache_of_another_user_is_listed_and_verified(tmp_path, capsys, monkeypatch):
    store = Store(tmp_path)
    build(store, key_of("a"))
    store.hold(store.folder(key_of("a")))
    prepare_digits(tmp_path)
    for room in (activation_store, cache_contents):
        monkeypatch.setattr(room, "FileLock", LockOfAnotherUser)
    assert {item.kind: item.in_use for item in list_items(tmp_path)} == {"activations": True, "datasets": False}
    assert run(capsys, tmp_path)[0] == 0
    status, text = run(capsys, tmp_path, "verify")
    assert status == 0 and text.startswith("whole: 1 prepared data set and 1 entry of activations, ")


@pytest.mark.parametrize(
    ("file", "listed"), [("data.json", True), (".contact_sheets.npz.7.partial", True), ("mine.txt", False)]
)
def test_a_data_set_with_an_account_of_it_is_listed_and_cleared_if_all_in_it_is_its_own(file, listed, tmp_path, capsys):
    account = prepare_digits(tmp_path) / f"account-{'0' * 24}"
    account.mkdir()
    (account / file).write_text("{}")
    assert [item.kind for item in list_items(tmp_path)] == ["datasets"] * listed
    assert run(capsys, tmp_path, "clear", "--all", "--yes")[0] == 0
    assert account.exists() is not listed


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
    assert (
        listed["size_bytes"]
        == sum(entry["size_bytes"] for entry in listed["entries"])
        > key_of("a").row_bytes * len(ALL)
    )


def test_a_data_set_has_the_name_that_its_activations_know(tmp_path):
    hashes = json.loads((prepare_digits(tmp_path) / META).read_text())["image_hashes"]
    assert [item.name for item in list_items(tmp_path)] == ["-"]
    key = key_of("a")
    object.__setattr__(key, "identity", {"images": hashes["train"], "array": "train"})
    object.__setattr__(key, "name", "digits")
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
    store.refuse(key_of("refused"), "values up to 70,000", ALL)
    store.create(key_of("unfinished"))
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


@pytest.mark.parametrize(("action", "found"), [("list", "whole, in use"), ("verify", "damaged: nothing")])
def test_a_cache_of_another_user_who_trains_can_be_looked_at(action, found, tmp_path):
    """Its locks, of entries in use and of data sets that have been made, are files that only their owner writes to."""
    without = without_roots_rights()
    (folder,), data = fill(tmp_path, "a"), prepare_digits(tmp_path)
    assert data.with_suffix(".lock").exists()
    store = Store(tmp_path)
    store.hold(folder)
    paths = [tmp_path, *tmp_path.rglob("*")]
    modes = [path.stat().st_mode for path in paths]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        command = [*without, sys.executable, "-m", "tuner.cache", action, "--cache", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)
        store.release()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(found) == 1 and done.stdout.count("whole") == (2 if action == "list" else 1)


@pytest.mark.parametrize("form", ["arrays", "table", "space"])
def test_what_a_program_has_brought_is_listed_verified_and_cleared_when_asked_for(form, tmp_path, capsys):
    path = bring(tmp_path, form)
    words = {"arrays": "arrays of a program, 9x8x3, train/test", "table": "table of a program, image, label"}
    status, text = run(capsys, tmp_path)
    assert status == 0 and words.get(form, "search-space file of a dictionary") in text and " whole" in text
    assert "\n1 file of programs, " in text and path.stem in text
    assert "whole: 1 file of programs" in run(capsys, tmp_path, "verify")[1]
    assert "kept, removed with --brought only: 1 file" in run(capsys, tmp_path, "clear", "--all", "--yes")[1]
    content = bytearray(path.read_bytes())
    content[len(content) // (3 if form == "arrays" else 8)] ^= 16  # among the pixels
    path.write_bytes(bytes(content))
    status, text = run(capsys, tmp_path, "verify")
    assert status == 1 and f"damaged: {path.stem}" in text
    assert "removed in all: 1 file of programs" in run(capsys, tmp_path, "clear", "--damaged", "--yes")[1]
    assert not path.exists()


def test_only_whole_files_of_programs_stay_without_being_asked_for(tmp_path, capsys):
    path = bring(tmp_path, "space")
    foreign = path.with_name("mine.npz")
    foreign.write_bytes(b"mine")
    (path.parent / ".arrays-0123456789abcdef.npz.4194304.partial").write_bytes(b"half")
    (path.parent / f".arrays-0123456789abcdef.npz.{os.getpid()}.partial").write_bytes(b"half")
    (path.parent / "arrays-0123456789abcdef.npz").write_bytes(b"no zip")
    assert statuses(tmp_path) == ["damaged", "unfinished", "unfinished", "whole"]
    status, text = run(capsys, tmp_path, "clear", "--yes")
    assert status == 0 and "removed in all: 2 files of programs" in text and "in use" in text
    assert statuses(tmp_path) == ["unfinished", "whole"] and foreign.exists()
    assert "removed in all: 1 file of programs" in run(capsys, tmp_path, "clear", "--brought", "--yes")[1]


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


@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy"])
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
        (["clear", "--damaged", "--all"], "--damaged cannot be used together with --all, --brought or --unused-days"),
        (["clear", "--damaged", "--brought"], "--damaged cannot be used together with"),
        (["--brought"], "--brought can only be used with clear"),
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
