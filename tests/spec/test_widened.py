"""Values at the ends of their ranges, and the ranges to try."""

from __future__ import annotations

import pytest

from tuner.spec.space import Choice, Choose, Integer, Real, widened
from tuner.spec.space_parser import parse_space

RATE, ANY = Real(3e-4, 1e-2, log=True), (None, None)


@pytest.mark.parametrize(
    ("dimension", "value", "limits", "expected"),
    [
        (RATE, 0.01, (1e-8, 10.0), ("upper", "{log_float: [0.0003, 0.1]}")),
        (RATE, 0.0096, (1e-8, 10.0), ("upper", "{log_float: [0.0003, 0.1]}")),
        (RATE, 3e-4, (1e-8, 10.0), ("lower", "{log_float: [3.0e-05, 0.01]}")),
        (RATE, 0.002, (1e-8, 10.0), None),
        (Real(1e-8, 1e-4, log=True), 1e-8, (1e-8, 10.0), None),
        (Real(1e-7, 1e-4, log=True), 1e-7, (1e-8, 10.0), ("lower", "{log_float: [1.0e-08, 0.0001]}")),
        (Real(0.1, 5.0, log=True), 5.0, (1e-8, 10.0), ("upper", "{log_float: [0.1, 10]}")),
        (Real(0.0, 0.5), 0.0, (0.0, 0.9), None),
        (Real(0.0, 0.5), 0.5, (0.0, 0.9), ("upper", "{float: [0, 0.9]}")),
        (Real(0.0, 0.9), 0.9, (0.0, 0.9), None),
        (Real(0.2, 0.5), 0.2, (0.0, 0.9), ("lower", "{float: [0, 0.5]}")),
        (Real(0.0, 0.5), 0.01, ANY, None),
        (Real(-2.0, -1.0), -2.0, ANY, ("lower", "{float: [-3, -1]}")),
        (Real(0.5, 0.5), 0.5, ANY, None),
        (Integer(1, 4), 4, (1, None), ("upper", "{int: [1, 7]}")),
        (Integer(1, 4), 1, (1, None), None),
        (Integer(1, 4), 2, (1, None), None),
        (Integer(1, 2), 2, (1, None), None),
        (Integer(16, 64, step=16), 64, (1, 80), ("upper", "{int: [16, 80], step: 16}")),
        (Integer(16, 64, step=16), 64, (1, 100), ("upper", "{int: [16, 100]}")),
        (Integer(16, 256, log=True), 256, (1, 16_384), ("upper", "{log_int: [16, 1024]}")),
        (Integer(16, 256, log=True), 16, (1, 16_384), ("lower", "{log_int: [4, 256]}")),
        (Integer(5, 5), 5, ANY, None),
        (Choice((32, 64, 128)), 128, (1, 65_536), ("upper", "{choice: [32, 64, 128, 256]}")),
        (Choice((32, 64, 128)), 32, (1, 65_536), ("lower", "{choice: [16, 32, 64, 128]}")),
        (Choice((128, 64, 32)), 128, ANY, ("upper", "{choice: [256, 128, 64, 32]}")),
        (Choice((32, 64, 128)), 64, ANY, None),
        (Choice((1, 2, 3)), 3, ANY, ("upper", "{choice: [1, 2, 3, 4]}")),
        (Choice((0, 1, 2)), 0, (0, None), None),
        (Choice((0.001, 0.01, 0.1)), 0.1, (1e-8, 10.0), ("upper", "{choice: [0.001, 0.01, 0.1, 1]}")),
        (Choice((0.0, 0.2, 0.4)), 0.4, (0.0, 0.9), ("upper", "{choice: [0, 0.2, 0.4, 0.6]}")),
        (Choice((32, 64)), 64, ANY, None),
        (Choice((64,)), 64, ANY, None),
        (Choice(("adam", "sgd", "rmsprop")), "adam", ANY, None),
        (Choice((True, False)), True, ANY, None),
        (Choice((None, "x")), None, ANY, None),
        (Choose({"a": {}, "b": {}}), "a", ANY, None),
    ],
)
def test_a_value_at_the_end_of_its_range_is_told_with_a_range_to_try(dimension, value, limits, expected) -> None:
    assert widened(dimension, value, *limits) == expected
    if expected is not None:
        import yaml

        space, findings = parse_space({"name": yaml.safe_load(expected[1])})
        assert findings == [] and space["name"].contains(value)
