"""`python -m benchmarks.search_quality.objectives`: which sampler finds how much of a Pareto front, in simulated time.

The conditional synthetic problems, each with a number of parameters for every configuration as a second metric to be
minimised. All samplers have the same simulated seconds, as in `benchmarks.search_quality`; the scheduler compares the
first metric only. The hypervolume is that of the trials' values without their noise, over accuracy (from that of the
median random configuration to the best) and the logarithm of the number of parameters (from the largest to the
smallest), as a share of what 5,000 random configurations trained to their end have together.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np

from benchmarks.search_quality.policies import quiet
from benchmarks.search_quality.product import ProductPolicy
from benchmarks.search_quality.simulator import simulate
from benchmarks.search_quality.synthetic import SAMPLED, SPACE, Synthetic
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.common.metrics import front, hypervolume
from tuner.common.seeds import derive_seed
from tuner.spec.space import Configuration, sample


class Job(NamedTuple):
    sampler: str
    scheduler: str
    budget: float
    problem: int
    seed: int


class SeveralMetrics(ProductPolicy):
    """The product's policy in a study that is told the number of parameters too."""

    def __init__(self, problem: Synthetic, slots: int, seed: int, sampler: str, scheduler: str) -> None:
        super().__init__(
            problem, slots, seed, SAMPLERS[sampler].build(SamplerContext(seed)), scheduler, 1, 3, (), ["parameters"]
        )
        self.problem, self.points = problem, dict[int, tuple[float, float]]()
        self._best: dict[int, float] = {}

    def facts(self, number: int) -> dict[str, float]:
        return {"parameters": parameters(self.configurations[number])}

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
        if best != self._best.get(number):
            self._best[number] = best
            configuration = self.configurations[number]
            exact = self.problem.exact(configuration).values[epoch - 1]
            self.points[number] = (float(exact), parameters(configuration))
        return super().report(number, epoch, value, best, seconds, is_last)


def parameters(configuration: Configuration) -> float:
    """A number of parameters such as a network of this configuration for images of 32x32 could have."""
    match configuration["architecture"]:
        case "dense":
            units, layers = float(configuration["units"]), float(configuration["hidden_layers"])
            return 3072 * units + (layers - 1) * units**2 + 10 * units
        case "cnn":
            filters, blocks = float(configuration["filters"]), int(configuration["blocks"])
            return 27 * filters + sum(9 * filters**2 * 2.0**block for block in range(blocks)) + 640 * filters
        case _:
            return 410_208 + 1280 * float(configuration.get("head_units") or 10)


@cache
def scale(number: int) -> tuple[float, float, float]:
    """The logarithms of the largest and the smallest number of parameters, and the volume of very many trials."""
    problem = Synthetic(number)
    generator = np.random.default_rng(derive_seed(number, "front"))
    found = [sample(SPACE, generator) for _ in range(SAMPLED)]
    logs = [math.log10(parameters(one)) for one in found]
    points = np.array([[problem.exact(one).values.max(), parameters(one)] for one in found])
    high, low = max(logs), min(logs)
    return high, low, hypervolume(_scaled(problem, points, high, low), np.zeros(2))


def _scaled(problem: Synthetic, points: np.ndarray, high: float, low: float) -> np.ndarray:
    value = (points[:, 0] - problem.reference) / (problem.best - problem.reference)
    return np.stack([value, (high - np.log10(points[:, 1])) / (high - low)], axis=1)


def run(job: Job) -> tuple[Job, float, float, int, int]:
    """Share of the volume; the regret in the first metric; trials, and those on the front."""
    quiet()
    problem = Synthetic(job.problem)
    policy = SeveralMetrics(problem, 4, job.seed, job.sampler, job.scheduler)
    search = simulate(problem, policy, 4, job.budget * problem.full_training_s / 4, job.seed)
    high, low, volume = scale(job.problem)
    points = _scaled(problem, np.array(list(policy.points.values())), high, low)
    return (
        job,
        hypervolume(points, np.zeros(2)) / volume,
        1 - float(points[:, 0].max()),
        search.trials,
        len(front(points)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_quality.objectives", description=__doc__)
    parser.add_argument("--samplers", nargs="+", default=["random", "nsga2", "gp"], choices=list(SAMPLERS))
    parser.add_argument("--runs", nargs="+", default=["asha:20", "none:60"], help="scheduler:full trainings")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--problems", type=int, default=6)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    jobs = [
        Job(sampler, text.partition(":")[0], float(text.partition(":")[2]), problem, seed)
        for text, sampler, problem, seed in product(
            options.runs, options.samplers, range(options.problems), range(options.seeds)
        )
    ]
    rows = defaultdict(list)
    with ProcessPoolExecutor(options.processes) as pool:
        for job, *row in pool.map(run, jobs):
            rows[job.scheduler, job.budget, job.sampler].append(row)
    print(
        "| scheduler, full trainings | sampler | hypervolume, mean | 10th percentile | regret | trials | on the front |"
    )
    print("|---|---|---:|---:|---:|---:|---:|")
    for (scheduler, budget, sampler), found in rows.items():
        volumes, regrets, trials, on_front = np.array(found).T
        print(
            f"| {scheduler}, {budget:g} | {sampler} | {volumes.mean():.3f} | {np.percentile(volumes, 10):.3f} "
            f"| {regrets.mean():.3f} | {trials.mean():.0f} | {on_front.mean():.1f} |"
        )


if __name__ == "__main__":
    main()
