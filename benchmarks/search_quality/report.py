"""The tables of the benchmark. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.search_quality.rows import Row

REFERENCES = {"random": "vs random", "Ray: OptunaSearch + ASHA(1,4)": "vs Ray"}
"""The policies against which budget factors are counted, and the heads of their columns."""
SHOWN = (0.1, 0.25, 0.5, 1.0)


class Group(NamedTuple):
    """What one table is about."""

    suite: str
    noise: float
    slots: int
    budget: float

    def title(self) -> str:
        """In words, without the budget."""
        return f"{self.suite}{f' with {self.noise:.0%} noise' if self.noise else ''}, {self.slots} slots"


def by_group(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    """Rows by suite, noise, number of slots and budget, in this order."""
    groups: dict[Group, list[Row]] = {}
    for row in rows:
        groups.setdefault(Group(row.problem.partition("-")[0], row.noise, row.slots, row.budget), []).append(row)
    return dict(sorted(groups.items()))


def shared(rows: Sequence[Row]) -> list[Row]:
    """Of one group, the rows of those problems and seeds that every policy has searched; all rows where there are none.

    Only these can be compared: a policy that has finished the easy problems would look good.
    """
    searched: dict[str, set[tuple[str, int]]] = {}
    for row in rows:
        searched.setdefault(row.policy, set()).add((row.problem, row.seed))
    common = set.intersection(*searched.values())
    return [row for row in rows if (row.problem, row.seed) in common] if common else list(rows)


def tables(rows: Sequence[Row]) -> str:
    """One Markdown table for each suite, number of slots and budget, the best policy first."""
    found = []
    for group, inside in by_group(rows).items():
        kept = shared(inside)
        problems, seeds = len({row.problem for row in kept}), len({row.seed for row in kept})
        found.append(
            f"## {group.title()}: {problems} problems x {seeds} seeds, {group.budget:g} full trainings\n\n"
            f"{_note(inside, kept)}{_table(kept)}"
        )
    return "\n".join(found)


def _note(rows: Sequence[Row], kept: Sequence[Row]) -> str:
    apart = sum(row.share == 1.0 for row in rows) - sum(row.share == 1.0 for row in kept)
    if len(_searches(kept)) > 1:
        return "No problem and seed have been searched by all policies: these rows cannot be compared.\n\n"
    return f"Not counted: {apart} searches of problems and seeds that not all policies have.\n\n" if apart else ""


def _searches(rows: Sequence[Row]) -> set[frozenset[tuple[str, int]]]:
    """The different sets of problems and seeds that policies have."""
    policies = {row.policy for row in rows}
    return {frozenset((row.problem, row.seed) for row in rows if row.policy == policy) for policy in policies}


def _table(rows: Sequence[Row]) -> str:
    curves = {policy: mean_curve(rows, policy) for policy in dict.fromkeys(row.policy for row in rows)}
    ranks = mean_ranks(rows)
    lines = [
        f"| policy | {' | '.join(f'{share:.0%}' for share in SHOWN)} | median | 90th percentile | rank "
        f"| {' | '.join(REFERENCES.values())} | trials | ms |",
        f"|---|{'---:|' * (len(SHOWN) + len(REFERENCES) + 5)}",
    ]
    for policy in sorted(curves, key=lambda name: curves[name][1.0]):
        ends = [row for row in rows if row.policy == policy and row.share == 1.0]
        finals = [row.regret for row in ends]
        cells = [
            *(f"{curves[policy][share]:.3f}" for share in SHOWN),
            f"{np.median(finals):.3f}",
            f"{np.percentile(finals, 90):.3f}",
            f"{ranks[policy]:.1f}",
            *(_factor(curves, policy, reference) for reference in REFERENCES),
            f"{np.mean([row.trials for row in ends]):.0f}",
            f"{np.mean([row.suggestion_ms for row in ends]):.1f}",
        ]
        lines.append(f"| {policy} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _factor(curves: dict[str, dict[float, float]], policy: str, reference: str) -> str:
    if reference not in curves:
        return ""
    factor = budget_factor(curves[policy], curves[reference][1.0])
    return "< 1" if factor is None else f"{factor:.1f}"


def mean_curve(rows: Sequence[Row], policy: str) -> dict[float, float]:
    """Mean regret over problems and seeds by share of the budget."""
    by_share: dict[float, list[float]] = {}
    for row in rows:
        if row.policy == policy:
            by_share.setdefault(row.share, []).append(row.regret)
    return {share: float(np.mean(found)) for share, found in sorted(by_share.items())}


def mean_ranks(rows: Sequence[Row]) -> dict[str, float]:
    """The mean rank (1 is the best, equals share theirs) of each policy over searches of one problem and seed."""
    searches: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        if row.share == 1.0:
            searches.setdefault((row.problem, row.seed), {})[row.policy] = row.regret
    ranks: dict[str, list[float]] = {}
    for regrets in searches.values():
        for policy, own in regrets.items():
            better = sum(regret < own for regret in regrets.values())
            equal = sum(regret == own for regret in regrets.values())
            ranks.setdefault(policy, []).append(better + (equal + 1) / 2)
    return {policy: float(np.mean(found)) for policy, found in ranks.items()}


def budget_factor(curve: dict[float, float], target: float) -> float | None:
    """How many times less budget a policy needs for the regret `target`, linear between shares; None: never reached.

    >>> budget_factor({0.1: 0.5, 0.2: 0.3, 1.0: 0.1}, 0.4)
    6.666666666666666
    """
    previous = None
    for share, regret in curve.items():
        if regret <= target:
            if previous is None:
                return 1 / share
            before, above = previous
            return 1 / (before + (share - before) * (above - target) / (above - regret))
        previous = share, regret
    return None
