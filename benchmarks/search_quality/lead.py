"""`python -m benchmarks.search_quality.lead`: how much sooner one policy has the best that another one finds.

Of each problem and seed, both policies search in simulated time. The share: the first one's time until it is as good as
the other one becomes, over the other one's time to it; infinite where it never is. What is found counts without its
noise. With `--seeds 5 --budgets 4 8 --slots 2` this is what searches of some minutes on two cores would be, without the
time that they take to start.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from statistics import median

from benchmarks.search_quality.policies import POLICIES, SERIES
from benchmarks.search_quality.searches import SUITES, Wanted, can, policy_of, simulated, suite
from benchmarks.search_quality.simulator import Search


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    names = []
    for name in options.suites:
        problems = suite(name, 0.0)
        if isinstance(problems, str):
            print(f"{name} is left out: {problems}", file=sys.stderr)
            continue
        names += [one.name for one in problems if can(options.policy, one.name) and can(options.than, one.name)]
    with ProcessPoolExecutor(options.processes) as pool:
        for slots, budget in product(options.slots, options.budgets):
            pairs = [
                (
                    Wanted(seed, name, slots, options.policy, 0.0, (budget,)),
                    Wanted(seed, name, slots, options.than, 0.0, (budget,)),
                )
                for name, seed in product(names, range(options.seeds))
            ]
            found = zip(pairs, pool.map(lead, pairs), strict=True)
            print(f"\n{slots} slots, {budget:g} full trainings\n")
            print("\n".join(table([(pair[0].problem, share) for pair, share in found])), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_quality.lead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    policies, add = [*POLICIES, *SERIES], parser.add_argument
    add("--policy", choices=policies, default="gp per second + asha, prior, budget known", metavar="NAME")
    add("--than", choices=policies, default="gp per second + asha(1,2)", metavar="NAME")
    add("--suites", nargs="+", choices=SUITES, default=["images_choosing", "images_judging"])
    add("--budgets", nargs="+", type=float, default=[4, 8], help="full trainings")
    add("--slots", nargs="+", type=int, default=[2])
    add("--seeds", type=int, default=5)
    add("--processes", type=int, default=os.cpu_count() or 1)
    return parser


def lead(pair: tuple[Wanted, Wanted]) -> float:
    """The share of the second search's time to its best after which the first one is as good."""
    first, second = (simulated(one, policy_of(one)) for one in pair)
    return share_of_time(first, second)


def share_of_time(search: Search, other: Search) -> float:
    """The time until a search is as good as another one becomes, over the other one's time to it.

    >>> from benchmarks.search_quality.simulator import Step
    >>> slow = Search([Step(10.0, 1, 0.5), Step(40.0, 4, 0.8)])
    >>> share_of_time(Search([Step(10.0, 1, 0.9)]), slow), share_of_time(Search([Step(5.0, 1, 0.7)]), slow)
    (0.25, inf)
    """
    last = max((step.best for step in other.steps), default=math.inf)
    until, others = (
        next((step.seconds for step in one.steps if step.best >= last), math.inf) for one in (search, other)
    )
    return until / others if math.isfinite(until) else math.inf


def table(shares: Sequence[tuple[str, float]]) -> Iterator[str]:
    """The median of the shares, (problem, share) each, over all problems and by suite and base set, in Markdown."""
    yield "| problems | searches | share of the other one's time, median | never |"
    yield "|---|---:|---:|---:|"
    bases = ["-".join(name.split("-")[:2]) for name, _ in shares]
    for base in ["all", *sorted(set(bases))]:
        found = [share for own, (_, share) in zip(bases, shares, strict=True) if base in ("all", own)]
        yield f"| {base} | {len(found)} | {median(found):.2f} | {sum(map(math.isinf, found))} |"


if __name__ == "__main__":
    main()
