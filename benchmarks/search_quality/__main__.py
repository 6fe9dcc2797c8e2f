"""`python -m benchmarks.search_quality`: which policy finds how much with a budget, in simulated time.

Every policy searches every problem with every seed; a budget is a number of full trainings of a random configuration,
and all policies have the same simulated seconds. Regret: (best - found) / (best - median random configuration). The
product's own sampler, searcher and scheduler are driven, in the order in which Ray calls them. TUNER_LCBENCH must name
lcbench_tables.npz; without it only the synthetic problems are searched.
"""

from __future__ import annotations

import argparse
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.search_quality.policies import POLICIES, quiet
from benchmarks.search_quality.problems import Problem, lcbench
from benchmarks.search_quality.report import Row, draw, tables, write_rows
from benchmarks.search_quality.simulator import simulate
from benchmarks.search_quality.synthetic import PROBLEMS, Synthetic
from benchmarks.search_quality.warm import warm_started

ALL = {**POLICIES, "gp + asha(1,3), warm start": warm_started}
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--policies", nargs="+", choices=list(ALL), default=list(ALL), metavar="NAME")
    parser.add_argument("--suites", nargs="+", choices=("lcbench", "synthetic"), default=["lcbench", "synthetic"])
    parser.add_argument("--budgets", nargs="+", type=float, default=[20], help="full trainings (default: 20)")
    parser.add_argument("--slots", nargs="+", type=int, default=[4])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.0, help="added to LCBench, as a share of the range")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, help="folder for rows.csv, search_quality.md and search_quality.png")
    options = parser.parse_args()
    names = [problem.name for suite in options.suites for problem in _suite(suite, options.noise)]
    jobs = [
        (policy, name, slots, budget, seed, options.noise)
        for budget in options.budgets
        for slots in options.slots
        for policy in options.policies
        for name in names
        for seed in range(options.seeds)
    ]
    rows: list[Row] = []
    with ProcessPoolExecutor(options.processes) as pool:
        for done, found in enumerate(pool.map(_search, *zip(*jobs, strict=True)), start=1):
            rows += found
            if done % max(1, len(jobs) // 20) == 0:
                print(f"{done:,} of {len(jobs):,} searches", file=sys.stderr, flush=True)
    text = tables(rows)
    print(text)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        write_rows(rows, options.output / "rows.csv")
        (options.output / "search_quality.md").write_text(text, encoding="utf-8")
        draw(rows, options.output / "search_quality.png")


def _suite(suite: str, noise: float) -> list[Problem]:
    if suite == "synthetic":
        return [Synthetic(number) for number in range(PROBLEMS)]
    found = lcbench(noise)
    if isinstance(found, str):
        print(f"lcbench is left out: {found}", file=sys.stderr)
        return []
    return list(found)


_PROBLEMS: dict[tuple[str, float], Problem] = {}
"""Of this process: tables are read once."""


def _search(policy: str, name: str, slots: int, budget: float, seed: int, noise: float) -> list[Row]:
    quiet()
    if (name, noise) not in _PROBLEMS:
        suite = name.partition("-")[0]
        _PROBLEMS.update({(one.name, noise): one for one in _suite(suite, noise)})
    problem = _PROBLEMS[name, noise]
    seconds = budget * problem.full_training_s / slots
    search = simulate(problem, ALL[policy](problem, slots, seed), slots, seconds, seed)
    span = problem.best - problem.reference
    return [
        Row(
            policy, name, slots, budget, seed, share,
            min(1.0, (problem.best - (problem.reference if best != best else best)) / span),  # no epoch yet: NaN
            search.trials,
        )
        for share in SHARES
        for best in [search.best_at(share * seconds)]
    ]  # fmt: skip


if __name__ == "__main__":
    main()
