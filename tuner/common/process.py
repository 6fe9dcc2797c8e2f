"""This process: what it inherits and what of that it sets anew, threads beside a block, logs, signals, machine.

What tuner depends on is set (`set_surroundings`, in every process) or checked (`settled`, before a command begins).
"""

from __future__ import annotations

import codecs
import ctypes
import io
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, cast

import psutil

from tuner import hidden_by_path
from tuner.common.errors import InputError

_SET = {
    "KERAS_BACKEND": "tensorflow",
    "MPLBACKEND": "agg",  # Keras imports matplotlib, and fails where that of a notebook is missing
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "RAY_AIR_NEW_OUTPUT": "0",
    "OPENCV_FOR_THREADS_NUM": "1",  # images are worked on side by side, each by one thread
}
_UNLESS_SET = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "TF_CPP_MIN_LOG_LEVEL": "2"}
SWITCHES = {
    "TUNER_GPU_MEMORY": ("grow", "all"),
    "TUNER_PRECISION": ("auto", "float32", "mixed_bfloat16"),
    "TUNER_XLA": ("auto", "on", "off"),
}
"""What decides how a process uses a GPU, and the words for it, the default first; heeded without a GPU too."""
_LEFT_OUT = re.compile(
    r"KERAS_MAX_\w+|KERAS_NNX_ENABLED|TF_USE_LEGACY_KERAS|TF_XLA_FLAGS|PYTHON(WARNINGS|OPTIMIZE|INSPECT|STARTUP)"
)
"""Would train by other rules, or fail where a library warns or asserts."""
_XLA_PLACE = "--xla_gpu_cuda_data_dir="
"""Kept of XLA_FLAGS. Of another flag that its TensorFlow does not know, such as one of JAX's, a process dies."""
_OF_OTHER_SEARCHES = re.compile(r"TUNE_\w+|RAY_(AIR|TRAIN|CHDIR)_\w+")
_OPEN_FILES = 65_536
_FEWEST_COLUMNS = 20
"""Nothing is printed in none, as some programs give to those that they start."""
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def set_surroundings() -> dict[str, str]:
    """Set what Keras, TensorFlow and Ray read from the environment, before they are imported; return what workers need.

    Every process that trains does so: it may have been started by others, on another machine.

    Raises:
        InputError: one of `SWITCHES` holds another word.
    """
    switched = given_switches()
    for name in [name for name in os.environ if _LEFT_OUT.fullmatch(name)]:
        del os.environ[name]
    flags = [word for word in os.environ.pop("XLA_FLAGS", "").split() if word.startswith(_XLA_PLACE)]
    os.environ.update({"XLA_FLAGS": " ".join(flags)} if flags else {})
    os.environ.update(_SET)
    for name, value in _UNLESS_SET.items():
        os.environ.setdefault(name, value)
    os.environ["KERAS_HOME"] = str(keras_home())  # absolute: workers run in other folders
    if not all(map(_can_be_written, _matplotlib_folders())):  # it would say so, at each start of a process
        os.environ["MPLCONFIGDIR"] = str(_own_temporary_folder() / "matplotlib")
    return switched | {name: os.environ[name] for name in (*_SET, *_UNLESS_SET, "KERAS_HOME")}


def given_switches() -> dict[str, str]:
    """Return the words of those of `SWITCHES` that are set; raises InputError for another word."""
    return {name: switch(name) for name in SWITCHES if os.environ.get(name)}


def switch(name: str) -> str:
    """Return the word that one of `SWITCHES` holds, or its default; raises InputError for another word."""
    value, words = os.environ.get(name) or SWITCHES[name][0], SWITCHES[name]
    if value not in words:
        raise InputError(f"{name} must be {', '.join(words[:-1])} or {words[-1]}; got {value[:40]!r}")
    return value


def _matplotlib_folders() -> list[Path]:
    """Return where matplotlib keeps its settings and the list of fonts."""
    if written := os.environ.get("MPLCONFIGDIR"):
        return [Path(written)]
    own = home() or Path(os.devnull)
    kinds = {"XDG_CONFIG_HOME": ".config", "XDG_CACHE_HOME": ".cache"}
    return [Path(os.environ.get(name) or own / folder, "matplotlib") for name, folder in kinds.items()]


def _can_be_written(folder: Path) -> bool:
    """Return whether a folder can be written to, or made."""
    try:
        place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    except (OSError, ValueError):
        return False


def _own_temporary_folder() -> Path:
    """Return the folder of this user among the temporary files, which need not be there."""
    return Path(tempfile.gettempdir(), f"tuner-{os.getuid()}" if hasattr(os, "getuid") else "tuner")


def home() -> Path | None:
    """Return the user's home; None where it is not known or not there, as for a container's user without a name."""
    with suppress(RuntimeError):
        if (folder := Path.home()).is_dir():
            return folder
    return None


def keras_home() -> Path:
    """Return the absolute folder of Keras: KERAS_HOME, else in the user's home, else among the temporary files."""
    with suppress(RuntimeError):
        if written := os.environ.get("KERAS_HOME"):
            return Path(written).expanduser().absolute()
    return (home() or Path(tempfile.gettempdir())) / ".keras"


def environment_with_package(**more: str) -> dict[str, str]:
    """Return the environment of another process that is to import this package, with more variables."""
    paths = filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **more}


def usable_cpus() -> int:
    """Return the CPUs that this process may use: those it is bound to (taskset, SLURM), within a container's limit."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _control_groups("cpu"):
        for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            with suppress(OSError, ValueError):  # of the other version, or "max"
                quota, period = map(int, " ".join((folder / file).read_text() for file in files).split())
                cpus = min(cpus, max(1, quota // period)) if quota > 0 else cpus
    return cpus


LOGICAL_GPUS = "TUNER_LOGICAL_GPUS"
"""Names how many parts of this machine's processor stand for GPUs, so that what trains on several can be tested."""


def logical_gpus() -> int:
    """Return how many parts of the processor stand for GPUs; 0: none does.

    Raises:
        InputError: the variable holds something else than a number of them.
    """
    written = os.environ.get(LOGICAL_GPUS) or "0"
    if not written.isdecimal() or int(written) > _MOST_LOGICAL_GPUS:
        raise InputError(f"{LOGICAL_GPUS} must be a whole number, {_MOST_LOGICAL_GPUS} at most; got {written[:20]!r}")
    return int(written)


_MOST_LOGICAL_GPUS = 16


def free_memory() -> int:
    """Return the bytes of memory that may still be taken: what the machine has free, within a container's limit."""
    free = int(psutil.virtual_memory().available)
    for folder in _control_groups("memory"):
        for limit, used, cached in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            with suppress(OSError, ValueError):
                left = int((folder / limit).read_text()) - int((folder / used).read_text())
                counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                free = min(free, max(0, left + int(counts.get(cached, 0))))
    return free


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the folders in which limits of this process may be set: its control groups, and those around them."""
    yield from (CGROUPS, CGROUPS / controller)
    with suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or controller in controllers.split(","):
                names = [name for name in path.split("/") if name not in ("", "..")]
                base = CGROUPS / controller if controllers else CGROUPS
                yield from (base.joinpath(*names[: depth + 1]) for depth in range(len(names)))


@contextmanager
def settled() -> Iterator[None]:
    """Set and check the surroundings of a command; variables are put back at the end, for a program that goes on.

    Raises:
        InputError: something that the command needs is not there, and cannot be set.
    """
    before = dict(os.environ)
    _open_streams()
    try:
        _check_places()
        for name in [name for name in os.environ if _OF_OTHER_SEARCHES.fullmatch(name)]:
            del os.environ[name]
        if "error" in os.environ.get("PYTHONWARNINGS", "") + " ".join(sys.warnoptions):
            warnings.simplefilter("ignore")
        if (columns := os.environ.get("COLUMNS", "")).isdecimal() and int(columns) < _FEWEST_COLUMNS:
            del os.environ["COLUMNS"]
        set_surroundings()
        if not _OF_MATPLOTLIB.handlers:  # what it says of a user's matplotlibrc, of which nothing is used
            _OF_MATPLOTLIB.addHandler(logging.NullHandler())
        _allow_open_files()
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _open_streams() -> None:
    """Give standard streams that are closed nothing to read and nowhere to write, else files would get their numbers.

    Those that cannot write all characters write the others as escapes.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(nothing := os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
            if nothing != number:
                os.close(nothing)
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w" if number else "r", encoding="utf-8"))  # noqa: SIM115  open until the process ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="backslashreplace")


def _check_places() -> None:
    """Check the folders that every command uses; raises InputError for one that is not there, or hides a module."""
    if wrong := hidden_by_path():  # of a program that calls `main`: its workers would not start
        raise InputError(wrong)
    try:
        Path.cwd()
    except OSError:
        raise InputError("the working folder must exist; it has been removed: change to another one") from None
    try:
        folder = tempfile.gettempdir()
    except OSError:
        raise InputError(
            "TMPDIR must be a folder that can be written to; no folder for temporary files can be"
        ) from None
    if "TMPDIR" in os.environ:
        os.environ["TMPDIR"] = folder  # one that can be used, for what is started from here
    try:
        Path.home()
    except RuntimeError:  # a user without a name, as in containers
        os.environ["HOME"] = str(_own_temporary_folder())


def _allow_open_files() -> None:
    """Allow as many open files as the system lets us: Ray needs hundreds, and macOS begins with 256."""
    with suppress(ImportError, OSError, ValueError):  # not on Windows
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of `mallopt` in the C library of GNU."""
_KEPT_BYTES, _LARGEST_KEPT_BYTES = 64 * 2**20, 32 * 2**20


_LONGEST_LAUNCH_S = 60.0
"""A process that is older was another program at first: a shell that waited for something, and then became this one."""


def process_began() -> float:
    """Return when this process was started, in Unix time: who has typed a command waits from then on.

    It is now where the process is too old to have been this program all the time, so that no time is spent unseen.
    """
    now, began = time.time(), psutil.Process().create_time()
    return began if now - _LONGEST_LAUNCH_S <= began <= now else now


def keep_freed_memory() -> None:
    """Let this process keep the memory of an array for the next, up to 32 MB each, where its C library is GNU's.

    Else it gives that back to the system and takes it anew, which costs more than to fill it: TensorFlow asks for that
    from 128 kB when it reads its first generator, once in a process with Python 3.11.
    """
    with suppress(OSError, TypeError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


_LOG = logging.getLogger(__name__)
_OF_MATPLOTLIB = logging.getLogger("matplotlib")
PACKAGES = ("tuner", "ray", "tensorflow", "keras", "optuna", "numpy", "pandas", "pyarrow")


def describe_environment() -> dict[str, Any]:
    """Return the versions that matter, processor, memory, Python, switches that are set, and the commit, if in git."""
    switched = {name: switch(name) for name in SWITCHES if switch(name) != SWITCHES[name][0]}
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "system": platform.platform(),
        "cpus": usable_cpus(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "commit": _commit(),
        **({"switches": switched} if switched else {}),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the code that runs; None outside a checkout or without git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        # S603 asks whether words of others can get into a command: these are fixed, but for where this package lies.
        result = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603  fixed
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


@contextmanager
def in_background(work: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `work` until the end of the block, which waits for it; it must return soon after the event is set.

    The thread does not keep a process alive that ends without leaving the block.
    """
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def standard_error_to(file: IO[Any]) -> Iterator[None]:
    """Send standard error of this process to an open file within the block, Python's and native code's alike."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


class LenientOutput:
    """Standard output for what is shown of a search: what cannot be written is dropped, and said once in the log."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)

    def write(self, text: str) -> int:
        """Write a text if that is possible."""
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError as error:
            sys.stdout.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        except (OSError, ValueError, AttributeError) as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Write what was kept back, if that is possible."""
        try:
            sys.stdout.flush()
        except (OSError, ValueError, AttributeError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Write nowhere from now on: the reader has gone, the disk is full, or there is no standard output at all."""
        if not isinstance(error, BlockingIOError):  # of this one there may be another end
            silence(sys.stdout)
        _LOG.warning("standard output cannot be written, and the search goes on: %s", error)


def silence(stream: IO[str] | None) -> None:
    """Let what a stream still holds go nowhere: the interpreter writes it at its end, and would complain."""
    with suppress(OSError, ValueError, AttributeError):  # a stream without a file, or none
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, cast(IO[str], stream).fileno())
        os.close(null)


_CHATTY = ("tuner", "ray", "optuna", "tensorflow", "keras", "jax", "absl", "matplotlib", "py.warnings")


@contextmanager
def logging_to(path: Path | None, *, is_new: bool = True) -> Iterator[None]:
    """Send logs, warnings and standard error of libraries to the file at `path` (appended); nowhere if it cannot be.

    What only reads a run adds no file to it: nowhere, too, if there is none and it may not be a new one (`is_new`).
    The console (standard output) is left to what the user wants to know. TensorFlow's native code writes past Python,
    so the file descriptor itself is turned to the file.
    """
    is_written = path is not None and (is_new or path.exists())
    try:
        handler = logging.FileHandler(path if path is not None and is_written else os.devnull, encoding="utf-8")
    except OSError:  # a run of someone else
        handler = logging.FileHandler(os.devnull)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger(name) for name in _CHATTY]
    before = [(logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        with warnings.catch_warnings(), standard_error_to(cast(IO[str], handler.stream)):
            warnings.simplefilter("default")
            logging.captureWarnings(True)  # within: a block in a block would else leave them captured
            try:
                yield
            finally:
                logging.captureWarnings(False)
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()
