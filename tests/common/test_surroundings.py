"""What tuner's processes inherit: set by tuner, or checked before anything starts."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tuner import hidden_module
from tuner.common import process
from tuner.common.errors import InputError
from tuner.common.process import (
    describe_environment,
    free_memory,
    home,
    keras_home,
    process_began,
    set_surroundings,
    settled,
    usable_cpus,
)

ABSENT = None


@pytest.mark.parametrize(
    ("name", "inherited", "wanted"),
    [
        ("MPLBACKEND", "module://matplotlib_inline.backend_inline", "agg"),
        ("MPLBACKEND", "TkAgg", "agg"),
        ("MPLBACKEND", "", "agg"),
        ("KERAS_BACKEND", "torch", "tensorflow"),
        ("KERAS_BACKEND", "theano", "tensorflow"),
        ("KERAS_BACKEND", "", "tensorflow"),
        ("KERAS_MAX_EPOCHS", "1", ABSENT),
        ("KERAS_MAX_STEPS_PER_EPOCH", "one", ABSENT),
        ("KERAS_NNX_ENABLED", "true", ABSENT),
        ("TF_USE_LEGACY_KERAS", "1", ABSENT),
        ("TF_XLA_FLAGS", "--tf_xla_auto_jit=2", ABSENT),
        ("XLA_FLAGS", "--xla_of_jax=true", ABSENT),
        (
            "XLA_FLAGS",
            "--xla_of_jax=true --xla_gpu_cuda_data_dir=/usr/lib/cuda",
            "--xla_gpu_cuda_data_dir=/usr/lib/cuda",
        ),
        ("TF_FORCE_GPU_ALLOW_GROWTH", "false", "true"),
        ("TF_CPP_MIN_LOG_LEVEL", "0", "0"),
        ("TF_ENABLE_ONEDNN_OPTS", "0", "0"),
        ("PYTHONWARNINGS", "error", ABSENT),
        ("PYTHONOPTIMIZE", "2", ABSENT),
        ("PYTHONINSPECT", "1", ABSENT),
        ("PYTHONSTARTUP", "/home/me/.pythonrc", ABSENT),
        ("RAY_AIR_NEW_OUTPUT", "1", "0"),
        ("RAY_CHDIR_TO_TRIAL_DIR", "0", ABSENT),
        ("TUNE_RESULT_BUFFER_LENGTH", "50", ABSENT),
        ("TUNE_MAX_PENDING_TRIALS_PG", "1", ABSENT),
        ("TMPDIR", "/scratch/that/is/gone", tempfile.gettempdir()),
        ("KERAS_HOME", "", str(Path.home() / ".keras")),
        ("KERAS_HOME", "~/weights", str(Path.home() / "weights")),
        ("KERAS_HOME", "weights", str(Path("weights").absolute())),
        ("CUDA_VISIBLE_DEVICES", "", ""),
        ("OMP_NUM_THREADS", "many", "many"),
        ("COLUMNS", "0", ABSENT),
        ("COLUMNS", "1", ABSENT),
        ("COLUMNS", "100", "100"),
    ],
)
def test_a_variable_has_within_a_command_the_value_that_tuner_needs_and_afterwards_its_own(
    monkeypatch, name, inherited, wanted
) -> None:
    monkeypatch.setenv(name, inherited)
    with settled():
        assert os.environ.get(name) == wanted
    assert os.environ[name] == inherited


def test_workers_and_the_record_are_told_of_switches_that_are_set(monkeypatch) -> None:
    monkeypatch.delenv("TUNER_PRECISION", raising=False)
    assert "switches" not in describe_environment() and "TUNER_PRECISION" not in set_surroundings()
    monkeypatch.setenv("TUNER_PRECISION", "float32")
    assert set_surroundings()["TUNER_PRECISION"] == "float32"
    assert describe_environment()["switches"] == {"TUNER_PRECISION": "float32"}


def test_workers_of_another_machine_are_given_what_the_driver_has_set(monkeypatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    given = set_surroundings()
    assert given["MPLBACKEND"] == "agg" and given["KERAS_BACKEND"] == "tensorflow"
    assert all(os.environ[name] == value for name, value in given.items())


@pytest.mark.parametrize("place", ["/nonexistent", "/dev/null", None])
def test_without_a_home_keras_has_a_folder_among_the_temporary_files(monkeypatch, place) -> None:
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", place) if place else monkeypatch.delenv("HOME")
    if place is None:
        monkeypatch.setattr(Path, "home", classmethod(lambda _cls: (_ for _ in ()).throw(RuntimeError("no home"))))
    assert home() is None
    assert keras_home() == Path(tempfile.gettempdir(), ".keras")


@pytest.mark.parametrize(
    ("variables", "is_moved"),
    [
        ({"HOME": "{home}"}, False),
        ({"HOME": "/nonexistent"}, True),
        ({"HOME": "/dev/null"}, True),
        ({"HOME": "/dev/null", "MPLCONFIGDIR": "{home}/mine"}, False),
        ({"HOME": "{home}", "MPLCONFIGDIR": "/dev/null/mine"}, True),
        ({"HOME": "{home}", "XDG_CACHE_HOME": "{file}/x"}, True),
        ({"HOME": "{home}", "XDG_CONFIG_HOME": "{file}"}, True),
        ({"HOME": "/dev/null", "XDG_CONFIG_HOME": "{home}/a", "XDG_CACHE_HOME": "{home}/b"}, False),
    ],
)
def test_matplotlib_has_a_folder_among_the_temporary_files_where_its_own_cannot_be_written_to(
    monkeypatch, tmp_path, variables, is_moved
) -> None:
    (tmp_path / "file").touch()
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, text in variables.items():
        monkeypatch.setenv(name, text.format(home=tmp_path, file=tmp_path / "file"))
    before = os.environ.get("MPLCONFIGDIR")
    with settled():
        moved = Path(tempfile.gettempdir(), f"tuner-{os.getuid()}", "matplotlib")
        assert os.environ.get("MPLCONFIGDIR") == (str(moved) if is_moved else before)


def test_a_user_without_a_name_and_a_home_has_one_among_the_temporary_files(monkeypatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with settled():
        assert Path.home() == Path(tempfile.gettempdir(), f"tuner-{os.getuid()}")
    assert "HOME" not in os.environ


def test_a_working_folder_that_was_removed_is_told_in_one_line(monkeypatch, tmp_path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(InputError, match="the working folder must exist"), settled():
        pass


def test_a_machine_without_room_for_temporary_files_is_told_in_one_line(monkeypatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(InputError, match="TMPDIR must be a folder that can be written to"), settled():
        pass


@pytest.mark.parametrize(
    "file",
    ["random.py", "typing.py", "json/__init__.py", "numpy/__init__.py", "keras.py", "ray/__init__.py", "enum.py"],
)
def test_a_file_that_hides_a_module_of_python_or_of_a_library_is_seen(tmp_path, file) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert hidden_module(str(tmp_path)) == str(tmp_path / file)


def test_a_path_that_hides_a_module_is_refused_in_programs_that_call_a_command_too(monkeypatch, tmp_path) -> None:
    (tmp_path / "yaml.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"/nowhere{os.pathsep}{tmp_path}")
    with pytest.raises(InputError, match=r"PYTHONPATH must not hide a module that tuner needs; .*yaml\.py"), settled():
        pass


@pytest.mark.parametrize(
    "files", [["mine.py"], ["numpy/__init__.py", "numpy-2.4.dist-info/METADATA"], ["random/x.txt"], []]
)
def test_a_folder_with_other_modules_or_with_installed_ones_hides_nothing(tmp_path, files) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert hidden_module(str(tmp_path)) is None


def test_warnings_that_are_errors_elsewhere_are_none_here(monkeypatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with settled():
            warnings.warn("of a library", DeprecationWarning, stacklevel=1)


@pytest.mark.parametrize(
    ("bound_to", "files", "cpus"),
    [
        (8, {}, 8),
        (8, {"cpu.max": "max 100000"}, 8),
        (8, {"cpu.max": "250000 100000"}, 2),
        (8, {"cpu.max": "50000 100000"}, 1),
        (2, {"cpu.max": "800000 100000"}, 2),
        (8, {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        (8, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        (8, {"cpu.max": "nonsense"}, 8),
        (8, {"job/step/cpu.max": "max 100000", "job/cpu.max": "400000 100000"}, 4),
        (8, {"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"}, 3),
        (8, {"another/cpu.max": "100000 100000"}, 8),
    ],
)
def test_cpus_are_those_that_a_scheduler_or_a_container_leaves(monkeypatch, tmp_path, bound_to, files, cpus) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    in_groups(monkeypatch, tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(bound_to)))
    assert usable_cpus() == cpus


def in_groups(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let this process be in a job's control groups, of both versions, in a folder."""
    (folder / "own").write_text("0::/job/step\n4:cpu,cpuacct:/job\n5:memory:/job\n1:name=systemd:/another\n")
    monkeypatch.setattr(process, "CGROUPS", folder)
    monkeypatch.setattr(process, "OWN_CGROUPS", folder / "own")


@pytest.mark.parametrize(
    ("folder", "limit", "used", "stat", "free"),
    [
        (".", "max", "300", "", 1000),
        (".", "800", "300", "anon 200\ninactive_file 50", 550),
        (".", "800", "900", "anon 900", 0),
        (".", "9000", "300", "", 1000),
        (".", "nonsense", "300", "", 1000),
        ("job", "800", "300", "inactive_file 1", 501),
        ("job/step", "800", "300", "", 500),
        ("another", "1", "0", "", 1000),
        ("memory", "800", "300", "total_inactive_file 9\ninactive_file 5", 509),
        ("memory/job", "800", "300", "", 500),
    ],
)
def test_free_memory_is_what_the_machine_and_a_container_leave(
    monkeypatch, tmp_path, folder, limit, used, stat, free
) -> None:
    names = ("limit_in_bytes", "usage_in_bytes") if folder.startswith("memory") else ("max", "current")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, text in zip((*names, "stat"), (limit, used, stat), strict=True):
        (tmp_path / folder / f"memory.{name}").write_text(text)
    in_groups(monkeypatch, tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert free_memory() == free


@pytest.mark.parametrize(
    ("shell", "status", "said"),
    [
        ("{} list", 0, "the cache is empty"),
        ("{} list 2>&-", 0, "the cache is empty"),
        ("{} list <&-", 0, "the cache is empty"),
        ("{} list >&-", 0, ""),
        ("{} list <&- >&- 2>&-", 0, ""),
        ("PYTHONIOENCODING=ascii {} list", 0, "the cache is empty"),
        ("PYTHONIOENCODING=latin-1 {} list", 0, "the cache is empty"),
        ("LANG=C LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {} list", 0, "the cache is empty"),
        ("TERM=dumb NO_COLOR=1 COLUMNS=0 {} list", 0, "the cache is empty"),
        ("COLUMNS=wide LINES=-1 {} list", 0, "the cache is empty"),
        ("PYTHONWARNINGS=error {} list", 0, "the cache is empty"),
        ("PYTHONOPTIMIZE=2 {} list", 0, "the cache is empty"),
        ("TZ=Mars/Olympus {} list", 0, "the cache is empty"),
        (
            "echo 'nonsense: 3' > matplotlibrc; {} list; "
            + sys.executable
            + " -c 'from tuner.common.process import settled\nwith settled(): import matplotlib'",
            0,
            "the cache is empty",
        ),
        ("umask 777; {} list", 0, "the cache is empty"),
        ("ulimit -n 64; {} list", 0, "the cache is empty"),
        ("PYTHONIOENCODING=ascii {} list --cache é", 0, "the cache is empty"),
        ("touch random.py csv.py numpy.py; {} list", 0, "the cache is empty"),
        ("mkdir gone; cd gone; rmdir ../gone; {} list", 2, "the working folder must exist"),
        ("touch shadow/random.py; PYTHONPATH=shadow {} list", 2, "PYTHONPATH must not hide a module"),
    ],
)
def test_a_command_works_or_says_in_one_line_what_its_surroundings_lack(tmp_path, shell, status, said) -> None:
    (tmp_path / "shadow").mkdir()
    command = shell.format(f"{sys.executable} -m tuner.cache")
    ended = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "TUNER_CACHE": str(tmp_path / "none")},
    )  # fmt: skip
    assert ended.returncode == status, ended.stderr
    assert said in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr and len(ended.stderr.splitlines()) <= (status == 2)


@pytest.mark.parametrize(
    ("created", "counted"), [(990.0, 990.0), (1000.0, 1000.0), (100.0, 1000.0), (1060.0, 1000.0)],
    ids=["a launch", "at once", "a script that waited, and then became tuner", "a clock that is not the system's"],
)  # fmt: skip
def test_time_is_counted_from_the_launch_but_not_that_of_another_program(created, counted, monkeypatch):
    monkeypatch.setattr(process.time, "time", lambda: 1000.0)
    monkeypatch.setattr(process.psutil, "Process", lambda: SimpleNamespace(create_time=lambda: created))
    assert process_began() == counted
