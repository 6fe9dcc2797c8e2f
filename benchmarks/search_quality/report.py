"""The tables and the picture of the benchmark. Pure, but for writing."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

RANDOM = "random"
"""The policy against which budget factors are counted."""
SHOWN = (0.1, 0.25, 0.5, 1.0)


class Row(NamedTuple):
    """The regret of one search after a share of its budget."""

    policy: str
    problem: str
    slots: int
    budget: float
    seed: int
    share: float
    regret: float
    trials: int


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """All rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Mean regret against the share of the budget, a panel for each suite, number of slots and budget."""
    groups = by_group(rows)
    figure = Figure(figsize=(7.5 * len(groups), 4.8), layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    for panel, ((suite, slots, budget), inside) in zip(panels, groups.items(), strict=True):
        for policy in sorted({row.policy for row in inside}):
            curve = mean_curve(inside, policy)
            panel.plot(list(curve), list(curve.values()), marker="o", markersize=3.5, label=policy)
        panel.set_title(f"{suite}, {slots} slots, {budget:g} full trainings", loc="left")
        panel.set_xlabel("share of the budget")
        panel.set_ylabel("mean regret (0: the best, 1: the median configuration)")
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter("{x:g}")
        panel.grid(visible=True, which="both", alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=110)


def by_group(rows: Sequence[Row]) -> dict[tuple[str, int, float], list[Row]]:
    """Rows by suite, number of slots and budget."""
    found: dict[tuple[str, int, float], list[Row]] = {}
    for row in rows:
        found.setdefault((row.problem.partition("-")[0], row.slots, row.budget), []).append(row)
    return found


def tables(rows: Sequence[Row]) -> str:
    """One Markdown table for each suite, number of slots and budget, the best policy first."""
    found = []
    for (suite, slots, budget), inside in by_group(rows).items():
        problems, seeds = len({row.problem for row in inside}), len({row.seed for row in inside})
        found.append(f"## {suite}: {problems} problems x {seeds} seeds, {slots} slots, {budget:g} full trainings\n")
        found.append(_table(inside))
    return "\n".join(found)


def _table(rows: Sequence[Row]) -> str:
    curves = {policy: mean_curve(rows, policy) for policy in dict.fromkeys(row.policy for row in rows)}
    ranks = mean_ranks(rows)
    lines = [
        f"| policy | {' | '.join(f'{share:.0%}' for share in SHOWN)} "
        "| median | 90th percentile | rank | budget factor |",
        f"|---|{'---:|' * (len(SHOWN) + 4)}",
    ]
    for policy in sorted(curves, key=lambda name: curves[name][1.0]):
        finals = [row.regret for row in rows if row.policy == policy and row.share == 1.0]
        means = " | ".join(f"{curves[policy][share]:.3f}" for share in SHOWN)
        factor = budget_factor(curves[policy], curves[RANDOM][1.0]) if RANDOM in curves else None
        words = "" if factor is None else f"{factor:.1f}"
        lines.append(
            f"| {policy} | {means} | {np.median(finals):.3f} | {np.percentile(finals, 90):.3f} "
            f"| {ranks[policy]:.1f} | {words} |"
        )
    return "\n".join(lines) + "\n"


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
