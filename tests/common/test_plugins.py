"""Plugins: what is loaded, once, and in one line why one cannot be."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tuner.common import plugins
from tuner.common.errors import PluginError
from tuner.common.plugins import Plugin, load_plugins, open_plugins
from tuner.models.architectures import ARCHITECTURES

NET = """
    import tuner

    @tuner.architecture(parameters={"width": tuner.Int(1, 9, default=3)})
    def tiny_net(images, width):
        "One layer."
        return images
"""


@pytest.fixture(autouse=True)
def forgotten():
    """Forget what a test has loaded."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    plugins.forget_plugins()


def written(folder: Path, text: str, name: str = "own_nets.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def test_a_file_is_loaded_once_and_known_by_what_it_registers(tmp_path):
    path = written(tmp_path, NET)
    plugin, again = load_plugins([str(path)]) + load_plugins([str(path)])
    assert plugin is again and plugin.name == "own_nets.py" and len(plugin.sha256) == 64
    assert plugin.registered == (("architecture", "tiny_net"),)
    entry = ARCHITECTURES["tiny_net"]
    assert entry.description == "One layer" and entry.parameters["width"].default == 3 and not entry.is_backbone
    assert ARCHITECTURES.origin("tiny_net") == ("own_nets.py", plugin.sha256) and ARCHITECTURES.origin("cnn") is None


def test_a_module_of_a_package_may_import_relatively_and_its_whole_package_is_its_text(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    written(tmp_path, NET, "my_nets/inner.py")
    written(tmp_path, "from . import inner\n", "my_nets/nets.py")
    written(tmp_path, "", "my_nets/__init__.py")
    (plugin,) = load_plugins(["my_nets.nets"])
    assert plugin.name == "my_nets.nets" and plugin.registered == (("architecture", "tiny_net"),)
    assert sorted(plugin.texts) == ["my_nets/__init__.py", "my_nets/inner.py", "my_nets/nets.py"]


@pytest.mark.parametrize("is_package", [False, True])
def test_another_process_loads_the_same_text_wherever_the_file_is(tmp_path, is_package):
    folder = tmp_path / "here"
    if is_package:
        written(folder, NET, "far_nets/inner.py")
        written(folder, "from . import inner\n", "far_nets/nets.py")
        written(folder, "", "far_nets/__init__.py")
        sys.path.insert(0, str(folder))
        (plugin,) = load_plugins(["far_nets.nets"])
        sys.path.remove(str(folder))
    else:
        (plugin,) = load_plugins([str(written(folder, NET, "far_net.py"))])
    (tmp_path / "plugin").write_bytes(__import__("pickle").dumps(plugin))
    folder.rename(tmp_path / "gone")
    code = f"""
        import pickle, pathlib
        from tuner.common.plugins import open_plugins, loaded_plugins
        plugin = pickle.loads(pathlib.Path({str(tmp_path / "plugin")!r}).read_bytes())
        open_plugins([plugin, plugin])
        from tuner.models.architectures import ARCHITECTURES
        assert "tiny_net" in ARCHITECTURES and [one.sha256 for one in loaded_plugins()] == [plugin.sha256]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_another_process_loads_each_module_of_one_package(tmp_path):
    folder = tmp_path / "here"
    written(folder, NET, "two_nets/first.py")
    written(folder, NET.replace("tiny_net", "other_net"), "two_nets/second.py")
    written(folder, "", "two_nets/__init__.py")
    sys.path.insert(0, str(folder))
    both = load_plugins(["two_nets.first", "two_nets.second"])
    sys.path.remove(str(folder))
    folder.rename(tmp_path / "gone")
    plugins.forget_plugins()
    assert "tiny_net" not in ARCHITECTURES and "other_net" not in ARCHITECTURES
    open_plugins([*both, *both])
    assert "tiny_net" in ARCHITECTURES and "other_net" in ARCHITECTURES
    assert [one.name for one in plugins.loaded_plugins()] == ["two_nets.first", "two_nets.second"]


def test_a_plugin_that_has_changed_is_not_taken_for_the_one_that_was_loaded(tmp_path):
    path = written(tmp_path, NET)
    load_plugins([str(path)])
    path.write_text(path.read_text() + "\n")
    with pytest.raises(PluginError, match=r"own_nets\.py: the plugin has changed since this process loaded it"):
        load_plugins([str(path)])


def test_what_is_loaded_already_is_not_opened_again(tmp_path):
    plugin: Plugin = load_plugins([str(written(tmp_path, NET))])[0]
    open_plugins([plugin])
    assert len(plugins.loaded_plugins()) == 1


WRONG = {
    "syntax error": ("import tuner\ndef f(:\n", r"own.py:2: SyntaxError: "),
    "indentation": ("if True:\nx = 1\n", r"own.py:2: IndentationError: "),
    "not text": (b"\xff\xfe\x00x", r"own.py(:1)?: "),
    "fails": (
        "import tuner\n\ndef f():\n    return 1 / 0\nf()\n",
        r"own.py:4: the plugin own.py cannot be loaded: ZeroDiv",
    ),
    "misses a library": ("import nowhere_to_be\n", r"own.py:1: .*No module named 'nowhere_to_be'"),
    "ends the program": ("import sys\nsys.exit(3)\n", r"own.py:2: .* it ends the program"),
    "registers nothing": ("x = 1\n", r"own.py: the plugin registers nothing; it must hold a function below @tuner"),
    "relative import": ("from . import other\n", r"own.py:1: .*relative import .* needs a package: .*PACKAGE.MODULE"),
    "file beside": ("import beside_it\n", r"own.py:1: .*beside it \(beside_it\) is not imported: .*--plugin PACKAGE"),
    "existing name": (
        "import tuner\n@tuner.architecture\ndef cnn(images): ...\n",
        r"own.py:2: architecture 'cnn' is registered already, as tuner's own",
    ),
    "twice": (
        "import tuner\n" + "@tuner.architecture\ndef one(images): ...\n" * 2,
        r"own.py:4: architecture 'one' is registered already, as that of own.py",
    ),
    "no such decorator": ("import tuner\n@tuner.architectur\ndef f(i): ...\n", r"own.py:2: .*it offers architecture"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plugin_is_told_by_file_line_and_what_it_is_and_leaves_nothing(case, tmp_path):
    text, message = WRONG[case]
    path = tmp_path / "own.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "beside_it.py").write_text("")
    before, modules = list(ARCHITECTURES), set(sys.modules)
    with pytest.raises(PluginError, match=message) as caught:
        load_plugins([str(path)])
    assert len(caught.value.lines()) == 1 and caught.value.exit_status == 2
    assert list(ARCHITECTURES) == before and "own" not in set(sys.modules) - modules
    path.write_text(textwrap.dedent(NET))
    assert load_plugins([str(path)])[0].registered  # mended, it is loaded by the same process


def test_a_reference_that_is_no_plugin_is_told_with_what_may_have_been_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, NET, "nets.py")
    written(tmp_path, NET, "json.py")
    written(tmp_path, NET, "my.net.py")
    written(tmp_path, "", "folder.py/own.py")
    for reference, message in {
        "nowhere.py": "there is no file .*nowhere.py",
        "folder.py": "folder.py is a folder; did you mean .*own.py?",
        str(tmp_path): "is a folder; did you mean",
        "nets": r"plugin nets: no such module can be imported; did you mean the file nets.py\?",
        "no.such.module": "plugin no.such.module: no such module can be imported; is its folder in PYTHONPATH?",
        "not a module": r"must be a file of Python \(own.py\) or an importable module",
        "a//": "must be",
        "": "must be",
        "json.py": "json.py: the name json is that of another module .*; rename the file",
        "my.net.py": "must have no point before .py",
        "json": "registers nothing|imported already",
    }.items():
        with pytest.raises(PluginError, match=message):
            load_plugins([reference])


def test_a_registry_that_a_plugin_is_the_first_to_load_keeps_its_own_entries(tmp_path):
    sampler = "from tuner.algorithms.samplers import SAMPLERS\nSAMPLERS.add('mine', SAMPLERS['gp'])\n"
    path = written(tmp_path, textwrap.dedent(NET) + sampler)
    code = f"""
        from tuner.common.plugins import load_plugins
        plugin, = load_plugins([{str(path)!r}])
        assert plugin.registered == (("architecture", "tiny_net"), ("sampler", "mine")), plugin.registered
        from tuner.algorithms.samplers import SAMPLERS
        assert SAMPLERS.origin("gp") is None and SAMPLERS.origin("mine").name == "own_nets.py"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_importing_tuner_loads_no_library_of_a_search():
    code = """
        import sys, tuner
        heavy = {"numpy", "ray", "keras", "tensorflow", "optuna", "pandas", "pydantic", "scipy", "rich", "yaml"}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
        assert not [name for name in sys.modules if name.startswith("tuner.")], sys.modules
        assert {"architecture", "Int", "__version__"} <= set(dir(tuner))
        tuner.Int(1, 3, default=2)
        assert not {"keras", "tensorflow", "ray", "optuna"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_everything_that_tuner_offers_is_there():
    import tuner

    assert all(callable(getattr(tuner, name)) for name in tuner._OFFERED)
    with pytest.raises(AttributeError, match="it offers architecture"):
        _ = tuner.nothing
