"""The command line: help without a library of a search, options that cannot be right together, how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.wrong_files import RIGHT
from tuner import __version__
from tuner.common.command_line import split_assignments
from tuner.common.errors import InputError
from tuner.search import main
from tuner.session.options import parse_search_options

HEAVY = ("ray", "tensorflow", "keras", "optuna", "pandas", "matplotlib", "pyarrow", "sklearn", "numpy")


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_help_answers_without_loading_a_library_of_a_search():
    code = (
        "import sys\nfrom tuner.search import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    result = python(code)
    assert result.returncode == 0, result.stderr
    assert "usage: python -m tuner.search" in result.stdout and "exit status:" in result.stdout
    assert result.stdout.endswith("loaded: []\n")


def test_a_usage_error_loads_nothing_either():
    code = (
        "import sys\nfrom tuner.search import main\n"
        "try:\n    main(['--plan', '--inline', 'x.yaml'])\nexcept SystemExit as end:\n    assert end.code == 2\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert python(code).stdout == "[]\n"


def test_a_plan_is_made_without_ray_tensorflow_and_keras_where_no_data_are_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "right.yaml"
    path.write_text(RIGHT)
    code = (
        "import sys\nfrom tuner.search import main\nassert main([sys.argv[1], '--plan']) == 0\n"
        "print([name for name in ('ray', 'tensorflow', 'keras', 'matplotlib', 'sklearn') if name in sys.modules])"
    )
    result = python(code, str(path))
    assert result.stdout.endswith("\n[]\n"), result.stdout + result.stderr


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0 and capsys.readouterr().out == f"tuner {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "FILE must be given, for example search_spaces/digits.yaml"),
        (["--resume"], "FILE must be given"),
        (["--plan"], "FILE must be given"),
        (["x.yaml", "--plan", "--inline"], "--plan and --inline cannot be used together"),
        (["x.yaml", "--resume", "--fresh"], "--resume and --fresh cannot be used together"),
        (["x.yaml", "--inline", "--resume", "runs/x"], "--inline and --resume cannot be used together"),
        (["x.yaml", "--inline", "--dashboard"], "--dashboard and --inline cannot be used together"),
        (["x.yaml", "--dashboard", "--address", "auto"], "--dashboard and --address cannot be used together"),
        (["--retrain", "runs/x", "3", "--plan"], "--plan and --retrain cannot be used together"),
        (["--retrain", "runs/x", "three"], "--retrain RUN TRIAL: TRIAL must be a number; got 'three'"),
        (["--retrain", "runs/x", "-1"], "TRIAL must be a number; got '-1'"),
        (["--retrain", "runs/x"], "expected 2 arguments"),
        (["--retrain", "runs/x", "3", "x.yaml"], "--retrain trains by the file that RUN keeps: leave FILE out"),
        (["x.yaml", "y.yaml"], "unrecognized arguments: y.yaml"),
        (["x.yaml", "--plann"], "unrecognized arguments: --plann"),
        (["x.yaml", "--set"], "expected one argument"),
        (["x.yaml", "--insecure"], "--insecure belongs to --address"),
        (["x.yaml", "--storage", "s3://images", "--plan"], "--storage and --plan cannot be used together"),
        (["x.yaml", "--storage"], "expected one argument"),
        (["x.yaml", "--warm-start"], "expected at least one argument"),
        (["--resume", "runs/x", "--warm-start", "runs/y"], "--warm-start needs FILE"),
        (["x.yaml", "--resume", "--warm-start", "runs/y"], "--warm-start belongs to a new search"),
    ],
)
def test_options_that_cannot_be_right_end_with_2_and_a_usage_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: python -m tuner.search") and words in error


def test_options_are_read():
    options = parse_search_options(
        ["x.yaml", "--set", "a=1", "--set", "b=2", "--data", "c=d", "--runs", "r", "--resume"]
    )
    assert options.file == Path("x.yaml") and options.overrides == ("a=1", "b=2") and options.data == ("c=d",)
    assert options.runs_dir == Path("r") and options.reports_dir == Path("reports") and options.cache_dir is None
    assert options.resume == "" and options.retrain is None and not options.plan and not options.fresh


def test_a_run_is_named_for_resuming_and_for_retraining_and_a_cluster_with_its_storage():
    assert parse_search_options(["--resume", "runs/x"]).resume == "runs/x"
    assert parse_search_options(["x.yaml"]).resume is None
    options = parse_search_options(["x.yaml", "--address", "auto", "--storage", "s3://images", "--insecure"])
    assert (options.address, options.storage, options.insecure) == ("auto", "s3://images", True)
    assert parse_search_options(["--retrain", "runs/x", "3"]).retrain == (Path("runs/x"), 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml"], "missing.yaml: no such search-space file"),
        (["--resume", "missing"], "missing: not a run directory: it holds no record.jsonl"),
        (["--retrain", "missing", "3"], "missing: not a run directory: it holds no record.jsonl"),
        (["{file}", "--plan", "--data", "digits"], "--data must be NAME=VALUE; got 'digits'"),
        (
            ["{file}", "--plan", "--set", "search.trials=none"],
            "search.trials must be a whole number and cannot be none; got 'none'",
        ),
        (["{file}", "--resume"], "small: there is no search to resume; leave out --resume to begin one"),
        (["{file}", "--resume", "missing"], "missing: not a run directory"),
    ],
)
def test_wrong_input_ends_with_2_and_one_message(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "right.yaml").write_text(RIGHT)
    assert main([argument.format(file="right.yaml") for argument in arguments]) == 2
    output = capsys.readouterr()
    assert words in output.err and output.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["right.yaml"], "nothing is written"


@pytest.mark.parametrize("text", ["a", "=b", "a=", "="])
def test_an_assignment_needs_a_name_and_a_value(text):
    with pytest.raises(InputError, match=f"--data must be NAME=VALUE; got '{text}'"):
        split_assignments([text])


def test_the_value_of_an_assignment_may_hold_equals_signs_and_the_last_one_wins():
    assert split_assignments(["a=b=c", "d=1", "d=2"]) == {"a": "b=c", "d": "2"}
