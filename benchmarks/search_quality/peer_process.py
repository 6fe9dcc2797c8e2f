"""A policy in a process and an environment of its own: one line of JSON asks, one line answers.

    {"do": "open", "peer": ..., "parameters": [...], "max_epochs": ..., "seed": ...}   -> {}
    {"do": "next"}                                        -> {"number": ..., "values": {qualified name: value}}
    {"do": "report", "number": ..., "epoch": ..., "value": ..., "is_last": ...}        -> {"goes_on": ...}

A number that was given before means that the paused trial goes on where it was; a null number, that no more is to come.
Every answer holds `cpu_s` too: what the process has computed so far. The process ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from benchmarks.search_quality.problems import Problem
from tuner.common.errors import InputError, TunerError
from tuner.spec.space import Choice, Choose, Configuration, Dimension, Integer, Space, configure, flatten

PEERS_PYTHON = "TUNER_PEERS_PYTHON"
"""Environment variable: the Python of the environment that peers.txt describes."""


class PeerProcess:
    """A process that answers lines of JSON.

    Raises:
        TunerError: it ended, or answered something else; the message has its last words.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._words = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, text=True, encoding="utf-8"
        )
        self._requests: IO[str] = self._process.stdin  # type: ignore[assignment]  # both are pipes
        self._answers: IO[str] = self._process.stdout  # type: ignore[assignment]  # as above

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
            line = self._answers.readline()
        except BrokenPipeError:
            line = ""
        try:
            answer = json.loads(line)
        except json.JSONDecodeError:
            raise TunerError(f"a peer's process must answer with JSON; got {line!r} and {self._last_words()}") from None
        return dict(answer)

    def _last_words(self) -> str:
        self._process.kill()
        self._process.wait()
        self._words.seek(0)
        return (self._words.read().strip().splitlines() or ["no words"])[-1]

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        self._words.close()


class PeerPolicy:
    """A policy that another process decides."""

    def __init__(self, command: Sequence[str], peer: str, problem: Problem, seed: int) -> None:
        self._process, self._space, self._cpu_s = PeerProcess(command), problem.space, 0.0
        parameters = as_parameters(problem.space)
        self._ask(do="open", peer=peer, parameters=parameters, max_epochs=problem.max_epochs, seed=seed)

    def _ask(self, **request: Any) -> dict[str, Any]:
        answer = self._process.ask(request)
        self._cpu_s = answer["cpu_s"]
        return answer

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """See Policy; of the values, those whose conditions hold make the configuration."""
        answer = self._ask(do="next")
        if answer["number"] is None:
            return "the peer has no more to suggest"
        values = answer["values"]
        return answer["number"], configure(self._space, lambda qualified, *_: values[qualified])

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
        """See Policy; the value is the running best, as for all policies."""
        return bool(self._ask(do="report", number=number, epoch=epoch, value=best, is_last=is_last)["goes_on"])

    def cpu_s(self) -> float:
        """What the process has computed so far."""
        return self._cpu_s

    def close(self) -> None:
        """End the process."""
        self._process.close()


def as_parameters(space: Space) -> list[dict[str, Any]]:
    """A space for a peer that knows no conditions: every parameter of every branch, under its qualified name."""
    return [{"name": parameter.qualified, **_domain(parameter.dimension)} for parameter in flatten(space)]


def _domain(dimension: Dimension) -> dict[str, Any]:
    if isinstance(dimension, Choice | Choose):
        return {"kind": "choice", "values": list(dimension.values)}
    if isinstance(dimension, Integer) and dimension.step > 1:
        return {"kind": "choice", "values": list(range(dimension.low, dimension.high + 1, dimension.step))}
    kind = "integer" if isinstance(dimension, Integer) else "real"
    return {"kind": kind, "low": dimension.low, "high": dimension.high, "log": dimension.log}


def peers_python() -> Path:
    """The Python of the peers' environment.

    Raises:
        InputError: it is not given, or not there.
    """
    place = os.environ.get(PEERS_PYTHON)
    if not place:
        raise InputError(f"{PEERS_PYTHON} must name the Python of the peers' environment; it is not set")
    if not Path(place).is_file():
        raise InputError(f"{PEERS_PYTHON} must name the Python of the peers' environment; {place} is not there")
    return Path(place)
