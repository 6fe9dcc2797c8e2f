"""Three real hosts on this machine and a cluster on them, as cluster/on_premise.yaml describes it; for test_lab.

The hosts are made by the script `hosts` in the folder that TUNER_LAB names: namespaces with their own network,
processes, home and ssh server. The rest they share with this machine: the environment, and a folder in place of NFS.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.support import ROOT

LAB = "TUNER_LAB"
HEAD, *WORKERS = ("10.77.0.10", "10.77.0.11", "10.77.0.12")
NEEDED = ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "nsenter", "unshare")
_NUMBERS = itertools.count()
RAY_PROGRAMS = ("gcs_server", "raylet", "ray/dashboard", "monitor.py", "ray::", "log_monitor")


def missing() -> str | None:
    """Why there can be no hosts here; None: there can."""
    if LAB not in os.environ:
        return f"{LAB} must name the folder with the script that makes hosts"
    if os.geteuid() != 0:
        return "making hosts needs root"
    absent = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if absent:
        return f"making hosts needs {', '.join(absent)}"
    return None if _may_make_namespaces() else "this machine lets not even root make namespaces with networks"


def _may_make_namespaces() -> bool:
    """Whether a network between two namespaces can be made; containers often forbid it."""
    name = f"tt-probe-{os.getpid()}"
    tried = (
        ["unshare", "--mount", "--pid", "--fork", "true"],
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1"],
    )
    path = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    try:
        return all(subprocess.run(words, env=path, capture_output=True, check=False).returncode == 0 for words in tried)
    finally:
        subprocess.run(["ip", "netns", "del", name], env=path, capture_output=True, check=False)


class Lab:
    """Hosts h0 (head), h1 and h2 (workers) and a controller from which `ray up` is run."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="tuner-lab-"))  # short: sockets of ssh and Ray lie below
        self.shared = self.base / "shared"
        self.file = self.base / "cluster.yaml"
        self.prefix = f"t{os.getpid()}x{next(_NUMBERS)}"  # namespaces of an earlier one may still be there
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTHONPATH"))},
            "BASE": str(self.base),
            "NETNS_PREFIX": self.prefix,
            "VENV_BIN": str(Path(sys.executable).parent),
            "KEEP_HOME": _home_of_python(),
            "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        }
        for folder in ("shared", "home", "tmp"):
            (self.base / folder).mkdir()

    def hosts(self, *words: str, check: bool = True) -> str:
        """Run the script that makes hosts."""
        done = subprocess.run(
            [Path(os.environ[LAB]) / "hosts", *words],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def up(self) -> None:
        """Make hosts, keys, a token, and a cluster file."""
        self.hosts("up", "3")
        self.ray("get-auth-token", "--generate")
        (self.base / "home" / ".ray" / "auth_token").chmod(0o600)
        self.write_cluster_file()

    def write_cluster_file(self, *, tls: bool = False) -> None:
        """Write cluster/on_premise.yaml with the hosts' addresses; with TLS, as it says."""
        config = yaml.safe_load(self._with_tls(tls))
        config["provider"].update(head_ip=HEAD, worker_ips=WORKERS)
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.base / "keys" / "id_ed25519")}
        config["setup_commands"] = [
            command.replace("make --silent node", f"ln -sfn {sys.prefix} .venv").replace(
                "/shared/tuner", str(self.shared)
            )
            for command in config["setup_commands"]
        ]
        for kind, more in (("head", ""), ("worker", " --num-cpus=1")):  # a small machine that is three
            commands, flags = config[f"{kind}_start_ray_commands"], f"--object-store-memory=200000000{more}"
            commands[-1] = commands[-1].replace("--disable-usage-stats", f"--disable-usage-stats {flags}")
        self.file.write_text(yaml.safe_dump(config))

    def _with_tls(self, tls: bool) -> str:
        """The cluster file, for TLS with what it says under that word."""
        text = (ROOT / "cluster" / "on_premise.yaml").read_text()
        if not tls:
            return text
        script = self.base / "make_certificates"
        shutil.copy(ROOT / "cluster" / "make_certificates", script)
        subprocess.run(["sh", script, HEAD, *WORKERS], check=True, capture_output=True)
        text = text.replace("# TLS: ~/.ray/tls: cluster/tls ", f"~/.ray/tls: {self.base / 'tls'} ")
        return text.replace("  # - >-\n  #   grep -qs RAY_USE_TLS", "  - >-\n    grep -qs RAY_USE_TLS").replace(
            "  #   RAY_TLS_SERVER_KEY", "    RAY_TLS_SERVER_KEY"
        )

    def ray(self, *words: str) -> str:
        """A command of Ray's on the controller, as a user would type it."""
        return self.control("ray", *words)

    def control(self, *words: str, timeout_s: float = 1200) -> str:
        """A command on the controller."""
        variables = {
            "HOME": self.base / "home",
            "RAY_TMPDIR": self.base / "tmp",
            "RAY_UP_enable_autoscaler_v2": "0",
            "PATH": f"{self.environment['VENV_BIN']}:{self.environment['PATH']}",
        }
        command = [
            "ip",
            "netns",
            "exec",
            f"{self.prefix}-ctl",
            "env",
            *(f"{name}={value}" for name, value in variables.items()),
        ]
        done = subprocess.run(
            [*command, *words], cwd=ROOT, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def ray_up(self, *words: str) -> None:
        """Start the cluster, or what of it is gone, and wait until both workers are there."""
        self.ray("up", str(self.file), "-y", "--no-config-cache", *words)
        wait_for(lambda: self.nodes() == 3, 300, "three nodes")

    def nodes(self) -> int:
        """How many nodes are active, as Ray's own status says; 0 when it cannot be asked."""
        lines = self.on("h0", "ray status", check=False).splitlines()
        start = lines.index("Active:") + 1 if "Active:" in lines else len(lines)
        counts = [line.split() for line in lines[start:] if line.startswith(" ")]
        end = next((index for index, words in enumerate(counts) if not words[0].isdecimal()), len(counts))
        return sum(int(words[0]) for words in counts[:end] if words[1].endswith("node"))

    def on(self, host: str, command: str, *, check: bool = True) -> str:
        """Run a command on a host, in a login shell there, as ssh would."""
        return self.hosts("exec", host, "bash", "--login", "-c", f"source ~/.bashrc; {command}", check=check)

    def start(self, host: str, command: str, output: Path) -> subprocess.Popen[bytes]:
        """Begin a command on a host."""
        words = [Path(os.environ[LAB]) / "hosts", "exec", host, "bash", "--login", "-c", f"source ~/.bashrc; {command}"]
        with output.open("wb") as file:
            return subprocess.Popen(words, env=self.environment, stdout=file, stderr=subprocess.STDOUT)

    def programs(self, host: str) -> list[str]:
        """Ray's programs that run on a host."""
        lines = self.hosts("exec", host, "ps", "ax", "-o", "args", check=False).splitlines()
        return [line for line in lines if any(name in line for name in RAY_PROGRAMS) and "ps ax" not in line]

    def kill_ray(self, host: str, *more: str) -> None:
        """Kill Ray's programs on a host, and others by a part of their command."""
        names = "|".join([*RAY_PROGRAMS, *more])
        found = f"ps ax -o pid=,args= | grep -E '{names}' | grep -v grep | awk '{{print $1}}'"
        script = f"for process in $({found}); do kill -9 $process; done"
        self.hosts("exec", host, "bash", "-c", script, check=False)

    def link(self, host: str, state: str) -> None:
        """Plug the network cable of a host in (`up`) or out (`down`)."""
        words = ["ip", "netns", "exec", f"{self.prefix}-ctl", "ip", "link", "set", f"v{self.prefix}{host}", state]
        subprocess.run(words, env=self.environment, check=True)

    def down(self) -> None:
        """End all hosts and what runs on them, and remove what they wrote."""
        self.hosts("down", check=False)
        shutil.rmtree(self.base, ignore_errors=True)


def wait_for(happened: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait; how long it took. Fails the test when it does not happen."""
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < seconds, f"no {what} within {seconds:g} s"
        time.sleep(1)
    return time.monotonic() - started


def _home_of_python() -> str:
    """The folder below /root in which Python itself lies, if it does: hosts have their own /root."""
    base = Path(sys.base_prefix)
    return base.relative_to("/root").parts[0] if base.is_relative_to("/root") else ""
