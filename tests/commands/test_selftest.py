"""`python -m tuner.selftest` as its user sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.planted_mistakes import MISTAKES, plugin_text


def selftest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuner.selftest", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.full
def test_what_fails_is_printed_below_its_promise_and_as_json(tmp_path: Path) -> None:
    (tmp_path / "own_code.py").write_text(plugin_text(MISTAKES["a parameter is never used"].code))
    told = selftest(tmp_path, "--plugin", "own_code.py")
    assert told.returncode == 1, told.stderr
    assert "architecture net  own_code.py:" in told.stdout and "passed   features: " in told.stdout
    assert "failed   used parameters: each parameter makes a difference\n           width has no effect" in told.stdout
    assert told.stdout.count("failed  ") == 1 and "failed: architecture net (" in told.stdout
    document = json.loads(selftest(tmp_path, "--plugin", "own_code.py", "--json").stdout)
    assert document["passed"] is False
    (tested,) = document["tested"]
    assert (tested["kind"], tested["name"], tested["passed"]) == ("architecture", "net", False)
    assert [each["check"] for each in tested["checks"] if each["status"] != "passed"] == ["used parameters"]


def test_without_a_plugin_there_is_nothing_to_test(tmp_path: Path) -> None:
    told = selftest(tmp_path)
    assert told.returncode == 2 and "--plugin must be given" in told.stderr
    told = selftest(tmp_path, "--plugin", "nowhere.py")
    assert told.returncode == 2 and "there is no file" in told.stderr and told.stdout == ""


def test_help_loads_no_library_of_a_search(tmp_path: Path) -> None:
    code = (
        "import sys, tuner.selftest as command\n"
        "command.build_selftest_parser().format_help()\n"
        "assert not {'keras', 'numpy', 'ray', 'tensorflow', 'rich'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
