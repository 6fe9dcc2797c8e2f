"""The examples in docstrings hold."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import tuner
from tuner.datasets import loading as _loading  # it brings all sources into their registries

assert _loading
PACKAGE = Path(tuner.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_hold(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 and result.failed == 0


def test_the_pure_modules_have_examples():
    names = {name.rsplit(".", 1)[1].removeprefix("_") for name in WITH_EXAMPLES}
    assert {"yaml_document", "formatting", "registry", "halving", "schedulers", "seeds", "space"} <= names
