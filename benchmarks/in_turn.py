"""Real searches of several ways in turn, each kept as a line of a file as it ends: what is there is not run again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

Outcome = TypeVar("Outcome")
"""A dataclass of what was seen of a search; it has data, way, seed and minutes."""
Run = Callable[[str, str, str, int, float, Path], Outcome]
"""(data, source, way, seed, minutes, folder) -> what was seen of the search."""


def arguments_of(
    program: str, description: str, minutes: float, ways: Sequence[str], arguments: Sequence[str] | None
) -> argparse.Namespace:
    """Return results (path), data (NAME=SOURCE), seeds, minutes and ways of a command line."""
    parser = argparse.ArgumentParser(
        prog=program, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--results", type=Path, required=True, help="file of results, one line each; runs lie beside it")
    add("--data", action="append", required=True, metavar="NAME=SOURCE", help="flowers=folder:..., hands=folder:...")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add("--minutes", type=float, default=minutes)
    add("--ways", nargs="+", choices=ways, default=list(ways))
    return parser.parse_args(arguments)


def in_turn(options: argparse.Namespace, run: Run[Outcome], kind: Callable[..., Outcome]) -> list[Outcome]:
    """Run what is missing, the ways of every second seed in the other order; returns all that have the same minutes."""
    options.results.parent.mkdir(parents=True, exist_ok=True)
    done = read(options.results, kind)
    for seed in options.seeds:
        for text in options.data:
            name, _, source = text.partition("=")
            for way in options.ways if seed % 2 == 0 else options.ways[::-1]:
                if (name, way, seed, options.minutes) in map(_key, done):
                    continue
                done.append(run(name, source, way, seed, options.minutes, options.results.parent.resolve()))
                with options.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(_values(done[-1])) + "\n")
    return [one for one in done if _key(one)[-1] == options.minutes]


def read(path: Path, kind: Callable[..., Outcome]) -> list[Outcome]:
    """Return the results that are kept in a file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [kind(**json.loads(line)) for line in lines]


def _values(outcome: Any) -> dict[str, Any]:
    return asdict(outcome)


def _key(outcome: Any) -> tuple[str, str, int, float]:
    return outcome.data, outcome.way, outcome.seed, outcome.minutes
