"""Following of a search that runs elsewhere, across lost connections to it."""

from __future__ import annotations

import time
from collections.abc import Callable

from tuner.common.errors import LostError
from tuner.jobs._progress_stream import Replay
from tuner.jobs.client import Job, Jobs

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0


def follow(jobs: Jobs, name: str, replay: Replay, sleep: Callable[[float], None] = time.sleep) -> Job:
    """Show the log of a job until it has ended, and return the job as it is then.

    When the connection breaks, that is said once, and it is tried again, ever more slowly, without an end: the job does
    not need whoever follows it. What was shown before is not shown again.

    Raises InputError when the cluster does not know the job any more, or no longer takes the token.
    """
    wait_s, is_lost = FIRST_WAIT_S, False
    while True:
        try:
            job = jobs.look(name)
            if is_lost:
                replay.console.say(f"connected to {jobs.address} again")
            wait_s, is_lost = FIRST_WAIT_S, False
            if job.is_over:
                replay.feed_from_start(jobs.log(name))
                return job
            before = replay.taken
            jobs.tail(name, before, replay.feed)
            if replay.taken == before:
                sleep(FIRST_WAIT_S)
        except LostError as error:
            if not is_lost:
                replay.console.say(f"{error}; the search does not need it, trying again")
            is_lost = True
            sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


def wait_until_over(
    jobs: Jobs, name: str, within_s: float, sleep: Callable[[float], None] = time.sleep, every_s: float = 0.5
) -> Job:
    """Wait until a job has ended, and return it.

    Raises:
        LostError: it has not after `within_s` seconds, or the connection broke in the meantime and did not come back.
    """
    waited_s = 0.0
    while True:
        lost: LostError | None = None
        try:
            job = jobs.look(name)
            if job.is_over:
                return job
        except LostError as error:
            lost = error
        if waited_s >= within_s:
            raise lost or LostError(f"{name} has not ended within {within_s:g} s")
        sleep(every_s)
        waited_s += every_s
