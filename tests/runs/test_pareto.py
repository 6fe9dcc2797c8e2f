"""The Pareto front of a run: in the state, the tables, the leaderboard, the page, the figure, the finalists."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.support.make_record import (
    epoch,
    make_events,
    make_state,
    small_state,
    study_created,
    trial_ended,
    trial_started,
)
from tuner.common.errors import RunError
from tuner.common.metrics import oriented_points
from tuner.reports._leaderboard import leaderboard_markdown, page_texts
from tuner.reports._page import leaderboard_rows
from tuner.reports.console import _best_words, describe_end
from tuner.reports.figures.pareto import build_pareto, describe_pareto
from tuner.reports.results import build_results
from tuner.reports.tables import trials_table
from tuner.runs.events import FinalistsStarted, FinalistTrained, TrialMeasured
from tuner.runs.finalists import finalist_trials
from tuner.runs.pareto import comparable_values, front_finalists, metrics_of, pareto_front
from tuner.runs.record import replay
from tuner.runs.state import RunState

TWO = ("val_accuracy", "parameters")


def searched(*points: tuple[float, int | None], metrics: tuple[str, ...] = TWO, status: str = "completed") -> RunState:
    """A search with one epoch per trial, of these accuracies and sizes; trial 0 is the baseline."""
    events = []
    for trial, (value, parameters) in enumerate(points):
        events += [trial_started(trial, {"architecture": "cnn", "filters": trial}), epoch(trial, 1, value)]
        if parameters is not None:
            events.append(TrialMeasured(trial=trial, parameters=parameters, model_mb=parameters / 2**18))
        events.append(trial_ended(trial, status))
    return small_state(*events, metrics=list(metrics))


SEARCH = searched((0.80, 50_000), (0.90, 90_000), (0.82, 20_000), (0.85, 40_000), (0.60, 1_000), (0.80, 60_000))
"""Trials 1, 3, 2 and 4 are on the front."""


def test_the_front_is_what_no_trial_dominates_the_best_by_the_first_metric_first():
    assert pareto_front(comparable_values(SEARCH), metrics_of(SEARCH)) == (1, 3, 2, 4)
    results = build_results(SEARCH)
    assert [trial.number for trial in results.front] == [1, 3, 2, 4]
    assert [trial.is_on_front for trial in results.trials] == [False, True, True, True, True, False]


def test_a_made_record_has_a_front_in_three_metrics_that_nothing_dominates():
    state = make_state(40, others=("parameters", "val_loss"))
    values, metrics = comparable_values(state), metrics_of(state)
    points = oriented_points(values_of(values, metrics), metrics)
    on_front = set(pareto_front(values, metrics))
    for place, number in enumerate(values):
        beaten = any((other >= points[place]).all() and (other > points[place]).any() for other in points)
        assert beaten == (number not in on_front)


def values_of(values, metrics):
    return np.array([[own[metric] for metric in metrics] for own in values.values()])


def test_failed_trials_and_those_of_which_a_metric_is_not_known_are_not_compared():
    state = searched((0.8, 100), (0.9, None), (0.7, 50))
    assert list(comparable_values(state)) == [0, 2]
    assert comparable_values(searched((0.8, 100), status="failed")) == {}
    assert pareto_front({}, TWO) == () and finalist_trials(searched((0.8, 100), status="failed"), 3) == ()


def test_another_metric_of_every_epoch_is_that_of_the_best_epoch():
    state = small_state(
        trial_started(0), epoch(0, 1, 0.5, val_loss=2.0), epoch(0, 2, 0.7, val_loss=1.0),
        epoch(0, 3, 0.6, best=0.7, val_loss=0.1), metrics=["val_accuracy", "val_loss"],
    )  # fmt: skip
    assert comparable_values(state) == {0: {"val_accuracy": 0.7, "val_loss": 1.0}}


def test_what_was_measured_again_after_a_restart_changes_nothing():
    state = searched((0.8, 100))
    assert not state.apply(TrialMeasured(trial=0, parameters=999))
    assert comparable_values(state)[0]["parameters"] == 100


def test_a_study_of_one_metric_has_no_front():
    results = build_results(make_state(10))
    assert results.front == () and results.metrics == ("val_accuracy",) and build_pareto(results) is None
    assert {trial.is_on_front for trial in results.trials} == {None}
    assert "Pareto" not in leaderboard_markdown(results)


def test_a_record_of_an_unknown_metric_is_refused():
    with pytest.raises(RunError, match="unknown metric 'parms'; did you mean 'parameters'"):
        build_results(replay([study_created(metrics=["val_accuracy", "parms"])]))


# --- finalists ---


def test_finalists_are_the_best_and_those_of_the_front_that_add_most_and_the_baseline():
    assert finalist_trials(SEARCH, 1) == (1, 0)
    assert finalist_trials(SEARCH, 2) == (1, 2, 0)
    assert finalist_trials(SEARCH, 4)[:4] == (1, 2, 3, 4), "what is small and worthless adds least"
    assert front_finalists(SEARCH, 9) == (1, 2, 3, 4)


def test_where_the_front_is_short_the_best_of_the_others_are_finalists_too():
    state = searched((0.5, 30), (0.9, 10), (0.7, 20), (0.8, 40))
    assert finalist_trials(state, 3) == (1, 3, 2, 0)


def test_with_one_metric_finalists_are_the_best():
    assert finalist_trials(searched((0.5, 30), (0.9, 10), (0.7, 20), metrics=("val_accuracy",)), 2) == (1, 2, 0)


# --- what people see ---


def test_the_tables_have_every_metric_and_the_front():
    table = trials_table(build_results(make_state(12, others=("seconds_per_image", "model_mb"))))
    rows = table.to_pylist()
    assert table.schema.metadata[b"tuner.metrics"] == b"val_accuracy,seconds_per_image,model_mb"
    assert {row["is_on_front"] for row in rows} == {True, False}
    with_epochs = [row for row in rows if row["epochs"]]
    assert all(row["model_mb"] == row["parameters"] / 2**18 and row["seconds_per_image"] > 0 for row in with_epochs)


def test_the_leaderboard_has_the_front_and_what_it_offers_those_who_have_the_baseline():
    text = leaderboard_markdown(build_results(SEARCH))
    section = text.split("## Pareto front\n")[1].split("\n## ")[0]
    assert "4 of 6 trials are on the front of validation accuracy and parameters" in section
    assert "| 1 | 90.00% | 90,000 | cnn |" in section and "| 5 |" not in section
    assert (
        "- Parameters: trial 2 is no worse than the baseline in validation accuracy (82.00% against 80.00%) "
        "with 20,000 instead of 50,000, 0.4 times as much."
    ) in section
    assert "The winner, whose model is exported as best.keras, is the best by validation accuracy: trial 1." in section
    assert "The scheduler compares" not in section
    assert "### Pareto front" in page_texts(build_results(SEARCH)).parts["won"][0]


def test_the_leaderboard_says_when_nothing_as_good_as_the_baseline_is_smaller():
    text = leaderboard_markdown(build_results(searched((0.8, 10), (0.9, 90), (0.7, 5))))
    assert "- Parameters: no trial is as good as the baseline in validation accuracy with less than its 10." in text


def test_a_baseline_that_has_failed_is_nothing_to_be_as_good_as():
    state = searched((0.8, 10), (0.9, 5))
    assert "trial 1 is no worse than the baseline" in leaderboard_markdown(build_results(state))
    state.trials[0].status = "failed"
    text = leaderboard_markdown(build_results(state))
    assert "1 of 1 trials is on the front" in text and "than the baseline in" not in text


def test_the_leaderboard_says_that_stopped_trials_of_the_front_showed_what_they_had_reached():
    text = leaderboard_markdown(build_results(searched((0.8, 10), (0.9, 90), status="stopped")))
    assert "The scheduler compares validation accuracy only: a trial that was stopped" in text


def test_the_finalists_say_how_they_were_chosen_and_what_they_cost():
    state = searched((0.80, 50_000), (0.90, 90_000), (0.82, 20_000))
    state.apply(FinalistsStarted(trials=[1, 2, 0], trainings=1))
    for trial, best in ((1, 0.9), (2, 0.82), (0, 0.8)):
        state.apply(FinalistTrained(trial=trial, number=0, status="completed", reason="max_epochs", epochs=1,
                                    best=best, seconds=1.0))  # fmt: skip
    page = leaderboard_markdown(build_results(state))
    assert "trial 1. The other finalists on the front are beside it: front-00002.keras." in page
    section = page.split("## Finalists\n")[1].split("\n## ")[0]
    assert "from the Pareto front, those that add most hypervolume; the winner is the best by validation" in section
    assert re.search(r"\| 2 \| 2 \| 82\.00% .*\| 20,000 \| 1 \|", section)


def test_the_table_of_the_page_shows_every_metric_and_can_be_filtered_by_the_front():
    columns, rows = leaderboard_rows(build_results(make_state(12, others=("seconds_per_image", "val_loss"))))
    titles = [column.title for column in columns]
    assert titles[-6:] == ["parameters", "seconds_per_image", "val_loss", "front", "status", "reason"]
    assert {row[0][titles.index("front")] for row in rows} == {"yes", "no"}
    plain, _ = leaderboard_rows(build_results(make_state(12)))
    assert not {"front", "val_loss"} & {column.title for column in plain}


def test_the_figure_has_the_trials_the_stairs_and_the_baseline():
    data = build_pareto(build_results(SEARCH))
    (panel,) = data.panels
    assert panel.stairs == ((1_000, 0.60), (20_000, 0.82), (40_000, 0.85), (90_000, 0.90))
    assert [point.trial for point in panel.points if point.is_on_front] == [1, 3, 2, 4]
    assert [point.trial for point in panel.points if point.is_baseline] == [0]
    assert [point.trial for point in panel.points if point.is_winner] == [1]
    assert describe_pareto(data) == (
        "Validation accuracy against parameters of 6 trials, 4 of them on the Pareto front. Against parameters it goes "
        "from 60.00% with 1,000 to 90.00% with 90,000."
    )


def test_the_stairs_of_what_is_maximised_come_down_from_its_best():
    (panel,) = build_pareto(build_results(make_state(20, metric="val_loss", others=("val_accuracy",)))).panels
    accuracies = [other for other, _ in panel.stairs]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [value for _, value in panel.stairs] == sorted((value for _, value in panel.stairs), reverse=True)


def test_the_console_says_every_metric_of_a_trial_and_how_many_are_on_the_front():
    state = SEARCH
    assert describe_end(state, state.trials[2].ended).startswith(
        "trial 2 completed (max epochs): val_accuracy 0.8200 after 1 epoch, parameters 20,000; cnn"
    )
    assert _best_words(state).endswith("; 4 trials on the Pareto front")
    fast = make_state(3, others=("seconds_per_image",))
    assert re.search(r", seconds_per_image 0\.00012[,;]", describe_end(fast, fast.trials[0].ended))


def test_a_report_while_the_search_runs_shows_the_front_as_it_is():
    for length in range(1, 60, 7):
        results = build_results(replay(make_events(8, others=("parameters",))[: length + 2]))
        assert bool(results.front) == any(len(trial.values) == 2 for trial in results.ranked)
        leaderboard_markdown(results)
