"""The house: lint, format, types, import contracts, and what must not be in the tree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str) -> None:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",)],
    ids=lambda command: " ".join(command),
)
def test_the_code_passes(command: tuple[str, ...]) -> None:
    run(tool(command[0]), *command[1:])


def test_the_lock_holds_hashes_and_no_host_names() -> None:
    for name in ("requirements.lock", "cluster/requirements.lock"):
        lock = (ROOT / name).read_text()
        assert "--hash=sha256:" in lock
        assert not re.search(r"https?://|file:", lock)


def test_ci_runs_the_readmes_command_for_the_tests() -> None:
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    assert "make check" in readme and "\nmake check\n" in ci
    assert "make search" in readme


def test_no_test_is_skipped_without_a_reason_and_no_trial_reads_the_test_split() -> None:
    for path in (ROOT / "tests").glob("*.py"):
        assert not re.search(r"@pytest\.mark\.(skip\b|xfail)", path.read_text()), path
    readers = [path.name for path in (ROOT / "tuner").glob("*.py") if "load_test(" in path.read_text()]
    assert sorted(readers) == ["datasets.py", "finalist_training.py"], "only finalists are judged on the test split"


def test_the_map_in_architecture_md_has_every_room() -> None:
    map_of_rooms = (ROOT / "ARCHITECTURE.md").read_text()
    missing = [path.stem for path in (ROOT / "tuner").glob("[a-z]*.py") if f"`{path.stem}`" not in map_of_rooms]
    assert not missing
