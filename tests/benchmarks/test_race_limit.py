"""The race's limit: which trials are trained again, from what, how it is compared, and what is kept for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.race import harness
from benchmarks.race.legs import LEGS, Start
from benchmarks.race.limit import Planned, find_entry, plan
from benchmarks.race.limit_share import seconds_for, share_of_limit
from benchmarks.race.report import render_report
from benchmarks.race.results import Epoch, Run, summarise
from tests.support.make_record import epoch, small_state, trial_started
from tuner.common.errors import InputError, RunError
from tuner.training.activation_store import ARRAY, Build, Key, Store


def run_of(*points: tuple[float, float], seconds: float = 1.0, dropout: float = 0.1) -> Run:
    """A run with an epoch for each time and trial."""
    return tuple(
        Epoch(when, f"{trial:g}", 1, 0.3, seconds, {"dropout": dropout, "number": trial}) for when, trial in points
    )


# --- what is trained ---


def test_the_plan_has_the_trials_in_the_order_of_their_start_with_the_epochs_of_each_phase() -> None:
    state = small_state(
        trial_started(1, {"unfreeze_depth": 2}),
        trial_started(0, {"unfreeze_depth": 0}),
        trial_started(2, {"unfreeze_depth": 1}),
        epoch(0, 1, 0.2, phase="head"),
        epoch(1, 1, 0.1, phase="head"),
        epoch(1, 2, 0.2, phase="fine_tune"),
        epoch(1, 3, 0.3, phase="fine_tune"),
    )
    assert plan(state) == [Planned(1, {"unfreeze_depth": 2}, 1, 2), Planned(0, {"unfreeze_depth": 0}, 1, 0)]


def test_a_trial_without_a_backbone_has_no_cut_and_is_refused() -> None:
    state = small_state(trial_started(4), epoch(4, 1, 0.2, phase="scratch"))
    with pytest.raises(InputError, match="trial 4 must have a backbone; its phase is scratch"):
        plan(state)


def write_entry(cache: Path, place: str, array: str = "train", images: int = 3, weights: str = "a") -> Path:
    key, store = Key({"array": array, "place": place, "weights": weights}, (images, 2), "float16"), Store(cache)
    Build(store, [key], np.arange(images), lambda rows: [np.ones((len(rows), 2), dtype=np.float16)]).work(60)
    return store.folder(key) / ARRAY


def test_the_entry_of_a_cut_is_found_by_its_place(tmp_path: Path) -> None:
    write_entry(tmp_path, "block_15")
    wanted = write_entry(tmp_path, "pooled average")
    of_validation = write_entry(tmp_path, "pooled average", "validation", images=2)
    assert find_entry(tmp_path, "pooled average", 2, "validation") == of_validation
    assert find_entry(tmp_path, "pooled average", 3) == wanted
    assert find_entry(tmp_path, "block_14", 3) is None


def test_an_entry_of_other_images_or_of_two_searches_is_refused(tmp_path: Path) -> None:
    write_entry(tmp_path, "block_15")
    with pytest.raises(RunError, match="must be of 4 images; got 3"):
        find_entry(tmp_path, "block_15", 4)
    write_entry(tmp_path, "block_15", weights="b")
    with pytest.raises(RunError, match="must hold one entry of 'block_15', of one search; got 2"):
        find_entry(tmp_path, "block_15", 3)


# --- the comparison ---


def test_seconds_are_counted_from_the_begin_of_the_first_epoch() -> None:
    run = (*run_of((12, 0), seconds=3), *run_of((13, 1), seconds=5), *run_of((20, 0)))
    assert [seconds_for(run, epochs) for epochs in (1, 2, 3)] == [4, 5, 12]


def test_the_share_is_over_the_epochs_that_both_finished() -> None:
    tuner = run_of((5, 0), (6, 1), (8, 0), (9, 1))
    limit = run_of((3, 0), (4, 0), (5, 1))
    share = share_of_limit([tuner], [limit])
    assert share is not None
    assert (share.rounds, share.epochs, share.tuner_s, share.limit_s) == (1, 3, 4, 3)
    assert share.share == share.least == 3 / 4


def test_rounds_belong_together_by_their_trials_and_not_by_their_place() -> None:
    first, second = run_of((5, 0), (6, 0), dropout=0.1), run_of((5, 0), (8, 0), dropout=0.2)
    share = share_of_limit([first, second], [run_of((2, 0), (3, 0), dropout=0.2)])
    assert share is not None and (share.tuner_s, share.limit_s) == (4, 2)
    assert share_of_limit([first], [run_of((2, 0), dropout=0.2)]) is None
    assert share_of_limit([first], [()]) is None


def test_the_rates_of_a_leg_that_had_nothing_more_to_do_are_over_the_time_that_it_took() -> None:
    run = run_of((1, 0), (3, 0), (4, 0))
    assert summarise("limit", [run], 10, to_last_epoch=True).epochs_per_s == 3 / 4
    assert summarise("limit", [run], 10, to_last_epoch=True).epochs_per_s_later == 2 / 2
    assert summarise("limit", [run], 10).epochs_per_s == 3 / 10


def test_the_table_says_tuners_share_of_the_limit_and_compares_no_accuracy_with_it() -> None:
    runs = {"small": {"tuner": [run_of((5, 0), (6, 1), (9, 0))], "limit": [run_of((3, 0), (4, 0), (6, 1))]}}
    text = render_report(runs, 10)
    assert "| the limit: a bare Keras loop | 1 | 3 | 0.500 |" in text
    assert "Once caches are built, tuner reaches 80% of the limit's epochs/s" in text
    assert "The best peer is" not in text
    assert "the limit" not in render_report({"small": {"tuner": runs["small"]["tuner"]}}, 10)


# --- the harness ---


def start_in(results: Path) -> Start:
    return Start("limit", "small", 2, 30.0, 1000.0, Path("images.npz"), Path("scratch"), results)


def test_the_limit_needs_what_tuner_left_of_its_round(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"must follow the leg tuner .*round_2\.record\.jsonl is not there"):
        LEGS["limit"].command(start_in(tmp_path))
    (tmp_path / "tuner").mkdir()
    (tmp_path / "tuner" / "round_2.record.jsonl").touch()
    with pytest.raises(RunError, match=r"must follow the leg tuner .*round_2\.cache is not there"):
        LEGS["limit"].command(start_in(tmp_path))
    (tmp_path / "tuner" / "round_2.cache").mkdir()
    assert str(tmp_path / "tuner" / "round_2.cache") in LEGS["limit"].command(start_in(tmp_path))


def test_a_cache_is_removed_when_the_leg_that_follows_is_finished_and_not_before(tmp_path: Path) -> None:
    tuner = harness.Kept(tmp_path, "small", "tuner", 1)
    tuner.cache.mkdir(parents=True)
    for other in (tuner, replace(tuner, leg="optuna"), replace(tuner, leg="limit", round=2)):
        harness.clear_followed(other)
    assert tuner.cache.exists()
    harness.clear_followed(replace(tuner, leg="limit"))
    assert not tuner.cache.exists()


def test_the_limit_comes_after_tuner_is_no_peer_and_is_not_drawn() -> None:
    names = list(LEGS)
    assert names.index("limit") > names.index(LEGS["limit"].follows)
    assert not LEGS["limit"].is_peer and not LEGS["limit"].is_drawn
