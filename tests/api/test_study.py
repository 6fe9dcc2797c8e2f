"""A study in Python has the words of the command line, its checks and errors; its search is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tuner
from tests.support import ROOT
from tuner.api.study import Plan, Study, option_words
from tuner.common.errors import InputError, SpecError
from tuner.session.options import build_search_parser

SPACE: dict[str, Any] = {
    "study": "small",
    "data": {"source": "digits", "max_train_images": 100},
    "space": {"batch_size": np.int64(32), "learning_rate": {"log_float": (1e-4, 1e-2)}, "architecture": "cnn"},
    "search": {"trials": 2},
}


def words_of(**options: Any) -> list[str]:
    return option_words(build_search_parser(), options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"set": {"search.trials": 8, "search.time_budget": "5m"}},
            ["--set=search.trials=8", "--set=search.time_budget=5m"],
        ),
        ({"set": ["a=1", "b=2"]}, ["--set=a=1", "--set=b=2"]),
        ({"set": "a=1"}, ["--set=a=1"]),
        ({"set": {"baseline": {"dropout": 0.5}}}, ['--set=baseline={"dropout": 0.5}']),
        ({"set": {"space.dropout": np.float32(0.5)}}, ["--set=space.dropout=0.5"]),
        ({"set": {"baseline": None}}, ["--set=baseline=null"]),
        ({"resume": True}, ["--resume"]),
        ({"resume": Path("runs/a")}, ["--resume=runs/a"]),
        ({"fresh": True, "no_finalists": True, "dashboard": False, "storage": None}, ["--fresh", "--no-finalists"]),
        ({"warm_start": ["a", "runs/b"]}, ["--warm-start", "a", "runs/b"]),
        ({"warm_start": "a"}, ["--warm-start", "a"]),
        ({"warm_start": []}, ["--warm-start", "none"]),
        ({"data": {"digits": "folder:x"}}, ["--data=digits=folder:x"]),
        ({"runs": Path("here"), "cache": "there"}, ["--runs=here", "--cache=there"]),
    ],
    ids=str,
)
def test_options_are_words_of_the_command_line(options: dict[str, Any], words: list[str]) -> None:
    assert words_of(**options) == words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trails": 3}, "unknown option 'trails'"),
        ({"trials": 3}, "a setting of the file is given as set={'search.trials': 8}"),
        ({"rnus": "x"}, "did you mean 'runs'"),
        ({"plan": True}, "unknown option 'plan'"),
        ({"fresh": "yes"}, "fresh must be True or False; got 'yes'"),
        ({"runs": True}, "runs must have a value"),
        (
            {
                "runs": {
                    "a",
                }
            },
            "must be a text, a path or a number; got set",
        ),
        ({"set": {"a": 1j}}, "must be a text, a number"),
    ],
    ids=str,
)
def test_an_option_that_there_is_not_is_refused_with_the_nearest(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        words_of(**options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Study(), "spec or data must be given"),
        (lambda: Study(7), "spec must be the path of a file, a dictionary or None; got int"),
        (lambda: Study("study: a\ndata: b"), "got a text of several lines"),
        (lambda: Study({"study": "a", "space": {"dropout": object()}}), "spec.space.dropout must be a text, a number"),
        (lambda: Study({"study": "a", "space": {"dropout": [1, {2}, lambda: 0]}}), r"spec.space.dropout\[2\] must be"),
        (lambda: Study({"study": "a", ("b", 1): 0}), "spec must have texts as keys; got tuple"),
        (lambda: Study("a.yaml", fresh=True, resume=True), "--resume and --fresh cannot be used together"),
        (lambda: Study("a.yaml", insecure=True), "--insecure belongs to --address"),
        (lambda: Study("a.yaml", plugins=3), "plugins must be files or modules; got 3"),
        (lambda: Study("a.yaml", plugins=[3]), "plugins must be files or modules"),
        (lambda: Study("a.yaml").run(True), "time must be a text such as '30m', or seconds; got True"),
        (lambda: Study("a.yaml").run("3m", set={"search.time_budget": "3m"}), "say the same"),
        (lambda: Study("a.yaml", cache=__file__), "cache .* must be a folder"),
        (lambda: Study("a.yaml", (np.zeros((3, 4, 4)), [0])), "3 images, 1 labels|0 to 255"),
    ],
    ids=lambda value: "",
)
def test_what_is_wrong_is_refused_when_the_study_is_made(make: Any, words: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=words):
        make()


def test_options_of_a_study_hold_for_all_it_does_and_settings_add_up(tmp_path) -> None:
    study = Study("a.yaml", cache=tmp_path, set={"search.trials": 8})
    assert "a.yaml --set=search.trials=8" in repr(Study("a.yaml", set={"search.trials": 8}))
    words = study._words({"set": "search.seed=1"}, "--plan")
    assert words == ["a.yaml", f"--cache={tmp_path}", "--set=search.trials=8", "--set=search.seed=1", "--plan"]


def test_data_take_the_place_of_the_source_of_a_file(tmp_path) -> None:
    assert '--set=data.source="folder:photos"' in repr(Study("a.yaml", "folder:photos", cache=tmp_path))


def test_an_error_of_the_command_line_is_raised_and_not_printed(capfd) -> None:
    with pytest.raises(InputError):
        Study("a.yaml", fresh=True, resume=True)
    assert capfd.readouterr() == ("", "")


def test_importing_tuner_loads_no_library() -> None:
    script = (
        "import sys; before = {name.partition('.')[0] for name in sys.modules}; import tuner; dir(tuner)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} - before - sys.stdlib_module_names))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "['tuner']"
    assert {"Study", "load_run"} <= set(dir(tuner))


def test_a_name_that_is_not_offered_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="Study"):
        attrgetter("study")(tuner)


# --- with the process of a search ---


def test_a_plan_is_what_the_command_prints(tmp_path) -> None:
    plan = Study(SPACE, cache=tmp_path / "cache").plan()
    assert isinstance(plan, Plan) and "study" in plan and "architecture: choice of cnn" in plan and repr(plan) == plan
    assert plan._repr_html_().startswith("<pre>")


def test_a_wrong_dictionary_is_refused_as_a_file_is_without_lines(tmp_path) -> None:
    wrong = {**SPACE, "space": {**SPACE["space"], "dropout": {"flaot": [0, 1]}}, "serach": {}}
    with pytest.raises(SpecError) as refused:
        Study(wrong, cache=tmp_path).run(background=True).wait()
    assert "unknown section 'serach'; did you mean 'search'?" in str(refused.value)
    with pytest.raises(SpecError) as told:
        Study(wrong, cache=tmp_path).plan()
    assert all(line.startswith("spec: ") for line in told.value.lines()) and len(told.value.lines()) >= 2


def test_what_cannot_be_begun_is_the_sentence_of_the_command(tmp_path) -> None:
    with pytest.raises(InputError) as refused:
        Study(tmp_path / "gone.yaml", cache=tmp_path).plan()
    assert str(refused.value) == f"{tmp_path / 'gone.yaml'}: no such search-space file"


def test_a_process_that_dies_is_told_with_its_last_words(tmp_path, monkeypatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif 'TUNER_PROGRESS' in os.environ: raise SystemExit('no way')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    search = Study(SPACE, cache=tmp_path).run(timedelta(minutes=5), background=True)
    with pytest.raises(Exception, match=r"the process of the search has ended .*no way"):
        search.wait()
    assert not search.is_running and "ended before a trial began" in str(search.progress)
