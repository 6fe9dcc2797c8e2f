"""An MLflow in memory with its client's face: MLflow's own checks, and failures when a test asks for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from mlflow.exceptions import MlflowException, RestException
from mlflow.utils.validation import _validate_batch_log_data, _validate_batch_log_limits


class Server:
    """What is kept by a server, and what it does before each call: raise, as one that is gone."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, str] = {}
        self.deleted_experiments: set[str] = set()
        self.before: Callable[[str], None] = lambda _call: None
        self.after: Callable[[str], None] = lambda _call: None
        self.longest_parameter = 6000
        self.calls: list[str] = []
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        """Another identifier."""
        return f"id{next(self._numbers)}"

    def part(self, name: str) -> dict[str, Any]:
        """The one run that stands for a part of a search."""
        (found,) = [run for run in self.runs.values() if run["tags"].get("tuner.part") == name and run["is_active"]]
        return found

    def steps(self, part: str, metric: str = "val_accuracy") -> list[int]:
        """The steps of all values of a metric."""
        return [one.step for one in self.part(part)["metrics"] if one.key == metric]


class Client:
    """The methods of MlflowClient that are used."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name.startswith("_"):
            return found
        server = self._server

        def called(*arguments: Any, **named: Any) -> Any:
            server.calls.append(name)
            server.before(name)
            result = found(*arguments, **named)
            server.after(name)
            return result

        return called

    def get_experiment_by_name(self, name: str) -> Any:
        stage = "deleted" if name in self._server.deleted_experiments else "active"
        known = self._server.experiments.get(name)
        return known and SimpleNamespace(experiment_id=known, lifecycle_stage=stage)

    def create_experiment(self, name: str, _artifacts: str | None = None) -> str:
        return self._server.experiments.setdefault(name, self._server.new_id())

    def search_runs(self, experiments: Sequence[str], words: str, page_token: str | None = None) -> Any:
        found = [
            (name, run)
            for name, run in self._server.runs.items()
            if run["experiment"] in experiments and run["is_active"] and run["tags"].get("tuner.run", "-") in words
        ]
        start = int(page_token or 0)
        page = _Page(
            SimpleNamespace(
                info=SimpleNamespace(run_id=name),
                data=SimpleNamespace(
                    params=run["params"], tags=run["tags"], metrics={one.key: one.value for one in run["metrics"]}
                ),
            )
            for name, run in found[start : start + 2]
        )
        page.token = str(start + 2) if start + 2 < len(found) else None
        return page

    def create_run(self, experiment: str, start_time: int, tags: dict[str, str], run_name: str) -> Any:
        name = self._server.new_id()
        self._server.runs[name] = {
            "experiment": experiment, "tags": dict(tags), "params": {}, "metrics": [], "artifacts": [],
            "status": "RUNNING", "started": start_time, "ended": None, "name": run_name, "is_active": True,
        }  # fmt: skip
        return SimpleNamespace(info=SimpleNamespace(run_id=name))

    def _active(self, run: str) -> dict[str, Any]:
        kept = self._server.runs[run]
        if not kept["is_active"]:
            raise refusal(f"The run {run} must be in the 'active' state. Current state is deleted.")
        return kept

    def get_run(self, run: str) -> Any:
        stage = "active" if self._server.runs[run]["is_active"] else "deleted"
        return SimpleNamespace(info=SimpleNamespace(lifecycle_stage=stage))

    def log_batch(self, run: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]) -> None:
        kept = self._active(run)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_batch_log_data(metrics, params, tags)
        for one in params:
            if kept["params"].get(one.key, one.value) != one.value:
                raise refusal("Changing param values is not allowed.")
            if len(one.value) > self._server.longest_parameter:
                raise refusal(f"Param value had length {len(one.value)}, which exceeded length limit")
        kept["params"].update({one.key: one.value for one in params})
        kept["metrics"] += metrics
        kept["tags"].update({one.key: one.value for one in tags})

    def set_tag(self, run: str, key: str, value: str) -> None:
        self._server.runs[run]["tags"][key] = value

    def get_metric_history(self, run: str, key: str) -> list[Any]:
        return [one for one in self._server.runs[run]["metrics"] if one.key == key]

    def set_terminated(self, run: str, status: str, ended: int) -> None:
        self._active(run).update(status=status, ended=ended)

    def update_run(self, run: str, status: str) -> None:
        self._active(run)["status"] = status

    def log_artifact(self, run: str, path: str, folder: str | None) -> None:
        self._server.runs[run]["artifacts"].append(f"{folder}/{path.rpartition('/')[2]}")


class _Page(list[Any]):
    token: str | None = None


def refusal(words: str, code: str = "INVALID_PARAMETER_VALUE") -> RestException:
    """The error of a server that has understood a request and refuses it."""
    return RestException({"error_code": code, "message": words})


def gone() -> MlflowException:
    """The error of a client whose server is not there."""
    error = MlflowException("API request to http://host/api failed with exception ...")
    error.__context__ = ConnectionRefusedError(111, "Connection refused")
    return error
