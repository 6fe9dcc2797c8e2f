"""Configurations as points: every value comes back, and conditions are learnt from trials."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tuner.algorithms._encoding import Encoding

SPACE = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
    "units": IntDistribution(16, 512, log=True),
    "depth": IntDistribution(0, 6),
    "batch": IntDistribution(32, 128, step=32),
    "momentum": FloatDistribution(0.0, 0.9, step=0.3),
    "architecture": CategoricalDistribution(["cnn", "dense", "mobilenet"]),
    "flag": CategoricalDistribution([True, False, None]),
    "only": IntDistribution(3, 3),
}
CONDITIONAL = {
    "architecture": CategoricalDistribution(["cnn", "dense", "backbone"]),
    "cnn.filters": IntDistribution(8, 64),
    "backbone.name": CategoricalDistribution(["vgg", "resnet"]),
    "backbone.vgg.blocks": IntDistribution(1, 5),
}


def configurations(space):
    """Random configurations, by rows in the unit cube."""
    encoding = Encoding(space)
    return [encoding.parameters(row) for row in np.random.default_rng(0).random((60, len(space)))]


@given(st.lists(st.floats(0, 1), min_size=len(SPACE), max_size=len(SPACE)))
def test_every_place_is_a_value_of_the_space_and_its_row_gives_the_same_value_again(places) -> None:
    encoding = Encoding(SPACE)
    values = encoding.parameters(np.array(places))
    for name, distribution in SPACE.items():
        assert distribution._contains(distribution.to_internal_repr(values[name])), name
        assert type(values[name]) in (float, int, str, bool, type(None))
    again = encoding.parameters(encoding.row(values))
    assert all(
        again[name] == pytest.approx(values[name]) if isinstance(values[name], float) else again[name] == values[name]
        for name in SPACE
    )


def test_every_value_of_a_range_in_steps_has_an_equal_share_of_the_places() -> None:
    encoding = Encoding({"depth": SPACE["depth"], "momentum": SPACE["momentum"]})
    values = [encoding.parameters(np.array([place, place])) for place in (np.arange(7000) + 0.5) / 7000]
    _, depths = np.unique([value["depth"] for value in values], return_counts=True)
    _, momenta = np.unique(np.round([value["momentum"] for value in values], 3), return_counts=True)
    assert depths.tolist() == [1000] * 7 and momenta.tolist() == [1750] * 4


def test_what_is_not_in_the_space_any_more_is_not_there() -> None:
    encoding = Encoding({"depth": IntDistribution(0, 6), "architecture": CategoricalDistribution(["cnn", "dense"])})
    row = encoding.row({"depth": 9, "architecture": "vgg"})
    assert np.isnan(row).all()
    assert np.isfinite(encoding.points(row[None])).all()


def test_choices_stand_apart_by_one_and_numbers_where_they_are_rounded_to() -> None:
    encoding = Encoding({"architecture": SPACE["architecture"], "depth": SPACE["depth"]})
    points = encoding.points(np.array([[0.1, 0.5], [0.5, 0.51], [0.9, 0.49]]))
    distances = [math.dist(points[one], points[other]) for one, other in ((0, 1), (0, 2), (1, 2))]
    assert distances == pytest.approx([1.0, 1.0, 1.0]), "the depths all become 3"
    assert encoding.groups.tolist() == [0, 0, 0, 1]


def conditional_trials():
    """What trials of a space with branches have."""
    kept = []
    for values in configurations(CONDITIONAL):
        mine = {"architecture": values["architecture"]}
        if values["architecture"] == "cnn":
            mine["cnn.filters"] = values["cnn.filters"]
        if values["architecture"] == "backbone":
            mine["backbone.name"] = values["backbone.name"]
            if values["backbone.name"] == "vgg":
                mine["backbone.vgg.blocks"] = values["backbone.vgg.blocks"]
        kept.append(mine)
    return kept


def test_conditions_are_learnt_from_trials_the_inner_one_of_nested_ones() -> None:
    encoding = Encoding(CONDITIONAL)
    trials = conditional_trials()
    encoding.learn(np.array([encoding.row(trial) for trial in trials]))
    rows = np.random.default_rng(1).random((200, len(CONDITIONAL)))
    exists = encoding.existing(rows)
    for row, there in zip(rows, exists, strict=True):
        values = encoding.parameters(row)
        assert there.tolist() == [
            True,
            values["architecture"] == "cnn",
            values["architecture"] == "backbone",
            values["architecture"] == "backbone" and values["backbone.name"] == "vgg",
        ]


def test_what_does_not_exist_makes_no_difference() -> None:
    encoding = Encoding(CONDITIONAL)
    encoding.learn(np.array([encoding.row(trial) for trial in conditional_trials()]))
    dense = 0.5
    points = encoding.points(np.array([[dense, 0.1, 0.2, 0.3], [dense, 0.9, 0.8, 0.7]]))
    assert np.array_equal(points[0], points[1])
    cnn = 0.1
    points = encoding.points(np.array([[cnn, 0.1, 0.2, 0.3], [cnn, 0.9, 0.2, 0.3]]))
    assert not np.array_equal(points[0], points[1])
