"""The examples in docstrings hold."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import tuner

WITH_EXAMPLES = sorted(path.stem for path in Path(tuner.__file__).parent.glob("*.py") if ">>> " in path.read_text())


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_hold(name):
    result = doctest.testmod(importlib.import_module(f"tuner.{name}"))
    assert result.attempted > 0 and result.failed == 0


def test_the_pure_modules_have_examples():
    assert {"document", "progress", "registry", "rungs", "schedulers", "seeds", "space"} <= set(WITH_EXAMPLES)
