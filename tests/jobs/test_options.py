"""The command line of `python -m tuner.submit`, and what of it becomes the search on the cluster."""

from __future__ import annotations

import json
import shlex
from pathlib import Path, PurePosixPath

import pytest

from tests.end_to_end.test_cli import HEAVY, python
from tests.support.make_data import make_folder
from tests.support.make_search import write_file
from tests.support.wrong_files import RIGHT
from tuner.common.errors import InputError
from tuner.jobs._upload import Package
from tuner.jobs.options import COMMANDS, parse_submit_options
from tuner.jobs.submission import job_of, read_search, resume_command
from tuner.session.options import parse_search_options
from tuner.spec.spec import load_spec
from tuner.submit import main

NOTHING_SENT = Package(None, None, ())


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_answers_without_loading_a_library(words):
    code = (
        f"import sys\nfrom tuner.submit import main\ntry:\n    main({words})\n"
        "except SystemExit as end:\n    assert not end.code\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    result = python(code)
    assert result.stdout.startswith("usage: python -m tuner.submit") and result.stdout.endswith("loaded: []\n")


def test_a_first_word_that_is_a_command_is_one_and_everything_else_is_a_file(monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert parse_submit_options(["status"]).command == "status"
    assert parse_submit_options(["./status"]).file == Path("status")
    assert parse_submit_options(["fetch", "small", "--to", "x"]).to == Path("x")
    assert parse_submit_options(["x.yaml"]).address == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:1")
    assert parse_submit_options(["x.yaml"]).address == "http://head:1"
    assert parse_submit_options(["x.yaml", "--address", "http://head:2"]).address == "http://head:2"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["follow"], "the following arguments are required: ID"),
        (["status", "a", "b"], "unrecognized arguments: b"),
        (["logs", "a", "--to", "x"], "unrecognized arguments: --to x"),
        (["x.yaml", "--resume", "--fresh"], "--resume and --fresh cannot be used together"),
    ],
)
def test_options_that_cannot_be_right_end_with_2_and_a_usage_line(words, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 2 and message in capsys.readouterr().err


def arguments(*words: str, package: Package = NOTHING_SENT) -> list[str]:
    """What the search on the cluster is given."""
    found = job_of(parse_submit_options(["searches/small.yaml", *words]), package)["search"]
    assert isinstance(found, list)
    return found


def test_the_search_on_the_cluster_is_given_what_was_typed_here():
    typed = ("--set", "search.trials=8", "--set", "study=a b; rm -rf /", "--data", "digits=npz:/x", "--no-finalists")
    options = parse_search_options(arguments(*typed, "--fresh", "--cache", "/local/cache"))
    assert options.file == Path("small.yaml") and options.address == "auto" and options.fresh
    assert options.overrides == ("search.trials=8", "study=a b; rm -rf /", "finalists.count=0")
    assert options.data == ("digits=npz:/x",) and options.cache_dir == Path("/local/cache")
    assert options.runs_dir == Path("/shared/tuner/runs") and options.reports_dir == Path("/shared/tuner/reports")
    assert parse_search_options(arguments("--shared", "/nfs")).runs_dir == Path("/nfs/runs")
    assert parse_search_options(arguments("--storage", "s3://images")).storage == "s3://images"
    assert parse_search_options(arguments("--resume")).resume == ""


def test_what_says_here_how_gpus_are_used_says_so_on_the_cluster(monkeypatch):
    options = parse_submit_options(["small.yaml"])
    monkeypatch.setenv("TUNER_PRECISION", "float32")
    assert job_of(options, NOTHING_SENT)["switches"] == {"TUNER_PRECISION": "float32"}
    monkeypatch.setenv("TUNER_XLA", "perhaps")
    with pytest.raises(InputError, match="TUNER_XLA must be auto, on or off; got 'perhaps'"):
        job_of(options, NOTHING_SENT)


TRACKERS: dict[tuple[str, ...], tuple[str, ...] | None] = {
    (): None,
    ("--tracker", "none"): (),
    ("--mlflow",): ("mlflow",),
    ("--mlflow", "http://host:5000", "--tensorboard", "/nfs/tb"): ("mlflow=http://host:5000", "tensorboard=/nfs/tb"),
    ("--mlflow", "sqlite:////nfs/mlflow.db"): ("mlflow=sqlite:////nfs/mlflow.db",),
    ("--tracker", "lines=a b=c", "--resume"): ("lines=a b=c",),
}


@pytest.mark.parametrize("words", TRACKERS, ids=" ".join)
def test_trackers_are_told_from_the_cluster(words):
    assert parse_search_options(arguments(*words)).trackers == TRACKERS[words]


@pytest.mark.parametrize("option", ["--mlflow", "--tracker=mlflow", "--tracker=own", "--tensorboard"])
def test_no_job_is_given_a_password(option, capsys):
    words = [f"{option}=http://me:secret@host"] if "=" in option else [option, "http://me:secret@host"]
    with pytest.raises(SystemExit):
        parse_submit_options(["small.yaml", *words])
    said = capsys.readouterr().err
    assert "must be without a password" in said and "secret" not in said


def test_what_was_sent_along_is_named_by_where_it_lies_there():
    package = Package(PurePosixPath("/shared/tuner/data/pets-1"), "folder:/shared/tuner/data/pets-1", ("earlier/0/a",))
    words = ("--set", "data.source=folder:pets", "--warm-start", "runs/a")
    options = parse_search_options(arguments(*words, package=package))
    assert options.overrides[-2:] == (
        'data.source="folder:/shared/tuner/data/pets-1"',
        'search.warm_start=["earlier/0/a"]',
    )
    made = job_of(parse_submit_options(["small.yaml"]), package)
    assert made["data"] == "/shared/tuner/data/pets-1" and json.loads(json.dumps(made)) == made


def test_names_of_any_signs_arrive_on_the_cluster_as_they_are_here(tmp_path):
    source, earlier = "csv:/shared/tuner/data/x-1/naïve 🐱.csv", ["earlier/0/猫 🌞"]
    package = Package(PurePosixPath("/shared/tuner/data/x-1"), source, tuple(earlier))
    (tmp_path / "small.yaml").write_text(RIGHT)
    typed = [read(["f", "--warm-start", *earlier]) for read in (parse_submit_options, parse_search_options)]
    for overrides in (parse_search_options(arguments(package=package)).overrides, *(one.overrides for one in typed)):
        reading = load_spec(tmp_path / "small.yaml", overrides)
        assert reading.spec is not None and reading.spec.search.warm_start == earlier, reading.problems
        assert len(overrides) == 1 or reading.spec.data.source == source


def test_what_goes_on_with_a_search_can_be_typed_as_it_is_printed():
    words = ["my small.yaml", "--address", "http://head:1", "--set", "search.trials=8", "--shared", "/nfs", "--fresh"]
    typed = shlex.split(resume_command(parse_submit_options(words)))
    assert typed[:3] == ["python", "-m", "tuner.submit"]
    again = parse_submit_options(typed[3:])
    assert again.resume and not again.fresh and again.file == Path("my small.yaml") and again.address == "http://head:1"
    assert again.overrides == ("search.trials=8",) and again.shared == PurePosixPath("/nfs")
    learnt = parse_submit_options(["small.yaml", "--warm-start", "runs/x"])
    assert "warm" not in resume_command(learnt)


def test_a_name_of_this_machine_for_data_of_the_cluster_is_told_there(tmp_path, monkeypatch):
    shared = tmp_path.resolve() / "shared"
    make_folder(shared / "data" / "mine", {"cat": 2, "dog": 3})
    monkeypatch.setenv("TUNER_DATA", str(shared / "data"))
    mine = f"folder:{shared}/data/mine"

    def named(source: str, *words: str) -> tuple[str, ...]:
        options = [str(write_file(tmp_path)), "--shared", str(shared), "--set", f"data.source={source}", *words]
        search = read_search(parse_submit_options(options))
        assert search.data is None, "nothing is sent"
        return search.named

    assert named("mine") == (f"mine={mine}",)
    assert named("mine", "--data", f"mine={mine}") == (), "which is sent as it is given"
    assert named("digits") == named(mine) == ()


def test_a_resumed_search_does_not_look_for_what_it_learnt_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("right.yaml").write_text(RIGHT.replace("search: {", "search: {warm_start: [runs/gone], "))
    search = read_search(parse_submit_options(["right.yaml", "--resume"]))
    assert search.data is None and search.earlier == {} and search.spec.study == "small"
