"""`python -m benchmarks.expected_gain`: whether the gain that a search is expected to make is the one that comes.

Searches in simulated time, as in `benchmarks.search_quality`, are asked after shares of their budget what the next
seconds will gain. Said is: how often the gain was inside the 80% interval (a gain of nothing is inside if the interval
begins at 0), and the mean gains, as shares of the range between the median random configuration and the best one. `of
that real` is the gain without the noise of what was seen. And where searches would have ended by
`search.stop_when`, with a tenth of the budget for `within`.

`--suite choosing` has the problems that the constants in `tuner.runs.expected_gain` were chosen on; `--fit` fits
them anew. `--suite judging` has those that nothing was chosen on. TUNER_LCBENCH must name lcbench_tables.npz.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import groupby
from typing import NamedTuple

import numpy as np

from benchmarks.search_quality.policies import POLICIES, quiet
from benchmarks.search_quality.problems import Problem, lcbench
from benchmarks.search_quality.simulator import Policy, Search, simulate
from benchmarks.search_quality.synthetic import HELD_OUT, Synthetic
from tuner.common.errors import InputError
from tuner.runs import expected_gain as forecast
from tuner.runs.epoch import Epoch
from tuner.runs.expected_gain import ExpectedGain, Signs, expected_gain, is_gain_below, signs_of
from tuner.runs.state import RunState, TrialState
from tuner.spec.space import Configuration

ASKED_POLICIES = (
    "gp + asha(1,3)", "gp per second + asha(1,3)", "random + asha(1,3)", "tpe + asha_stopping(1,4)", "random",
)  # fmt: skip
SHARES, RATIOS = (0.1, 0.25, 0.5), (0.1, 0.25, 0.5, 1.0, 3.0)
"""Of the budget: when is asked. Of the time so far: for how long."""
NOISES = (0.01, 0.05)
LCBENCH_CHOOSING = 3
"""The first tasks of LCBench, by number; the others are judged on."""
WITHIN, STEP = 0.1, 0.02
"""Of the budget: `within` of the end, and the time between two looks at it."""
BELOW = (0.005, 0.02)
"""Of the range: `expected_gain_below`."""


class Wanted(NamedTuple):
    """A search to be simulated."""

    family: str
    number: int
    noise: float
    policy: str
    slots: int
    seed: int
    budget: float


class Row(NamedTuple):
    """One forecast, and what came; gains as shares of the range."""

    wanted: Wanted
    share: float
    ratio: float
    signs: Signs
    gain: ExpectedGain
    came: float
    real: float

    @property
    def is_held(self) -> bool:
        """Whether the gain is inside the interval."""
        return self.gain.low - 1e-12 <= self.came <= self.gain.high + 1e-12


class Stop(NamedTuple):
    """A search that `search.stop_when` would have ended."""

    below: float
    share: float
    within: float
    """Gained in the time for which the end was forecast."""
    rest: float
    """Gained until the budget was spent."""


class Came(NamedTuple):
    """What came of a search."""

    rows: list[Row]
    stops: list[Stop]


class Watching:
    """A policy whose epochs are kept, with the moment at which each ended."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._now_s = policy, 0.0
        self._clocks: dict[int, float] = {}
        self.began_s: dict[int, float] = {}
        self.epochs: dict[int, list[Epoch]] = {}

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """See Policy."""
        job = self._policy.next_job()
        if isinstance(job, tuple):
            self._clocks[job[0]] = self._now_s
            self.began_s.setdefault(job[0], self._now_s)
        return job

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
        """See Policy."""
        self._now_s = self._clocks[number] = self._clocks[number] + seconds
        self.epochs.setdefault(number, []).append(Epoch(epoch, "scratch", seconds, 0.0, best, {}, self._now_s))
        return self._policy.report(number, epoch, value, best, seconds, is_last)

    def state_at(self, moment_s: float) -> RunState:
        """The state of the study at a moment."""
        state = RunState(elapsed_s=moment_s)
        for number, began_s in self.began_s.items():
            if began_s <= moment_s:
                epochs = [epoch for epoch in self.epochs.get(number, ()) if epoch.elapsed_s <= moment_s]
                state.trials[number] = TrialState(number, {}, "sampler", began_s, epochs=epochs)
        return state


def best_value(state: RunState) -> float:
    """The best value that was seen."""
    best = state.best_trial()
    return -np.inf if best is None or best.best is None else best.best


def problem_of(wanted: Wanted) -> Problem:
    """A synthetic problem, or a task of LCBench."""
    if wanted.family != "lcbench":
        return Synthetic(wanted.number, wanted.noise)
    tables = lcbench(wanted.noise)
    if isinstance(tables, str):
        raise InputError(tables)
    return tables[wanted.number]


def run(wanted: Wanted) -> Came:
    """Search, and ask."""
    quiet()
    problem = problem_of(wanted)
    watching = Watching(POLICIES[wanted.policy](problem, wanted.slots, wanted.seed))
    total_s = wanted.budget * problem.full_training_s / wanted.slots
    search = simulate(problem, watching, wanted.slots, total_s, wanted.seed)
    span = problem.best - problem.reference
    return Came(
        list(forecasts(wanted, watching, search, total_s, span)),
        [stop for below in BELOW for stop in [stopped(watching, total_s, span, below)] if stop is not None],
    )


def forecasts(wanted: Wanted, watching: Watching, search: Search, total_s: float, span: float) -> Iterator[Row]:
    """What is expected at each share for each time, where that is known, and what came."""
    for share in SHARES:
        now_s = share * total_s
        state = watching.state_at(now_s)
        signs = signs_of(state)
        for ratio in RATIOS:
            later_s = now_s * (1 + ratio)
            gain = expected_gain(state, ratio * now_s)
            if later_s > 1.001 * total_s or signs is None or gain is None:
                continue
            came = best_value(watching.state_at(later_s)) - best_value(state)
            real = search.best_at(later_s) - search.best_at(now_s)
            scaled = Signs(signs.ran_s / total_s, *(value / span for value in signs[1:]))
            yield Row(
                wanted, share, ratio, scaled, ExpectedGain(*(value / span for value in gain)), came / span, real / span
            )


def stopped(watching: Watching, total_s: float, span: float, below: float) -> Stop | None:
    """Where a search would have ended; None: it goes on to the end of its budget."""
    for share in np.arange(WITHIN, 1 - WITHIN, STEP):
        state = watching.state_at(share * total_s)
        if is_gain_below(state, below * span, WITHIN * total_s):
            best = best_value(state)
            within, rest = (best_value(watching.state_at(end * total_s)) - best for end in (share + WITHIN, 1.0))
            return Stop(below, float(share), within / span, rest / span)
    return None


def searches(suite: str, policies: Sequence[str], seeds: int, budget: float) -> list[Wanted]:
    """The searches of a suite; synthetic problems have less or more noise, and 2 or 4 slots, by their numbers."""
    tasks = range(LCBENCH_CHOOSING) if suite == "choosing" else range(LCBENCH_CHOOSING, 9)
    name, numbers = ("synthetic", range(12)) if suite == "choosing" else ("held_out", HELD_OUT)
    return [
        Wanted(*one, policy, slots, seed, budget)
        for seed in range(seeds)
        for *one, slots in (
            *(("lcbench", task, 0.0, 4) for task in tasks),
            *((name, number, NOISES[number // 2 % 2], 2 + number % 2 * 2) for number in numbers),
        )
        for policy in policies
    ]


def table(rows: Sequence[Row]) -> list[str]:
    """Lines of a table by what rows have in common."""
    groups: dict[str, Callable[[Row], str]] = {
        "all": lambda row: "",
        "family": lambda row: row.wanted.family,
        "noise": lambda row: f"{row.wanted.noise:g}",
        "policy": lambda row: row.wanted.policy,
        "after": lambda row: f"{row.share:g} of the budget",
        "for": lambda row: f"{row.ratio:g} of the time so far",
    }
    lines = ["| | forecasts | inside | above | below | expected | came | of that real | width |", "|---|" + "---:|" * 8]
    for name, key in groups.items():
        for value, found in groupby(sorted(rows, key=key), key):
            lines.append(f"| {name}{' ' if value else ''}{value} | {_line(list(found))} |")
    return lines


def _line(rows: Sequence[Row]) -> str:
    mean, low, high = np.array([row.gain for row in rows]).T
    came, real = np.array([(row.came, row.real) for row in rows]).T
    held = np.mean([row.is_held for row in rows])
    above, below = np.mean(came > high + 1e-12), np.mean(came < low - 1e-12)
    return (
        f"{len(rows):,} | {held:.0%} | {above:.0%} | {below:.0%} | {mean.mean():.4f} | {came.mean():.4f} "
        f"| {real.mean():.4f} | {(high - low).mean():.4f}"
    )


def stop_table(stops: Sequence[Stop], number: int) -> list[str]:
    """Lines of a table of what `search.stop_when` would have done."""
    lines = ["| expected_gain_below | ended | after, mean | gained within, mean | gained until the end, mean |"]
    lines.append("|---|" + "---:|" * 4)
    for below in BELOW:
        found = np.array([stop[1:] for stop in stops if stop.below == below]).reshape(-1, 3)
        means = " | ".join(f"{value:.4f}" for value in found.mean(axis=0)) if len(found) else " | | "
        lines.append(f"| {below:g} of the range | {len(found)} of {number} | {means} |")
    return lines


def fit(rows: Sequence[Row]) -> dict[str, float]:
    """The constants under which what came is likeliest; that of the mean: with which it is as large as what came."""
    from scipy.optimize import minimize

    names = ("RATE", "RATE_POWER", "SCALE_POWER", "LATELY", "APART")
    signs = np.array([row.signs[1:3] for row in rows])
    came, ratio = np.array([(row.came, row.ratio) for row in rows]).T

    def parts(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rate, rate_power, scale_power, *weights = np.exp(logs)
        return rate * ratio**rate_power, (signs @ np.array(weights)) * ratio**scale_power + 1e-4

    def surprise(logs: np.ndarray) -> float:
        rate, scale = parts(logs)
        odds = rate * np.exp(-np.clip(came / scale, 0, 600))
        some = np.log(odds + 1e-300) - 2 * np.log1p(odds) - np.log(scale)
        return -float(np.where(came <= 1e-12, -np.log1p(odds), some).mean())

    begin = np.log([getattr(forecast, name) for name in names])
    found = minimize(surprise, begin, method="Nelder-Mead", options={"maxiter": 4000, "xatol": 1e-3, "fatol": 1e-6}).x
    rate, scale = parts(found)
    shorter = came.mean() / (scale * np.log1p(rate)).mean()
    return {**dict(zip(names, np.exp(found), strict=True)), "SHORTER": shorter}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.expected_gain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--suite", choices=("choosing", "judging"), default="judging")
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(ASKED_POLICIES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--budget", type=float, default=20, help="full trainings (default: 20)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fit", action="store_true", help="say which constants fit these searches best")
    options = parser.parse_args()
    wanted, came = searches(options.suite, options.policies, options.seeds, options.budget), list[Came]()
    with ProcessPoolExecutor(options.processes) as pool:
        for one in pool.map(run, wanted):
            came.append(one)
            print(f"{len(came)} of {len(wanted)} searches", file=sys.stderr, flush=True)
    rows = [row for one in came for row in one.rows]
    print("\n".join(table(rows)), "", *stop_table([stop for one in came for stop in one.stops], len(wanted)), sep="\n")
    if options.fit:
        print("", ", ".join(f"{name} {value:.3f}" for name, value in fit(rows).items()), sep="\n")


if __name__ == "__main__":
    main()
