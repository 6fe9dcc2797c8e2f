"""Question to a Ray cluster for its nodes, in a process of its own: a process settles once which token it shows.

`python -m tuner.cluster.token_probe HOST:PORT` prints `answered`, `refused` or `silent` and the reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import Literal

from tuner.common.errors import first_line
from tuner.common.process import environment_with_package

ANSWERED_WITHIN_S = 4.0
"""From when the process has loaded Ray, which on a busy machine takes longer than the answer."""
ENDED_WITHIN_S = 60.0
Answer = Literal["answered", "refused", "silent"]
ANSWERS: tuple[Answer, ...] = ("answered", "refused", "silent")


@dataclass(frozen=True)
class TokenAnswer:
    """The answer of a cluster to a process with a certain token, or none."""

    answer: Answer
    reason: str


def start_probe(address: str, mode: str) -> subprocess.Popen[str]:
    """Start a process that asks the cluster at `address` with `RAY_AUTH_MODE=mode`; `ended_probe` has its answer."""
    return subprocess.Popen(  # noqa: S603  our own module, no shell; the caller has checked the address
        [sys.executable, "-m", "tuner.cluster.token_probe", address],
        env=environment_with_package(RAY_AUTH_MODE=mode),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # what Ray's native code says of a refusal is said here in one line
        text=True,
    )


def ended_probe(process: subprocess.Popen[str], deadline: float) -> TokenAnswer:
    """Return the answer of such a process; `deadline` is a time of `time.monotonic`."""
    try:
        said, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return TokenAnswer("silent", f"no answer in {ENDED_WITHIN_S:g} s")
    answer, _, reason = said.strip().partition(" ")
    for known in ANSWERS:
        if answer == known:
            return TokenAnswer(known, reason)
    return TokenAnswer("silent", f"the process that asks ended with status {process.returncode}")


def _ask(address: str) -> TokenAnswer:
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # native code, of which Ray ships no types
    from ray.exceptions import AuthenticationError, RayError

    watchdog = threading.Timer(ANSWERED_WITHIN_S, _give_up)  # Ray would try again for a minute
    watchdog.daemon = True
    watchdog.start()
    try:
        found = canonicalize_bootstrap_address(address)
        if found is None:
            return TokenAnswer("silent", "no Ray cluster runs on this machine")
        GcsClient(address=found).get_all_node_info()
    except AuthenticationError as error:
        return TokenAnswer("refused", first_line(error))
    except (RayError, RuntimeError, ValueError, OSError) as error:
        return TokenAnswer("silent", first_line(error))
    return TokenAnswer("answered", "")


def _give_up() -> None:
    _say(TokenAnswer("silent", f"no answer in {ANSWERED_WITHIN_S:g} s"))
    os._exit(1)  # whatever native code waits for


def _say(probe: TokenAnswer) -> None:
    sys.stdout.write(f"{probe.answer} {probe.reason}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _say(_ask(sys.argv[1]))
