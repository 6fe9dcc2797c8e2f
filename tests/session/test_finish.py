"""A search has succeeded if it has made something: every way to end without a winner, and what is said of it."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.make_record import epoch, small_state, study_created, trial_ended, trial_started
from tuner.reports.console import SearchConsole
from tuner.runs.directory import RunDirectory
from tuner.runs.events import Event, FinalistsStarted, FinalistTested, FinalistTrained
from tuner.runs.finalists import pack_bits, pack_floats
from tuner.runs.record import replay
from tuner.session import _finish
from tuner.session._finish import missing_winner
from tuner.session.options import SearchOptions, parse_search_options, words_to_go_on

NAN, OUT = "not a number: loss is nan at epoch 1", "out of memory: cannot hold [8, 8]"
LOG = "runs/small/search.log"


def failed(number: int, reason: str, epochs: int = 0) -> list[Event]:
    shown = [epoch(number, one, 0.5) for one in range(1, epochs + 1)]
    return [trial_started(number), *shown, trial_ended(number, "failed", reason)]


def cut_off(number: int) -> list[Event]:
    return [trial_started(number), trial_ended(number, "stopped", "time_budget")]


def completed(number: int) -> list[Event]:
    return [trial_started(number), epoch(number, 1, 0.5), trial_ended(number)]


def finalists(*reasons: str) -> list[Event]:
    """Trainings of trial 0, failed for these reasons; where there is none, completed."""
    trained: list[Event] = [
        FinalistTrained(
            trial=0,
            number=number,
            status="failed" if reason else "completed",
            reason=reason,
            epochs=0 if reason else 2,
            best=None if reason else 0.5,
            seconds=1.0,
        )
        for number, reason in enumerate(reasons)
    ]
    return [FinalistsStarted(trials=[0], trainings=max(1, len(reasons))), *trained]


MISSING: dict[str, tuple[list[Event], str, list[str]]] = {
    "one of one failed": (failed(0, NAN), "finished", ["the only trial failed with: not a number", "learning rates"]),
    "two failed alike": (
        [*failed(0, NAN), *failed(1, NAN)],
        "finished",
        ["no winner: all 2 trials failed with: not a number: loss is nan at epoch 1; try smaller learning rates"],
    ),
    "three failed differently": (
        [*failed(0, NAN), *failed(1, OUT), *failed(2, OUT)],
        "finished",
        ["all 3 trials failed, 2 of them with: out of memory", "batches or images", "memory_gb_per_trial"],
    ),
    "five failed with an error of a library": (
        [one for number in range(5) for one in failed(number, f"ValueError: {number} is too small")],
        "finished",
        ["all 5 trials failed with: ValueError: 4 is too small; see runs/small/search.log"],
    ),
    "failed after they had shown epochs": (failed(0, NAN, epochs=3), "finished", ["the only trial failed"]),
    "failed within the budget": ([*failed(0, NAN), *failed(1, NAN)], "time_budget", ["all 2 trials failed"]),
    "the budget ended before an epoch": (
        [*cut_off(0), *cut_off(1)],
        "time_budget",
        ["the time budget ended before any trial had finished an epoch; give more time: RESUME --set search.time_bud"],
    ),
    "some failed, the rest was cut off": ([*failed(0, NAN), *cut_off(1)], "time_budget", ["an epoch (1 failed); give"]),
    "failed, little to gain": ([*failed(0, NAN), *failed(1, NAN)], "expected_gain", ["all 2 trials failed"]),
    "the budget ended before a trial": ([], "time_budget", ["the time budget ended before any trial had finished"]),
    "the finalist failed": (
        [*completed(0), *finalists(OUT)],
        "finished",
        ["no winner: the only finalist training failed with: out of memory", "the best trial, which nothing has conf"],
    ),
    "all trainings of finalists failed": (
        [*completed(0), *finalists(OUT, OUT, NAN)],
        "time_budget",
        ["all 3 finalist trainings failed, 2 of them with: out of memory"],
    ),
}  # fmt: skip


def lacking(events: list[Event], reason: Any) -> str | None:
    return missing_winner(replay([study_created(), *events]), reason, "RESUME", Path(LOG))


@pytest.mark.parametrize("name", MISSING)
def test_a_search_that_made_nothing_says_so_in_a_line_with_what_to_do(name: str) -> None:
    events, reason, words = MISSING[name]
    said = lacking(events, reason)
    assert said is not None and "\n" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    "events",
    [
        completed(0),
        [*failed(1, NAN), *completed(0), *failed(2, OUT)],
        [trial_started(0), epoch(0, 1, 0.5), trial_ended(0, "stopped", "time_budget")],
        [*completed(0), *finalists("")],
        [*completed(0), *finalists(OUT, "", NAN)],
        [*completed(0), FinalistsStarted(trials=[0], trainings=2)],
    ],
    ids=["one", "some failed", "cut off after an epoch", "finalist", "a training failed", "no time for finalists"],
)
def test_one_trial_with_an_epoch_or_one_training_of_a_finalist_is_enough(events: list[Event]) -> None:
    assert lacking(events, "time_budget") is None


@pytest.mark.parametrize(("winner", "words"), [(0, "trial 0, the baseline, test"), (1, "won: trial 1, test")])
def test_a_baseline_that_wins_is_named_on_the_console(winner, words, capsys) -> None:
    right = np.arange(40) % 4 > 0
    state = small_state(
        *(event for trial in range(2) for event in (trial_started(trial), epoch(trial, 1, 0.5), trial_ended(trial))),
        FinalistsStarted(trials=[winner], trainings=1),
        FinalistTrained(
            trial=winner, number=0, status="completed", reason="max_epochs", epochs=1, best=0.5, seconds=1.0
        ),
        FinalistTested(trial=winner, number=0, images=40, test_accuracy=0.75, test_loss=1.0, correct=pack_bits(right)),
    )
    _finish._say_finalists(state, SearchConsole(), is_over=True)
    assert words in " ".join(capsys.readouterr().out.split())


def test_models_of_an_earlier_front_go_when_it_has_changed_and_nothing_else_does(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    mine = [run.best_model, tmp_path / "front-page.keras", tmp_path / "front-00002.txt"]
    for path in (run.front_model(1), run.front_model(123456, ".npz"), *mine):
        path.touch()
    context = SimpleNamespace(trials=lambda: None, settings=SimpleNamespace(seed=0))
    state = small_state(*completed(0), *finalists(""), metrics=["val_accuracy", "parameters"])
    assert _finish.export_front(run, state, context) == []
    assert sorted(tmp_path.iterdir()) == sorted(mine)


def test_of_a_model_that_could_not_be_saved_whole_nothing_is_left(tmp_path) -> None:
    def cut_short(path: Path) -> None:
        path.write_bytes(b"PK")
        raise OSError(28, "No space left on device")

    trial = SimpleNamespace(best=0.5, model_suffix=".keras", restore_best=lambda: None, save_model=cut_short)
    trials = SimpleNamespace(begin=lambda *_, **__: trial)
    context = SimpleNamespace(trials=lambda: trials, settings=SimpleNamespace(seed=0))
    with pytest.raises(OSError, match="No space left"):
        _finish.export_best(RunDirectory(tmp_path), small_state(*completed(0)), context, None)
    assert not list(tmp_path.iterdir())


def test_an_interval_is_not_known_where_no_draw_of_the_test_images_has_a_value(capsys) -> None:
    """As where each draw lacks a class that a metric of own code needs."""
    state = small_state(
        *(trial_started(0), epoch(0, 1, 0.5, val_auc=0.5), trial_ended(0)),
        FinalistsStarted(trials=[0], trainings=2),
        *(
            FinalistTrained(
                trial=0, number=number, status="completed", reason="max_epochs", epochs=1, best=0.5, seconds=1.0
            )
            for number in range(2)
        ),
        *(
            FinalistTested(
                trial=0, number=number, images=40, test_accuracy=1.0, test_loss=1.0, metrics={"auc": 0.75},
                correct=pack_bits(np.ones(40, bool)), resampled=pack_floats(np.full(100, np.nan)),
            )
            for number in range(2)
        ),
        metric="val_auc",
    )  # fmt: skip
    _finish._say_finalists(state, SearchConsole(), is_over=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "test AUC 0.7500" in said and said.count(": not known)") == 1 and said.count("images not known)") == 1


def told_to_type(options: SearchOptions) -> SearchOptions:
    """What the command that is said at the end of a search is read as."""
    typed = shlex.split(SearchConsole().resume_command(Path("my runs/small"), words_to_go_on(options)))
    assert typed[:3] == ["python", "-m", "tuner.search"]
    return parse_search_options(typed[3:])


def test_what_goes_on_with_a_search_can_be_typed_as_it_is_said_and_finds_its_data_and_folders() -> None:
    places = ["--data", "pets=folder:my pets", "--cache", "a cache", "--reports", "to read", "--address", "auto"]
    begun = parse_search_options(["my small.yaml", *places, "--insecure", "--set", "search.trials=8"])
    again = told_to_type(begun)
    assert again.resume == "my runs/small" and again.data == begun.data and again.cache_dir == begun.cache_dir
    assert again.reports_dir == begun.reports_dir and again.address == "auto" and again.insecure
    assert again.file is None and not again.overrides, "the run has kept them"


def test_what_goes_on_with_a_search_that_was_given_more_to_spend_gives_it_as_much() -> None:
    resumed = parse_search_options(["my small.yaml", "--resume", "my runs/small", "--set", "search.time_budget=1h"])
    assert told_to_type(resumed) == resumed
