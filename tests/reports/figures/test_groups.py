"""Trials by one setting as data."""

from __future__ import annotations

from tests.support.make_record import epoch, make_state, small_state, trial_ended, trial_started
from tuner.reports.figures.groups import MOST_GROUPS, group_by_architecture, group_by_preprocessing
from tuner.reports.figures.registry import FIGURES, draw_figure
from tuner.reports.results import build_results


def test_groups_have_the_best_first_the_median_and_the_failed():
    made = [("cnn", 0.3), ("cnn", 0.5), ("dense", 0.6), ("cnn", 0.4), ("vgg16", None), ("cnn", None)]
    events = []
    for number, (architecture, value) in enumerate(made):
        events.append(trial_started(number, {"architecture": architecture}))
        events += [trial_ended(number, "failed", "x")] if value is None else [epoch(number, 1, value)]
    data = group_by_architecture(build_results(small_state(*events)))
    assert [(group.setting, group.best, group.median, group.trials, group.failed) for group in data.groups] == [
        ("dense", 0.6, 0.6, 1, 0), ("cnn", 0.5, 0.4, 3, 1), ("vgg16", None, None, 0, 1),
    ]  # fmt: skip
    assert "vgg16: no result, 1 failed" in FIGURES["by_architecture"].describe(data)
    assert draw_figure("by_architecture", build_results(small_state(*events))) is not None


def test_what_has_no_architecture_is_not_compared_by_it():
    events = [trial_started(0, {"learning_rate": 0.1}), epoch(0, 1, 0.3), trial_started(1, {"learning_rate": 0.2})]
    own = small_state(*events, epoch(1, 1, 0.4), specification={"trainable": "my_training"})
    assert group_by_architecture(build_results(own)) is None


def test_preprocessing_is_compared_only_where_it_varies():
    same = small_state(
        *(e for n in range(3) for e in (trial_started(n, {"preprocess": "resize(64)"}), epoch(n, 1, 0.1)))
    )
    assert group_by_preprocessing(build_results(same)) is None
    data = group_by_preprocessing(build_results(make_state(30)))
    assert len(data.groups) == 3
    assert (
        FIGURES["by_preprocessing"]
        .describe(data)
        .startswith("Best validation accuracy of each trial by preprocessing.")
    )


def test_settings_without_room_are_counted():
    state = small_state(
        *(e for n in range(30) for e in (trial_started(n, {"preprocess": f"resize({n})"}), epoch(n, 1, n / 50)))
    )
    data = group_by_preprocessing(build_results(state))
    assert (len(data.groups), data.left_out) == (MOST_GROUPS, 30 - MOST_GROUPS)
    assert data.groups[0].setting == "resize(29)"
    assert "6 more are not shown" in FIGURES["by_preprocessing"].describe(data)
