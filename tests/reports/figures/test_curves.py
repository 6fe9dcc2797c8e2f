"""Learning curves and the winner's training as data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.make_record import epoch, make_state, small_state, trial_started
from tuner.reports.figures.curves import BEHIND, HIGHLIGHTED, build_learning_curves, build_winner, spread_apart
from tuner.reports.figures.registry import FIGURES
from tuner.reports.results import build_results


def test_curves_are_the_best_trials_and_the_baseline_with_their_unfreezing():
    results = build_results(make_state(60, seed=1))
    data = build_learning_curves(results)
    best = [row for row in data.trials if row.is_highlighted]
    assert [row.rank for row in best[:HIGHLIGHTED]] == list(range(1, HIGHLIGHTED + 1))
    assert any(row.is_baseline for row in best)
    assert not any(row.is_baseline for row in data.trials if not row.is_highlighted)
    assert len(data.trials) == len(results.ranked) and data.left_out == 0
    for row in best:
        trial = next(trial for trial in results.trials if trial.number == row.trial)
        curve = [(found.epoch, found.value) for found in data.epochs if found.trial == row.trial]
        assert curve == [(epoch.epoch, epoch.metrics["val_accuracy"]) for epoch in trial.epochs]
        fine = [epoch.epoch for epoch in trial.epochs if epoch.phase == "fine_tune"]
        assert row.unfrozen_at == (fine[0] if fine else None)
    assert {4, None} == {row.unfrozen_at for row in best}


def test_a_long_search_is_drawn_by_a_sample_of_its_trials():
    results = build_results(make_state(500, max_epochs=4, stop_early=False))
    data = build_learning_curves(results)
    ranks = [row.rank for row in data.trials if not row.is_highlighted]
    assert len(ranks) == BEHIND
    assert len(data.trials) + data.left_out == len(results.ranked)
    assert {row.trial for row in data.epochs} == {row.trial for row in data.trials}
    assert ranks == sorted(ranks) and ranks[-1] > 0.98 * len(results.ranked)


def test_a_trial_of_one_epoch_is_seen_behind_the_best_ones():
    events = [event for trial in range(15) for event in (trial_started(trial), epoch(trial, 1, 0.9 - 0.01 * trial))]
    data = build_learning_curves(build_results(small_state(*events, epoch(0, 2, 0.95))))
    behind = [row.trial for row in data.trials if not row.is_highlighted]
    assert behind == [10, 11, 12, 13, 14]
    panel = FIGURES["learning_curves"].draw(data).axes[0]
    marks = {(x, round(y, 2)) for line in panel.lines if line.get_marker() == "o" for x, y in line.get_xydata()}
    assert {(1, round(0.9 - 0.01 * trial, 2)) for trial in behind} <= marks


def test_the_winner_is_shown_with_both_phases_and_its_best_epoch():
    state = small_state(
        trial_started(0, {"architecture": "vgg16"}),
        epoch(0, 1, 0.2, phase="head", loss=3.0),
        epoch(0, 2, 0.5, phase="fine_tune", loss=2.0),
        epoch(0, 3, 0.4, 0.5, phase="fine_tune", loss=1.0),
    )
    data = build_winner(build_results(state))
    assert (data.trial, data.architecture, data.best_epoch, data.unfrozen_at) == (0, "vgg16", 2, 2)
    assert [(row.epoch, row.val_accuracy, row.loss) for row in data.epochs] == [
        (1, 0.2, 3.0),
        (2, 0.5, 2.0),
        (3, 0.4, 1.0),
    ]
    assert "loss of trial 0 (vgg16) in training" in FIGURES["winner"].describe(data)
    assert "Blocks of the backbone are unfrozen from epoch 2 on." in FIGURES["winner"].describe(data)


@given(st.lists(st.floats(0, 1), max_size=12).map(sorted), st.floats(0.001, 0.2))
def test_spread_places_keep_their_order_their_middle_and_their_distance(places, distance):
    moved = spread_apart(places, distance)
    assert np.all(np.diff(moved) >= distance - 1e-9)
    if places:
        assert np.mean(moved) == pytest.approx(np.mean(places))


def test_what_is_no_number_is_missing_in_the_rows_and_said_in_the_words():
    nan = float("nan")
    data = build_winner(build_results(small_state(trial_started(0), epoch(0, 1, 0.2, loss=nan, val_loss=float("inf")))))
    assert (data.epochs[0].loss, data.epochs[0].val_loss, data.epochs[0].val_accuracy) == (None, None, 0.2)
    assert "training loss not a number" in FIGURES["winner"].describe(data)
