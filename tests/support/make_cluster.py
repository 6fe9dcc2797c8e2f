"""Ray nodes of their own on this machine, a `ray start` each, on loopback, and a wire to them that can be cut."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support import ROOT
from tests.support.processes import started_by


def free_ports(number: int) -> list[int]:
    """Ports that nothing listens to now."""
    found: list[int] = []
    # Below those that the system gives to whoever asks for any port: Ray's processes do so all the time.
    for port in secrets.SystemRandom().sample(range(20_000, 32_000), 1000):
        if len(found) == number:
            break
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


@dataclass
class Head:
    """A head that has started, and the nodes that were added."""

    place: Path
    port: int
    dashboard_port: int
    mode: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Of the cluster."""
        return f"127.0.0.1:{self.port}"

    @property
    def token(self) -> Path:
        """The file with the cluster's token."""
        return self.place / "home" / ".ray" / "auth_token"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a client: a home with the token, and this tuner."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return {
            **inherited,
            "HOME": str(self.place / "home"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": self.mode,
            "RAY_TMPDIR": str(self.place / "t"),
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a node and wait until it runs."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address=127.0.0.1",
                   "--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000",
                   "--disable-usage-stats", *words]  # fmt: skip
        log = self.place / f"node-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.place, stdout=output, stderr=output, start_new_session=True
            )
        self.processes.append(process)
        wait_for(lambda: b"This command will now block" in log.read_bytes(), 120, "node")
        return process

    def add_node(self, cpus: int) -> subprocess.Popen[bytes]:
        """Start another node; `end_node` takes it away as when its machine loses power."""
        return self.start(f"--address={self.address}", f"--num-cpus={cpus}")


@contextmanager
def head(cpus: int, mode: str = "token", dashboard: bool = True) -> Iterator[Head]:
    """Start a head, and end it with all that it started, and nothing else: other Rays may run on this machine."""
    place = Path(tempfile.mkdtemp(prefix="tuner-"))  # short: Ray's sockets lie below
    gcs, dashboard_port, agent, client = free_ports(4)
    made = Head(place, gcs, dashboard_port, mode)
    for name in ("home/.ray", "t"):
        (place / name).mkdir(parents=True)
    made.token.write_text(secrets.token_hex(32))
    made.token.chmod(0o600)
    try:
        made.start(
            "--head", f"--port={gcs}", f"--dashboard-port={dashboard_port}", f"--dashboard-agent-listen-port={agent}",
            f"--ray-client-server-port={client}", f"--include-dashboard={str(dashboard).lower()}",
            f"--num-cpus={cpus}", f"--temp-dir={place / 't'}",
        )  # fmt: skip
        yield made
    finally:
        for process in reversed(made.processes):
            end_node(process)
        shutil.rmtree(place, ignore_errors=True)


def end_node(process: subprocess.Popen[bytes]) -> None:
    """End a node and all that it started at once, as when its machine loses power."""
    with suppress(psutil.NoSuchProcess):
        for one in (psutil.Process(process.pid), *started_by(process.pid)):
            with suppress(psutil.NoSuchProcess):
                one.kill()
    process.wait(60)


class Wire:
    """A port of this machine that leads to another one, until it is cut."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._listener = socket.create_server(("127.0.0.1", free_ports(1)[0]))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        for one in (self._listener, *self._ends):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._ends.clear()

    def mend(self) -> None:
        """Let connections through again."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # it is cut
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to_port))
                self._ends += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def wait_for(happened: Callable[[], object], seconds: float, what: str) -> None:
    """Wait; fails the test when it does not happen."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"no {what} within {seconds:g} s"
        time.sleep(0.2)
