"""Linear probes of frozen features, and labels that they doubt."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.support.cached_training import MOBILENET, SETTINGS, settings_for, whole_entries
from tuner.common.errors import DataError
from tuner.datasets.loading import Split
from tuner.training.probes import linear, probing
from tuner.training.probes.features import Features
from tuner.training.probes.linear import ROWS_AT_ONCE, deal_folds, fit
from tuner.training.probes.suspects import suspects

pytestmark = pytest.mark.usefixtures("small_mobilenet")
COLUMNS = {"prepared": SimpleNamespace(column=lambda *_: None)}


def blobs(images: int, classes: int = 3, width: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of classes that lie apart, as float16, and labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(images) % classes
    return (8 * np.eye(classes, width)[labels] + draw.normal(size=(images, width))).astype(np.float16), labels


def out_of_fold(features: np.ndarray, labels: np.ndarray, classes: int, folds: np.ndarray) -> np.ndarray:
    """Return the probabilities of all images together; those of no fold are not numbers."""
    found = np.full((len(labels), classes), np.nan, np.float32)
    for rows, part in fit(features, labels, classes, folds)[1].parts():
        found[rows] = part
    return found


def test_a_probe_of_the_closed_form_is_ridge_regression():
    from sklearn.linear_model import Ridge

    features, labels = blobs(90)
    probe, _ = fit(features, labels, 3, deal_folds(labels, None, 3, 0))
    normal = (features - features.mean(0, dtype=float)) / features.std(0, dtype=float)
    found = [
        np.abs(Ridge(alpha=penalty * 90).fit(normal, np.eye(3)[labels]).coef_.T - probe.weights).max()
        for penalty in (0.01, 0.1, 1.0, 10.0)
    ]
    assert min(found) < 1e-4


@pytest.mark.parametrize(
    ("images", "width", "constant"),
    [(90, 8, False), (60, 100, False), (90, 8, True), (ROWS_AT_ONCE + 100, 4, False)],
    ids=["plain", "more features than images", "a feature that is always the same", "several parts"],
)
def test_images_are_told_apart_by_probes_that_were_not_trained_on_them(images: int, width: int, constant: bool):
    features, labels = blobs(images, width=width)
    if constant:
        features[:, -1] = 7.0
    folds = deal_folds(labels, None, 3, 0)
    (probe, _), apart = fit(features, labels, 3, folds), out_of_fold(features, labels, 3, folds)
    others, truth = blobs(60, width=width, seed=1)
    if constant:
        others[:, -1] = 7.0
    for probabilities, known in ((apart, labels), (probe.probabilities(others), truth)):
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(known)), abs=1e-5)
        assert (probabilities.argmax(axis=1) == known).mean() > 0.8


def test_probabilities_out_of_fold_know_nothing_of_the_image_or_its_unit():
    features, labels = blobs(60, width=40)
    units = np.arange(60) // 6  # of six images, of all classes
    folds = deal_folds(labels, units, 5, 0)
    assert all(len(np.unique(folds[units == unit])) == 1 for unit in range(10))
    before = out_of_fold(features, labels, 3, folds)
    changed = labels.copy()
    changed[units == 0] = (labels[units == 0] + 1) % 3
    after = out_of_fold(features, changed, 3, folds)
    own = units == 0
    assert after[own].argmax(axis=1).tolist() == before[own].argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("labels", "units", "always"),
    [
        ([0, 0, 0, 1, 1, 1, 2], None, [6]),
        ([0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 3, 3], [3, 4, 5]),
        ([0, 0, 0, 5, 5, 5], None, []),
    ],
    ids=["a class of one image", "a class of one group", "numbers between are of no image"],
)
def test_an_image_for_whose_class_there_is_no_other_is_in_no_fold(labels: Any, units: Any, always: list[int]):
    folds = deal_folds(np.array(labels), None if units is None else np.array(units), 3, 0)
    assert np.flatnonzero(folds < 0).tolist() == always
    probabilities = out_of_fold(np.random.default_rng(0).normal(size=(len(labels), 3)), np.array(labels), 6, folds)
    assert np.flatnonzero(np.isnan(probabilities).any(axis=1)).tolist() == always


def test_too_few_images_for_folds_are_refused():
    with pytest.raises(DataError, match="too few for 5 folds"):
        deal_folds(np.array([0, 0, 1, 1]), None, 5, 0)
    with pytest.raises(DataError, match="each class has one image, or images of one group"):
        deal_folds(np.array([0, 1, 2, 1]), np.array([0, 1, 2, 1]), 2, 0)


@pytest.mark.parametrize(
    ("labels", "probabilities", "rows", "likely"),
    [
        ([0, 0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]], [], []),
        ([0, 0, 1, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.95, 0.05]], [4], [0]),
        ([0, 0, 1, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.6, 0.4]], [], []),
        ([0, 1, 1, 0], [[0.1, 0.9], [0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], [0, 1], [1, 0]),
        ([0, 0, 1, 1], [[0.9, 0.1], [np.nan] * 2, [0.1, 0.9], [0.99, 0.01]], [3], [0]),
        ([0, 0, 0], [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]], [], []),
    ],
    ids=["all agree", "one is surely another", "not sure enough", "the surest first", "unknown", "no image of a class"],
)
def test_a_label_is_doubted_where_another_class_is_as_probable_as_among_its_own(
    labels: list[int], probabilities: Any, rows: list[int], likely: list[int]
):
    own = np.array(probabilities, np.float32)
    known = np.flatnonzero(np.isfinite(own).all(axis=1))
    some = np.array_split(known, 3)
    found = suspects(np.array(labels), 2, lambda: [(part, own[part]) for part in some if len(part)])
    assert (found.rows.tolist(), found.likely.tolist(), found.images) == (rows, likely, len(known))
    assert found.label_probability.tolist() == [own[row, labels[row]] for row in rows]
    assert found.likely_probability.tolist() == own[rows].max(axis=1).tolist()


def test_labels_of_many_classes_are_looked_at_without_all_their_probabilities(monkeypatch):
    images, classes = 12_000, 400
    monkeypatch.setattr(linear, "VALUES_AT_ONCE", 2**17)
    monkeypatch.setattr(linear, "CHOSEN_BY", 200_000)
    features, labels = blobs(images, classes, width=24)
    folds = deal_folds(labels, None, 5, 0)
    tracemalloc.start()
    found = suspects(labels, classes, fit(features, labels, classes, folds)[1].parts)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.images == images and peak < images * classes * 4, "one matrix of all probabilities"


@pytest.mark.parametrize("asked", range(8))
def test_a_fit_ends_when_its_time_is_spent(asked: int):
    features, labels = blobs(90)
    answers = iter([True] * asked)
    with pytest.raises(linear.TimeSpentError):
        _, apart = fit(features, labels, 3, deal_folds(labels, None, 3, 0), lambda: next(answers, False))
        suspects(labels, 3, apart.parts)


@pytest.mark.parametrize(
    ("classes", "features", "looked_at"),
    [(2, 4, (10, 6)), (2, 40, (5, 3)), (2, 60, None)],
    ids=["all", "a part, where features are many", "none, where features by classes are too many"],
)
def test_what_labels_are_looked_at_is_bounded_by_memory(classes, features, looked_at, monkeypatch):
    monkeypatch.setattr(probing, "MOST_FEATURES", 320)
    monkeypatch.setattr(probing, "MOST_WEIGHTS", 100)
    seen: list[tuple[int, int]] = []

    def nothing(_configuration: Any, part: Any, *_more: Any) -> None:
        seen.append((len(part.train), len(part.validation)))

    monkeypatch.setattr(probing, "frozen_features", nothing)
    splits = [Split(np.zeros((n, 1, 1, 1), np.uint8), np.arange(n), np.arange(n) % classes) for n in (10, 6)]
    data: Any = SimpleNamespace(class_names=("a", "b"), train=splits[0], validation=splits[1], **COLUMNS)
    monkeypatch.setattr(probing, "replace", lambda one, **changed: SimpleNamespace(**{**vars(one), **changed}))
    prober = probing.Prober(data, SETTINGS, settings_for(Path()), lambda _text: None)
    if looked_at is None:
        with pytest.raises(DataError, match="2 classes by 60 features are too many"):
            prober.doubt({}, features, lambda *_: "", lambda: True)
    else:
        assert prober.doubt({}, features, lambda *_: "", lambda: True) is None
    assert seen == ([] if looked_at is None else [looked_at])


@pytest.mark.parametrize(
    ("bounds", "broken", "reason"),
    [
        ({"MOST_SCORES": 20}, False, "3 classes are too many to hold their probabilities for an image of each"),
        ({"MOST_WEIGHTS": 20}, False, "3 classes by 8 features are too many to hold in memory"),
        ({}, True, "not a number: what a linear classifier makes of its features"),
    ],
    ids=["scores", "weights", "features that are no numbers"],
)
def test_what_cannot_be_probed_is_told_with_the_reason_and_has_no_value(bounds, broken, reason, monkeypatch):
    for name, value in bounds.items():
        monkeypatch.setattr(probing, name, value)
    features, labels = blobs(90)
    features[70:] = np.nan if broken else features[70:]
    monkeypatch.setattr(probing, "frozen_features", lambda *_: Features(features, 60))
    splits = [Split(np.zeros((n, 1, 1, 1), np.uint8), np.arange(n), labels[:n]) for n in (60, 30)]
    data: Any = SimpleNamespace(class_names=("a", "b", "c"), train=splits[0], validation=splits[1], **COLUMNS)
    monkeypatch.setattr(probing, "replace", lambda one, **changed: SimpleNamespace(**{**vars(one), **changed}))
    probed = probing.Prober(data, SETTINGS, settings_for(Path()), lambda _text: None).probe({}, lambda: True)
    assert probed is not None and not probed.metrics and probed.reason is not None and reason in probed.reason


@pytest.mark.full
def test_a_data_set_is_probed_from_the_cache_of_its_trials(
    small_digits, tmp_path, everything_is_worth_keeping, monkeypatch
):
    from tuner.training import activations
    from tuner.training.probes.probing import Prober

    monkeypatch.setattr(linear, "LEAST_DEVIATION", 0.0)  # weights are random here, and their features small
    prober = Prober(small_digits, SETTINGS, settings_for(tmp_path), lambda _text: None)
    asked = {name: MOBILENET[name] for name in ("architecture", "alpha", "weights", "preprocess")}
    probed = prober.probe(asked, lambda: True)
    assert probed.configuration == asked and probed.reason is None
    assert probed.metrics["val_accuracy"] > 0.3 and (probed.images, probed.validation_images) == (240, 80)
    assert len(whole_entries(tmp_path)) == 1
    again = prober.probe(asked, lambda: True)
    assert again.metrics == probed.metrics and len(whole_entries(tmp_path)) == 1
    assert prober.probe(asked, lambda: False) is None
    assert prober.probe({**asked, "preprocess": "resize(4)"}, lambda: True).reason
    with monkeypatch.context() as patched:
        patched.setattr(activations, "is_worth_keeping", lambda *_: False)
        assert "not kept" in prober.probe(asked, lambda: True).reason, "it is not for want of time"
    doubts = prober.doubt(asked, 1280, lambda split, row: f"{split} {row}", lambda: True)
    assert doubts.event.images == 320 and len(doubts.event.suspects) == min(200, doubts.event.found)
    first = doubts.event.suspects[0]
    assert first.label != first.likely and first.likely_probability > first.label_probability
    train = small_digits.train
    shown = {one.row: picture for one, picture in zip(doubts.event.suspects, doubts.pictures, strict=False)}
    of_train = next(one for one in doubts.event.suspects if one.split == "train" and one.row in shown)
    place = int(np.flatnonzero(train.rows == of_train.row)[0])
    assert of_train.name == f"train {of_train.row}" and of_train.label == small_digits.class_names[train.labels[place]]
    assert (shown[of_train.row] == train.images[of_train.row]).all()
    with pytest.raises(DataError):
        few = replace(small_digits, train=train.take(np.arange(2)), validation=small_digits.validation.take([0]))
        Prober(few, SETTINGS, settings_for(tmp_path), lambda _text: None).doubt(
            asked, 1280, lambda *_: "", lambda: True
        )


@pytest.mark.full
def test_a_plan_says_what_frozen_features_give(tmp_path, capsys):
    from tuner.session.commands import run_search
    from tuner.session.options import parse_search_options

    (tmp_path / "small.yaml").write_text(
        "study: small\ndata: {source: digits, max_train_images: 200, max_validation_images: 100}\n"
        "space: {preprocess: {choice: ['resize(40)', 'resize(32)']}, "
        "architecture: {choose: {mobilenet_v2: {alpha: 0.35, weights: none}}}}\nfinalists: none\n"
    )
    words = [str(tmp_path / "small.yaml"), "--plan", "--probe", "--cache", str(tmp_path / "cache")]
    assert run_search(parse_search_options(words)) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.index("preprocess resize(32), alpha 0.35, weights none): validation accuracy") < said.index(
        "preprocess resize(40), alpha 0.35, weights none): validation accuracy"
    )
    assert run_search(parse_search_options([*words, "--set", "activations=none"])) == 0
    assert "nothing is probed: activations.enabled is false" in " ".join(capsys.readouterr().out.split())
