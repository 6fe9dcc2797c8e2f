"""`python -m tuner.data`: what it prints, as text, as JSON, as a page; what it refuses; what it loads and leaves."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.reports.test_page import EVIL, Parsed
from tests.support import ROOT
from tests.support.bad_input import Case
from tests.support.make_data import make_folder, picture
from tests.support.wrong_data import DATA
from tests.support.wrong_files import RIGHT
from tuner.data import main
from tuner.datasets.account.facts import load_account

FIELDS = {
    "version", "source", "images", "classes", "splits", "sizes", "colours", "broken", "is_decoded", "copies",
    "conflicts", "imbalance", "groups", "weights", "notices", "refusals", "advice", "group_guess",
}  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """A folder to work in, with pets of two classes, one of them larger."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUNER_DATA", "")
    make_folder(tmp_path / "pets", {"cat": 40, "dog": 11})
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_text_tells_classes_splits_and_what_is_wrong(place, capsys) -> None:
    (place / "pets" / "cat" / "torn.png").write_bytes(b"x")
    (place / "pets" / "notes.txt").touch()
    status, text, error = run(capsys, "folder:pets")
    assert status == 0 and not error
    assert "cat        40  78.4%" in text and "51 images of 2 classes, and 1 broken one" in text
    assert re.search(r"broken +cat/torn\.png \(train\) is not an image", text)
    assert "made by tuner: 20% of the training images" in text and "1 .txt file (notes.txt)" in text
    assert "right so often" in text and "val_balanced_accuracy" in text
    assert not any(line != line.rstrip() for line in text.splitlines()), "nothing stands behind a line"


def test_json_is_one_document_with_the_names_that_the_page_lists(capsys) -> None:
    status, text, error = run(capsys, "folder:pets", "--json")
    values = json.loads(text)
    assert status == 0 and not error and set(values) == FIELDS
    assert values["classes"][0] == {"name": "cat", "images": 40, "splits": {"train": 40}}
    described = (ROOT / "docs" / "look_at_data.md").read_text()

    def names(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(names, value))
        own = {"splits", "bits", "formats"}  # these have names of the data below them
        if isinstance(value, dict):
            return set(value).union(
                *(names(each) for key, each in value.items() if key not in own or isinstance(each, list))
            )
        return set()

    assert not [name for name in names(values) if f"`{name}`" not in described]


def test_json_is_read_back_whatever_the_locale(place, tmp_path) -> None:
    make_folder(place / "names", {"שלום": 2, "été 🐟\u202e": 3})
    command = [sys.executable, "-m", "tuner.data", "folder:names", "--json"]
    environment = {"PYTHONPATH": str(ROOT), "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "HOME": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=place, check=True)
    assert {one["name"] for one in json.loads(result.stdout)["classes"]} == {"שלום", "été 🐟\u202e"}
    (place / "data.json").write_text(result.stdout)
    assert load_account(place / "data.json") is not None


def test_a_search_space_file_stands_for_its_data_and_what_else_is_wrong_in_it_does_not_matter(place, capsys) -> None:
    (place / "right.yaml").write_text(RIGHT.replace("max_epochs:", "max_epoch:") + "\nnonsense: 1\n")
    status, text, _ = run(capsys, "right.yaml", "--set", "data.source=folder:pets", "--set", "search.seed=3")
    assert status == 0 and "folder:pets" in text and "seed 3" in text


def test_the_seed_that_is_set_parts_the_images_of_a_source_too(place, capsys) -> None:
    status, text, _ = run(capsys, "folder:pets", "--set", "search.seed=3")
    assert status == 0 and "seed 3" in text


WRONG = {
    "no such source": (["digit"], "did you mean 'digits'?"),
    "no folder": (["folder:gone"], "folder:gone must name a folder or file that exists"),
    "a wrong setting": (["digits", "--set", "data.layot=classes"], "unknown setting 'layot'; did you mean 'layout'?"),
    "a wrong value": (["folder:pets", "--set", "data.image_px=3"], "data.image_px must be"),
    "a wrong seed": (["folder:pets", "--set", "search.seed=x"], "search.seed must be a whole number"),
    "a setting of nothing": (["folder:pets", "--set", "data"], "--set data must be written key=value"),
    "a file that is not there": (["gone.yaml"], "gone.yaml: no such search-space file"),
    "a layout of no folder": (["digits", "--set", "data.layout=classes"], "only folders have a layout"),
    "a page in a file": (["digits", "--page", "file/page.html"], "must be a folder that can be written to"),
    "a page over a folder": (["digits", "--page", "pets"], "--page must be a file; pets is a folder"),
    "a copy without a source": (["digits", "--data", "x"], "--data must be NAME=VALUE"),
    "a cache that is a file": (["digits", "--cache", "file"], "must be a folder that can be read"),
    "a path without its kind": (["pets"], "folder:pets"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(case, place, capsys) -> None:
    (place / "file").touch()
    arguments, message = WRONG[case]
    before = sorted(place.rglob("*"))
    status, text, error = run(capsys, *arguments)
    assert status == 2 and not text and message in error
    assert error.count("\n") == 1 and sorted(place.rglob("*")) == before


@pytest.mark.parametrize("name", DATA)
def test_every_kind_of_wrong_data_is_told_or_refused_in_a_line(name, place, capsys, monkeypatch) -> None:
    case: Case = DATA[name]
    if case.is_real or case.is_guarded:
        return  # what would take this process along is run by the test of bad input
    work = place / "work"
    work.mkdir()
    case.make(work)
    monkeypatch.chdir(work)
    for variable, value in case.environment.items():
        monkeypatch.setenv(variable, value)
    options = case.command.split()
    data = options[options.index("--data") :][:2] if "--data" in options else []
    status, text, error = run(capsys, "right.yaml", *data)
    assert status in (0, 2) and (status == 0 or error.count("\n") == 1), error
    assert "Traceback" not in text + error


# --- pages ---


def test_a_page_is_whole_fetches_nothing_and_runs_nothing(place, capsys) -> None:
    (place / "pets" / "cat" / f"{EVIL.replace('/', '')}.png").touch()
    folder = place / "pets" / EVIL.replace("/", "")
    folder.mkdir()
    for value in range(3):
        picture(value).save(folder / f"{value}.png")
    status, _, _ = run(capsys, "folder:pets", "--page", "page.html")
    parsed = Parsed((place / "page.html").read_text(encoding="utf-8"))
    assert status == 0 and not parsed.open and not parsed.all("script")
    assert not any(attribute.startswith("on") for _, found in parsed.elements for attribute in found)
    images = parsed.all("img")
    assert len([one for one in images if "images of the class" in str(one["alt"])]) == 3 and all(
        str(one["src"]).startswith("data:image/jpeg;base64,") and one["alt"] for one in images
    )
    policy = next(meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy and "script-src" not in policy
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_page_without_a_name_takes_one_that_is_free(place, capsys) -> None:
    for _ in range(3):
        status, text, _ = run(capsys, "folder:pets", "--page")
        assert status == 0
    pages = sorted(path.name for path in place.glob("*.html"))
    assert pages == ["data-pets-2.html", "data-pets-3.html", "data-pets.html"] and text.endswith("data-pets-3.html\n")


def test_a_page_lies_in_the_home_that_the_shell_has_left(place, capsys, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(place / "home"))
    (place / "home").mkdir()
    assert run(capsys, "folder:pets", "--quick", "--page=~/pets.html")[0] == 0
    assert (place / "home" / "pets.html").is_file() and not (place / "~").exists()


@pytest.mark.parametrize("source", ["digits", "folder:pets/", "folder:./.", "folder:../odd name é<>&"])
def test_the_name_of_a_page_is_a_plain_one(source, place, capsys, monkeypatch) -> None:
    make_folder(place / "odd name é<>&", {"a": 2, "b": 2})
    monkeypatch.chdir(place / "pets")
    run(capsys, source.replace("pets/", "../pets/"), "--page")
    (page,) = (place / "pets").glob("*.html")
    assert re.fullmatch(r"data-[\w-]+\.html", page.name)


def test_with_json_the_page_is_named_on_standard_error(capsys) -> None:
    _, text, error = run(capsys, "folder:pets", "--json", "--page", "x.html")
    assert json.loads(text) and error == "x.html\n"


def test_many_classes_are_told_by_the_largest_and_smallest_and_some_sheets(place, capsys) -> None:
    make_folder(place / "many", {f"c{number:03d}": 1 + number % 7 for number in range(90)})
    _, text, _ = run(capsys, "folder:many", "--page", "x.html")
    assert "50 classes between them, of 2 to 6 images, are not shown" in text
    page = (place / "x.html").read_text(encoding="utf-8")
    of_classes = [one for one in Parsed(page).all("img") if "images of the class" in str(one["alt"])]
    assert len(of_classes) == 60 and "60 of 90 classes" in page


def test_a_narrow_terminal_cuts_nothing(place, capsys, monkeypatch) -> None:
    (place / "pets" / "cat" / f"{'long' * 40}.png").touch()
    monkeypatch.setenv("COLUMNS", "40")
    _, text, _ = run(capsys, "folder:pets")
    assert "long" * 40 in text, "to a pipe lines are as long as they must be"


def test_help_and_looking_load_nothing_of_a_search(place) -> None:
    code = (
        "import sys\nfrom tuner.data import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([name for name in ('numpy', 'PIL', 'rich', 'sklearn') if name in sys.modules])\n"
        "main(['folder:pets'])\n"
        "print([one for one in ('ray', 'tensorflow', 'keras', 'optuna', 'matplotlib') if one in sys.modules])"
    )
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(place)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=place, check=True
    )
    assert "exit status:" in result.stdout and "\n[]\n" in result.stdout and result.stdout.endswith("[]\n")


def test_a_reader_that_has_had_enough_ends_it_quietly(place) -> None:
    Image.new("RGB", (4, 4)).save(place / "pets" / "cat" / "one more.png")
    command = f"{sys.executable} -m tuner.data folder:pets | head -1"
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(place), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=place,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "folder:pets\n", "")
