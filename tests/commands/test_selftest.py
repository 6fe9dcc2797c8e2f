"""`python -m tuner.selftest` as its user sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.planted_mistakes import MISTAKES, OF_METRICS, plugin_text
from tuner.selftest import main


def selftest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tuner.selftest", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.full
def test_what_fails_is_printed_below_its_promise_and_as_json(tmp_path: Path) -> None:
    (tmp_path / "own_code.py").write_text(plugin_text(MISTAKES["a parameter is never used"].code))
    told = selftest(tmp_path, "--plugin", "own_code.py", "--json")
    assert told.returncode == 1, told.stderr
    assert "architecture net  own_code.py:" in told.stderr and "passed   features: " in told.stderr
    assert "failed   used parameters: each parameter makes a difference\n           width has no effect" in told.stderr
    assert told.stderr.count("failed  ") == 1 and "failed: architecture net (" in told.stderr
    document = json.loads(told.stdout)
    assert document["passed"] is False
    (tested,) = document["tested"]
    assert (tested["kind"], tested["name"], tested["passed"]) == ("architecture", "net", False)
    assert [each["check"] for each in tested["checks"] if each["status"] != "passed"] == ["used parameters"]


@pytest.mark.full
def test_where_no_json_is_asked_for_all_is_on_standard_output(tmp_path: Path) -> None:
    (tmp_path / "own_code.py").write_text(plugin_text(OF_METRICS["of the order"].code))
    told = selftest(tmp_path, "--plugin", "own_code.py")
    assert told.returncode == 1, told.stderr
    assert "metric sure  own_code.py:" in told.stdout and "failed: metric sure (" in told.stdout
    assert "failed   order: " in told.stdout and "depends on the order" in told.stdout


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


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--on-cpu"], "--on-cpu must stand beside --gpu"),
        (["--gpu", "--plugin", "own.py"], "--gpu must stand alone"),
        (["--gpu", "--only", "net"], "--gpu must stand alone"),
    ],
)
def test_the_test_of_a_gpu_stands_alone(arguments, told, capsys) -> None:
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.full
def test_the_test_of_a_gpu_runs_on_a_cpu_and_keeps_its_promises_there(tmp_path: Path) -> None:
    told = selftest(tmp_path, "--gpu", "--on-cpu", "--json")
    assert told.returncode == 0, told.stderr
    document = json.loads(told.stdout)
    found = {each["name"]: each for each in document["measured"]}
    assert document["passed"] and list(found) == [
        "devices", "precision", "without augmentation", "augmented by the host", "augmented on the device", "memory",
        "pixels", "numbers in float32",
    ]  # fmt: skip
    assert found["pixels"]["status"] == found["numbers in float32"]["status"] == "passed"
    assert all(found[name]["values"]["images_per_s"] > 1 for name in found if "augment" in name)
    assert "passed   numbers in float32: val_loss " in told.stderr and "every promise is kept (" in told.stderr
