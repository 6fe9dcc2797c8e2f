"""Spaces: what is in them, how many configurations, drawn and enumerated."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.make_space import Written, spaces
from tuner.spec._yaml_document import dump_document, read_document
from tuner.spec.space import (
    Choice,
    Choose,
    Integer,
    Real,
    configure,
    count,
    enumerate_configurations,
    flatten,
    misfits,
    same_value,
    sample,
)
from tuner.spec.space_parser import parse_space

MIXED = {
    "learning_rate": Real(1e-4, 1e-1, log=True),
    "augment": Choice(("none", "flip")),
    "architecture": Choose(
        {
            "dense": {"units": Choice((32, 64)), "layers": Integer(1, 3)},
            "cnn": {"filters": Integer(8, 32, 8), "norm": Choose({"batch": {"momentum": Real(0.5, 0.9)}, "none": {}})},
        }
    ),
}


@given(spaces())
def test_no_valid_space_is_refused_and_none_is_misread(written: Written):
    document = read_document(dump_document({"space": written.raw}))
    assert document.problems == []
    space, findings = parse_space(document.values["space"])
    assert findings == []
    assert same_space(space, written.space)


def same_space(left, right) -> bool:
    """Equal, with values of equal types: 1, 1.0 and true are different choices."""
    return repr(left) == repr(right)


@given(spaces(), st.integers(0, 2**31))
def test_every_configuration_that_is_drawn_is_in_its_space(written: Written, seed: int):
    generator = np.random.default_rng(seed)
    for _ in range(5):
        configuration = sample(written.space, generator)
        assert misfits(written.space, configuration) == []


@settings(max_examples=60)
@given(spaces(finite=True))
def test_enumeration_yields_as_many_different_fitting_configurations_as_are_counted(written: Written):
    number = count(written.space)
    found = list(itertools.islice(enumerate_configurations(written.space), 500))
    assert len(found) == min(number, 500)
    assert all(misfits(written.space, configuration) == [] for configuration in found)
    assert len({repr(sorted(configuration.items())) for configuration in found}) == len(found)


@given(spaces(), st.integers(0, 2**31))
def test_a_configuration_is_asked_for_the_parameters_that_exist_and_no_others(written: Written, seed: int):
    asked: list[str] = []
    source = sample(written.space, np.random.default_rng(seed))

    def draw(qualified, name, _dimension):
        asked.append(qualified)
        return source[name]

    assert configure(written.space, draw) == source
    active = {
        parameter.qualified
        for parameter in flatten(written.space)
        if all(source[where.rsplit(".", 1)[-1]] == branch for where, branch in parameter.conditions)
        and all(where in asked for where, _ in parameter.conditions)
    }
    assert set(asked) == active and len(asked) == len(source)


@given(spaces())
def test_qualified_names_are_unique(written: Written):
    names = Counter(parameter.qualified for parameter in flatten(written.space))
    assert set(names.values()) <= {1}


def test_the_same_seed_draws_the_same_configurations():
    first, second = ([sample(MIXED, np.random.default_rng(seed)) for seed in range(20)] for _ in range(2))
    assert first == second
    assert len({repr(configuration) for configuration in first}) == 20


def test_draws_cover_both_ends_and_log_scales_are_uniform_in_the_logarithm():
    space = {
        "step": Integer(10, 30, 10),
        "log_int": Integer(1, 1000, log=True),
        "log_float": Real(1e-4, 1.0, log=True),
        "float": Real(-1.0, 3.0),
        "fixed": Real(0.5, 0.5),
    }
    generator = np.random.default_rng(0)
    drawn = [sample(space, generator) for _ in range(2000)]
    assert {configuration["step"] for configuration in drawn} == {10, 20, 30}
    assert {configuration["fixed"] for configuration in drawn} == {0.5}
    assert all(isinstance(configuration["log_int"], int) for configuration in drawn)
    assert {1, 2, 3} < {configuration["log_int"] for configuration in drawn}
    # half of the draws lie below the geometric mean of the ends, within five standard errors
    assert abs(np.mean([configuration["log_float"] < 1e-2 for configuration in drawn]) - 0.5) < 0.056
    assert abs(np.mean([configuration["log_int"] < math.sqrt(1000) for configuration in drawn]) - 0.5) < 0.06
    assert abs(np.mean([configuration["float"] for configuration in drawn]) - 1.0) < 0.13


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Choice((1, 2)), [1, 2], [1.0, True, "1", None, 3]),
        (Choice((0.5, 1)), [0.5, 1], [1.0, True]),
        (Choice((True, False)), [True], [1, 0, "true"]),
        (Choice((None,)), [None], [0, "", "null"]),
        (Integer(0, 10, 5), [0, 5, 10], [1, 15, -5, 5.0, True, "5", None]),
        (Real(0.0, 1.0), [0, 0.0, 0.5, 1], [-0.1, 1.1, True, "0.5", None, math.nan]),
        (Choose({"a": {}}), ["a"], ["b", 1, None, True]),
    ],
)
def test_values_are_compared_with_their_types(dimension, inside, outside):
    assert all(dimension.contains(value) for value in inside)
    assert not any(dimension.contains(value) for value in outside)


def test_every_way_in_which_a_configuration_does_not_fit_is_told():
    configuration = {"learning_rate": 1.0, "architecture": "dense", "units": 32, "filters": 8, "unit": 32}
    assert misfits(MIXED, configuration) == [
        ("learning_rate", "must be in the space: log float 0.0001 to 0.1; got 1.0"),
        ("augment", "must be given: choice of none, flip"),
        ("layers", "must be given: int 1 to 3"),
        ("filters", "must be left out here: it belongs to architecture cnn"),
        ("unit", "unknown hyperparameter 'unit'; did you mean 'units'? (known: architecture, augment, filters, layers, "
                 "learning_rate, momentum, norm, units)"),
    ]  # fmt: skip


def test_what_is_only_in_a_branch_of_a_branch_says_so():
    inner = Choose({"y": {"c": Choice((1,))}, "z": {}})
    found = misfits({"a": Choose({"x": {"b": inner}})}, {"a": "x", "b": "z", "c": 1})
    assert found == [("c", "must be left out here: it belongs to b y")]


def test_a_description_of_many_values_is_short():
    assert Choice(tuple(range(1000))).describe() == "choice of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ... (1000 in all)"
    assert len(Choice(("x" * 1000, "y")).describe()) < 100
    assert Choice((True, None)).describe() == "choice of true, null"
    assert Integer(2, 8, 2).describe() == "int 2 to 8 step 2"


def test_a_product_too_large_for_a_float_is_still_counted():
    space = {f"p{index}": Integer(1, 1000) for index in range(200)}
    assert count(space) == 1000**200
    assert count({**space, "rate": Real(0.0, 1.0)}) == math.inf
    assert count({"empty": Choose({"a": {}, "b": {}})}) == 2
    assert count({}) == 1


def test_a_space_with_a_float_range_cannot_be_enumerated():
    with pytest.raises(ValueError, match=r"a float range cannot be enumerated; got 0\.0 to 1\.0"):
        list(enumerate_configurations({"rate": Real(0.0, 1.0)}))


def test_enumeration_goes_like_an_odometer():
    space = {"a": Choice((1, 2)), "b": Choose({"x": {"c": Integer(0, 1)}, "y": {}})}
    assert list(enumerate_configurations(space)) == [
        {"a": 1, "b": "x", "c": 0},
        {"a": 1, "b": "x", "c": 1},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x", "c": 0},
        {"a": 2, "b": "x", "c": 1},
        {"a": 2, "b": "y"},
    ]


def test_branches_that_can_be_active_together_must_not_share_a_name():
    choose = {"choose": {"x": {"p": {"int": [1, 2]}}}}
    _, findings = parse_space({"a": choose, "b": choose})
    assert findings == [(("space", "b"), "must not have p in a branch: a branch of a has it too")]
    assert parse_space({"a": {"choose": {"x": {"p": 1}, "y": {"p": 2}}}})[1] == []


def test_same_value_tells_types_apart():
    assert same_value(1, 1) and not same_value(1, 1.0) and not same_value(1, True)
