"""MLflow as a tracker: a run for the search, and below it one for each trial and for each training of a finalist.

What is there already is asked of MLflow itself: a search has a digest by which its runs are found again, and of a run
that is not complete the last step of each value is known. So a search that goes on needs nothing but its record.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tuner.common.errors import InputError, first_line
from tuner.common.files import check_file
from tuner.runs.events import Event, Status, StudyCreated
from tuner.trackers._entries import ENDED, SEARCH, Entry, Story, search_digest
from tuner.trackers._mlflow_address import read_address
from tuner.trackers._mlflow_names import LONGEST_TAG, LONGEST_VALUE_BEFORE, safe_name, safe_value
from tuner.trackers.tracker import Refused, Tracker, Unavailable

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Item = TypeVar("Item")
_SURROUNDINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nobody but the server is told
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the feed tries again, and says that it does
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_STATUS: Mapping[Status, str] = {
    "running": "RUNNING", "paused": "SCHEDULED", "completed": "FINISHED", "stopped": "FINISHED", "failed": "FAILED",
}  # fmt: skip
_RUN, _PART, _STATE = "tuner.run", "tuner.part", "tuner.status"
"""Tags: the search that a run belongs to, what it is of it, and its status in the words of the record."""
_PARENT = "mlflow.parentRunId"
_UNKNOWN = "INTERNAL_ERROR"
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", _UNKNOWN)
"""Errors that may be about what was sent."""
_VALUES_AT_ONCE, _PARAMETERS_AT_ONCE = 800, 100
"""MLflow takes at most 1000 of all in a request."""


@dataclass
class _Run:
    """A run as MLflow has it."""

    id: str
    parameters: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    unknown_steps: set[str] = field(default_factory=set)
    """Names of values that were there before, of which the last step has not been asked for."""
    last_steps: dict[str, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether it is a trial's that has ended, so that nothing is to come."""
        return self.tags.get(_PART, "").startswith("trial-") and self.tags.get(_STATE) in ENDED


@dataclass
class _Pending:
    """Parameters, values and tags that are to be sent to one run."""

    began_s: float
    parameters: dict[str, str] = field(default_factory=dict)
    values: list[tuple[str, float, int, int]] = field(default_factory=list)
    """Name, value, time in ms, step."""
    tags: dict[str, str] = field(default_factory=dict)
    status: Status | None = None
    ended_ms: int = 0

    def add(self, entry: Entry) -> None:
        """Add what an event says."""
        time_ms = round(entry.time_s * 1000)
        self.parameters.update({safe_name(name): safe_value(value) for name, value in entry.parameters.items()})
        self.values += [(safe_name(name), value, time_ms, entry.step) for name, value in entry.measures.items()]
        self.tags.update({f"tuner.{name}": safe_value(text, LONGEST_TAG) for name, text in entry.tags.items()})
        if entry.status is not None:
            self.status, self.ended_ms = entry.status, time_ms
            self.tags[_STATE] = entry.status


class MlflowTracker(Tracker):
    """A search as a run of MLflow, its trials and finalists nested in it."""

    def __init__(self, place: str | None, run: Path) -> None:
        given = place or os.environ.get("MLFLOW_TRACKING_URI", "")
        self._address = read_address(given, run.absolute().parent)
        self.place = self._address.shown
        if self._address.file is not None:
            check_file(self._address.file, "--mlflow")
        for name, value in _SURROUNDINGS.items():
            os.environ.setdefault(name, value)
        needed = ["mlflow.tracking", *(["sqlalchemy", "alembic"] if self._address.is_database else [])]
        try:
            for module in needed:
                importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"--mlflow needs the package mlflow-skinny: pip install mlflow-skinny ({first_line(error)})"
            ) from None
        self._name = run.resolve().name
        self._story = Story()
        self._client: MlflowClient | None = None
        self._experiment = ""
        self._runs: dict[str, _Run] = {}

    def take(self, happened: Sequence[Event]) -> None:
        """Send what events say to their runs, which are begun where they are not there."""
        pending: dict[str, _Pending] = {}
        for event in happened:
            if isinstance(event, StudyCreated):
                self._story, self._client = Story(), None
            for entry in self._story.go_on(event):
                pending.setdefault(entry.run, _Pending(entry.time_s)).add(entry)
        with _as_unavailable():
            self._open()
            refused = [why for name, what in pending.items() for why in self._send(name, what)]
        if refused:
            raise Refused(refused[0], len(refused))

    def keep(self, files: Mapping[str, Path]) -> None:
        """Keep files as artifacts of the search's run, if it has begun."""
        if self._story.state.study is None:
            return
        with _as_unavailable():
            self._open()
            for place, path in files.items():
                folder = place.rpartition("/")[0]
                self._opened.log_artifact(self._runs[SEARCH].id, str(path), folder or None)

    @property
    def _opened(self) -> MlflowClient:
        assert self._client is not None  # noqa: S101  `_open` comes first
        return self._client

    def _open(self) -> None:
        """Find the experiment and the runs of this search, if that has not been done."""
        if self._client is not None:
            return
        from mlflow.tracking import MlflowClient

        address = self._address
        if address.user and address.password:  # not before: what is started meanwhile would inherit them
            os.environ["MLFLOW_TRACKING_USERNAME"] = address.user
            os.environ["MLFLOW_TRACKING_PASSWORD"] = address.password
        if address.file is not None:
            address.file.parent.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
        self._experiment = self._experiment_in(client)
        self._runs = {run.tags[_PART]: run for run in _runs_in(client, self._experiment, self._digest)}
        self._client = client

    @property
    def _study(self) -> StudyCreated:
        assert self._story.state.study is not None  # noqa: S101  a record begins with it
        return self._story.state.study

    @property
    def _digest(self) -> str:
        return search_digest(self._study)[:32]

    def _experiment_in(self, client: MlflowClient) -> str:
        """Return the experiment of the study, made if it is not there; the variables of MLflow can name another."""
        if known := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self._study.study
        found = client.get_experiment_by_name(name)
        if found is None:
            file = self._address.file
            return str(
                client.create_experiment(name, None if file is None else str(file.with_name("mlflow-artifacts")))
            )
        if found.lifecycle_stage != "active":
            raise Unavailable(
                f"its experiment {name!r} has been deleted there: restore it, or name another by the variable "
                "MLFLOW_EXPERIMENT_NAME"
            )
        return str(found.experiment_id)

    def _begin(self, name: str, began_s: float) -> _Run:
        tags = {_RUN: self._digest, _PART: name}
        shown = self._name if name == SEARCH else name
        if name != SEARCH:
            parent = self._runs.get(SEARCH) or self._begin(SEARCH, self._study.time)
            tags[_PARENT] = parent.id
        made = self._opened.create_run(self._experiment, round(began_s * 1000), tags, shown)
        self._runs[name] = run = _Run(made.info.run_id, tags=tags)
        return run

    def _send(self, name: str, what: _Pending) -> list[str]:
        """Send what a run does not have yet, and return why some of it was refused."""
        run = self._runs.get(name) or self._begin(name, what.began_s)
        if run.is_complete:
            return []
        values = list(self._lacking(run, what.values))
        parameters = [pair for pair in what.parameters.items() if pair[0] not in run.parameters]
        tags = [pair for pair in what.tags.items() if run.tags.get(pair[0]) != pair[1]]
        parts: list[Any] = [
            *zip_longest(_parts(values, _VALUES_AT_ONCE), _parts(parameters, _PARAMETERS_AT_ONCE), fillvalue=[])
        ]
        refused = [why for some, few in parts[:-1] for why in self._log(run, some, few, [])]
        some, few = parts[-1] if parts else ([], [])
        if what.status is not None and _STATE in dict(tags):
            self._set_status(run, what.status, what.ended_ms)
        if some or few or tags:
            refused += self._log(run, some, few, tags)  # the tag of the status last: it says that all is there
        for value in values:
            run.last_steps[value[0]] = max(value[3], run.last_steps.get(value[0], value[3]))
        run.parameters.update(name for name, _ in parameters)
        run.tags.update(tags)
        return refused

    def _set_status(self, run: _Run, status: Status, ended_ms: int) -> None:
        from mlflow.exceptions import MlflowException

        try:
            if status in ENDED:
                self._opened.set_terminated(run.id, _STATUS[status], ended_ms)
            else:
                self._opened.update_run(run.id, _STATUS[status])
        except MlflowException as error:
            if error.error_code in _REFUSALS and _is_answer(error):
                self._refuse_deleted(run)
            raise

    def _lacking(
        self, run: _Run, values: Sequence[tuple[str, float, int, int]]
    ) -> Iterator[tuple[str, float, int, int]]:
        """Yield the values of later steps than those that are there, or come before them: each step of a name once."""
        last_steps: dict[str, int] = {}
        for value in values:
            name, step = value[0], value[3]
            if step > last_steps.get(name, self._last_step(run, name)):
                last_steps[name] = step
                yield value

    def _last_step(self, run: _Run, name: str) -> int:
        """Return the last step of a value that is there; -1: it has none."""
        if name in run.unknown_steps:
            run.unknown_steps.remove(name)
            run.last_steps[name] = max((one.step for one in self._opened.get_metric_history(run.id, name)), default=-1)
        return run.last_steps.get(name, -1)

    def _log(
        self,
        run: _Run,
        values: Sequence[tuple[str, float, int, int]],
        parameters: Sequence[tuple[str, str]],
        tags: Sequence[tuple[str, str]],
    ) -> list[str]:
        """Send in one request; one by one what it refuses as a whole. Return why some of it was refused."""
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException

        made = (
            [Metric(*value) for value in values],
            [Param(*pair) for pair in parameters],
            [RunTag(*pair) for pair in tags],
        )
        try:
            self._opened.log_batch(run.id, *made)
            return []
        except MlflowException as error:
            if error.error_code not in _REFUSALS or not _is_answer(error):
                raise
            why = _words(error)
        self._refuse_deleted(run)
        if len(values) + len(parameters) + len(tags) > 1:
            singles = [
                *(([value], [], []) for value in values),
                *(([], [pair], []) for pair in parameters),
                *(([], [], [pair]) for pair in tags),
            ]
            return [reason for single in singles for reason in self._log(run, *single)]
        if parameters and len(parameters[0][1]) > LONGEST_VALUE_BEFORE:
            return self._log(run, [], [(parameters[0][0], safe_value(parameters[0][1], LONGEST_VALUE_BEFORE))], [])
        self._opened.set_tag(run.id, _RUN, self._digest)  # raises where nothing at all is taken now
        return [f"{[*values, *parameters, *tags][0][0]}: {why}"]

    def _refuse_deleted(self, run: _Run) -> None:
        if self._opened.get_run(run.id).info.lifecycle_stage != "active":
            raise Unavailable("a run has been deleted there, and is begun again")


def _parts(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + most] for start in range(0, len(items), most))


def _runs_in(client: MlflowClient, experiment: str, digest: str) -> Iterator[_Run]:
    """Yield the runs of a search that are there, the oldest last."""
    token: str | None = ""
    while token is not None:
        page = client.search_runs([experiment], f"tags.`{_RUN}` = '{digest}'", page_token=token or None)
        for found in page:
            data: Any = found.data
            if _PART in data.tags:
                yield _Run(found.info.run_id, set(data.params), dict(data.tags), set(data.metrics))
        token = page.token or None


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """Turn what MLflow and the libraries below it raise into Unavailable, in few words."""
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        raise Unavailable(_words(error)) from error


def _is_answer(error: BaseException) -> bool:
    """Return whether a server, or a database, has answered with an error about what it was sent, or may have."""
    from mlflow.exceptions import RestException

    return isinstance(error, RestException) or getattr(error, "error_code", "") != _UNKNOWN or _status_in(error) == 500


_STATUS_SAID = re.compile(r"too many ([0-9]{3}) error responses|failed with error code ([0-9]{3})")
_WHO = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, say who asks"
_ADVICE = {401: f": {_WHO}", 403: f": {_WHO}", 404: ": is this the address of an MLflow?"}


def _status_in(error: BaseException) -> int | None:
    """Return the status of HTTP that MLflow's message names."""
    said = _STATUS_SAID.search(str(error))
    return None if said is None else int(said[1] or said[2])


def _words(error: BaseException) -> str:
    """Return in a line what the system or the server said, where it was that; else the library's message."""
    if status := _status_in(error):
        return f"answers with error {status}{_ADVICE.get(status, '')}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError) and not cause.strerror:
            return f"does not answer within {os.environ['MLFLOW_HTTP_REQUEST_TIMEOUT']} s"
        if isinstance(cause, OSError) and cause.strerror:
            return f"cannot be reached: {cause.strerror}"
        if isinstance(cause, ConnectionError | HTTPException):  # it went away while it was asked
            return f"cannot be reached: {first_line(cause)}"
        held = next((one for one in cause.args if isinstance(one, BaseException)), None)  # urllib3's way
        cause = cause.__cause__ or cause.__context__ or held
    if "not in a valid JSON format" in str(error):
        return "answers, but not as an MLflow does"
    is_clear = type(error).__module__.startswith("mlflow") or isinstance(error, OSError)
    return first_line(error) if is_clear else f"{type(error).__name__}: {first_line(error)}"
