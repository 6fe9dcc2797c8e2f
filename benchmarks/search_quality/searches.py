"""Which searches are to be simulated, and one of them simulated: each is independent of all others."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.images.problems import image_problems
from benchmarks.search_quality.peer_process import PeerPolicy
from benchmarks.search_quality.policies import OF_SUITE, POLICIES, SERIES, quiet
from benchmarks.search_quality.problems import Problem, lcbench
from benchmarks.search_quality.rows import SHARES, Found, Row
from benchmarks.search_quality.simulator import Policy, Search, simulate
from benchmarks.search_quality.synthetic import HELD_OUT, PROBLEMS, Synthetic
from tuner.common.errors import InputError

SUITES = ("lcbench", "synthetic", "held_out", "images_choosing", "images_judging")


class Wanted(NamedTuple):
    """A search that is simulated once, to its largest budget, and read off at all of them."""

    seed: int
    problem: str
    slots: int
    policy: str
    noise: float
    budgets: tuple[float, ...]


def wanted(
    policies: Sequence[str],
    problems: Sequence[str],
    slots: Sequence[int],
    budgets: Sequence[float],
    seeds: int,
    noise: float,
    done: Collection[Found],
) -> list[Wanted]:
    """The searches of which a budget is missing in `done`, by seed and problem: what ends early can be compared."""
    searches = [
        Wanted(seed, problem, number, policy, noise, missing)
        for seed in range(seeds)
        for number in slots
        for problem in problems
        for policy in policies
        for missing in [tuple(one for one in budgets if Found(policy, problem, number, one, seed, noise) not in done)]
    ]
    return [search for search in searches if search.budgets and can(search.policy, search.problem)]


def can(policy: str, problem: str) -> bool:
    """Whether a problem has what a policy needs."""
    return problem.startswith(OF_SUITE.get(policy, ""))


def suite(name: str, noise: float) -> list[Problem] | str:
    """The problems of a suite; a reason where they are not at hand."""
    if name == "synthetic":
        return [Synthetic(number) for number in range(PROBLEMS)]
    if name == "held_out":
        return [Synthetic(number) for number in HELD_OUT]
    split = name.removeprefix("images_")
    tables = lcbench(noise) if split == name else image_problems(split, noise)
    return tables if isinstance(tables, str) else list(tables)


_PROBLEMS: dict[tuple[str, float], Problem] = {}
"""Of this process: tables are read once."""


def problem_of(one: Wanted) -> Problem:
    """The problem of a search; raises InputError where its suite is not at hand."""
    if (one.problem, one.noise) not in _PROBLEMS:
        problems = suite(one.problem.partition("-")[0], one.noise)
        if isinstance(problems, str):
            raise InputError(problems)
        _PROBLEMS.update({(each.name, one.noise): each for each in problems})
    return _PROBLEMS[one.problem, one.noise]


class Came(NamedTuple):
    """What came of a search."""

    wanted: Wanted
    rows: list[Row]
    seconds: float
    """Real ones, that it took."""


def search(one: Wanted) -> Came:
    """A search simulated; of each budget by itself where the policy knows it."""
    start, policy = time.monotonic(), policy_of(one)
    if getattr(policy, "clock", None) is not None and len(one.budgets) > 1:
        each = [search(one._replace(budgets=(budget,))) for budget in one.budgets]
        return Came(one, [row for came in each for row in came.rows], time.monotonic() - start)
    came, problem = simulated(one, policy), problem_of(one)
    rows = [row for budget in one.budgets for row in read_off(came, one, problem, budget)]
    return Came(one, rows, time.monotonic() - start)


def policy_of(one: Wanted) -> Policy:
    """The policy of a search, made anew."""
    quiet()
    return {**POLICIES, **SERIES}[one.policy](problem_of(one), one.slots, one.seed)


def simulated(one: Wanted, policy: Policy) -> Search:
    """What comes of a search with its policy until the end of the largest budget."""
    problem = problem_of(one)
    seconds = max(one.budgets) * problem.full_training_s / one.slots
    with contextlib.ExitStack() as stack:
        if hasattr(policy, "close"):
            stack.callback(policy.close)
        cpu_s = policy.cpu_s if isinstance(policy, PeerPolicy) else time.process_time
        return simulate(problem, policy, one.slots, seconds, one.seed, cpu_s)


def read_off(came: Search, one: Wanted, problem: Problem, budget: float) -> list[Row]:
    """The rows of a search as if it had ended with a budget: before its first epoch, the regret is 1."""
    seconds = budget * problem.full_training_s / one.slots
    span = problem.best - problem.reference
    return [
        Row(
            one.policy, one.problem, one.slots, budget, one.seed, share,
            1.0 if np.isnan(best) else min(1.0, (problem.best - best) / span),
            came.trials_at(seconds), one.noise, round(came.suggestion_ms_at(seconds), 3),
        )
        for share in SHARES
        for best in [came.best_at(share * seconds)]
    ]  # fmt: skip


class Progress:
    """How far a run is, and about how long it still takes: for each search left, what its policy took so far."""

    def __init__(self, searches: Sequence[Wanted], processes: int) -> None:
        self._left = dict.fromkeys(searches)
        self._all, self._processes = len(searches), processes
        self._taken: dict[str, list[float]] = {}

    def finished(self, one: Wanted, seconds: float) -> str:
        """A line of progress after a search."""
        del self._left[one]
        self._taken.setdefault(one.policy, []).append(seconds)
        return f"{self._all - len(self._left):,} of {self._all:,} searches, about {self.left_s() / 60:,.0f} min left"

    def left_s(self) -> float:
        """Real seconds until the end; a policy that has not finished any search counts as the mean of the others."""
        means = {policy: float(np.mean(taken)) for policy, taken in self._taken.items()}
        other = float(np.mean(list(means.values()))) if means else float("nan")
        return sum(means.get(one.policy, other) for one in self._left) / self._processes
