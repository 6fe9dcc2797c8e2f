"""The same networks in a process of its own: `python -m tuner.contracts.fresh_process`, started beside the checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_LONGEST_S = 300


class FreshProcess:
    """A process that builds the default network of each architecture of a plugin, and says what it found."""

    def __init__(self, reference: str, names: Sequence[str]) -> None:
        self._command = [sys.executable, "-m", "tuner.contracts.fresh_process", reference, *names]
        self._process: subprocess.Popen[str] | None = None
        self._found: Mapping[str, Any] | None = None

    def start(self) -> subprocess.Popen[str]:
        """Start it, if it has not been; it works while other checks run."""
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 this very program
                self._command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONHASHSEED": "20"},
            )
        return self._process

    def found(self, name: str) -> Mapping[str, Any]:
        """Return what it found of an architecture; waits for its end."""
        if self._found is None:
            try:
                output, told = self.start().communicate(timeout=_LONGEST_S)
                self._found = json.loads(output.strip().splitlines()[-1])
            except subprocess.TimeoutExpired:
                self.end()
                self._found = {"": f"it had not ended after {_LONGEST_S} s"}
            except (ValueError, IndexError):
                self._found = {"": (told.strip().splitlines() or ["it said nothing"])[-1]}
        return self._found.get(name) or {"error": self._found.get("", "nothing came back")}

    def end(self) -> None:
        """End the process, if it still runs."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def main(arguments: Sequence[str], output: IO[str]) -> int:
    """Build each network once, in the reverse of the order in which the other process does, and write what is seen."""
    reference, *names = arguments
    from tuner.models.own_networks import load_own_code

    load_own_code([reference])
    from tuner.contracts._reproducibility import fingerprint
    from tuner.contracts.author import Author
    from tuner.contracts.networks import ArchitectureSubject
    from tuner.models.architectures import ARCHITECTURES

    found: dict[str, Any] = {}
    for name in reversed(names):
        author = Author(Path(reference).resolve())
        try:
            subject = ArchitectureSubject(ARCHITECTURES[name], author)
            found[name] = fingerprint(subject.build(), subject.shape())
        except Exception as error:  # noqa: BLE001  it is the answer
            found[name] = {"error": author.explain(error)}
    output.write("\n" + json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:], sys.stdout))
