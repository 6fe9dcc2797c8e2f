"""Ends a cluster of one's own machines: python cluster/down.py cluster/on_premise.yaml

`ray down` stops the head alone. The workers would wait two minutes for it, end themselves, and leave a process behind;
so `ray stop` is run on each of them first, from the head, which has the key. Exit status 1: a worker was not reached.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

NOT_REACHED = "not-reached:"


def stop_workers_command(config: dict[str, Any]) -> str:
    """What the head is to run: `ray stop` on every worker, by the key that `ray up` left there.

    >>> command = stop_workers_command({"provider": {"worker_ips": ["192.0.2.11"]}, "auth": {"ssh_user": "me"}})
    >>> "me@192.0.2.11" in command and "ray stop" in command
    True
    """
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes"
    stop = shlex.quote("bash --login -i -c 'source ~/.bashrc; ray stop' 2>/dev/null")
    words = ["missing="]
    for worker in config["provider"]["worker_ips"]:
        place = shlex.quote(f"{config['auth']['ssh_user']}@{worker}")
        ssh = f"ssh -n -i ~/ray_bootstrap_key.pem {options} -o ConnectTimeout=10 {place} {stop}"
        words.append(f'{ssh} || missing="$missing "{shlex.quote(worker)}')
    return "; ".join([*words, f'test -z "$missing" || {{ echo; echo "{NOT_REACHED}$missing"; false; }}'])


def main(arguments: list[str]) -> int:
    """Stop the workers, then the head; the exit status."""
    if len(arguments) != 1:
        print("usage: python cluster/down.py FILE", file=sys.stderr)
        return 2
    config = yaml.safe_load(Path(arguments[0]).read_text())
    if config["provider"]["type"] != "local":
        print(f"{arguments[0]}: for provider {config['provider']['type']}, ray down does it all", file=sys.stderr)
        return 2
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    environment = {**os.environ, "RAY_UP_enable_autoscaler_v2": "0"}
    words = [*ray, "exec", arguments[0], stop_workers_command(config)]
    workers = subprocess.run(words, env=environment, text=True, capture_output=True, check=False)
    missing = re.findall(rf"^{NOT_REACHED}(.*)$", workers.stdout, re.M)
    if workers.returncode != 0:
        who = missing[0].strip() if missing else f"the head, and so no worker ({workers.stderr[-500:]})"
        print(f"not reached: {who}; what runs there ends within three minutes, but for a process that follows logs")
    head = subprocess.run([*ray, "down", arguments[0], "-y"], env=environment, check=False)
    return 1 if workers.returncode else head.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
