"""Ray's job API: searches as jobs of a cluster, over HTTP with the cluster's token.

The one place that speaks to it. What goes wrong is told apart: what the user can mend (`InputError`), and a connection
that broke (`LostError`), after which the same may be tried again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tuner.common.errors import InputError, LostError, first_line, last_line
from tuner.common.registry import unknown_name
from tuner.jobs.options import DEFAULT_ADDRESS

VARIABLE = "TUNER_JOB"
"""The environment variable that tells a job what to do, as JSON."""
FETCH_PREFIX = "_fetch-"
"""Prefix of the ids of jobs that send files back; no study's name begins like this."""
REACHED_WITHIN_S = 5.0
ANSWERED_WITHIN_S = 60.0
SILENT_S = 100.0
"""A search gives a sign of life every 30 s: after this long without any, the connection is taken for dead."""
STOP_WITHIN_S = 300
"""Time for a search to end running epochs and write its report; then Ray kills it."""
_MARK = "tuner"  # in the metadata of our jobs

State = Literal["waiting", "running", "stopped", "finished", "failed"]
_STATES: dict[str, State] = {
    **{"PENDING": "waiting", "RUNNING": "running"},
    **{"STOPPED": "stopped", "SUCCEEDED": "finished", "FAILED": "failed"},
}


@dataclass(frozen=True)
class Job:
    """A search on a cluster, as Ray knows it."""

    name: str
    """The id that it was submitted under."""
    state: State
    metadata: Mapping[str, str]
    """Facts given when it was submitted: study, file, shared."""
    began_s: float
    """Unix time."""
    ended_s: float | None
    message: str
    exit_status: int | None

    @property
    def study(self) -> str:
        """The study that it searches."""
        return self.metadata.get("study", "")

    @property
    def is_over(self) -> bool:
        """Whether it has ended, so that nothing more comes from it."""
        return self.state in ("stopped", "finished", "failed")


class Jobs:
    """The jobs of tuner on one cluster."""

    def __init__(self, address: str) -> None:
        """Connect to Ray's dashboard at `http://HOST:PORT`.

        Raises InputError when nothing answers there, it is not Ray's dashboard, or it does not take the token.
        """
        self.address = _checked(address)
        self._client = _connect(self.address)

    def submit(self, name: str, work: Mapping[str, Any], metadata: Mapping[str, str], package: Path | None) -> None:
        """Start a job that does `work` (see `entrypoint`) in a folder with the content of `package`, a zip file.

        Raises LostError when the connection broke; whether the job has begun is not known.
        """
        variables = {VARIABLE: json.dumps(work), "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WITHIN_S)}
        environment = {"env_vars": variables, **({"working_dir": str(package)} if package is not None else {})}
        with self._translating(name):
            self._client.submit_job(
                entrypoint="exec python -m tuner.jobs.entrypoint",  # exec: signals reach it, not a shell around it
                submission_id=name,
                runtime_env=environment,
                metadata={_MARK: "search", **metadata},
            )

    def all(self) -> list[Job]:
        """Return all searches that this cluster remembers, the newest first, without jobs that only fetch."""
        with self._translating(""):
            found = [details for details in self._client.list_jobs() if details.submission_id]
        jobs = [_job(details) for details in found if (details.metadata or {}).get(_MARK) == "search"]
        return sorted(jobs, key=lambda job: job.began_s, reverse=True)

    def find(self, name: str) -> Job:
        """Return the search submitted as `name`, or the newest of the study `name` that was not refused.

        Raises InputError when there is none; the message has the nearest name.
        """
        jobs = self.all()
        for job in jobs:
            if job.name == name:
                return job
        of_study = [job for job in jobs if job.study == name]
        if not of_study:
            known = {*(job.name for job in jobs), *(job.study for job in jobs)}
            raise InputError(f"{unknown_name('search', name, known)} on {self.address}")
        return next((job for job in of_study if job.exit_status != 2), of_study[0])

    def look(self, name: str) -> Job:
        """Return the job that was submitted as `name`, of any kind."""
        with self._translating(name):
            return _job(self._client.get_job_info(name))

    def log(self, name: str) -> str:
        """Return everything that a job has written so far."""
        with self._translating(name):
            return str(self._client.get_job_logs(name))

    def tail(self, name: str, skip: int, take: Callable[[str], None]) -> None:
        """Pass a job's output to `take` piece by piece, without the first `skip` characters, until it has ended.

        It may return earlier: Ray ends the stream now and then, and one that is silent for long may be dead without a
        sign. Ray sends the log from its beginning each time.

        Raises LostError when the connection broke.
        """
        with self._translating(name):
            asyncio.run(self._tail(name, skip, take))

    async def _tail(self, name: str, skip: int, take: Callable[[str], None]) -> None:
        sent = 0
        pieces = self._client.tail_job_logs(name)
        try:
            while True:
                text = await asyncio.wait_for(anext(pieces), SILENT_S)
                sent += len(text)
                if sent > skip:
                    take(text[-(sent - skip) :])
                    skip = sent
        except (StopAsyncIteration, TimeoutError):
            return
        finally:
            await pieces.aclose()

    def stop(self, name: str) -> bool:
        """Ask a job to end, as Ctrl-C does, and return False if it had ended already."""
        with self._translating(name):
            return bool(self._client.stop_job(name))

    def forget(self, name: str) -> None:
        """Remove a job that has ended from the list."""
        with self._translating(name):
            self._client.delete_job(name)

    @contextmanager
    def _translating(self, name: str) -> Iterator[None]:
        """Raise errors of ours in place of those of Ray's client."""
        import aiohttp
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            raise InputError(_refused(self.address)) from None
        except (requests.RequestException, aiohttp.ClientError, ConnectionError) as error:
            if (status := getattr(error, "status", None)) in (401, 403, 404):  # aiohttp's
                message = f"{self.address} knows no job {name!r} any more" if status == 404 else _refused(self.address)
                raise InputError(message) from None
            raise LostError(f"the connection to {self.address} is lost: {_reason(error)}") from None
        except RuntimeError as error:
            status = re.search(r"status code (\d{3})", str(error))
            if status is None:
                raise LostError(f"the connection to {self.address} is lost: {last_line(error)}") from None
            if status[1].startswith("5"):  # a head that starts again answers so for a while
                raise LostError(f"{self.address} cannot answer: {last_line(error)}") from None
            if status[1] == "404":
                raise InputError(f"{self.address} knows no job {name!r} any more") from None
            raise InputError(f"{self.address} refused: {last_line(error)}") from None


def _job(details: Any) -> Job:
    return Job(
        name=str(details.submission_id),
        state=_STATES[str(details.status.value)],
        metadata=dict(details.metadata or {}),
        began_s=(details.start_time or 0) / 1000,
        ended_s=details.end_time / 1000 if details.end_time else None,
        message=str(details.message or ""),
        exit_status=details.driver_exit_code,
    )


def _checked(address: str) -> str:
    """Return `address` with its scheme, without a path.

    >>> _checked("127.0.0.1:8265"), _checked("https://ray.example.com/")
    ('http://127.0.0.1:8265', 'https://ray.example.com')
    """
    whole = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(whole)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
        is_right = is_right and not (parts.query or parts.fragment or parts.username) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        raise InputError(f"--address must be that of Ray's dashboard, such as {DEFAULT_ADDRESS}; got {address[:200]!r}")
    return whole.rstrip("/")


def _connect(address: str) -> Any:
    """Return Ray's own client for jobs; raises InputError as `Jobs` does, within seconds."""
    parts = urlsplit(address)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((str(parts.hostname), port), REACHED_WITHIN_S).close()
    except OSError as error:
        raise InputError(
            f"--address {address}: nothing answers there ({error}); it must be the head's dashboard, which needs "
            "ray[default]: `ray dashboard FILE` brings it to this machine"
        ) from None
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # to Ray they would count more than what we give it
        os.environ.pop(variable, None)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard_sdk", "job.sdk"):  # they say of every connection how it began and ended
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.ERROR)

    class Client(JobSubmissionClient):
        """Ray's client, with a limit to waiting."""

        def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
            return super()._do_request(method, endpoint, **{"timeout": (REACHED_WITHIN_S, ANSWERED_WITHIN_S), **more})

    try:
        return Client(address)
    except AuthenticationError:
        raise InputError(_refused(address)) from None
    except (RuntimeError, ValueError, KeyError, OSError) as error:  # those of requests are OSErrors, too
        if "ray[default]" in str(error):
            raise InputError("sending a search needs Ray's job client: pip install --editable '.[cluster]'") from None
        raise InputError(
            f"--address must be that of Ray's dashboard, usually port 8265 of the head; {address} answers otherwise: "
            f"{first_line(error)}"
        ) from None


def _refused(address: str) -> str:
    return (
        f"--address {address}: the cluster does not accept this machine's token; copy the cluster's to "
        "~/.ray/auth_token (mode 0600), or set RAY_AUTH_TOKEN_PATH"
    )


def _reason(error: BaseException) -> str:
    """Return the last of the chained messages that HTTP libraries write."""
    return re.sub(r"^.*[>)]: ", "", first_line(error)).strip("()'\" ") or type(error).__name__
