"""Trackers as options name them: chosen, refused before a search, remembered without passwords, offered by packages."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.documents import blocks
from tests.support.make_record import make_events, write_record
from tuner.common.errors import InputError, PluginError
from tuner.common.plugins import forget_plugins, load_plugins
from tuner.runs.directory import RunDirectory
from tuner.session.options import parse_search_options
from tuner.trackers.feed import deliver
from tuner.trackers.opening import kept_files, make_trackers, tracking
from tuner.trackers.options import trackers_asked_for

ASKED: dict[tuple[str, ...], tuple[str, ...] | None] = {
    (): None,
    ("--mlflow",): ("mlflow",),
    ("--mlflow", "http://host"): ("mlflow=http://host",),
    ("--mlflow", "none"): None,
    ("--tensorboard", "tb"): ("tensorboard=tb",),
    ("--mlflow", "--tensorboard", "tb"): ("mlflow", "tensorboard=tb"),
    ("--tracker", "lines"): ("lines",),
    ("--tracker", "lines=a=b", "--tracker", "other"): ("lines=a=b", "other"),
    ("--tracker", "none"): (),
    ("--tracker", "off", "--mlflow"): ("mlflow",),
}


@pytest.mark.parametrize("words", ASKED, ids=" ".join)
def test_the_options_say_which_trackers_are_told(words: tuple[str, ...]) -> None:
    assert parse_search_options(["space.yaml", *words]).trackers == ASKED[words]


@pytest.mark.parametrize("mode", ["--plan", "--inline"])
@pytest.mark.parametrize("words", [("--mlflow",), ("--tensorboard", "tb"), ("--tracker", "lines")])
def test_what_keeps_no_record_tells_no_tracker(mode: str, words: tuple[str, ...], capsys) -> None:
    with pytest.raises(SystemExit):
        parse_search_options(["space.yaml", mode, *words])
    assert f"{words[0]} and {mode} cannot be used together" in capsys.readouterr().err


def test_no_usage_line_shows_a_password(capsys) -> None:
    with pytest.raises(SystemExit):
        parse_search_options(["space.yaml", "--mlfow", "http://me:secret@host"])
    assert "secret" not in capsys.readouterr().err


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "runs" / "small")
    write_record(run.record, make_events(2))
    return run


def test_a_run_that_goes_on_has_the_trackers_it_had_but_for_passwords(run, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tuner.trackers.feed.END_S", 0.0)
    asked = ["mlflow=http://me:secret@127.0.0.1:9", "mlflow", f"tensorboard={tmp_path / 'tb'}"]
    trackers = make_trackers(asked, run, goes_on=False)
    said: list[str] = []
    with tracking(trackers, run, tmp_path, said.append):
        pass
    assert "secret" not in run.trackers.read_text() + "".join(said)
    assert json.loads(run.trackers.read_text())[0] == "mlflow=http://127.0.0.1:9"
    again = make_trackers(None, run, goes_on=True)
    assert [one.label for one in again] == [one.label for one in trackers]
    assert make_trackers(None, run, goes_on=False) == ()
    assert make_trackers((), run, goes_on=True) == ()
    with tracking((), run, tmp_path, said.append):
        pass
    assert make_trackers(None, run, goes_on=True) == ()


def test_a_file_in_a_folder_with_an_at_sign_is_told_of_again_when_the_search_goes_on(run, tmp_path) -> None:
    file = tmp_path / "me@firm" / "all.db"
    file.parent.mkdir()
    trackers = make_trackers([f"mlflow=sqlite:///{file}"], run, goes_on=False)
    run.trackers.write_text(json.dumps([one.asked for one in trackers]))
    assert [one.label for one in make_trackers(None, run, goes_on=True)] == [f"mlflow (sqlite:///{file})"]


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '["mlflw"]', '["mlflow=htp://host"]', "\xff"])
def test_trackers_that_cannot_be_remembered_are_refused_with_the_way_on(text: str, run) -> None:
    run.trackers.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="--tracker none goes on without it"):
        make_trackers(None, run, goes_on=True)


def test_mlflow_without_its_package_is_refused_with_its_name(run, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(InputError, match="--mlflow needs the package mlflow-skinny: pip install mlflow-skinny"):
        make_trackers(["mlflow"], run, goes_on=False)


def test_mlflow_is_where_its_variable_says(run, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    (told,) = make_trackers(["mlflow"], run, goes_on=False)
    assert told.label == "mlflow (http://elsewhere:5000)" and told.asked == "mlflow"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (told,) = make_trackers(["mlflow"], run, goes_on=False)
    assert told.label == f"mlflow (sqlite:///{run.path.parent / 'mlflow.db'})"


# --- trackers of installed packages ---


def lines_of_the_page() -> str:
    """The tracker of docs/trackers.md."""
    return next(block.text for block in blocks(ROOT / "docs" / "trackers.md") if "class Lines" in block.text)


BROKEN = {
    "lines_refusing": ("def Wrong(place, run): pass", "it registers nothing and is no type"),
    "lines_of_no_tracker": ("class Wrong: pass", "must be a class derived from tuner.trackers.tracker.Tracker"),
    "lines_unbuilt": ("import not_there", "No module named 'not_there'"),
    "lines_raising": (
        "from tuner.trackers.tracker import Tracker\nclass Wrong(Tracker):\n"
        "  def __init__(self, place, run): raise ValueError(f'{place} is too far')",
        "http://***@host is too far",
    ),
    "lines_needing": (
        "from tuner.trackers.tracker import Tracker\nclass Wrong(Tracker):\n"
        "  def __init__(self, place, run): import not_there",
        "needs a package that is not installed: ModuleNotFoundError: No module named 'not_there'",
    ),
}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder for sys.path with an installed package that offers the tracker of the page, and broken ones."""
    folder = tmp_path / "packages"
    offered = {"lines": ("lines_tracker", "Lines", lines_of_the_page())}
    offered |= {name: (f"{name}_module", "Wrong", text) for name, (text, _) in BROKEN.items()}
    for name, (module, value, text) in offered.items():
        about = folder / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[tuner.trackers]\n{name} = {module}:{value}\n")
        (folder / f"{module}.py").write_text(text)
    return folder


def export(run: RunDirectory, packages: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(packages)!r}); from tuner.export import main; sys.exit(main())"
    command = [sys.executable, "-c", program, str(run.path), *words]
    return subprocess.run(command, cwd=packages.parent, capture_output=True, text=True, check=False)


def test_the_tracker_of_the_page_is_told_of_a_run(run, packages) -> None:
    done = export(run, packages, "--tracker", "lines=values.txt")
    assert done.returncode == 0 and "lines (values.txt): " in done.stdout, done.stderr
    epochs = run.record.read_text().count('"event":"epoch"')
    assert len((packages.parent / "values.txt").read_text().splitlines()) == epochs


def test_the_tracker_of_a_plugin_is_told_as_one_of_a_package_is(run, tmp_path) -> None:
    plugin, target = tmp_path / "lines_plugin.py", tmp_path / "values.txt"
    plugin.write_text("import tuner\n" + lines_of_the_page().replace("class Lines", "@tuner.tracker\nclass Lines"))
    try:
        (loaded,) = load_plugins([str(plugin)])
        assert loaded.registered == (("tracker", "lines"),)
        (told,) = make_trackers([f"lines={target}"], run, goes_on=False)
        deliver(told, run.record, {})
        assert len(target.read_text().splitlines()) == run.record.read_text().count('"event":"epoch"')
        with tracking([told], run, tmp_path, lambda _text: None):
            pass
        assert [one.label for one in make_trackers(None, run, goes_on=True)] == [told.label]
    finally:
        forget_plugins()
    with pytest.raises(InputError, match=r"unknown tracker 'lines'.*--tracker none goes on without it"):
        make_trackers(None, run, goes_on=True)


WRONG_TRACKERS = {
    "class Own: pass": r"own_tracker.py:2: tracker own: .* a class derived from tuner.Tracker",
    "def own(): pass": r"own_tracker.py:2: tracker own: .* a class derived from tuner.Tracker",
    "class Own(tuner.Tracker): pass": r"own_tracker.py:2: tracker own: .* must have __init__ and take of its own",
    "class Mlflow(tuner.Tracker):\n  def __init__(self, place, run): pass\n  def take(self, happened): pass": (
        r"own_tracker.py:2: tracker 'mlflow' is registered already, as tuner's own"
    ),
}


@pytest.mark.parametrize("text", WRONG_TRACKERS)
def test_a_wrong_tracker_of_a_plugin_is_told_by_file_and_line(text: str, tmp_path) -> None:
    (tmp_path / "own_tracker.py").write_text(f"import tuner\n@tuner.tracker\n{text}\n")
    with pytest.raises(PluginError, match=WRONG_TRACKERS[text]):
        load_plugins([str(tmp_path / "own_tracker.py")])


def test_a_tracker_that_cannot_be_had_is_refused_in_a_line(run, packages) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(packages)!r})\n"
        "from pathlib import Path; from tuner.runs.directory import RunDirectory\n"
        "from tuner.trackers.opening import make_trackers\n"
        "for name in sys.argv[2:]:\n"
        "  try: make_trackers([f'{name}=http://me:secret@host'], RunDirectory(Path(sys.argv[1])), goes_on=False)\n"
        "  except Exception as error: print(name, type(error).__name__, error)  # whatever a broken package raises"
    )
    command = [sys.executable, "-c", program, str(run.path), *BROKEN, "lines_nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == len(BROKEN) + 1, done.stdout
    for line, (name, (_, words)) in zip(said, BROKEN.items(), strict=False):
        assert line.startswith(f"{name} ") and "Error" in line.split()[1] and words in line
    assert "unknown tracker 'lines_nowhere'" in said[-1] and "(known: lines, " in said[-1]
    assert "secret" not in done.stdout


def test_asking_needs_no_option_of_a_search() -> None:
    parsed = argparse.Namespace(mlflow=None, tensorboard=None, trackers=["a"])
    assert trackers_asked_for(argparse.ArgumentParser(), parsed) == ("a",)


@pytest.mark.parametrize("name", ["best.keras", "best.npz"])
def test_the_best_model_of_whatever_kind_is_among_what_trackers_keep(tmp_path: Path, name: str) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    (run.path / name).touch()
    assert run.exported is not None and kept_files(run, tmp_path / "report")[f"model/{name}"] == run.exported
