"""The house: lint, format, types, import contracts, and what must not be in the tree."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from tests.support import ROOT


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


def test_all_tests_that_start_ray_are_run_by_one_process_and_others_by_the_other(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_collection_modifyitems\n")
    for name in ("chaos", "lab", "space"):
        text = "import time, pytest\n@pytest.mark.parametrize('i', range(3))\ndef test_it(i): time.sleep(0.1)\n"
        (tmp_path / f"test_{name}.py").write_text(text)
    flags = re.search(r"TWO_AT_A_TIME := (.*)", (ROOT / "Makefile").read_text())
    assert flags is not None
    command = [sys.executable, "-m", "pytest", "-v", "--rootdir", str(tmp_path), *flags[1].split(), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False).stdout
    ran = re.findall(r"\[(gw\d)\].* PASSED .*test_(\w+)\.py", said)
    starters = {process for process, name in ran if name in ("chaos", "lab")}
    assert len(ran) == 9 and len(starters) == 1 and {process for process, _ in ran} - starters, said


def code(*folders: str) -> list[Path]:
    return [path for folder in folders for path in (ROOT / folder).rglob("*.py")]


def test_tests_are_skipped_only_for_what_needs_py_says() -> None:
    # The words that this test looks for: it skips nothing itself.
    ways = re.compile(r"\b(?:pytest|unittest|mark|case)\.(?:skip\w*|importorskip|xfail)|\bSkipTest\b")
    found = [path.name for path in code("tests") if ways.search(path.read_text())]
    assert sorted(found) == ["needs.py"]


def test_every_suppression_says_why() -> None:
    # What this test looks for: it suppresses nothing itself.
    directive = re.compile(r"#\s*(?:noqa(?::[ A-Z0-9,]+)?|type: ignore(?:\[[^]]*])?)")
    for path in code("tuner", "tests", "benchmarks", "cluster"):
        for line in path.read_text().splitlines():
            if found := directive.search(line):
                assert re.search(r"[a-z]{2}", directive.sub("", line[found.start() :])), f"{path.name}: {line.strip()}"


INTERRUPTED = {
    *("jobs/entrypoint.py", "api/_search_process.py", "common/command_line.py"),  # the end of a process
    *("jobs/_commands.py", "api/running.py"),  # what is waited for goes on, or is told to stop
    "trackers/feed.py",  # in a thread, which no signal reaches
}


def test_an_interrupt_is_swallowed_only_where_it_ends_something() -> None:
    found = set()
    for path in code("tuner"):
        if not re.search(r"BaseException|KeyboardInterrupt|except:", text := path.read_text()):
            continue
        for node in ast.walk(ast.parse(text)):
            caught = ""
            if isinstance(node, ast.ExceptHandler):
                caught = "BaseException" if node.type is None else ast.unparse(node.type)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                caught = " ".join(map(ast.unparse, node.args))
            raises = any(isinstance(one, ast.Raise) for one in ast.walk(node))
            if re.search("BaseException|KeyboardInterrupt", caught) and not raises:
                found.add(path.relative_to(ROOT / "tuner").as_posix())
    assert found == INTERRUPTED


def test_no_docstring_is_a_question() -> None:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path in code("tuner"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
        for text in filter(None, map(ast.get_docstring, nodes)):
            assert not re.match(r"(What|How|Why|Where|Of|As)\b", text), f"{path.name}: {text.splitlines()[0]}"


def test_no_trial_reads_the_test_split() -> None:
    readers = [path.name for path in (ROOT / "tuner").rglob("*.py") if "load_test(" in path.read_text()]
    assert sorted(readers) == ["_finalists.py", "loading.py"], "only finalists are judged on the test split"


def test_the_map_in_architecture_md_has_every_room() -> None:
    map_of_rooms = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "tuner").glob("*/__init__.py")]
    missing = [room for room in rooms if f"`{room}`" not in map_of_rooms]
    assert not missing


def test_no_room_looks_into_the_private_modules_of_another() -> None:
    found = []
    for path in (ROOT / "tuner").rglob("*.py"):
        room = path.relative_to(ROOT / "tuner").parts[0]
        for line in path.read_text().splitlines():
            for other, module in re.findall(r"\btuner\.(\w+)(?:\.| import )(_[a-z]\w*)", line):
                if other != room:
                    found.append(f"{path.relative_to(ROOT)}: tuner.{other}.{module}")
    assert not found


def test_a_room_says_what_it_owns_and_loads_nothing() -> None:
    for path in (ROOT / "tuner").glob("*/**/__init__.py"):
        (only,) = ast.parse(path.read_text()).body
        assert isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant), path


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = grimp.build_graph("tuner", cache_dir=None)
    graph = {module: imports.find_modules_directly_imported_by(module) for module in imports.modules}
    graph["tuner"] = set()  # what it offers it loads when asked; for type checkers alone it says from where
    while leaves := [module for module, imported in graph.items() if not imported & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert not graph


def house_modules() -> list[tuple[str, ast.Module]]:
    """The modules of the package by their path in it."""
    package = ROOT / "tuner"
    return [(str(path.relative_to(package)), ast.parse(path.read_text())) for path in sorted(package.rglob("*.py"))]


def test_a_specification_is_read_where_a_search_begins_and_nowhere_below() -> None:
    rooms = {
        module.partition("/")[0]
        for module, tree in house_modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(name.name == "Spec" for name in node.names)
    }
    assert rooms <= {"session", "jobs"}, "below them, what a file asks for is a ResolvedSearch or a part of one"


def test_what_auto_means_is_asked_in_one_place() -> None:
    def is_auto(node: ast.expr) -> bool:
        is_name = isinstance(node, ast.Name) and node.id == "AUTO"
        return is_name or any(isinstance(part, ast.Constant) and part.value == "auto" for part in ast.walk(node))

    asking = {
        module
        for module, tree in house_modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and any(map(is_auto, (node.left, *node.comparators)))
    }
    # Beside the settings of a search: colour, storage and layout of images, which those answer,
    # and `--address auto`, an address of Ray.
    answered = {"datasets/_decoding.py", "datasets/file_sources.py", "datasets/request.py"}
    assert asking == {"spec/schema.py", "cluster/connection.py", *answered}


def test_a_session_hands_on_at_most_six_things() -> None:
    found = []
    for module, tree in house_modules():
        if not module.startswith("session/") and module != "execution/tune_run.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                number = len([name for name in names if name.arg != "self"])
            elif isinstance(node, ast.ClassDef) and node.decorator_list:
                number = len([field for field in node.body if isinstance(field, ast.AnnAssign)])
            else:
                continue
            if number > 6 and node.name != "SearchOptions":  # those are words of a command line
                found.append(f"{module}: {node.name} has {number}")
    assert not found


def test_no_test_replaces_what_is_private() -> None:
    """What a test needs of the inside has a public door: trials of its own kind, a maker, a callback, data."""
    found = []
    for path in code("tests", "benchmarks"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (
                isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "setattr"
            ):
                continue
            names = [argument.value for argument in call.args[:2] if isinstance(argument, ast.Constant)]
            last = str(names[0]).rpartition(".")[2] if names else ""
            if last.startswith("_") or last.endswith("Actor"):
                found.append(f"{path.relative_to(ROOT)}:{call.lineno}: {last}")
    assert not found
