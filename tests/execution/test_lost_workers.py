"""What is known of a worker that died: its own last words, what Ray says, and how often its trial goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError

from tuner.algorithms._ray_schedulers import PromotingScheduler
from tuner.algorithms.halving import Halving
from tuner.execution.exit_reason import ExitReasonFile, take_exit_reason
from tuner.execution.lost_workers import HangWatch, LostWorkers, describe_loss, limit_attempts, treat_all_losses_alike

RAY_ON_A_DEAD_PROCESS = """The actor died unexpectedly before finishing this task.
\tclass_name: TrialActor
\tpid: 11244
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called"""


def die(folder: Path, code: str) -> int:
    """Let a process die that has begun a trial; its exit status."""
    imports = "from pathlib import Path; from tuner.execution.exit_reason import ExitReasonFile"
    begin = f"{imports}\nwords = ExitReasonFile(Path({str(folder)!r}))\n"
    process = subprocess.run([sys.executable, "-c", f"{begin}words.begin('a')\n{code}"], check=False)
    return process.returncode


def test_a_crash_in_native_code_is_told_with_its_signal_and_place_once(tmp_path):
    assert die(tmp_path, "import ctypes\nctypes.string_at(0)") == -11
    told = take_exit_reason(tmp_path, "a")
    assert told is not None and told.startswith("crashed: Segmentation fault in string_at (__init__.py:")
    assert take_exit_reason(tmp_path, "a") is None
    assert die(tmp_path, "import os\nos.abort()") == -6
    assert take_exit_reason(tmp_path, "a") == "crashed: Aborted in <module> (<string>:5)"


def test_a_process_above_its_memory_ends_itself_and_says_so(tmp_path):
    code = "from tuner.execution.exit_reason import watch_memory\nwatch_memory(300, words.say)\nimport time, numpy\n"
    assert die(tmp_path, f"{code}kept = numpy.ones(50 * 2**20)\ntime.sleep(20)") == 1
    told = take_exit_reason(tmp_path, "a")
    assert told is not None and told.startswith("out of memory: its process took ")
    assert told.endswith("the limit of a trial is 300 MB")


def test_a_process_that_is_killed_or_ends_its_trial_has_no_last_words(tmp_path):
    assert die(tmp_path, "import os\nos.kill(os.getpid(), 9)") == -9
    assert take_exit_reason(tmp_path, "a") is None
    assert die(tmp_path, "words.end()\nimport os\nos.abort()") == -6
    assert not any(tmp_path.iterdir())
    words = ExitReasonFile(tmp_path / "file" / "below")
    (tmp_path / "file").touch()
    words.begin("a")  # where no file can be written there are none, and the trial goes on
    words.say("something")
    words.end()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RAY_ON_A_DEAD_PROCESS, "worker lost: its process was killed"),
        ("The actor is dead because its node has died. Node Id: 1a2b", "worker lost: its node has died"),
        ("Traceback ...\nPermissionError: [Errno 13] no", "worker lost: PermissionError: [Errno 13] no"),
        (
            "Traceback ...\nOSError: [Errno 28] No space left on device: 'x'",
            "disk full: OSError: [Errno 28] No space left on device: 'x'",
        ),
        (
            "ray::TrialActor.train() (pid=7, ip=10.0.0.2, id=1a)\nOSError: [Errno 28] No space left on device: 'x'",
            "disk full: OSError: [Errno 28] No space left on device: 'x', on 10.0.0.2",
        ),
        ("pyarrow: [errno 122] Disk quota exceeded", "disk full: pyarrow: [errno 122] Disk quota exceeded"),
        ("", "worker lost: no message"),
    ],
)
def test_what_ray_says_becomes_one_line(error, reason):
    assert describe_loss(error) == reason


class FakeTrial:
    """What Ray's trials have, as far as it is asked for."""

    RUNNING = "RUNNING"

    def __init__(self, folder: Path, error: str = "") -> None:
        self.trial_id, self.config, self.status, self.max_failures, self.num_failures = (
            "a",
            {"trial": 3},
            "RUNNING",
            2,
            1,
        )
        self.error_file = str(folder / "error.txt")
        self.temporary_state = SimpleNamespace(ray_actor=None)
        (folder / "error.txt").write_text(f"Failure # 1 (at one)\nearlier\nFailure # 2 (at two)\n{error}\n")

    def should_recover(self) -> bool:
        return self.num_failures <= self.max_failures


def test_the_last_words_come_before_what_ray_says_of_the_latest_loss(tmp_path):
    lost, trial = LostWorkers(tmp_path / "words", HangWatch(None, 0)), FakeTrial(tmp_path, RAY_ON_A_DEAD_PROCESS)
    assert lost.reason(trial) == "worker lost: its process was killed"
    words = ExitReasonFile(tmp_path / "words")
    words.begin("a")
    words.say("out of memory: too much")
    assert lost.reason(trial) == "out of memory: too much"


def test_what_is_likely_to_come_again_is_tried_once_more_and_a_lost_machine_twice(tmp_path):
    trial = FakeTrial(tmp_path)
    limit_attempts(trial, "worker lost: its node has died")
    assert trial.max_failures == 2
    limit_attempts(trial, "hung: no epoch for 700 s")
    assert trial.max_failures == 1


def test_a_worker_that_hangs_is_killed_from_the_driver(tmp_path, monkeypatch):
    now, killed = [0.0], []
    watch = HangWatch(2, 1, clock=lambda: now[0])
    monkeypatch.setattr("tuner.execution.lost_workers.ray.kill", killed.append)
    lost, trial = LostWorkers(tmp_path, watch), FakeTrial(tmp_path)
    trial.temporary_state.ray_actor = "the actor"
    lost.on_trial_start(0, [], trial)
    for _ in range(700):
        now[0] += 1
        lost.on_step_end(0, [])
    assert killed == ["the actor"]
    assert lost.reason(trial) == "hung: no epoch for 601 s"


def test_ray_ending_a_worker_for_want_of_memory_is_a_lost_worker_and_not_the_end_of_the_search():
    treat_all_losses_alike()
    treat_all_losses_alike()  # a second search in the same process
    seen: list[Any] = []
    manager = RayActorManager(resource_manager=SimpleNamespace())
    actor = SimpleNamespace(actor_id=1, _on_error=lambda _actor, exception: seen.append(exception))
    task = SimpleNamespace(_tracked_actor=actor, _on_error=lambda _actor, exception: seen.append(exception))
    manager._cleanup_actor = lambda tracked_actor: None
    words = "Memory on the node (IP: 10.0.0.1, ID: 1a) was 5.67GB used / 23.54GB limit (0.24)"
    manager._actor_task_failed(tracked_actor_task=task, exception=OutOfMemoryError(words))
    assert [type(exception) for exception in seen] == [RayActorError, RayActorError]
    assert describe_loss(str(seen[0])) == "out of memory: its machine had 5.67GB of 23.54GB in use, so Ray ended it"


def test_a_trial_whose_worker_was_lost_keeps_its_place_in_successive_halving(tmp_path):
    halving = Halving((1, 2), 2, mode="max")
    scheduler, trial = PromotingScheduler(halving), FakeTrial(tmp_path)
    scheduler.on_trial_error(None, trial)  # Ray calls this when it gives the trial to another worker, too
    assert halving.arrive(3, 1, 0.5), "it waits"
    halving.arrive(4, 1, 0.4)
    assert halving.promotable() == 3
    trial.num_failures = 3
    scheduler.on_trial_error(None, trial)
    assert halving.promotable() is None
