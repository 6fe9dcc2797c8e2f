"""Ray on this machine alone, and the resources that a trial occupies on any Ray."""

from __future__ import annotations

import _thread
import contextlib
import importlib
import logging
import math
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import psutil

from tuner.common.errors import InputError, TunerError, first_line
from tuner.common.process import home, logical_gpus, set_surroundings, usable_cpus
from tuner.common.termination import keeping_termination, outliving_hangup

WORKERS_READY_S = 60.0
LOADED, FAILED = ".loaded", ".failed"
"""Suffixes of the files in which workers say that they have loaded their libraries, or why not (`preload`)."""
LONGEST_FOLDER = 41
"""Bytes of the path of a folder in which Ray can make its sockets: the system allows for 107 in all."""


@dataclass(frozen=True)
class NodeCapacity:
    """The resources of one node of a cluster for trials."""

    cpus: float
    gpus: float
    memory_mb: float


@dataclass(frozen=True)
class Capacity:
    """The resources of a Ray for trials: CPUs and GPUs of all nodes."""

    cpus: float
    gpus: float
    ready: Path | None = None
    """Folder with a file of each worker process that has loaded its libraries; None for a Ray that ran before."""
    nodes: tuple[NodeCapacity, ...] = ()
    """Those of a cluster that can run trials; empty for a Ray of this machine alone."""
    is_cluster: bool = False
    """True where nodes may come and go: then more trials may be asked for than fit now."""
    asked: frozenset[str] = frozenset()
    """Ids of the nodes of a cluster that were asked whether they can run trials."""
    dashboard: str | None = None
    """Address of the dashboard of a Ray of this machine, if it was asked for."""

    def slots(self, cpus_per_trial: float, gpus_per_trial: float) -> int:
        """Return how many trials fit at the same time; a trial is not split across nodes.

        >>> Capacity(8, 1).slots(2, 0.5)
        2
        >>> Capacity(6, 0, nodes=(NodeCapacity(3, 0, 0), NodeCapacity(3, 0, 0))).slots(2, 0)
        2
        """
        nodes = self.nodes or (NodeCapacity(self.cpus, self.gpus, 0.0),)
        return sum(_fit(node, cpus_per_trial, gpus_per_trial) for node in nodes)

    def cpus_beside_gpu(self) -> float:
        """Return the CPUs for each GPU of a node, at least 1: of the node that has the fewest, so that all have them.

        >>> nodes = (NodeCapacity(4.0, 1, 0), NodeCapacity(4.0, 2, 0), NodeCapacity(32.0, 0, 0))
        >>> Capacity(40, 3, nodes=nodes).cpus_beside_gpu()
        2.0
        """
        nodes = self.nodes or (NodeCapacity(self.cpus, self.gpus, 0.0),)
        return max(1.0, min((node.cpus // max(1.0, node.gpus) for node in nodes if node.gpus), default=1.0))


def _fit(node: NodeCapacity, cpus_per_trial: float, gpus_per_trial: float) -> int:
    by_gpu = math.floor(node.gpus / gpus_per_trial + 1e-9) if gpus_per_trial else math.inf
    return int(min(math.floor(node.cpus / cpus_per_trial + 1e-9), by_gpu))


@contextmanager
def local_ray(name: str = "tuner", with_dashboard: bool = False, preloads: bool = True) -> Iterator[Capacity]:
    """Start a Ray as `starting_ray` does, wait for it, and stop it at the end; raises as the two do."""
    with starting_ray(name, with_dashboard, preloads) as started:
        yield started()


@contextmanager
def starting_ray(
    name: str = "tuner", with_dashboard: bool = False, preloads: bool = True
) -> Iterator[Callable[[], Capacity]]:
    """Start a Ray of its own on this machine beside the block, and stop it at the end; yield what waits for it.

    It is quiet, with no open port beyond loopback. `name` is what its dashboard calls the search. With `preloads`,
    workers load the libraries of a trial in advance. What waits raises TunerError when Ray has failed; while nobody
    waits, the block is interrupted and the same error raised, since what is done in it may take an hour.

    Raises InputError when the dashboard's libraries or a place for its token are missing, or a place for Ray's files.
    """
    set_surroundings()
    if with_dashboard:
        _check_dashboard()
    import ray

    if ray.is_initialized():  # in a notebook or a test: use what is there, and leave it there
        yield _capacity
        return
    # Tune asks for processes with a variable for PyTorch Lightning, which those that Ray has started do not have.
    from ray.tune.execution import class_cache

    class_cache.DEFAULT_ENV_VARS.clear()
    if not keep_token_private():
        os.environ["RAY_AUTH_TOKEN"] = _own_token()
    # The thread stays until Ray has ended: the system ends Ray's processes with the thread that has started them.
    with _starting_workers(preloads) as ready, _loopback(), ThreadPoolExecutor(1, "ray") as thread:
        start = thread.submit(_start, name, with_dashboard)

        def started() -> Capacity:
            alarm.turn_off()
            with keeping_termination():
                return replace(start.result(), ready=ready)

        alarm = _Alarm()
        try:
            with alarm.over(start):
                yield started
        finally:
            if start.exception() is None:
                ray.shutdown()


class _Alarm:
    """An interrupt of the main thread, once, when a start fails for which it does not wait yet."""

    def __init__(self) -> None:
        self._lock, self._is_on = threading.Lock(), threading.current_thread() is threading.main_thread()
        self._has_rung = False

    @contextmanager
    def over(self, start: Future[Capacity]) -> Iterator[None]:
        """Ring when this fails within the block, and raise what it has failed with."""
        try:
            try:
                start.add_done_callback(self._ring)  # at once, when it has failed
                yield
            finally:
                self.turn_off()
        except KeyboardInterrupt:
            if self._has_rung:
                start.result()
            raise

    def _ring(self, start: Future[Capacity]) -> None:
        with self._lock:
            if self._is_on and start.exception() is not None:
                self._has_rung = True
                _thread.interrupt_main()

    def turn_off(self) -> None:
        """Ring no more: from here on, whoever asks is told. A ring that was not heard yet is heard here."""
        with self._lock:
            self._is_on = False


def _start(name: str, with_dashboard: bool) -> Capacity:
    """Start Ray; raises TunerError when it fails."""
    import ray
    from ray.exceptions import RayError

    logging.getLogger("ray._private.worker").addFilter(_is_of_use)
    try:
        with outliving_hangup(), _without_watchers(with_dashboard):
            context = ray.init(
                address="local",
                num_cpus=usable_cpus(),
                num_gpus=logical_gpus() or None,
                include_dashboard=with_dashboard,
                dashboard_host="127.0.0.1",
                job_config=job_config(name),
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
    except Exception as error:  # Ray has no class of its own for a start that fails: what is not known is raised again
        if type(error) is not Exception and not isinstance(error, RuntimeError | ValueError | OSError | RayError):
            raise  # a bare one is Ray's for processes that are not there after 30 s
        raise TunerError(f"Ray could not start: {first_line(error)}") from error
    keep_off_console()
    return replace(_capacity(), dashboard=context.dashboard_url or None)


def _is_of_use(record: logging.LogRecord) -> bool:
    """Return whether what Ray logs may help: not that it sets no handler of SIGTERM in a thread, as it should not."""
    return "SIGTERM handler is not set" not in record.getMessage()


@contextmanager
def _without_watchers(with_dashboard: bool) -> Iterator[None]:
    """Leave out of the Ray that starts in this block what serves a dashboard, if none is asked for.

    These are processes of Python: statistics of use, for which Ray would wait, an autoscaler without anything to scale,
    and what sends the workers' logs to the driver, which is off.
    """
    if with_dashboard:
        yield
        return
    from ray._private import parameter
    from ray._private.node import Node

    before = parameter.RayParams, Node.start_api_server
    parameter.RayParams = partial(parameter.RayParams, no_monitor=True, include_log_monitor=False)
    Node.start_api_server = lambda _node, **_asked: None
    try:
        yield
    finally:
        parameter.RayParams, Node.start_api_server = before


def keep_token_private() -> bool:
    """Make the token of this machine's Ray, which allows to run programs, readable by this user alone.

    Ray makes one for all its clusters, with whatever rights the umask leaves. False: there is no place for it.
    """
    if "RAY_AUTH_TOKEN" in os.environ or os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return True
    written, folder = os.environ.get("RAY_AUTH_TOKEN_PATH"), home()
    if not written and folder is None:
        return False
    path = Path(written) if written else Path(folder or "", ".ray", "auth_token")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        private = partial(os.open, mode=0o600)
        with contextlib.suppress(FileExistsError), open(path, "x", opener=private) as file:
            file.write(secrets.token_hex(32))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:  # a home that cannot be written to, a token of someone else
        logging.getLogger(__name__).warning("%s: the token's rights could not be set: %s", path, error)
    return os.access(path, os.R_OK)


@cache
def _own_token() -> str:
    """Return a token that only this process and those it starts know; Ray asks for it once in the life of a process."""
    return secrets.token_hex(32)


def short_folder() -> Path:
    """Return a folder for the files of Ray, whose sockets allow for a path of `LONGEST_FOLDER` bytes.

    Raises:
        InputError: there is none that can be written to.
    """
    mine = f"tuner-{os.getuid()}" if hasattr(os, "getuid") else "tuner"
    folders = [os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]  # noqa: S108  Ray makes a folder of its own
    for place in [Path(folder).absolute() for folder in folders if folder]:
        for folder in (place, place / mine):  # what is called ray there may be someone else's
            used = next((path for path in (folder / "ray", folder, place) if path.exists()), folder)
            if len(os.fsencode(folder)) <= LONGEST_FOLDER and os.access(used, os.W_OK | os.X_OK):
                return folder
    raise InputError(
        f"RAY_TMPDIR must be a folder that can be written to, with a path of at most {LONGEST_FOLDER} characters; "
        f"none of {', '.join(folder for folder in folders if folder)} is"
    )


def job_config(name: str) -> Any:
    """Return Ray's configuration of a search as a job: its name, for the dashboard."""
    from ray.job_config import JobConfig

    return JobConfig(metadata={"job_name": name})


def _check_dashboard() -> None:
    """Raise InputError where the dashboard lacks its libraries, or could not be entered: it asks for the token."""
    if not keep_token_private():
        raise InputError(
            "--dashboard needs a place for its token: a home that can be written to, or RAY_AUTH_TOKEN_PATH"
        )
    try:
        importlib.import_module("ray.dashboard.optional_deps")  # all that the dashboard needs beyond Ray itself
    except ImportError as error:
        raise InputError(
            f"--dashboard needs libraries that are not installed ({error}); "
            "install them with: pip install --editable '.[cluster]'"
        ) from None


@contextmanager
def _loopback() -> Iterator[None]:
    """Make the Ray that starts in this block listen on loopback alone, as it does on macOS and Windows.

    On Linux it would listen on all addresses of the machine, whatever `_node_ip_address` says; its metrics ask for no
    token.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        with _environment({ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR: "0"}):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def keep_off_console() -> None:
    """Log what Ray would print, such as two screens for each dead worker; the record has that in one line."""
    from ray._private import worker

    def log(data: dict[str, Any], ignore_prefix: bool) -> None:
        logging.getLogger("ray").warning("%s", "\n".join(data["lines"]))

    worker.print_to_stdstream = log


@contextmanager
def _starting_workers(preloads: bool) -> Iterator[Path | None]:
    """Make the worker processes that Ray starts in this block find this package and load a trial's libraries at once.

    They leave a file each in the folder that is given when they have. Ray takes no notice of workers that still load:
    asked for an actor, it would start more of them, which then load the same at the same time.
    """
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with tempfile.TemporaryDirectory(prefix="tuner-") as folder:
        added = {
            "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
            "RAY_TMPDIR": str(short_folder()),
            "RAY_idle_worker_killing_time_threshold_ms": "600000",  # they may wait for the driver to be ready
        }
        if preloads:
            added |= {"RAY_preload_python_modules": "tuner.cluster.preload", "TUNER_READY": folder}
        with _environment(added):
            yield Path(folder) if preloads else None


@contextmanager
def _environment(added: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started in this block."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})


def wait_for_workers(capacity: Capacity, slots: int) -> None:
    """Wait until as many workers have loaded their libraries as trials will run, where that can be told.

    Raises:
        TunerError: none can: the message says why.
    """
    if capacity.ready is None:
        return
    deadline, wanted = time.monotonic() + WORKERS_READY_S, min(slots, int(capacity.cpus))
    while len(list(capacity.ready.glob(f"*{LOADED}"))) < wanted:
        if reason := next((path.read_text() for path in capacity.ready.glob(f"*{FAILED}")), None) or _told_by_dead():
            raise TunerError(f"the processes that train cannot start: {reason}")
        if time.monotonic() > deadline:
            return  # Ray will start others
        time.sleep(0.05)


def _told_by_dead() -> str:
    """Return the last line of the error with which a worker has ended before it could load anything of ours."""
    import ray

    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    for path in logs.glob("worker-*.err"):
        process = path.stem.rpartition("-")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            lines = path.read_text(errors="replace").strip().splitlines()
            if any(line.startswith("Traceback ") for line in lines):
                return lines[-1][:300]
    return ""


def gpus_here() -> int:
    """Return the GPUs of this machine that a Ray on it would give to trials, whether libraries can use them or not."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    if stand_ins := logical_gpus():
        return stand_ins
    manager = get_accelerator_manager_for_resource("GPU")
    visible = manager.get_current_process_visible_accelerator_ids()
    number = int(manager.get_current_node_num_accelerators())
    return number if visible is None else min(number, len(visible))


def _capacity() -> Capacity:
    import ray

    resources = ray.cluster_resources()
    return Capacity(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))


def concurrent_trials(wanted: int | None, capacity: Capacity, cpus_per_trial: float, gpus_per_trial: float) -> int:
    """Return how many trials run at once: what is asked for (None: as many as fit), within what fits.

    A number that was asked for on a cluster is taken as it is: its autoscaler starts the nodes that are missing.

    Raises InputError when not even one trial fits.
    """
    fit = capacity.slots(cpus_per_trial, gpus_per_trial)
    if capacity.is_cluster and wanted is not None:
        return wanted
    if fit < 1:
        hint = "; for a cluster that grows, set search.max_concurrent to a number" if capacity.is_cluster else ""
        raise InputError(
            f"resources must fit the machines: a trial asks for {cpus_per_trial:g} CPUs and {gpus_per_trial:g} GPUs; "
            f"there are {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs{hint}"
        )
    return fit if wanted is None else min(wanted, fit)


def trial_resources(cpus: float, gpus: float) -> Any:
    """Return the resource request of a trial as a function of its config.

    Reused workers grow by some megabytes with every model. Ray reuses a worker only for an equal request, and for the
    single bundle of a trial all placement strategies mean the same: so another strategy is the way to ask for a new
    process without refusing a reuse, which makes Ray hang.
    """
    from ray.tune import PlacementGroupFactory

    strategies = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
    bundle = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}

    def request(config: dict[str, Any]) -> Any:
        return PlacementGroupFactory([bundle], strategy=strategies[int(config.get("generation", 0)) % len(strategies)])

    return request
