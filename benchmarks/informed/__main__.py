"""`python -m benchmarks.informed`: a search that begins with prior and probes, beside one that begins with nothing.

For each data set and seed, searches of `--minutes` with a cache of their own, in turn: `informed` has
`search.prior: shipped`, less the studies of the same base set, and `search.probe: true`; `prior` has the former alone,
as is the default below ten minutes; `plain` has neither. All hold out the same validation images. `hands` and `flowers`
choose between two networks; `hands_six` and `flowers_six` are of the same images, in the space of six networks in which
the tables of `benchmarks.images` were measured. To reach: another way than `plain` has the plain one's last value after
at most half of the plain one's time to it, in the median. Results are kept in `--results`, a line each; what is there
is not run again.
"""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from matplotlib.figure import Figure

from benchmarks.in_turn import arguments_of, in_turn
from tuner.runs.record import read_state
from tuner.runs.state import RunState

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent
WAYS = {
    "plain": ("search.prior=none", "search.probe=false"),
    "informed": ("search.prior=shipped", "search.probe=true"),
    "prior": ("search.prior=shipped", "search.probe=false"),
}
COLOURS = {"plain": "#d55e00", "informed": "#0072b2", "prior": "#009e73"}
REACH = 0.5


@dataclass(frozen=True)
class Outcome:
    """What was seen of a search."""

    data: str
    way: str
    seed: int
    minutes: float
    status: int
    trials: int
    curve: list[tuple[float, float]]
    """(seconds since launch, best validation accuracy so far), at each improvement."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = arguments_of("python -m benchmarks.informed", __doc__ or "", 4.0, list(WAYS), arguments)
    shown = in_turn(options, run, Outcome)
    print("\n".join(table(shown)))
    draw(shown, options.results.with_suffix(".png"))


def run(name: str, source: str, way: str, seed: int, minutes: float, folder: Path) -> Outcome:
    """Return the outcome of one search, in a folder of its own, from nothing that was prepared."""
    place = folder / f"{name}-{way}-{seed}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    places = [word for kind in ("runs", "reports", "cache") for word in (f"--{kind}", str(place / kind))]
    settings = [word for one in (*WAYS[way], f"search.seed={seed}") for word in ("--set", one)]
    asked = [str(HERE / f"{name}.yaml"), "--data", f"{name}={source}", "--time", f"{minutes:g}m"]
    asked += [word for path in plugins(name) for word in ("--plugin", str(path))]
    base = name.partition("_")[0]
    command = [sys.executable, "-m", "benchmarks.informed.without_base", base, *asked, *settings, *places]
    with (place / "output.txt").open("w") as output:
        status = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
    shutil.rmtree(place / "cache", ignore_errors=True)
    found = next(iter(sorted((place / "runs").glob("*/record.jsonl"))), None)
    if found is None:
        raise SystemExit(f"{place / 'output.txt'}: the search did not begin")
    state = read_state(found)
    return Outcome(name, way, seed, minutes, status, len(state.trials), curve(state))


def plugins(name: str) -> list[Path]:
    """Return the files of own code that the space of a data set needs."""
    return [ROOT / "benchmarks" / "images" / "small_networks.py"] if name.endswith("_six") else []


def curve(state: RunState) -> list[tuple[float, float]]:
    """Return (seconds, best value so far) at each improvement of a search."""
    epochs = sorted((one.elapsed_s, one.best_so_far) for trial in state.trials.values() for one in trial.epochs)
    found: list[tuple[float, float]] = []
    for elapsed_s, value in epochs:
        if not found or value > found[-1][1]:
            found.append((round(elapsed_s, 1), value))
    return found


def reached_after(points: Sequence[tuple[float, float]], value: float) -> float:
    """Return the seconds after which a curve is at a value; infinite where it never is.

    >>> reached_after([(10.0, 0.5), (20.0, 0.7)], 0.6), reached_after([(10.0, 0.5)], 0.6)
    (20.0, inf)
    """
    return next((seconds for seconds, best in points if best >= value), math.inf)


def shares(outcomes: Sequence[Outcome], name: str, way: str) -> dict[int, float]:
    """Return by seed another way's share of the time that the plain search took to its last value."""
    by_way = {way: {one.seed: one for one in outcomes if (one.data, one.way) == (name, way)} for way in WAYS}
    found = {}
    for seed in sorted(by_way["plain"].keys() & by_way[way].keys()):
        plain = by_way["plain"][seed].curve
        if plain:
            last_s, last = plain[-1]
            found[seed] = reached_after(by_way[way][seed].curve, last) / last_s
    return found


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the outcomes in Markdown, and whether the aim is reached."""
    lines = [
        "| data | seed | way | trials | first epoch | last improvement | best |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for one in sorted(outcomes, key=lambda each: (each.data, each.seed, each.way)):
        ends = (
            f"{one.curve[0][0]:.0f} s | {one.curve[-1][0]:.0f} s | {one.curve[-1][1]:.1%}" if one.curve else "- | - | -"
        )
        lines.append(f"| {one.data} | {one.seed} | {one.way} | {one.trials} | {ends} |")
    others = [way for way in WAYS if way != "plain"]
    for name, way in itertools.product(sorted({one.data for one in outcomes}), others):
        if found := shares(outcomes, name, way):
            middle = median(found.values())
            verdict = "reached" if middle <= REACH else "not reached"
            each = ", ".join(f"{share:.2f}" for share in found.values())
            lines.append(
                f"\n{name}, {way}: the plain search's last value after {middle:.2f} of its time to it (median of "
                f"{len(found)}: {each}); at most {REACH} asked for: {verdict}"
            )
    return lines


def draw(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw the best value so far against time: each seed thin, the median of each way thick."""
    names = sorted({one.data for one in outcomes})
    figure = Figure(figsize=(6 * len(names), 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for way, colour in COLOURS.items():
            those = [one for one in outcomes if (one.data, one.way) == (name, way) and one.curve]
            if not those:
                continue
            seconds = np.linspace(0, 60 * those[0].minutes, 400)
            steps = np.array([_steps(one.curve, seconds) for one in those])
            for line in steps:
                axes.plot(seconds, line, color=colour, linewidth=0.6, alpha=0.5)
            axes.plot(seconds, np.median(np.nan_to_num(steps), axis=0), color=colour, linewidth=2.4, label=way)
        axes.set(title=f"{name}, {len(those)} seeds", xlabel="seconds since launch", ylabel="best validation accuracy")
        axes.legend(loc="lower right")
    figure.savefig(path, dpi=100)


def _steps(points: Sequence[tuple[float, float]], seconds: np.ndarray) -> np.ndarray:
    """Return the best value at each time, float; NaN before the first epoch."""
    times, values = np.array(points).T
    found = np.searchsorted(times, seconds, side="right") - 1
    return np.where(found >= 0, values[found], np.nan)


if __name__ == "__main__":
    main()
