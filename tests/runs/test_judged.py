"""Finalists that are judged by another metric than the accuracy, and what a guess without looking would reach."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

import tuner
from tests.support.make_record import epoch, small_state, trial_ended, trial_started
from tuner.common.intervals import Interval, crossed_interval, resampled_interval
from tuner.common.metrics import METRICS, metric_of
from tuner.reports._leaderboard import leaderboard_markdown
from tuner.reports.remarks import majority_sentences
from tuner.reports.results import build_results
from tuner.reports.tables import finalists_table
from tuner.runs import forecast
from tuner.runs.events import FinalistsStarted, FinalistTested, FinalistTrained, GuessTested, SessionEnded
from tuner.runs.finalists import (
    gain_on_test,
    gain_over_guess,
    judged_by,
    summarise_finalists,
    unpack_bits,
    unpack_floats,
)
from tuner.runs.state import RunState
from tuner.training.evaluation import judgement, resample


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "RESAMPLES", 100)


UNEVEN = np.array([0] * 380 + [1] * 20)
JUDGED_BY = ("val_balanced_accuracy", "val_macro_f1", "val_auc", "val_loss")


def answers(labels: np.ndarray, recalls: Sequence[float], seed: int, sure: float = 0.97) -> np.ndarray:
    """Probabilities of two classes, right for these shares of each."""
    generator = np.random.default_rng(seed)
    right = generator.random(len(labels)) < np.array(recalls)[labels]
    of_true = np.where(right, sure, 1 - sure) + generator.normal(0, 0.005, len(labels))
    return np.stack([np.where(labels == 0, of_true, 1 - of_true), np.where(labels == 0, 1 - of_true, of_true)], axis=1)


def judged(
    metric: str, finalists: Mapping[int, Sequence[np.ndarray]], labels: np.ndarray = UNEVEN, *, is_old: bool = False
) -> RunState:
    """A run whose finalists gave these probabilities for the test images; `is_old`: as earlier versions recorded it."""
    events = []
    for trial in range(max(finalists) + 1):
        events += [trial_started(trial), epoch(trial, 1, 0.5, **{metric: 0.5}), trial_ended(trial)]
    state = small_state(*events, metric=metric)
    state.apply(FinalistsStarted(trials=list(finalists), trainings=len(finalists[max(finalists)])))
    shares = np.tile(np.bincount(labels) / len(labels), (len(labels), 1))
    guess = GuessTested(largest_class="sound", share=float((labels == 0).mean()), **judgement([metric], labels, shares))
    if not is_old:
        state.apply(guess)
    for trial, rows in finalists.items():
        for number, probabilities in enumerate(rows):
            best = 0.5 + 0.1 * trial if metric_of(metric).mode == "max" else 0.5 - 0.1 * trial
            state.apply(FinalistTrained(trial=trial, number=number, status="completed", reason="max_epochs", epochs=9,
                                        best=best, seconds=1.0))  # fmt: skip
            values = judgement([metric], labels, probabilities)
            if is_old:
                del values["metrics"], values["resampled"]
            state.apply(FinalistTested(trial=trial, number=number, **values))
    state.apply(SessionEnded(reason="finished", elapsed_s=100))
    return state


def good(seed: int) -> np.ndarray:
    return answers(UNEVEN, (0.99, 0.9), seed)


def lazy(seed: int) -> np.ndarray:
    """One that finds the larger class only."""
    return answers(UNEVEN, (1.0, 0.0), seed)


@pytest.mark.parametrize("metric", JUDGED_BY)
def test_finalists_are_judged_by_the_metric_of_the_study_with_an_interval(metric):
    rows = [good(1), good(2), good(3)]
    state = judged(metric, {1: rows, 0: [lazy(1), lazy(2), lazy(3)]})
    name = metric.removeprefix("val_")
    measure = metric_of(metric).measure
    assert judged_by(state) == name and measure is not None
    first, second = summarise_finalists(state)
    values = [measure(UNEVEN, one) for one in rows]
    assert first.test is not None and first.test.low is not None and first.test.high is not None
    assert first.test.mean == pytest.approx(np.mean(values))
    assert first.test.low < first.test.mean < first.test.high
    assert first.model_test is not None and first.model_test.mean == pytest.approx(values[0])
    assert first.test_accuracy is not None and second.test_accuracy is not None
    assert first.test_accuracy.mean == pytest.approx(np.mean([(one.argmax(axis=1) == UNEVEN).mean() for one in rows]))
    gain = gain_on_test(state, first.trial, second.trial)
    assert gain is not None and gain.points.low is not None and gain.points.low > 0


CASES = [
    pytest.param(metric, seeds, beats, marks=[pytest.mark.full][: metric in ("val_macro_f1", "val_auc")])
    for metric in ("val_accuracy", *JUDGED_BY)
    for seeds in (1, 3)
    for beats in (True, False)
    if beats or metric != "val_loss"  # it tells how sure an answer was, too
]


@pytest.mark.parametrize(("metric", "seeds", "beats"), CASES)
def test_whether_the_winner_beats_the_majority_is_said_with_its_share(metric, seeds, beats):
    rows = [(good if beats else lazy)(seed) for seed in range(seeds)]
    if metric == "val_auc" and not beats:
        rows = [answers(UNEVEN, (0.5, 0.5), seed, 0.5) for seed in range(seeds)]
    state = judged(metric, {0: rows})
    gain = gain_over_guess(state, 0)
    assert gain is not None and gain.low is not None and gain.high is not None
    assert (gain.low > 0) is beats and gain.low <= gain.mean <= gain.high
    (sentence,) = majority_sentences(build_results(state))
    assert sentence.startswith("95.0% of the test images are sound, the largest class of the training images: ")
    assert ("does not beat that" in sentence) is not beats
    page = leaderboard_markdown(build_results(state))
    assert ("the winner does not beat that" in page) is not beats


@pytest.mark.parametrize("metric", ["val_accuracy", "val_balanced_accuracy", "val_macro_f1"])
def test_no_interval_of_a_gain_goes_beyond_what_a_share_can_be(metric):
    even = np.array([0, 1] * 100)
    far_apart = [answers(even, (1.0, 1.0), 1), answers(even, (0.6, 0.6), 2)]  # two seeds: Student's t is wide
    state = judged(metric, {0: far_apart, 1: [answers(even, (0.2, 0.3), 3), answers(even, (0.9, 0.9), 4)]}, even)
    over_guess = gain_over_guess(state, 0)
    assert over_guess is not None and over_guess.high < 0.75, "a guess is right for about half of the images"
    for gain in (over_guess, gain_on_test(state, 0, 1).points, gain_on_test(state, 1, 0).points):
        assert -1 <= gain.low <= gain.mean <= gain.high <= 1


def test_the_interval_of_a_loss_does_not_go_below_0():
    state = judged("val_loss", {0: [answers(UNEVEN, (0.99, 0.9), 1, sure) for sure in (0.99, 0.51)]})
    (finalist,) = summarise_finalists(state)
    assert finalist.test is not None and finalist.test.low == 0


def test_a_high_accuracy_that_is_the_majoritys_share_is_said_not_to_beat_it():
    state = judged("val_accuracy", {0: [lazy(1), lazy(2)]})
    (sentence,) = majority_sentences(build_results(state))
    assert "always answering it has test accuracy 95.00%; the winner does not beat that: 0.00 points" in sentence


def test_the_page_and_the_tables_have_the_metric_and_the_accuracy_beside_it():
    state = judged("val_balanced_accuracy", {1: [good(1), good(2)], 0: [lazy(1), lazy(2)]})
    results = build_results(state)
    page = leaderboard_markdown(results)
    assert "won with test balanced accuracy " in page and "Its test accuracy is " in page
    assert "| test balanced accuracy | 95% interval  | test accuracy | test loss |" in page
    assert "points of test balanced accuracy" in page and "(bootstrap)" in page
    first, _ = summarise_finalists(state)
    rows = [row for row in finalists_table(results).to_pylist() if row["trial"] == 1]
    assert first.test is not None
    assert np.mean([row["test_balanced_accuracy"] for row in rows]) == pytest.approx(first.test.mean)


def of_all_classes(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """As scikit-learn's log loss and AUC of several classes do, refuse images of fewer classes."""
    if len(np.unique(labels)) < probabilities.shape[1]:
        raise ValueError("a class has no image")
    return float((probabilities.argmax(axis=1) == labels).mean())


def test_own_code_that_fails_where_a_class_has_no_image_judges_by_the_images_that_have_all():
    labels = np.array([0] * 40 + [1] * 40 + [2] * 2)
    told = np.where(np.arange(82) < 8, 1, labels)
    probabilities = 0.9 * np.eye(3)[told] + 0.1 / 3
    tuner.metric(of_all_classes, unit="share")
    try:
        (only,) = summarise_finalists(judged("val_of_all_classes", {0: [probabilities]}, labels))
        lacking = judgement(["val_of_all_classes"], labels[:80], probabilities[:80])
        without_any = build_results(judged("val_of_all_classes", {0: [probabilities[:80]]}, labels[:80]))
        assert majority_sentences(without_any) == []
        assert "of all classes not a number" in leaderboard_markdown(without_any)
    finally:
        METRICS.remove("of_all_classes")
    assert only.test is not None and only.test.low is not None and only.test.high is not None
    assert only.test.mean == pytest.approx(74 / 82) and 0.8 < only.test.low < only.test.mean < only.test.high < 1
    assert lacking["test_accuracy"] == 0.9 and math.isnan(lacking["metrics"]["of_all_classes"])


def test_draws_of_which_none_has_a_value_are_no_certainty():
    mean, low, high = resampled_interval([0.5, 0.6], np.full((2, 100), math.nan))
    assert mean == pytest.approx(0.55) and low is high is None


def test_records_of_earlier_versions_are_judged_by_the_accuracy():
    state = judged("val_loss", {1: [good(1), good(2)], 0: [lazy(1), lazy(2)]}, is_old=True)
    assert judged_by(state) == "accuracy"
    first, _ = summarise_finalists(state)
    assert first.test == first.test_accuracy is not None
    results = build_results(state)
    assert majority_sentences(results) == [] and "won with test accuracy" in leaderboard_markdown(results)


def test_a_mean_of_images_has_about_the_same_interval_by_resampling_as_by_its_formula():
    generator = np.random.default_rng(0)
    table = (generator.random(1000) + generator.normal(0, 0.02, (3, 1)) < 0.8).astype(float)
    places = generator.integers(0, 1000, (400, 1000))
    resampled = np.stack([row[places].mean(axis=1) for row in table])
    by_formula, drawn = (
        crossed_interval(table, [0, 0, 1, 1]),
        resampled_interval(table.mean(axis=1).tolist(), resampled),
    )
    assert drawn.mean == by_formula.mean
    assert drawn[1:] == pytest.approx(by_formula[1:], abs=0.006)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1", "auc"])
def test_a_few_images_that_are_all_right_are_no_certainty(metric):
    labels = np.array([0] * 95 + [1] * 5)
    perfect = answers(labels, (1, 1), 0)
    (only,) = summarise_finalists(judged(f"val_{metric}", {0: [perfect]}, labels))
    assert only.test is not None and only.test.low is not None
    assert only.test.mean == 1.0 == only.test.high
    assert 0.4 < only.test.low < 0.9


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 1, 2], [2, 2, 0]], ids=["one class", "one of each", "a rare one"])
def test_the_fewest_images_have_values_for_all_draws(labels):
    probabilities = np.full((3, 4), 0.25)
    for metric in ("accuracy", "loss", "balanced_accuracy", "macro_f1", "top5_accuracy"):
        assert np.isfinite(resample(metric, np.array(labels), probabilities)).all()


def test_an_image_without_a_probability_is_none_that_was_right():
    labels, told = np.array([0, 0, 1, 1]), np.eye(2, dtype=np.float32)[[0, 0, 1, 0]]
    told[0] = math.nan
    found = judgement(["val_accuracy"], labels, told)
    assert found["test_accuracy"] == 0.5 and math.isnan(found["test_loss"])
    assert unpack_bits(found["correct"], 4).tolist() == [False, True, True, False]


def test_draws_are_the_same_for_all_models_of_a_test_split():
    one = judgement(["val_balanced_accuracy"], UNEVEN, good(1))
    assert one == judgement(["val_balanced_accuracy"], UNEVEN, good(1))
    other = judgement(["val_balanced_accuracy"], UNEVEN, np.where(np.isnan(good(1)), 0, good(1)))
    np.testing.assert_array_equal(unpack_floats(one["resampled"]), unpack_floats(other["resampled"]))
    assert judgement(["val_accuracy", "val_auc"], UNEVEN, good(1))["resampled"] == ""
    assert set(judgement(["val_accuracy", "val_auc"], UNEVEN, good(1))["metrics"]) == {"auc"}


def in_groups(groups: int, of: int, share: float, seed: int, new: float) -> tuple[np.ndarray, np.ndarray]:
    """Return whether images of groups are answered rightly, and their groups: all of a group alike but for a few."""
    generator = np.random.default_rng(seed)
    of_group = np.repeat(generator.random(groups) < share, of)
    of_image = generator.random(groups * of) < share
    return np.where(generator.random(groups * of) < new, of_image, of_group), np.repeat(np.arange(groups), of)


def of_groups(metric: str, correct: np.ndarray, units: np.ndarray | None) -> Interval:
    labels = np.arange(len(correct)) % 2
    probabilities = np.eye(2)[np.where(correct, labels, 1 - labels)]
    values = judgement([metric], labels, probabilities, units)
    state = judged(metric, {0: [probabilities]}, labels)
    state.finalists[0, 0] = replace(state.finalists[0, 0], tested=FinalistTested(trial=0, number=0, **values))
    (only,) = summarise_finalists(state)
    assert only.test is not None
    assert only.groups == (0 if units is None else len(np.unique(units)))
    return only.test


@pytest.mark.parametrize("metric", ["val_accuracy", "val_balanced_accuracy"])
def test_images_of_groups_say_less_than_as_many_others(metric):
    correct, units = in_groups(40, 10, 0.8, 0, 0.1)
    grouped, plain = (of_groups(metric, correct, each) for each in (units, None))
    assert grouped.mean == plain.mean
    assert None not in (*grouped, *plain)
    assert 2 < (grouped.high - grouped.low) / (plain.high - plain.low) < 4.5
    single = of_groups(metric, correct, np.arange(len(correct)))
    assert (single.high - single.low) == pytest.approx(plain.high - plain.low, rel=0.15)


@pytest.mark.parametrize(
    "units",
    [np.repeat([0, 1], 10), np.arange(20) // 7, np.array([0] * 19 + [1]), np.zeros(20, int), np.arange(20) * 1000 - 7],
    ids=["two groups", "uneven ones", "a group of one", "one group alone", "each its own"],
)
@pytest.mark.parametrize("metric", ["val_accuracy", "val_auc", "val_macro_f1"])
def test_any_groups_have_an_interval(units, metric):
    correct = np.arange(20) % 4 > 0
    found = judgement([metric], np.arange(20) % 2, np.eye(2)[np.where(correct, 1, 0)], units)
    assert found["groups"] == (0 if len(set(units.tolist())) == 1 else len(set(units.tolist())))
    assert bool(found["accuracy_resampled"]) == (found["groups"] > 0)
    drawn = unpack_floats(found["resampled"] or found["accuracy_resampled"])
    assert metric == "val_accuracy" or np.isfinite(drawn).any()


@pytest.mark.parametrize("groups", [5, 12, 60])
def test_intervals_of_groups_hold_the_truth_as_often_as_they_say(groups):
    held = 0
    for seed in range(150):
        found = of_groups("val_accuracy", *in_groups(groups, 8, 0.8, seed, 0.2))
        held += found.low is not None and found.high is not None and found.low <= 0.8 <= found.high
    assert held >= 0.9 * 150


def mean_recall(labels: np.ndarray, probabilities: np.ndarray) -> float:
    right = probabilities.argmax(axis=1) == labels
    return float(np.mean([right[labels == one].mean() for one in np.unique(labels)]))


def area_by_ranks(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the area under the ROC curve of two classes, as Mann and Whitney's statistic."""
    of_second, others = (labels == 1).sum(), (labels == 0).sum()
    above = rankdata(probabilities[:, 1])[labels == 1].sum() - of_second * (of_second + 1) / 2
    return float(above / (of_second * others)) if of_second and others else math.nan


QUICK = {"balanced_accuracy": mean_recall, "auc": area_by_ranks}
"""The same for two classes, without scikit-learn's checks of what it is given: they take most of its time."""


@pytest.mark.parametrize("metric", QUICK)
def test_what_is_quick_for_the_simulation_is_the_same(metric):
    measure = metric_of(metric).measure
    assert measure is not None
    for seed in range(20):
        places = np.random.default_rng(seed).integers(0, 400, 400)
        probabilities = answers(UNEVEN, (0.9, 0.5), seed)[places].round(seed % 3 + 1)  # some are equal
        assert QUICK[metric](UNEVEN[places], probabilities) == pytest.approx(
            measure(UNEVEN[places], probabilities), abs=1e-12
        )


@pytest.mark.full
@pytest.mark.parametrize(("metric", "seeds"), [("balanced_accuracy", 1), ("balanced_accuracy", 3), ("auc", 1)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(metric, seeds, monkeypatch):
    """Models whose recalls vary by 2 points from seed to seed, on 400 images of which one in twenty is of a class."""
    held, runs, generator = 0, 120, np.random.default_rng(1)
    measure = QUICK[metric]
    monkeypatch.setitem(METRICS._values, metric, replace(metric_of(metric), measure=measure))
    many = np.array([0] * 38_000 + [1] * 2_000)
    truth = measure(many, answers(many, (0.9, 0.8), 5))
    for run in range(runs):
        recalls = generator.normal([0.9, 0.8], 0.02 if seeds > 1 else 0, (seeds, 2)).clip(0, 1)
        rows = [answers(UNEVEN, one, 1000 + 10 * run + number) for number, one in enumerate(recalls)]
        (only,) = summarise_finalists(judged(f"val_{metric}", {0: rows}))
        assert only.test is not None and only.test.low is not None and only.test.high is not None
        held += only.test.low <= truth <= only.test.high
    assert held / runs >= 0.9
