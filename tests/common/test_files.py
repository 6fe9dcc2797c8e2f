"""Where files may be written: seen before anything is, and nothing is made by looking."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import without_roots_rights
from tuner.common.command_line import CommandParser
from tuner.common.errors import InputError
from tuner.common.files import check_file, check_folder, remove_leftovers, replacing, shown, user_path, write_text


def test_a_folder_that_is_there_or_can_be_made_is_right_and_is_not_made(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path, tmp_path / "a", tmp_path / "a" / "b" / "c", Path("a"), Path("a/../b"), Path()):
        check_folder(path, "--runs")
        check_file(tmp_path / path / "x.csv", "--csv")
    (tmp_path / "link").symlink_to(tmp_path)
    check_folder(tmp_path / "link" / "x", "--runs")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_what_no_folder_can_be_made_of_is_refused_with_what_is_in_the_way(tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "round").symlink_to("round")
    for name, words in (
        ("file", "file is a file"),
        ("file/below/it", "file is a file"),
        ("pipe", "pipe is a pipe or a device"),
        ("gone", "gone: No such file or directory"),
        ("round/x", "round/x: Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
    ):
        with pytest.raises(InputError, match=f"--runs must be a folder that can be written to; .*{words}"):
            check_folder(tmp_path / name, "--runs")
    with pytest.raises(InputError, match=r"--runs must have a name that is text in UTF-8; got .*/\\xff"):
        check_folder(tmp_path / os.fsdecode(b"\xff"), "--runs")


READ_ONLY = """
import sys
from pathlib import Path
from tuner.common.errors import InputError
from tuner.common.files import check_folder

theirs = Path(sys.argv[1])
check_folder(theirs, "--cache", is_written=False)
try:
    check_folder(theirs / "x", "--runs")
except InputError as error:
    print(error)
"""


def test_a_folder_that_cannot_be_written_to_may_be_read_only(tmp_path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    command = [*without_roots_rights(), sys.executable, "-c", READ_ONLY, str(tmp_path / "theirs")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"--runs must be a folder that can be written to; .*theirs cannot be.*\n", said)


def test_a_file_that_would_replace_something_else_is_refused(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, words in (("folder", "a folder"), ("pipe", "a pipe or a device"), ("link", "a pipe or a device")):
        with pytest.raises(InputError, match=f"--csv must be a file; .*{name} is {words}"):
            check_file(tmp_path / name, "--csv")
    check_file(write_text(tmp_path / "x.csv", "old"), "--csv")


def test_a_path_of_no_user_is_refused_and_one_of_any_bytes_is_shown() -> None:
    with pytest.raises(InputError, match="~nobody-of-this-name/x: must begin with the home of a user that exists"):
        user_path("~nobody-of-this-name/x")
    assert user_path("~/x") == Path.home() / "x"
    assert shown(Path(os.fsdecode(b"a\xffb"))) == r"a\xffb"


def test_a_path_of_a_command_line_may_begin_with_a_home_that_the_shell_has_left_as_it_is():
    parser = CommandParser("export", "of a run")
    parser.add_argument("run", type=Path)
    parser.add_argument("--csv", type=Path)
    found = parser.parse_args(["~/runs/a", "--csv=~/trials.csv"])
    assert (found.run, found.csv) == (Path.home() / "runs" / "a", Path.home() / "trials.csv")
    assert parser.parse_args(["a", "--csv", "none"]).csv is None
    assert parser.parse_args(["~nobody-of-this-name/x"]).run == Path("~nobody-of-this-name/x")


def test_what_killed_processes_had_begun_to_write_is_removed_and_what_others_write_is_not(tmp_path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tuner.common.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as aside: aside.write_text('ha'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a" / "b" / "labels.json")], check=False)
    (left,) = (tmp_path / "a" / "b").iterdir()
    assert left.name.endswith(".partial")
    (tmp_path / ".mine.partial").write_text("x")
    with replacing(tmp_path / "a" / "best.json") as aside:
        aside.write_text("{}")
        remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [".mine.partial", "best.json"]
