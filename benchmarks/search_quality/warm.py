"""A policy that begins with earlier studies: searches of all other problems of its suite, by the product itself.

The problem that is searched is never among them, nor is, of images, any other of its base set: those are of the
choosing ones. Synthetic problems have nothing in common but their space: there it is
seen whether what cannot help does harm. Their siblings are what similar data would be: there it must help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from optuna.trial import FrozenTrial

from benchmarks.images import problems
from benchmarks.images.prior import prior_of
from benchmarks.images.problems import base_of, image_problems
from benchmarks.images.tables import METRIC, read_tables
from benchmarks.search_quality.problems import Problem, Table, lcbench
from benchmarks.search_quality.product import ProductPolicy
from benchmarks.search_quality.simulator import Clock, Policy, simulate
from benchmarks.search_quality.synthetic import PROBLEMS, Synthetic
from tuner.algorithms.halving import default_reduction_factor
from tuner.algorithms.prior import PriorStudy, prior_studies
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.study import Queued
from tuner.algorithms.tpe import ENDED_BY_ITSELF
from tuner.algorithms.warm_start import EarlierStudy, EarlierTrial, warm_start
from tuner.session._resolved import pretrained_in
from tuner.spec.space import Configuration, has_branches

EARLIER_SEED = 1000
"""Added to the seed of a search: the seeds of the studies that it begins with."""
SEEDS_BETWEEN = 10_000
"""Between the seeds of two studies of one problem that begin the same search."""
SIBLINGS = 5
EARLIER_BUDGET = 20
"""Full trainings that each of them had."""
_EARLIER: dict[tuple[str, float, int, int], EarlierStudy] = {}
"""Of this process: what (problem, noise, slots, seed) was found to be."""


def warm_started(problem: Problem, slots: int, seed: int, *, per_second: bool = False) -> Policy:
    """`gp` with `asha` after a search of each of the other problems."""
    return _after(others(problem), problem, slots, seed, per_second)


def warm_started_by(
    problem: Problem, slots: int, seed: int, *, studies: int, configurations: int, per_second: bool = True
) -> Policy:
    """`gp` with `asha` after so many studies of at most so many configurations each; LookupError: there are no others.

    The other problems of the suite are searched in turn, in an order of the seed's, each time with another seed.
    """
    problems = others(problem)
    if not problems:
        raise LookupError(problem.name)
    order = np.random.default_rng(seed).permutation(len(problems))
    searches = [divmod(number, len(problems)) for number in range(studies)]
    earlier = [
        _earlier(problems[order[place]], slots, EARLIER_SEED + seed + SEEDS_BETWEEN * turn) for turn, place in searches
    ]
    first = [one.model_copy(update={"trials": one.trials[:configurations]}) for one in earlier]
    return begun_with(first, problem, slots, seed, per_second)


def warm_started_by_siblings(problem: Problem, slots: int, seed: int) -> Policy:
    """`gp` with `asha` after a search of each of a synthetic problem's siblings; LookupError: tables have none."""
    if not isinstance(problem, Synthetic):
        raise LookupError(problem.name)
    return _after([replace(problem, sibling=one + 1) for one in range(SIBLINGS)], problem, slots, seed)


def with_prior(
    problem: Problem, slots: int, seed: int, *, per_second: bool = False, knows_budget: bool = False
) -> Policy:
    """`gp` with `asha` after a prior that was built without the base set of the problem, which is one of images."""
    earlier = prior_studies(prior_for(problem), pretrained_in(problem.space), METRIC, "max")
    return begun_with(earlier, problem, slots, seed, per_second, clock=Clock() if knows_budget else None)


def prior_for(problem: Problem) -> list[PriorStudy]:
    """The prior of the choosing tasks of other base sets than a problem's; LookupError: it is none of images."""
    if not (base := base_of(problem.name)):
        raise LookupError(problem.name)
    tables = read_tables(problems.TABLES).values()
    return prior_of(one for one in tables if one.facts["split"] == "choosing" and one.facts["base"] != base)


def _after(others: Sequence[Problem], problem: Problem, slots: int, seed: int, per_second: bool = False) -> Policy:
    earlier = [_earlier(other, slots, EARLIER_SEED + seed) for other in others]
    return begun_with(earlier, problem, slots, seed, per_second)


def begun_with(
    earlier: Sequence[EarlierStudy],
    problem: Problem,
    slots: int,
    seed: int,
    per_second: bool,
    *,
    clock: Clock | None = None,
) -> Policy:
    """`gp` with `asha` that begins with earlier studies."""
    warm = warm_start(earlier, problem.space, None, "max")
    context = SamplerContext(seed, earlier=warm.trials, per_second=per_second, share_spent=clock or Clock())
    sampler = SAMPLERS["gp"].build(context)
    queue = [
        *(Queued(configuration, "recipe") for configuration in warm.recipes),
        *(Queued(configuration, "portfolio") for configuration in warm.portfolio),
        *(Queued(configuration, "prior") for configuration in warm.prior),
    ]
    return ProductPolicy(problem, slots, seed, sampler, "asha", 1, _factor(problem), queue, clock=clock)


def others(problem: Problem) -> Sequence[Problem]:
    """The problems whose searches one may begin with; LookupError: they are not at hand."""
    if base := base_of(problem.name):
        images = image_problems("choosing", getattr(problem, "noise", 0.0))
        return [] if isinstance(images, str) else [other for other in images if base_of(other.name) != base]
    everything = lcbench(problem.noise) if isinstance(problem, Table) else [Synthetic(one) for one in range(PROBLEMS)]
    if isinstance(everything, str):
        raise LookupError(everything)
    return [other for other in everything if other.name != problem.name]


def _earlier(problem: Problem, slots: int, seed: int) -> EarlierStudy:
    key = (problem.name, getattr(problem, "noise", 0.0), slots, seed)
    if key not in _EARLIER:
        sampler = SAMPLERS["gp"].build(SamplerContext(seed))
        policy = ProductPolicy(problem, slots, seed, sampler, "asha", 1, _factor(problem))
        simulate(problem, policy, slots, EARLIER_BUDGET * problem.full_training_s / slots, seed)
        _EARLIER[key] = as_earlier(problem.name, policy.configurations, policy.study.optuna_study.trials)
    return _EARLIER[key]


def _factor(problem: Problem) -> int:
    return default_reduction_factor(pauses=True, has_branches=has_branches(problem.space))


def as_earlier(name: str, configurations: Mapping[int, Configuration], trials: Sequence[FrozenTrial]) -> EarlierStudy:
    """A search as another one begins with it; of the same numbers."""
    return EarlierStudy(
        name=name,
        data=name,
        trials=[
            EarlierTrial(
                configuration=configurations[trial.number],
                status="completed" if trial.user_attrs.get(ENDED_BY_ITSELF) else "stopped",
                best_by_epoch=trial.intermediate_values,
            )
            for trial in trials
        ],
    )
