"""How rankers of frozen features are compared with what was trained."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.probe.ranking import RANKERS, Variant, correlation, expected_best, is_random_last, reached_by
from tests.benchmarks.test_image_tables import table
from tuner.training.probes.features import Features


def variant(architecture: str, said: float, *reached: float) -> Variant:
    return Variant({"architecture": architecture}, np.array(reached), {"ranker": said})


GOOD, FAIR, RANDOM = ("mobilenet_v2", 0.5, 0.9), ("small_residual", 0.4, 0.7), ("random_residual", 0.1, 0.2)


def test_a_ranker_that_orders_all_as_they_end_has_a_correlation_of_1_and_one_that_reverses_them_of_minus_1() -> None:
    right = [variant(*one) for one in (GOOD, FAIR, RANDOM)]
    wrong = [variant(name, -said, reached) for name, said, reached in (GOOD, FAIR, RANDOM)]
    assert correlation({"a": right}, "ranker", trained_only=False) == pytest.approx(1.0)
    assert correlation({"a": right, "b": wrong}, "ranker", trained_only=True) == pytest.approx(0.0)
    assert is_random_last(right, "ranker") and not is_random_last(wrong, "ranker")
    assert np.isnan(correlation({"a": right[:1]}, "ranker", trained_only=False))


def test_the_best_of_several_is_compared_whatever_their_number() -> None:
    assert expected_best(np.array([0.3])) == pytest.approx(0.3)
    draws = np.random.default_rng(0).random((20_000, 5)).max(axis=1).mean()
    assert expected_best(np.linspace(0.0005, 0.9995, 1000)) == pytest.approx(draws, abs=0.005)


def test_what_a_frozen_backbone_reached_is_of_the_configurations_that_have_it() -> None:
    made = table(40)
    first = next(one for one in made.configurations if one["architecture"] == "mobilenet_v2")
    found = reached_by(made, {"architecture": "mobilenet_v2", "preprocess": first["preprocess"]})
    own = [
        one["architecture"] == "mobilenet_v2" and one["preprocess"] == first["preprocess"]
        for one in made.configurations
    ]
    assert found.tolist() == made.accuracy[own].max(axis=1).astype(float).tolist()


def test_every_ranker_puts_features_that_tell_classes_apart_before_those_that_do_not() -> None:
    generator = np.random.default_rng(0)
    labels, validation = np.arange(90) % 3, np.arange(30) % 3
    noise = generator.normal(size=(120, 12)).astype(np.float32)
    centres = 3 * generator.normal(size=(3, 12)).astype(np.float32)
    telling = noise + centres[np.concatenate([labels, validation])]
    for name, by in RANKERS.items():
        good, bad = (by(Features(one, 90), labels, validation, 3) for one in (telling, noise))
        assert good > bad, name
