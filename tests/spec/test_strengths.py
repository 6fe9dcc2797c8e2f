"""Branches of operations and their strengths: one form inside, however they are written."""

from __future__ import annotations

import pytest
import yaml

from tuner.session.checks import check_names
from tuner.spec.space import Choice, Choose, Configuration, Integer, Real, flatten, misfits
from tuner.spec.spec import Spec, dump_spec, read_spec, require
from tuner.training.trainable import meaning_of_nothing

FILE = """\
study: small
data: {source: digits}
space: {preprocess: none, augment: AUGMENT, architecture: cnn}
"""


def spec_of(augment: str, baseline: Configuration | None = None, *overrides: str) -> Spec:
    text = FILE.replace("AUGMENT", augment) + ("" if baseline is None else yaml.safe_dump({"baseline": baseline}))
    reading = read_spec(text, "f", overrides, meaning_of_nothing)
    return require(reading, check_names(reading, {}))


BRANCHES = {
    "{}": {},
    "none": {},
    "'flip|shift(2)'": {"augment.flip": Choice((True,)), "augment.shift": Choice((2,))},
    "{flip: {}, shift: 2}": {"augment.flip": Choice((True,)), "augment.shift": Choice((2,))},
    "{shift: 2, flip: true}": {"augment.shift": Choice((2,)), "augment.flip": Choice((True,))},
    "'shift(1)|flip(both)|shift(2)'": {
        "augment.shift": Choice((1,)),
        "augment.flip": Choice(("both",)),
        "augment.shift_2": Choice((2,)),
    },
    "{rotate: {float: [0, 30]}, shift: {int: [0, 4], step: 2}}": {
        "augment.rotate": Real(0, 30),
        "augment.shift": Integer(0, 4, 2),
    },
    "{zoom: {fraction: {float: [0, 0.5]}}}": {"augment.zoom.fraction": Real(0, 0.5)},
    "{mixup: {log_float: [0.01, 1]}, rotate: {int: [0, 90]}, shift: {log_int: [1, 64]}}": {
        "augment.mixup": Real(0.01, 1, log=True),
        "augment.rotate": Integer(0, 90),
        "augment.shift": Integer(1, 64, log=True),
    },
    "{flip: {choice: [none, both]}, rotate: {choice: [off, 5, 10]}}": {
        "augment.flip": Choice(("none", "both")),
        "augment.rotate": Choice((0, 5, 10)),
    },
    "{rotate: none, flip: false, noise: 0}": {
        "augment.rotate": Choice((0,)),
        "augment.flip": Choice(("none",)),
        "augment.noise": Choice((0,)),
    },
}


@pytest.mark.parametrize(("written", "branch"), BRANCHES.items())
def test_a_branch_is_its_operations_in_the_order_in_which_they_are_written(written, branch) -> None:
    name = "a" if branch else "none"
    found = spec_of(f"{{choose: {{{name}: {written}}}}}").space["augment"]
    assert found == Choose({name: branch}) and isinstance(found, Choose)
    assert list(found.branches[name]) == list(branch)


def test_branches_of_every_form_stand_side_by_side_also_within_an_architecture() -> None:
    branches = "{none: {}, weak: 'flip|shift(2)', strong: {shift: {int: [0, 8]}}}"
    names = ["weak.flip", "weak.shift", "strong.shift"]
    assert [one.qualified for one in flatten(spec_of(f"{{choose: {branches}}}").space)] == [
        *("preprocess", "augment"),
        *(f"augment.{name}" for name in names),
        "architecture",
    ]
    text = FILE.replace(", augment: AUGMENT", "").replace(
        "cnn", f"{{choose: {{cnn: {{augment: {{choose: {branches}}}}}}}}}"
    )
    space = require(read_spec(text, "f", (), meaning_of_nothing)).space
    assert [one.qualified for one in flatten(space)][3:] == [f"architecture.cnn.augment.{name}" for name in names]


ROTATE = "{choose: {none: {}, own: {flip: both, rotate: {float: [0, 30]}, shift: {int: [0, 4]}}}}"


def test_a_baseline_need_not_repeat_what_is_fixed_and_has_the_order_of_its_branch() -> None:
    given = {"augment.shift": 0, "augment": "own", "architecture": "cnn", "augment.rotate": 5, "preprocess": "none"}
    spec = spec_of(ROTATE, given)
    assert spec.baseline is not None and misfits(spec.space, spec.baseline) == []
    names = [name for name in spec.baseline if "." in name]
    assert names == ["augment.flip", "augment.rotate", "augment.shift"] and spec.baseline["augment.flip"] == "both"
    again = require(read_spec(dump_spec(spec.resolved()), "f"))
    assert (again.space, again.baseline) == (spec.space, spec.baseline)
    assert list(again.baseline or ()) == list(spec.baseline)


def test_strengths_are_overridden_in_the_space_and_in_the_baseline() -> None:
    given = {"augment.shift": 0, "augment": "own", "architecture": "cnn", "augment.rotate": 5, "preprocess": "none"}
    overrides = [
        "baseline.augment.rotate=7",
        "space.augment.choose.own.rotate.float=[1, 8]",
        "baseline.augment.shift=off",
    ]
    spec = spec_of(ROTATE, given, *overrides)
    assert spec.baseline is not None
    assert spec.baseline["augment.rotate"] == 7 and spec.baseline["augment.shift"] == 0
    assert {one.name: one.dimension for one in flatten(spec.space)}["augment.rotate"] == Real(1, 8)
