"""Every planted mistake is found, and told to its author with names and lines; code without one passes in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.planted_mistakes import MISTAKES, plugin_text
from tuner.common.plugins import forget_plugins
from tuner.contracts.plugin import checked_subjects


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test has loaded, and what it did to the process."""
    from tuner.contracts._process_state import restored

    with restored():
        yield
    forget_plugins()


def found_by(folder: Path, code: str, checks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return what some checks say of the last thing that a plugin registers."""
    path = folder / "own_code.py"
    path.write_text(plugin_text(code))
    with checked_subjects([str(path)], []) as subjects:
        return {one.check: one.problems for one in subjects[-1].run(checks)}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_planted_mistake_is_told_with_names_and_lines(mistake, tmp_path: Path) -> None:
    names = tuple(mistake.check.split("|"))
    found = found_by(tmp_path, mistake.code, names)
    problems = [problem for name in names for problem in found[name]]
    assert any(re.search(mistake.told, problem) for problem in problems), found
    assert all("Traceback" not in problem and "\n" not in problem for problem in problems)
