"""Several runs side by side, and the page of all studies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.make_record import (
    DATA,
    epoch,
    make_events,
    make_state,
    session_started,
    small_state,
    study_created,
    trial_ended,
    trial_started,
    write_record,
)
from tuner.common.errors import InputError
from tuner.report import main
from tuner.reports.comparison import compare_runs, joint_ranking, order_at_equal_time
from tuner.reports.results import build_results
from tuner.runs.events import FinalistsStarted, FinalistTrained, SessionEnded
from tuner.runs.record import replay
from tuner.runs.state import RunState


def run_of(values: dict[float, float], end_s: float, **study) -> RunState:
    """A run with one trial for each value, finished at the second before it."""
    events = [study_created(**study)]
    for number, (second, value) in enumerate(values.items()):
        events += [
            trial_started(number),
            epoch(number, 1, value, elapsed_s=second),
            trial_ended(number, elapsed_s=second),
        ]
    return replay([*events, SessionEnded(reason="finished", elapsed_s=end_s)])


def compared(**runs: RunState):
    return compare_runs([(name, build_results(state)) for name, state in runs.items()])


def test_runs_are_compared_at_the_time_that_all_of_them_had() -> None:
    comparison = compared(slow=run_of({10: 0.3, 90: 0.9}, 100), quick=run_of({5: 0.4, 20: 0.5}, 30))
    assert comparison.equal_s == 30
    assert [(entrant.name, value) for entrant, value in order_at_equal_time(comparison)] == [
        ("quick", 0.5),
        ("slow", 0.3),
    ]


def test_the_finalists_after_which_a_run_has_gone_on_take_none_of_its_time() -> None:
    trained: dict[str, Any] = {
        "trial": 0,
        "number": 0,
        "status": "completed",
        "reason": "max_epochs",
        "epochs": 1,
        "seconds": 9.0,
    }
    gone_on = replay(
        [
            study_created(),
            *(trial_started(0), epoch(0, 1, 0.3, elapsed_s=10.0), trial_ended(0, elapsed_s=10.0)),
            FinalistsStarted(trials=[0], trainings=1, elapsed_s=20.0),
            FinalistTrained(best=0.3, elapsed_s=60.0, **trained),
            session_started(resumed=True, elapsed_s=62.0),
            *(trial_started(1, elapsed_s=62.0), epoch(1, 1, 0.9, elapsed_s=70.0), trial_ended(1, elapsed_s=70.0)),
            SessionEnded(reason="finished", elapsed_s=70.0),
        ]
    )
    comparison = compared(gone_on=gone_on, other=run_of({15: 0.5}, 30))
    assert comparison.equal_s == 30 and [one.search_s for one in comparison.entrants] == [30, 30]
    assert [value for _, value in order_at_equal_time(comparison)] == [0.9, 0.5]


def test_a_run_without_a_result_by_then_comes_last() -> None:
    comparison = compared(late=run_of({50: 0.9}, 60), early=run_of({5: 0.1}, 10))
    assert [(entrant.name, value) for entrant, value in order_at_equal_time(comparison)] == [
        ("early", 0.1),
        ("late", None),
    ]


def test_of_a_loss_the_smaller_is_ahead() -> None:
    first = small_state(trial_started(0), epoch(0, 1, 0.2, best=0.9, val_loss=0.9, elapsed_s=1), metric="val_loss")
    second = small_state(trial_started(0), epoch(0, 1, 0.2, best=0.5, val_loss=0.5, elapsed_s=1), metric="val_loss")
    comparison = compared(a=first, b=second)
    assert [entrant.name for entrant, _ in order_at_equal_time(comparison)] == ["b", "a"]
    assert [name for name, _ in joint_ranking(comparison)] == ["b", "a"]


def test_the_joint_ranking_holds_the_trials_of_all_runs() -> None:
    comparison = compared(a=make_state(20), b=make_state(25, seed=1))
    ranking = joint_ranking(comparison)
    values = [trial.best for _, trial in ranking]
    assert values == sorted(values, reverse=True)
    assert len(ranking) == sum(len(entrant.results.ranked) for entrant in comparison.entrants)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"a": make_state(3)}, "must have at least two runs; got 1"),
        ({"a": make_state(3), "b": RunState()}, "b: must have begun; its record is empty"),
        (
            {"a": make_state(3), "b": make_state(3, metric="val_loss")},
            "must optimise the same metric to be compared; got a: val_accuracy, b: val_loss",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(runs, message) -> None:
    with pytest.raises(InputError, match=message):
        compared(**runs)


@pytest.fixture
def two_runs(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path / "runs" / "first" / "record.jsonl", make_events(12))
    write_record(tmp_path / "runs" / "second" / "record.jsonl", make_events(9, seed=3))
    return tmp_path


def test_the_command_writes_one_page_for_several_runs(two_runs, capsys) -> None:
    assert main(["runs/first", "runs/second"]) == 0
    assert capsys.readouterr().out.strip() == "reports/comparison/index.html"
    text = Path("reports/comparison/index.html").read_text(encoding="utf-8")
    assert "is ahead with" in text and "Joint leaderboard" in text and "the time of the shortest" in text
    assert Path("reports/comparison/figures/comparison.svg").is_file()


def test_runs_of_one_name_are_told_apart_by_the_folders_that_they_lie_in(two_runs) -> None:
    write_record(Path("elsewhere/runs/first/record.jsonl"), make_events(9, seed=3))
    assert main(["runs/first", "elsewhere/runs/first", "runs/second", "--format", "png"]) == 0
    text = Path("reports/comparison/index.html").read_text(encoding="utf-8")
    studies = text.split("study <select")[1].split("</select>")[0]
    named = set(re.findall("<option[^>]*>([^<]+)</option>", studies)) - {"all"}
    assert named == {"elsewhere/runs/first", f"{two_runs.name}/runs/first", "second"}


def test_runs_that_had_the_same_value_are_level_and_none_is_ahead(two_runs) -> None:
    for name, value in {"a": 0.5, "b": 0.5, "c": 0.4}.items():
        events = [study_created(), trial_started(0), epoch(0, 1, value, elapsed_s=10), trial_ended(0, elapsed_s=10)]
        write_record(Path("runs", name, "record.jsonl"), [*events, SessionEnded(reason="finished", elapsed_s=20)])
    assert main(["runs/c", "runs/b", "runs/a", "--format", "png"]) == 0
    text = Path("reports/comparison/index.html").read_text(encoding="utf-8")
    assert "a and b are level with val_accuracy 50.00%" in text and "is ahead" not in text


def test_the_trial_that_won_over_several_seeds_is_not_called_the_one_with_the_best_value(two_runs) -> None:
    trials = [
        event
        for number, value in enumerate((0.9, 0.8))
        for event in (trial_started(number), epoch(number, 1, value, elapsed_s=10), trial_ended(number, elapsed_s=10))
    ]
    again = [
        FinalistTrained(trial=number, number=0, status="completed", reason="max_epochs", epochs=1, best=best, seconds=1)
        for number, best in enumerate((0.6, 0.7))
    ]
    ended = [FinalistsStarted(trials=[0, 1], trainings=1), *again, SessionEnded(reason="finished", elapsed_s=20)]
    write_record(Path("runs/a/record.jsonl"), [study_created(), *trials, *ended])
    assert main(["runs/a", "runs/second", "--format", "png"]) == 0
    text = Path("reports/comparison/index.html").read_text(encoding="utf-8")
    rows = [re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall("<tr>(.*?)</tr>", text, re.DOTALL)]
    header = next(row for row in rows if "at equal time" in row)
    told = dict(zip(header, next(row for row in rows if row[:1] == ["a"]), strict=True))
    assert told["best"] == "90.00%" and told["winner"].startswith("1 (")


def test_runs_on_different_data_are_compared_with_a_warning(two_runs) -> None:
    other = make_events(5)
    other[0] = study_created(data={"fingerprint": "other"})
    write_record(Path("runs/other/record.jsonl"), other)
    assert main(["runs/first", "runs/other", "--format", "png"]) == 0
    assert "The runs are on different data" in Path("reports/comparison/index.html").read_text(encoding="utf-8")


def test_the_page_of_all_studies_links_to_the_reports_that_are_there(two_runs, capsys) -> None:
    assert main(["runs/first", "--format", "png"]) == 0
    assert main(["--all"]) == 0
    text = Path("reports/index.html").read_text(encoding="utf-8")
    assert '<a href="first/index.html">first</a>' in text
    assert "second" in text and 'href="second' not in text
    assert "2 runs." in text


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_shown(two_runs, capsys) -> None:
    Path("runs/broken").mkdir()
    Path("runs/broken/record.jsonl").write_text("not json\n")
    assert main(["--all"]) == 1
    assert "left out: runs/broken/record.jsonl:1" in capsys.readouterr().err
    assert "2 runs." in Path("reports/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["--all", "runs/first"], []])
def test_a_run_or_all_of_them_must_be_named(arguments, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "RUN" in capsys.readouterr().err


def test_no_folder_of_runs_is_wrong_input(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--all"]) == 2
    assert "--runs must be a folder of runs" in capsys.readouterr().err


ENVIRONMENT = {"cpus": 8, "memory_gb": 16.0, "packages": {"keras": "3.15.1"}}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"data": {**DATA, "fingerprint": "another"}}, "The runs are on different data"),
        ({"data": {**DATA, "train_images": 1_000}}, "different subsets or splits of the data"),
        ({"data": {**DATA, "validation_images": 500}}, "different subsets or splits of the data"),
        ({"specification": {"data": {"validation_fraction": 0.3}}}, "validation_fraction 0.3"),
        ({"specification": {"data": {"validation_fraction": 0.25, "validation": {"folds": 4}}}}, "4 folds"),
        ({"seed": 1}, "drawn by the seed, so they differ (first: seed 7; second: seed 1)"),
        ({"environment": {**ENVIRONMENT, "cpus": 2}}, "different hardware"),
        ({"environment": {**ENVIRONMENT, "memory_gb": 64.0}}, "different hardware"),
        ({"environment": {**ENVIRONMENT, "packages": {"keras": "3.14.0"}}}, "different versions"),
        ({}, None),
    ],
)
def test_what_differs_beside_the_searches_is_said(other, words) -> None:
    first = run_of({1.0: 0.5}, 10.0, environment=ENVIRONMENT)
    second = run_of({1.0: 0.6}, 10.0, **{"environment": ENVIRONMENT, **other})
    said = " ".join(compared(first=first, second=second).unlike)
    assert said == "" if words is None else words in said
