"""What a trial occupies, and how many fit; the parts that start Ray are in test_search."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray

from tests.support.processes import listening_addresses
from tuner.cluster.ray_session import (
    FAILED,
    LOADED,
    LONGEST_FOLDER,
    Capacity,
    concurrent_trials,
    local_ray,
    short_folder,
    starting_ray,
    trial_resources,
    wait_for_workers,
)
from tuner.common.errors import InputError, TunerError


@pytest.mark.parametrize(
    ("cpus", "gpus", "per_trial", "slots"),
    [
        (8, 0, (1, 0), 8),
        (8, 1, (1, 0.25), 4),
        (2, 4, (1, 1), 2),
        (8, 0.3, (1, 0.1), 3),
        (1, 0, (2, 0), 0),
        (1, 0, (0.5, 0), 2),
    ],
)
def test_as_many_trials_fit_as_cpus_and_shares_of_gpus_allow(cpus, gpus, per_trial, slots) -> None:
    assert Capacity(cpus, gpus).slots(*per_trial) == slots


def test_auto_takes_what_fits_and_a_number_is_not_exceeded() -> None:
    assert concurrent_trials(None, Capacity(4, 0), 1, 0) == 4
    assert concurrent_trials(2, Capacity(4, 0), 1, 0) == 2
    assert concurrent_trials(9, Capacity(4, 0), 1, 0) == 4
    with pytest.raises(InputError, match="a trial asks for 1 CPUs and 1 GPUs; there are 4 CPUs and 0 GPUs"):
        concurrent_trials(None, Capacity(4, 0), 1, 1)


def test_a_cluster_may_grow_to_the_number_that_is_asked_for_but_auto_is_what_fits_now() -> None:
    empty = Capacity(0, 0, is_cluster=True)
    assert concurrent_trials(4, empty, 4, 1) == 4
    with pytest.raises(InputError, match=r"for a cluster that grows, set search\.max_concurrent to a number"):
        concurrent_trials(None, empty, 1, 0)


@pytest.mark.parametrize("place", ["/proc", "/nonexistent", "/dev/null"])
def test_a_dashboard_whose_token_nobody_could_read_is_refused(monkeypatch, place) -> None:
    monkeypatch.setenv("HOME", place)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="--dashboard needs a place for its token"), local_ray(with_dashboard=True):
        pass


def test_a_trial_asks_for_its_cpus_and_its_share_of_a_gpu() -> None:
    request = trial_resources(2, 0.25)({"generation": 0})
    assert request.required_resources == {"CPU": 2.0, "GPU": 0.25}
    assert trial_resources(1, 0)({}).required_resources == {"CPU": 1.0}


def test_another_generation_asks_for_the_same_resources_with_a_request_that_is_not_equal() -> None:
    request = trial_resources(1, 0)
    first, second, again = (request({"generation": generation}) for generation in (0, 1, 0))
    assert first == again and first != second
    assert first.required_resources == second.required_resources


@pytest.mark.usefixtures("local_ray_session")
def test_the_folder_of_weights_is_the_same_for_workers_that_run_elsewhere(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_HOME", "weights")
    with local_ray() as capacity:
        assert Path(os.environ["KERAS_HOME"]) == tmp_path / "weights"
        assert capacity.cpus >= 1


@pytest.mark.usefixtures("local_ray_session")
def test_a_ray_of_this_machine_listens_on_loopback_alone() -> None:
    listening = listening_addresses()
    assert len(listening) >= 5  # the control service, the node's daemon, the driver, workers
    assert {ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback for address in listening} == {True}


@pytest.mark.usefixtures("local_ray_session")
def test_a_ray_of_this_machine_has_no_process_that_serves_a_dashboard_an_autoscaler_or_logs_alone() -> None:
    started = " ".join(word for child in psutil.Process().children(recursive=True) for word in child.cmdline())
    assert "raylet" in started
    assert not [name for name in ("dashboard/dashboard.py", "monitor.py") if name in started]


STOPPED = """
import os, signal, time
import ray
from tuner.cluster.ray_session import starting_ray
from tuner.common.termination import terminating_as_interrupt
with terminating_as_interrupt(), starting_ray(preloads=False) as started:
    try:
        {wait}
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    except KeyboardInterrupt:
        time.sleep(4)  # Abseil's handler, which Ray sets, would end the process after 3 s
        print("tidied up")
"""


@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("wait", ["started()", "while not ray.is_initialized(): time.sleep(0.1)"])
def test_a_search_that_is_terminated_has_the_time_it_takes_to_end_cleanly(wait) -> None:
    code = STOPPED.format(wait=wait)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.endswith("tidied up\n"), done


@pytest.fixture
def ended(monkeypatch) -> list[bool]:
    """Has an item for each Ray that was ended; none is running, and none is started."""
    found: list[bool] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: found.append(True))
    return found


def test_a_block_goes_on_while_ray_starts(monkeypatch, ended) -> None:
    is_free = threading.Event()

    def start(**_asked: object) -> SimpleNamespace:
        assert is_free.wait(30)
        return SimpleNamespace(dashboard_url="")

    monkeypatch.setattr(ray, "init", start)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 3.0})
    with starting_ray("digits", preloads=False) as started:
        is_free.set()
        assert started().cpus == 3 and not ended
    assert ended == [True]
    is_free.clear()
    with pytest.raises(KeyboardInterrupt), starting_ray("digits"):
        is_free.set()
        raise KeyboardInterrupt
    assert ended == [True, True], "one that was still starting is waited for, and ended"


def busy(seconds: float) -> None:
    """Work in Python, as preparation does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@pytest.mark.parametrize("after_s", [0.0, 0.2], ids=["at once", "a little later"])
@pytest.mark.parametrize(
    "block",
    [
        lambda started: started(),
        lambda _started: [busy(30), pytest.fail("the block has ended before it was told")],
        lambda started: [busy(0.1), started()],
    ],
    ids=["it is needed", "what is done meanwhile takes long", "what is done meanwhile is short"],
)
def test_why_ray_has_not_started_is_told_as_soon_as_it_is_known(block, after_s, monkeypatch, ended) -> None:
    def start(**_asked: object) -> None:
        time.sleep(after_s)
        raise RuntimeError("no room")

    monkeypatch.setattr(ray, "init", start)
    with pytest.raises(TunerError, match="Ray could not start: no room"), starting_ray(preloads=False) as started:
        block(started)
    assert not ended


@pytest.mark.parametrize("raised", [None, InputError("no such data"), KeyboardInterrupt()], ids=repr)
def test_a_block_that_ends_before_ray_has_failed_ends_as_it_does(raised, monkeypatch, ended) -> None:
    def start(**_asked: object) -> None:
        time.sleep(0.3)
        raise RuntimeError("no room")

    def end() -> None:
        if raised is not None:
            raise raised

    monkeypatch.setattr(ray, "init", start)
    told = nullcontext() if raised is None else pytest.raises(type(raised))
    with told, starting_ray(preloads=False):
        end()
    assert not ended


def test_in_a_thread_why_ray_has_not_started_is_told_when_it_is_needed(monkeypatch, ended) -> None:
    def start(**_asked: object) -> None:
        raise RuntimeError("no room")

    def search() -> None:
        with starting_ray(preloads=False) as started:
            busy(0.2)
            started()

    monkeypatch.setattr(ray, "init", start)
    with ThreadPoolExecutor(1) as thread, pytest.raises(TunerError, match="Ray could not start: no room"):
        thread.submit(search).result()
    assert not ended


@pytest.mark.parametrize(
    ("length", "ray_tmpdir", "is_taken"),
    [(30, None, True), (41, None, True), (42, None, False), (101, None, False), (101, "/var/tmp", False)],  # noqa: S108  a value of TMPDIR, nothing is written there
)
def test_ray_is_given_a_folder_whose_path_leaves_room_for_its_sockets(
    monkeypatch, length, ray_tmpdir, is_taken
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as short:
        place = Path(short, "a" * (length - len(short) - 1))
        place.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        if ray_tmpdir:
            monkeypatch.setenv("RAY_TMPDIR", ray_tmpdir)
        folder = short_folder()
    assert (folder == place) is is_taken and len(str(folder)) <= LONGEST_FOLDER
    assert ray_tmpdir in (None, str(folder))


def test_why_workers_cannot_start_is_told_at_once(tmp_path) -> None:
    (tmp_path / f"17{FAILED}").write_text("ModuleNotFoundError: No module named 'matplotlib_inline'")
    with pytest.raises(TunerError, match="the processes that train cannot start: ModuleNotFoundError: No module named"):
        wait_for_workers(Capacity(2, 0, ready=tmp_path), 2)


def test_workers_that_have_loaded_everything_are_not_waited_for(tmp_path) -> None:
    for process in (17, 18):
        (tmp_path / f"{process}{LOADED}").touch()
    wait_for_workers(Capacity(2, 0, ready=tmp_path), 2)
