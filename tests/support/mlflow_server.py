"""A real server of MLflow on loopback, to be killed and started again, and what it holds, by its REST interface."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import requests


class MlflowServer:
    """A server with its database and artifacts in a folder."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.address}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        host, _, port = self.address.partition(":")
        command = [str(self._program), "server", "--host", host, "--port", port, "--workers", "1",
                   "--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}",
                   "--artifacts-destination", str(self._folder / "artifacts")]  # fmt: skip
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PYTHON"))}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=surroundings, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 180
        while time.monotonic() < until:
            try:
                if requests.get(f"{self.url}/health", timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.3)
        raise AssertionError((self._folder / "server.log").read_text()[-3000:])

    def kill(self) -> None:
        """Kill it with all its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def ask(self, path: str, **body: Any) -> Any:
        """Return the answer of its REST interface."""
        url = f"{self.url}/api/2.0/mlflow/{path}"
        answer = requests.post(url, json=body, timeout=30) if body else requests.get(url, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def runs(self) -> dict[str, dict[str, Any]]:
        """Return all runs by what they are of the one search that is there: tags, parameters, id and status."""
        experiments = self.ask("experiments/search", max_results=100)["experiments"]
        ids = [one["experiment_id"] for one in experiments]
        found = self.ask("runs/search", experiment_ids=ids, max_results=1000)["runs"]
        runs = [
            {
                "id": run["info"]["run_id"],
                "status": run["info"]["status"],
                "tags": {one["key"]: one["value"] for one in run["data"].get("tags", [])},
                "parameters": {one["key"]: one["value"] for one in run["data"].get("params", [])},
                "metrics": {one["key"]: one["value"] for one in run["data"].get("metrics", [])},
            }
            for run in found
        ]
        by_part = {run["tags"]["tuner.part"]: run for run in runs}
        assert len(by_part) == len(runs), "a part has two runs"
        return by_part

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        """Return step and value of all values of a metric, as they were sent."""
        found = self.ask(f"metrics/get-history?run_id={run}&metric_key={metric}").get("metrics", [])
        return [(int(one["step"]), float(one["value"])) for one in found]
