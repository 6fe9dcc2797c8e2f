"""Workers that die or hang, as the driver sees them: why, how often their trials resume elsewhere, and whom to end."""

from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune import Callback

from tuner.common.files import DISK_FULL, is_disk_full
from tuner.execution.exit_reason import take_exit_reason
from tuner.runs.epoch import TIME, StepResult
from tuner.training.failures import CRASHED, HUNG, OUT_OF_MEMORY, WORKER_LOST, kind_of

FLOOR_S = 60.0
"""However short epochs are, nothing hangs before."""
FIRST_FLOOR_S = 600.0
"""The same before the first epoch of a phase: networks are built and compiled, weights and data read."""
REMEMBERED = 1000
"""Epochs of the search, the newest, of which the median is taken."""
LONGEST_STEP_S = 5.0
"""More than this between two looks is no time that trials have had: the whole machine slept, or the driver was held."""


@dataclass
class _Watched:
    silent_since_s: float
    longest_epoch_s: float = 0.0
    is_settled: bool = False
    """Whether the next epoch is like the one before it."""
    epoch: int = 0
    """The last one that was seen."""


class HangWatch:
    """A watch that is told of signs of life, and finds the trials that have given none for too long.

    A trial hangs when it has shown nothing for `epochs` times the median epoch of the search, and as many times its own
    longest one; never, if `epochs` is None. `head_epochs` ends the first phase: the epoch after it is a first one.
    `is_alive` is asked, before that is said, whether a trial has done something since, in an epoch after its last one.
    """

    def __init__(self, epochs: float | None, head_epochs: int, clock: Callable[[], float] = time.monotonic,
                 is_alive: Callable[[str, int], bool] = lambda _trial, _epoch: False) -> None:  # fmt: skip
        self._epochs, self._head_epochs, self._clock, self._is_alive = epochs, head_epochs, clock, is_alive
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._watched: dict[str, _Watched] = {}
        self._looked = clock()
        self._now_s = 0.0  # the time that was watched

    def remember(self, seconds: Iterable[float]) -> None:
        """Add the epochs of earlier sessions."""
        self._seconds.extend(seconds)

    def begin(self, trial: str) -> None:
        """Watch a trial that a worker has started."""
        self._watched[trial] = _Watched(self._now_s)

    def see(self, trial: str, epoch: int, seconds: float | None) -> None:
        """Note a sign of life of a trial: an epoch and its seconds, or (None) something else."""
        watched = self._watched.get(trial)
        if watched is None:
            return
        watched.silent_since_s, watched.epoch = self._now_s, epoch
        if seconds is not None:
            self._seconds.append(seconds)
            watched.longest_epoch_s = max(watched.longest_epoch_s, seconds)
            watched.is_settled = epoch != self._head_epochs

    def end(self, trial: str) -> None:
        """Stop watching a trial."""
        self._watched.pop(trial, None)

    def hung(self) -> dict[str, float]:
        """Return the trials that hang, with the seconds of their silence; to be called again and again."""
        now = self._clock()
        self._now_s += min(now - self._looked, LONGEST_STEP_S)
        self._looked = now
        if self._epochs is None:
            return {}
        silent = {trial: self._now_s - watched.silent_since_s for trial, watched in self._watched.items()}
        if max(silent.values(), default=0.0) <= FLOOR_S:
            return {}
        typical_s = median(self._seconds) if self._seconds else 0.0
        limits_s = {trial: self._limit_s(trial, self._epochs, typical_s) for trial in silent}
        suspected = {trial: seconds for trial, seconds in silent.items() if seconds > limits_s[trial]}
        return {trial: seconds for trial, seconds in suspected.items() if not self._has_given_a_sign(trial)}

    def _has_given_a_sign(self, trial: str) -> bool:
        watched = self._watched[trial]
        is_alive = self._is_alive(trial, watched.epoch)
        if is_alive:
            watched.silent_since_s = self._now_s
        return is_alive

    def _limit_s(self, trial: str, epochs: float, typical_s: float) -> float:
        watched = self._watched[trial]
        floor_s = FLOOR_S if watched.is_settled else FIRST_FLOOR_S
        return max(floor_s, epochs * max(typical_s, watched.longest_epoch_s))


def no_epoch_for(seconds: float) -> str:
    """Return the reason for the tables."""
    return f"{HUNG}: no epoch for {seconds:,.0f} s"


LOST_WORKERS_PER_TRIAL = 2
"""Times that a trial whose worker died (not: whose training failed) resumes in another."""
_ONCE_MORE = (CRASHED, HUNG, OUT_OF_MEMORY)
"""Reasons that are likely to come again; one more try, because the worker may have carried what earlier trials left."""
_MEMORY_MONITOR = re.compile(r"was ([0-9.]+ ?[A-Z]+) used / ([0-9.]+ ?[A-Z]+) limit")
_NODE = re.compile(r"\(pid=[0-9]+, ip=([^,)\s]+)")
_CAUSE = re.compile(r"The actor is dead because (.+?)(?:\.(?:\s|$)|$)", re.MULTILINE)


class NotPickled:
    """Base of what Ray pickles for Tuner.restore, which is not used."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LostWorkers(NotPickled, Callback):
    """A callback of the driver that ends workers that hang, and knows why a worker was lost."""

    def __init__(self, exit_reasons: Path | None, hang_watch: HangWatch) -> None:
        self._exit_reasons, self._hang_watch = exit_reasons, hang_watch
        self._running: dict[str, Any] = {}
        self._hung: dict[str, str] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Watch a trial that a worker has started."""
        self._running[trial.trial_id] = trial
        self._hang_watch.begin(trial.trial_id)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: StepResult, **info: Any) -> None:
        """Note a sign of life."""
        shown = result["shown"]
        self._hang_watch.see(trial.trial_id, result["epoch"], shown.seconds if shown is not None else None)

    def on_checkpoint(self, iteration: int, trials: list[Any], trial: Any, checkpoint: Any, **info: Any) -> None:
        """Note a sign of life: the worker was saving its state."""
        self._hang_watch.see(trial.trial_id, (trial.last_result or {}).get(TIME, 0), None)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Stop watching a trial that is over, has failed, or waits for another worker to start it."""
        self._forget(trial)

    on_trial_error = on_trial_recover = on_trial_complete

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the workers of trials that hang: only from here can it be done while they are in native code."""
        for trial in [one for one in self._running.values() if one.status != one.RUNNING]:
            self._forget(trial)  # it was paused
        for trial_id, seconds in self._hang_watch.hung().items():
            self._hang_watch.end(trial_id)
            actor = self._running[trial_id].temporary_state.ray_actor
            if actor is not None:
                self._hung[trial_id] = no_epoch_for(seconds)
                ray.kill(actor)  # its node's raylet follows with SIGKILL where the process does not obey

    def _forget(self, trial: Any) -> None:
        self._running.pop(trial.trial_id, None)
        self._hang_watch.end(trial.trial_id)

    def reason(self, trial: Any) -> str:
        """Return why a trial's worker was lost, in one line; to be called once for each loss."""
        hung = self._hung.pop(trial.trial_id, None)
        said = take_exit_reason(self._exit_reasons, trial.trial_id)
        return hung or said or describe_loss(_last_error(trial))


def attempts_left(reason: str) -> int:
    """Return how often a training resumes in another process after losses of this kind."""
    return 1 if kind_of(reason) in _ONCE_MORE else LOST_WORKERS_PER_TRIAL


def limit_attempts(trial: Any, reason: str) -> None:
    """Let Ray try a trial whose worker was lost no more often than the reason allows."""
    trial.max_failures = min(trial.max_failures, attempts_left(reason))


def _last_error(trial: Any) -> str:
    """Return the newest of the errors that Ray has written down for a trial, each under a line of its own."""
    with contextlib.suppress(OSError, TypeError):  # it is not there, or there was no room for it
        return re.split(r"^Failure # .*$", Path(trial.error_file).read_text(encoding="utf-8"), flags=re.MULTILINE)[-1]
    return ""


def describe_loss(error: str) -> str:
    """Return Ray's message about a lost worker in one line.

    >>> describe_loss("The actor died ...\\nThe actor is dead because its node has died. Node Id: 1a2b")
    'worker lost: its node has died'
    >>> describe_loss("Memory on the node (IP: 10.0.0.1, ID: 1a) was 5.67GB used / 23.54GB limit (0.24)")
    'out of memory: its machine had 5.67GB of 23.54GB in use, so Ray ended it'
    """
    if memory := _MEMORY_MONITOR.search(error):
        return f"{OUT_OF_MEMORY}: its machine had {memory[1]} of {memory[2]} in use, so Ray ended it"
    lines = error.strip().splitlines() or ["no message"]
    if is_disk_full(error):
        node = f", on {found[1]}" if (found := _NODE.search(error)) else ""
        return f"{DISK_FULL}: {lines[-1][:200]}{node}"
    if cause := _CAUSE.search(error):
        ended = "its process was killed" if "worker process" in cause[1] else cause[1]
        return f"{WORKER_LOST}: {ended}"[:300]
    return f"{WORKER_LOST}: {lines[-1]}"[:300]


def treat_all_losses_alike() -> None:
    """Make Tune treat a worker that Ray's memory monitor has ended as any other lost worker.

    It knows RayActorError; OutOfMemoryError is none, and ends the whole search ("Caught unexpected exception").
    """
    original = RayActorManager._actor_task_failed
    if original.__module__ == __name__:  # it is ours already
        return

    def failed(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        original(manager, tracked_actor_task=tracked_actor_task, exception=exception)

    RayActorManager._actor_task_failed = failed
