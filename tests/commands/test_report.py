"""`python -m tuner.report`: what it writes, what it refuses, what it loads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.parsers.expat import ParserCreate

import pyarrow.parquet as pq
import pytest

from tests.support import ROOT
from tests.support.make_record import (
    epoch,
    make_events,
    make_state,
    small_state,
    study_created,
    trial_ended,
    trial_started,
    write_record,
)
from tuner.common.errors import InputError, TunerError
from tuner.report import _FORMATS, main
from tuner.reports.figures.registry import FIGURES, FORMATS
from tuner.reports.tables import TABLES
from tuner.reports.writer import retrain_command, write_report
from tuner.runs.events import SessionEnded
from tuner.runs.state import RunState


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The run directory of a small search, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path / "runs" / "cifar100" / "record.jsonl", make_events(30))
    return Path("runs/cifar100")


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


OF_PREDICTIONS = {"confusion", "class_accuracy", "confident_mistakes", "predictions", "variants"}
OF_OTHERS = {"pareto", "probes"}
DRAWN = [name for name in FIGURES if name not in OF_PREDICTIONS | OF_OTHERS]
"""What a search with one metric, without finalists and probes has to show."""
OF_TABLES = {f"{name}.parquet" for name in TABLES}
EVERYTHING = (
    {"index.html", "leaderboard.md"} | OF_TABLES | {f"figures/{name}.{suffix}" for name in DRAWN for suffix in FORMATS}
)


AS_PIXELS = {name for name in EVERYTHING if not name.endswith(".svg")}


def root_element(path: Path) -> str:
    """Return the name of the outermost element of a well-formed file."""
    found: list[str] = []
    parser = ParserCreate()
    parser.StartElementHandler = lambda name, _attributes: found.append(name)
    parser.Parse(path.read_bytes(), True)
    return found[0]


def test_figures_are_written_in_both_formats_and_a_second_report_replaces_the_first(run, capsys):
    """The one test of figures as SVG: they take long to write."""
    report, before = Path("reports/cifar100"), (files_in(run), (run / "record.jsonl").read_bytes())
    assert main([str(run)]) == 0
    assert files_in(report) == EVERYTHING
    assert set(capsys.readouterr().out.split()) == {f"reports/cifar100/{name}" for name in EVERYTHING}
    assert "data:image/svg+xml;base64," in (report / "index.html").read_text(encoding="utf-8")
    drawings = [name for name in EVERYTHING if name.endswith(".svg")]
    assert len(drawings) == len(DRAWN) and {root_element(report / name) for name in drawings} == {"svg"}
    first = {name: (report / name).read_bytes() for name in EVERYTHING}
    assert main([str(run / ".." / "cifar100" / ".")]) == 0
    assert {name: (report / name).read_bytes() for name in EVERYTHING} == first
    assert (files_in(run), (run / "record.jsonl").read_bytes()) == before, "the run is left alone"
    write_record(Path("runs/small/record.jsonl"), make_events(1))
    assert main(["runs/small", "--format", "svg"]) == 0
    figures = {path.name for path in Path("reports/small/figures").iterdir()}
    assert "winner.svg" in figures and {Path(name).suffix for name in figures} == {".svg"}
    text = Path("reports/small/leaderboard.md").read_text(encoding="utf-8")
    assert all(f"](figures/{name})" in text for name in figures)


def test_a_report_is_written_beside_the_runs_and_its_files_are_printed(run, capsys):
    assert main([str(run), "--format", "png"]) == 0
    assert files_in(Path("reports/cifar100")) == AS_PIXELS
    printed = capsys.readouterr().out.split()
    assert set(printed) == {f"reports/cifar100/{name}" for name in AS_PIXELS}
    assert printed[0] == "reports/cifar100/index.html"
    text = Path("reports/cifar100/leaderboard.md").read_text(encoding="utf-8")
    assert all(f"](figures/{name}.png)" in text for name in DRAWN)


def test_the_output_can_be_chosen(run):
    assert main([str(run), "--output", "a/b", "--format", "png"]) == 0
    assert files_in(Path("a/b")) == AS_PIXELS
    assert not Path("reports").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: not a run directory: it holds no record.jsonl\n"),
        (["runs"], "runs: not a run directory: it holds no record.jsonl\n"),
        (["runs/cifar100/record.jsonl"], "record.jsonl: not a run directory"),
        (["runs/broken"], "record.jsonl:1: not an event of record version"),
        (["runs/other"], "record version must be 7 or 8 or 9 or 10; got 99"),
        (["runs/metric"], "unknown metric 'val_acc'; did you mean 'val_accuracy'?"),
        (
            ["runs/cifar100", "--output", "file"],
            "the place of the report must be a folder that can be written to; ",
        ),
        (["runs/cifar100", "--output", "file/below"], "file is a file"),
    ],
)
def test_what_cannot_be_reported_is_one_line_with_status_2_and_nothing_written(run, capsys, arguments, words):
    (run.parent / "broken").mkdir()
    (run.parent / "broken" / "record.jsonl").write_text("not json\n")
    write_record(run.parent / "other" / "record.jsonl", [study_created(schema_version=99)])
    write_record(run.parent / "metric" / "record.jsonl", [study_created(metric="val_acc")])
    Path("file").write_text("a file")
    before = files_in(Path())
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert files_in(Path()) == before
    assert not Path("reports").exists()


@pytest.mark.parametrize("arguments", [[], ["--all", "b"], ["runs/cifar100", "--format", "gif"], ["--frobnicate"]])
def test_a_wrong_command_line_is_status_2_with_the_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m tuner.report" in capsys.readouterr().err


def test_the_formats_of_the_command_are_those_of_the_figures():
    assert _FORMATS == FORMATS


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom tuner.report import main\ntry:\n    main(['--help'])\nexcept SystemExit as end:\n"
        "    print(end.code, sorted({'ray','tensorflow','keras','pandas','numpy','pyarrow','matplotlib','optuna',"
        "'pydantic','jinja2','scipy','sklearn'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "usage: python -m tuner.report [-h]" in result.stdout
    assert result.stdout.splitlines()[-1] == "0 []"


def test_the_command_runs_as_a_module(run):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tuner.report", str(run), "--format", "png"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert Path("reports/cifar100/leaderboard.md").exists()


STATES = {
    "empty": (RunState(), "The record is empty", 0),
    "no trials": (small_state(), "No trial has a result yet", 0),
    "one running": (small_state(trial_started(0)), "No trial has a result yet", 1),
    "one trial": (small_state(trial_started(0), epoch(0, 1, 0.5), trial_ended(0), SessionEnded(reason="finished")),
                  "Trial 0 (cnn), the baseline, won with val_accuracy 50.00%", 1),
    "all failed": (small_state(*(e for n in range(3) for e in (trial_started(n), trial_ended(n, "failed", "x")))),
                   "all have failed", 3),
    "running": (make_state(9, end=None), "is ahead with", 9),
    "interrupted": (make_state(9, end="interrupted"), "is ahead with", 9),
}  # fmt: skip


@pytest.mark.parametrize("name", STATES)
def test_every_state_of_a_run_gives_a_right_report(name, tmp_path):
    state, words, rows = STATES[name]
    paths = write_report(state, tmp_path / "report", formats=["png"])
    assert words in paths.leaderboard.read_text(encoding="utf-8")
    assert len(pq.read_table(paths.tables["trials"])) == rows
    assert len(pq.read_table(paths.tables["epochs"])) == sum(len(trial.epochs) for trial in state.trials.values())
    assert all(path.exists() for path in paths.figures)
    assert any(path.stem == "winner" for path in paths.figures) == (state.best_trial() is not None)


def test_a_full_disk_is_one_error_and_leaves_no_half_files(tmp_path, monkeypatch):
    def full(self, *_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(TunerError, match=r"report: the report cannot be written: No space left on device"):
        write_report(make_state(4), tmp_path / "report")
    assert files_in(tmp_path / "report") == OF_TABLES


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"the place of the report must be a folder that can be written to; .*file is a file"
    ):
        write_report(make_state(2), tmp_path / "file")


def test_the_retrain_command_names_the_run_the_winner_and_its_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my runs" / "x"
    folder.mkdir(parents=True)
    command = ["search.py", "x.yaml", "--data", "a=folder:/some where", "--set", "search.trials=3", "--cache=/c"]
    state = small_state(trial_started(4), epoch(4, 1, 0.5), command=command)
    assert retrain_command(folder, state) is None  # without the specification it could not run
    (folder / "specification.yaml").touch()
    assert retrain_command(folder, state) == (
        "python -m tuner.search --retrain 'my runs/x' 4 --data 'a=folder:/some where' --cache=/c"
    )
    assert retrain_command(folder, small_state()) is None
    assert retrain_command(folder, RunState()) is None


def test_the_retrain_command_is_one_that_the_search_understands(tmp_path, monkeypatch):
    import shlex

    from tuner.session.options import parse_search_options

    monkeypatch.chdir(tmp_path)
    Path("x").mkdir()
    Path("x/specification.yaml").touch()
    command = retrain_command(Path("x"), small_state(trial_started(4), epoch(4, 1, 0.5), command=["--data", "a=b"]))
    options = parse_search_options(shlex.split(command)[3:])
    assert (options.retrain, options.data) == ((Path("x"), 4), ("a=b",))


def test_the_report_shows_the_retrain_command_where_it_can_be_run(run):
    assert main([str(run), "--format", "png"]) == 0
    assert "--retrain" not in Path("reports/cifar100/leaderboard.md").read_text(encoding="utf-8")
    (run / "specification.yaml").touch()
    assert main([str(run), "--format", "png"]) == 0
    assert "python -m tuner.search --retrain runs/cifar100 " in Path("reports/cifar100/leaderboard.md").read_text(
        encoding="utf-8"
    )
