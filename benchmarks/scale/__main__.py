"""`python -m benchmarks.scale`: efficiency by slots, what a report costs the driver, 5,000 trials. See README.md."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scale import plot, report
from benchmarks.scale.suggestions import simulate_search

ROOT = Path(__file__).parents[2]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("what", nargs="+", choices=("efficiency", "reports", "suggestions", "search", "show"))
    add("--slots", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    add("--epoch-s", type=float, default=5.0, help="mean seconds of an epoch, for efficiency (default: 5)")
    add("--seconds", type=float, default=60.0, help="of each search (default: 60)")
    add("--rounds", type=int, default=3)
    add("--trials", type=int, default=5000, help="of the long search, simulated (suggestions) or on Ray (search)")
    add("--output", type=Path, default=Path("scale-results"))
    return parser


def measure(output: Path, kind: str, *more: object) -> None:
    """Run one search in a process of its own, and keep what it says."""
    command = [sys.executable, "-m", "benchmarks.scale.measure", *map(str, more)]
    said = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    row = {"kind": kind, **json.loads(said.splitlines()[-1])}
    with (output / "rows.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    shown = {name: value for name, value in row.items() if name != "suggestions"}
    print(json.dumps(shown), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    options = build_parser().parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    length = ("--seconds", options.seconds)
    for _ in range(options.rounds if "efficiency" in options.what else 0):
        for slots in options.slots:
            measure(options.output, "efficiency", "--slots", slots, "--epoch-s", options.epoch_s, *length)
    for _ in range(options.rounds if "reports" in options.what else 0):
        for scheduler in ("none", "asha"):
            many = ("--slots", 16, "--epoch-s", 0.01, "--sampler", "random", "--scheduler", scheduler)
            measure(options.output, "reports", *many, *length)
    if "search" in options.what:
        long = ("--slots", 16, "--epoch-s", 0.01, "--seconds", 0, "--trials", options.trials)
        measure(options.output, "search", *long)
    if "suggestions" in options.what:
        (options.output / "suggestions.json").write_text(json.dumps(simulate_search(options.trials, 16)))
    results = report.load(options.output)
    text = report.render(results)
    (options.output / "scale.md").write_text(text)
    print(text)
    plot.save(results, options.output / "scale.png")


if __name__ == "__main__":
    main()
