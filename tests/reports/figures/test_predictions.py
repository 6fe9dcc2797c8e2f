"""Confusion, classes and examples as data."""

from __future__ import annotations

import numpy as np

from tests.support.make_record import epoch, make_state, small_state, study_created, trial_ended, trial_started
from tuner.reports.figures.predictions import (
    build_class_accuracy,
    build_confusion,
    choose_predictions,
    find_confident_mistakes,
)
from tuner.reports.figures.registry import FIGURES, draw_figure
from tuner.reports.results import Results, build_results
from tuner.runs.predictions import Predictions
from tuner.runs.record import replay

NAMES = ["cat", "dog", "<b>bird</b>", "été🐟"]


def predicted(labels, classes, names=NAMES, shown: int | None = None) -> Results:
    """Results whose model gives `classes[i]` to image `i`, ever less surely."""
    labels, classes = np.array(labels), np.array(classes)
    second = (classes + 1) % len(names)
    first = np.linspace(0.95, 0.55, len(labels)).astype(np.float32)
    rows = np.arange(len(labels) if shown is None else shown)
    images = np.zeros((len(rows), 4, 4, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = rows
    found = Predictions(
        np.array([0, 0]),
        labels,
        np.stack([classes, second], axis=1),
        np.stack([first, 1 - first], axis=1),
        rows,
        images,
    )
    events = [study_created(data={"class_names": names}), trial_started(0), epoch(0, 1, 0.5), trial_ended(0)]
    return build_results(replay(events), found)


def test_a_row_of_the_matrix_holds_the_shares_of_a_true_class() -> None:
    data = build_confusion(predicted([0, 0, 0, 0, 1, 1, 2, 3], [0, 0, 1, 1, 1, 1, 2, 0]))
    assert data is not None and (data.images, data.accuracy) == (8, 0.625)
    place = {name: data.class_names.index(name) for name in NAMES}
    assert data.matrix[place["cat"], place["dog"]] == 0.5
    assert data.matrix[place["été🐟"], place["cat"]] == 1.0
    np.testing.assert_allclose(data.matrix.sum(axis=1), 1)
    assert data.pairs == (("cat", "dog", 2, 4), ("été🐟", "cat", 1, 1))


def test_classes_that_are_taken_for_each_other_stand_side_by_side() -> None:
    names = [f"class {number}" for number in range(12)]
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 40)
    partner = (labels + 6) % 12  # 0 and 6, 1 and 7, ...
    classes = np.where(generator.random(len(labels)) < 0.3, partner, labels)
    data = build_confusion(predicted(labels, classes, names))
    assert data is not None
    for number in range(6):
        first, second = (data.class_names.index(f"class {one}") for one in (number, number + 6))
        assert abs(first - second) == 1


def test_classes_are_sorted_from_the_worst_with_wider_intervals_for_fewer_images() -> None:
    data = build_class_accuracy(predicted([0] * 10 + [1] * 2, [0] * 5 + [1] * 5 + [1, 0]))
    assert data is not None
    cat, dog = data.classes  # classes without a test image are left out
    assert (cat.name, cat.accuracy, cat.images, dog.name, dog.accuracy, dog.images) == ("cat", 0.5, 10, "dog", 0.5, 2)
    assert dog.high - dog.low > cat.high - cat.low


def test_the_surest_mistakes_come_first() -> None:
    data = find_confident_mistakes(predicted([0, 0, 1, 1], [1, 0, 0, 1]))
    assert data is not None
    assert [(item.true, item.labels[0][0]) for item in data.items] == [("cat", "dog"), ("dog", "cat")]
    assert data.items[0].labels[0][1] > data.items[1].labels[0][1]


def test_right_and_wrong_answers_are_shown_in_their_proportion() -> None:
    data = choose_predictions(predicted([0] * 40, [0] * 30 + [1] * 10))
    assert data is not None and len(data.items) == 16
    assert sum(item.is_right for item in data.items) == 12


def test_without_mistakes_there_are_none_to_show() -> None:
    assert find_confident_mistakes(predicted([0, 1], [0, 1])) is None


def test_before_the_test_split_is_read_there_is_nothing_to_show() -> None:
    results = build_results(make_state(5))
    assert [
        data(results) for data in (build_confusion, build_class_accuracy, find_confident_mistakes, choose_predictions)
    ] == [None] * 4


def test_predictions_of_another_data_set_are_left_out() -> None:
    results = predicted([0, 7], [0, 7], names=[f"class {number}" for number in range(8)])
    assert results.study is not None
    other = small_state(trial_started(0), epoch(0, 1, 0.5), data={"class_names": ["a", "b"]})
    assert build_confusion(build_results(other, results.predictions)) is None


def test_every_figure_of_predictions_is_drawn_and_described() -> None:
    generator = np.random.default_rng(0)
    for number in (2, 10, 100, 130):
        names = [f"class {one} $x$ <b>" for one in range(number)]
        labels = generator.integers(0, number, 600)
        classes = np.where(generator.random(600) < 0.7, labels, generator.integers(0, number, 600))
        results = predicted(labels, classes, names, shown=60)
        for name in ("confusion", "class_accuracy", "confident_mistakes", "predictions"):
            assert draw_figure(name, results) is not None
            kind = FIGURES[name]
            assert len(kind.describe(kind.build(results))) > 40
