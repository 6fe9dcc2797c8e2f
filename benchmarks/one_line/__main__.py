"""`python -m benchmarks.one_line`: one line for images against a space written by hand, both in the same time.

For each data set and seed, two searches with a cache of their own: `tuner.search SOURCE --time MINUTESm`, and
`tuner.search FILE --time MINUTESm` with the file beside this module. Both hold out the same validation images. To
reach: a report and a model within the time, and a difference in validation accuracy of the exported model whose
interval (Student's t over seeds) lies above -3 points. Results are kept in `--results`, a line each; what is there is
not run again.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from benchmarks.in_turn import arguments_of, in_turn
from tuner.runs.record import read_state

HERE = Path(__file__).parent
WAYS = ("one line", "by hand")
LEAST = -0.03


@dataclass(frozen=True)
class Outcome:
    """What was seen of a search."""

    data: str
    way: str
    seed: int
    minutes: float
    total_s: float
    status: int
    val_accuracy: float | None
    """Of the model that was exported: of the finalist that won, or without one of the best trial."""
    best_trial: float | None
    """Validation accuracy of the best trial."""
    test_accuracy: float | None
    trials: int
    has_report: bool
    has_model: bool


def main(arguments: Sequence[str] | None = None) -> None:
    options = arguments_of("python -m benchmarks.one_line", __doc__ or "", 5.0, WAYS, arguments)
    print("\n".join(table(in_turn(options, run, Outcome))))


def run(name: str, source: str, way: str, seed: int, minutes: float, folder: Path) -> Outcome:
    """Return the outcome of one search, in a folder of its own, from nothing that was prepared."""
    place = folder / f"{name}-{way.replace(' ', '_')}-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    asked = [source] if way == WAYS[0] else [str(HERE / f"{name}.yaml"), "--data", f"{name}={source}"]
    places = [word for name in ("runs", "reports", "cache") for word in (f"--{name}", str(place / name))]
    # the prior that comes with tuner knows tasks of these data sets: both ways do without it
    settings = ["--time", f"{minutes:g}m", "--set", f"search.seed={seed}", "--set", "search.prior=none"]
    command = [sys.executable, "-m", "tuner.search", *asked, *settings, *places]
    began = time.perf_counter()
    with (place / "output.txt").open("w") as output:
        status = subprocess.run(command, cwd=place, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    total_s = time.perf_counter() - began
    shutil.rmtree(place / "cache", ignore_errors=True)
    found = next(iter(sorted((place / "runs").glob("*/record.jsonl"))), None)
    state = read_state(found) if found is not None else None
    best = state.best_trial() if state is not None else None
    tested = [one for one in state.finalists.values() if one.tested is not None] if state is not None else []
    exported = max(tested, key=lambda one: one.trained.best or 0.0, default=None)
    return Outcome(
        name, way, seed, minutes, round(total_s, 1), status,
        val_accuracy=exported.trained.best if exported else best.best if best is not None else None,
        best_trial=best.best if best is not None else None,
        test_accuracy=exported.tested.test_accuracy if exported is not None and exported.tested is not None else None,
        trials=len(state.trials) if state is not None else 0,
        has_report=any((place / "reports").glob("*/index.html")),
        has_model=found is not None and (found.parent / "best.keras").is_file(),
    )  # fmt: skip


def difference(outcomes: Sequence[Outcome], name: str) -> tuple[float, float, float, int] | None:
    """Return by how much one line is better, the ends of the 95% interval, and of how many seeds; None: of none."""
    by_way = {
        way: {one.seed: one.val_accuracy for one in outcomes if (one.data, one.way) == (name, way) and one.val_accuracy}
        for way in WAYS
    }
    seeds = sorted(by_way[WAYS[0]].keys() & by_way[WAYS[1]].keys())
    gains = [float(by_way[WAYS[0]][seed] or 0) - float(by_way[WAYS[1]][seed] or 0) for seed in seeds]
    if not gains:
        return None
    mean, number = sum(gains) / len(gains), len(gains)
    if number == 1:
        return mean, -math.inf, math.inf, 1
    low, high = stats.t.interval(0.95, number - 1, loc=mean, scale=stats.sem(gains) or 1e-12)
    return mean, float(low), float(high), number


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the outcomes in Markdown, and the differences."""
    lines = [
        "| data | seed | way | s of the time | trials | val. accuracy | best trial | test accuracy | report, model |",
        "|---|---:|---|---:|---:|---:|---:|---:|---|",
    ]
    for one in sorted(outcomes, key=lambda each: (each.data, each.seed, each.way)):
        values = [
            f"{value:.1%}" if value is not None else "-"
            for value in (one.val_accuracy, one.best_trial, one.test_accuracy)
        ]
        there = f"{'yes' if one.has_report else 'NO'}, {'yes' if one.has_model else 'NO'}"
        time_s = f"{one.total_s:.0f} of {60 * one.minutes:.0f}"
        lines.append(
            f"| {one.data} | {one.seed} | {one.way} | {time_s} | {one.trials} | {' | '.join(values)} | {there} |"
        )
    for name in sorted({one.data for one in outcomes}):
        found = difference(outcomes, name)
        if found is not None:
            mean, low, high, number = found
            verdict = "reached" if low > LEAST else "not shown"
            lines.append(
                f"\n{name}: one line {100 * mean:+.1f} points (95% interval {100 * low:+.1f} to {100 * high:+.1f}, "
                f"{number} seeds): above {100 * LEAST:.0f} points {verdict}"
            )
    return lines


if __name__ == "__main__":
    main()
