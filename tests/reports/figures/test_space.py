"""Importance, slices and lines through a space as data."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.make_record import epoch, make_state, small_state, study_created, trial_ended, trial_started
from tuner.reports.figures.importance import build_importances, describe_importances, draw_importances
from tuner.reports.figures.registry import draw_figure
from tuner.reports.figures.space import build_parallel, build_slices
from tuner.reports.results import build_results
from tuner.runs.record import replay
from tuner.runs.state import RunState


def searched(values, number: int = 120, seed: int = 0) -> RunState:
    """Trials of one epoch; `values(configuration, generator)` says what each reaches."""
    generator = np.random.default_rng(seed)
    events = [study_created()]
    for trial in range(number):
        configuration = {
            "architecture": str(generator.choice(["a", "b"])),
            "learning_rate": float(10 ** generator.uniform(-4, -1)),
            "dropout": float(generator.uniform(0, 0.6)),
        }
        if configuration["architecture"] == "b":
            configuration["blocks"] = int(generator.integers(1, 6))
        value = values(configuration, generator)
        events += [trial_started(trial, configuration), epoch(trial, 1, value), trial_ended(trial)]
    return replay(events)


def shares(state: RunState) -> dict[str, float]:
    found = build_importances(build_results(state))
    assert found is not None
    return {item.name: item.share for item in found.items}


def test_what_the_values_follow_from_is_important_and_the_rest_is_not() -> None:
    found = shares(searched(lambda one, _: 0.5 - 0.1 * abs(np.log10(one["learning_rate"]) + 2.5)))
    assert found["learning_rate"] > 0.5
    assert all(abs(found[name]) < 0.1 for name in ("dropout", "architecture", "blocks"))


def test_a_parameter_of_one_branch_is_judged_by_the_trials_that_have_it() -> None:
    """Alone it decides in `b`, and `b` is no better than `a` on average: only the branch can show it."""
    state = searched(lambda one, _: 0.5 + 0.05 * (one.get("blocks", 3) - 3))
    found = build_importances(build_results(state))
    assert found is not None
    first = found.items[0]
    assert first.name == "blocks" and first.share > 0.5
    assert first.trials == sum("blocks" in trial.configuration for trial in state.trials.values()) < found.trials


def test_noise_has_no_importance() -> None:
    found = build_importances(build_results(searched(lambda _, generator: float(generator.uniform(0.3, 0.6)))))
    assert found is not None and found.items == () and found.explained < 0.3
    assert "of the differences between trials that it has not seen, and 30% are needed" in describe_importances(found)
    figure = draw_importances(found)
    assert figure.get_suptitle() == "What mattered cannot be told" and not figure.axes


def test_a_branch_that_explains_nearly_all_is_shown_so_whatever_hangs_on_it() -> None:
    def value(one, generator) -> float:
        return 0.5 + 0.1 * (one["architecture"] == "b") + float(generator.normal(0, 0.01))

    found = build_importances(build_results(searched(value, 40)))
    assert found is not None and found.items[0].name == "architecture"
    assert found.items[0].share == pytest.approx(0.96, abs=0.05) == found.items[0].together
    assert all(abs(item.share) < 0.05 for item in found.items[1:])
    assert "% with what only its branches have)" in describe_importances(found)


def test_what_hangs_on_a_branch_is_told_beside_it() -> None:
    found = build_importances(build_results(searched(lambda one, _: 0.5 + 0.05 * (one.get("blocks", 3) - 3))))
    assert found is not None
    (branch,) = (item for item in found.items if item.name == "architecture")
    assert abs(branch.share) < 0.1 and branch.together is not None and branch.together > 0.8
    assert {item.name for item in found.items if item.together is not None} == {"architecture"}


@pytest.mark.parametrize(
    ("lengths", "epoch", "compared", "stopped", "valueless"),
    [
        ({1: 10, 9: 20}, 1, 30, 0, 0),
        ({1: 2, 3: 10, 9: 18}, 3, 28, 2, 0),
        ({9: 30}, 9, 30, 0, 0),
        ({0: 5, 1: 10, 9: 15}, 1, 25, 0, 5),
        ({1: 3, 9: 12}, 1, 15, 0, 0),
    ],
)
def test_trials_are_compared_where_nearly_all_have_been_and_the_others_are_counted(
    lengths, epoch, compared, stopped, valueless
) -> None:
    found = build_importances(build_results(trained_for(lengths)))
    assert found is not None
    assert (found.epoch, found.trials, found.stopped, found.valueless) == (epoch, compared, stopped, valueless)
    words = describe_importances(found)
    assert ("that the search had ended before" in words) == bool(stopped)
    assert ("that had no value there" in words) == bool(valueless)


def trained_for(lengths: dict[int, int]) -> RunState:
    """Trials that were stopped after so many epochs of 9: {epochs: trials}; those without an epoch have failed."""
    events, generator = [study_created(max_epochs=9)], np.random.default_rng(0)
    for trial, length in enumerate(length for length, number in lengths.items() for _ in range(number)):
        events.append(trial_started(trial, {"architecture": "cnn", "rate": float(generator.uniform())}))
        events += [epoch(trial, one + 1, float(generator.uniform())) for one in range(length)]
        events.append(trial_ended(trial, {0: "failed", 9: "completed"}.get(length, "stopped"), "x"))
    return replay(events)


def test_a_trial_that_was_stopped_counts_for_what_it_showed_until_then() -> None:
    """Good trials train for 9 epochs and end higher; at the first epoch all are alike but for dropout."""
    generator = np.random.default_rng(0)
    events = [study_created(max_epochs=9)]
    for trial in range(60):
        dropout, rate = float(generator.uniform(0, 0.6)), float(generator.uniform(0, 1))
        events.append(trial_started(trial, {"architecture": "cnn", "dropout": dropout, "rate": rate}))
        length = 9 if trial < 12 else 1
        events += [epoch(trial, one, 0.5 - dropout / 4 + 0.04 * (one - 1), best=0.9) for one in range(1, length + 1)]
        events.append(trial_ended(trial, "completed" if length == 9 else "stopped", "scheduler"))
    found = build_importances(build_results(replay(events)))
    assert found is not None and (found.epoch, found.trials, found.stopped, found.valueless) == (1, 60, 0, 0)
    assert found.items[0].name == "dropout" and found.items[0].share > 0.8


@pytest.mark.parametrize("number", [2, 8, 15, 19])
def test_few_trials_are_too_few_to_tell(number) -> None:
    found = build_importances(build_results(searched(lambda one, _: one["dropout"], number)))
    assert found is not None and found.items == ()
    assert f"{number} trials can be compared, and 20 are needed" in describe_importances(found)


@pytest.mark.parametrize("number", [0, 1])
def test_nothing_is_said_of_a_single_trial(number) -> None:
    assert build_importances(build_results(make_state(number))) is None


def test_equal_values_have_no_importance() -> None:
    found = build_importances(build_results(searched(lambda *_: 0.5)))
    assert found is not None and found.items == () and "all trials reached the same value" in found.untold


def test_importance_is_the_same_each_time() -> None:
    results = build_results(make_state(40))
    assert build_importances(results) == build_importances(results)


def test_a_slice_holds_the_trials_that_have_the_parameter() -> None:
    data = build_slices(build_results(searched(lambda *_: 0.5)))
    assert data is not None
    by_name = {one.name: index for index, one in enumerate(data.hyperparameters)}
    assert set(by_name) == {"learning_rate", "dropout", "blocks"}
    is_log = {name: data.hyperparameters[index].is_log for name, index in by_name.items()}
    assert is_log["learning_rate"] and not is_log["dropout"]
    with_blocks = [trial for trial in data.trials if trial.settings[by_name["blocks"]] is not None]
    with_dropout = [trial for trial in data.trials if trial.settings[by_name["dropout"]] is not None]
    assert 0 < len(with_blocks) < len(with_dropout) == 120


def test_words_stand_in_a_slice_as_categories() -> None:
    state = small_state(
        *(
            event
            for trial, word in enumerate(["grey", "colour", "grey"])
            for event in (trial_started(trial, {"architecture": "cnn", "preprocess": word}), epoch(trial, 1, 0.2))
        )
    )
    data = build_slices(build_results(state))
    assert data is not None
    (only,) = data.hyperparameters
    assert only.choices == ("colour", "grey")
    assert sorted(trial.settings for trial in data.trials) == [("colour",), ("grey",), ("grey",)]


def test_lines_keep_raw_values_stand_between_0_and_1_and_skip_what_a_trial_does_not_have() -> None:
    state = searched(lambda _, generator: float(generator.random()))
    results = build_results(state)
    data = build_parallel(results)
    assert data is not None
    assert [one.name for one in data.hyperparameters] == ["architecture", "learning_rate", "dropout", "blocks"]
    for row in data.trials:
        configuration = state.trials[row.trial].configuration
        assert row.settings == tuple(configuration.get(one.name) for one in data.hyperparameters)
    assert any(row.settings[3] is None for row in data.trials)
    assert data.trials[0].value == max(row.value for row in data.trials)
    figure = draw_figure("parallel_coordinates", results)
    assert figure is not None
    (lines,) = figure.axes[0].collections
    segments = lines.get_segments()
    places = [place for segment in segments for index, place in segment if index < 4]
    assert min(places) == 0.0 and max(places) == 1.0
    assert {len(segment) for segment in segments} == {4, 5}
    assert segments[-1][-1][1] == 1.0  # the best is drawn on top


def test_even_values_stand_on_an_even_axis_however_many_small_ones_differ_in_their_digits() -> None:
    """Rounded to three digits, uniform values have more different small ones than large ones."""
    rates = np.random.default_rng(0).uniform(0, 0.6, 4000)
    events = [
        event
        for trial, rate in enumerate(rates)
        for event in (trial_started(trial, {"architecture": "cnn", "dropout": float(rate)}), epoch(trial, 1, 0.2))
    ]
    data = build_slices(build_results(small_state(*events)))
    assert data is not None and [one.is_log for one in data.hyperparameters] == [False]
