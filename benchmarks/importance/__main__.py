"""`python -m benchmarks.importance`: the shares of the figure "What mattered" against planted ones.

Searches are made up whose values follow from their hyperparameters in a known way, and are read as the report reads
them. To reach: shares within 0.1 of the truth (median study, worst hyperparameter), under pure noise a bar whose low
end is above 0 in at most 5% of the studies.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tuner.reports.figures.importance import Importances, build_importances
from tuner.reports.results import build_results
from tuner.runs.events import Configuration, EpochReported, Event, StudyCreated, TrialEnded, TrialStarted
from tuner.runs.record import replay

BRANCHES = {"cnn": "blocks", "dense": "layers"}
RUNGS = (1, 3, 9)


class Problem(NamedTuple):
    """A search in which it is known what matters."""

    score: Callable[[Mapping[str, float]], float]
    """What a trial's values make, of variance 1 with the noise; `z` are numbers of mean 0 and variance 1."""
    noise: float
    """Share of the variance that nothing explains."""
    truth: Mapping[str, float]
    """The other shares; of hyperparameters that are not named, 0."""
    has_rungs: bool = False
    lost: float = 0.0
    """Share of the trials that fail before their first epoch."""
    missing: float = 0.0
    """Share of the trials that lack one hyperparameter that nothing else decides about."""


def _additive(z: Mapping[str, float]) -> float:
    return 0.5**0.5 * z["learning_rate"] + 0.25**0.5 * z["dropout"] + 0.15**0.5 * z["preprocess"]


def _conditional(z: Mapping[str, float]) -> float:
    return 0.45**0.5 * z["architecture"] + 0.5**0.5 * z.get("layers", 0.0) + 0.2**0.5 * z["learning_rate"]


def _interacting(z: Mapping[str, float]) -> float:
    return 0.6**0.5 * z["momentum"] * z["dropout"] + 0.25**0.5 * z["architecture"]


_ADDITIVE = {"learning_rate": 0.5, "dropout": 0.25, "preprocess": 0.15}
PROBLEMS: dict[str, Problem] = {
    "one architecture": Problem(lambda z: 0.96**0.5 * z["architecture"], 0.04, {"architecture": 0.96}),
    "additive": Problem(_additive, 0.1, _ADDITIVE),
    "additive, rungs": Problem(_additive, 0.1, _ADDITIVE, has_rungs=True),
    "additive, failures": Problem(_additive, 0.1, _ADDITIVE, lost=0.2),
    "additive, missing values": Problem(_additive, 0.1, _ADDITIVE, missing=0.3),
    "conditional": Problem(_conditional, 0.1, {"architecture": 0.45, "layers": 0.25, "learning_rate": 0.2}),
    "one branch": Problem(lambda z: 1.8**0.5 * z.get("layers", 0.0), 0.1, {"layers": 0.9}),
    "interacting": Problem(_interacting, 0.15, {"momentum": 0.6, "dropout": 0.6, "architecture": 0.25}),
    "a step": Problem(lambda z: 0.9**0.5 * (1 if z["dropout"] > 0 else -1), 0.1, {"dropout": 0.9}),
    "half noise": Problem(lambda z: 0.5**0.5 * z["learning_rate"], 0.5, {"learning_rate": 0.5}),
    "noise": Problem(lambda z: 0.0, 1.0, {}),
    "noise, rungs": Problem(lambda z: 0.0, 1.0, {}, has_rungs=True),
}


def made_up(problem: Problem, trials: int, seed: int) -> list[Event]:
    """Return the events of a search at random; with rungs the better half goes on, and improves as it likes."""
    random = np.random.default_rng((seed, trials))
    events: list[Event] = [
        StudyCreated(
            study="planted", metric="val_accuracy", mode="max", seed=seed, max_epochs=9, specification={}, data={},
            environment={}, command=["search"],
        )
    ]  # fmt: skip
    drawn = [_drawn(problem, random) for _ in range(trials)]
    scores = [problem.score(z) + problem.noise**0.5 * float(random.normal()) for _, z in drawn]
    order = np.argsort(np.argsort(scores))
    for trial, (configuration, _) in enumerate(drawn):
        events.append(TrialStarted(trial=trial, configuration=configuration, origin="sampler"))
        if random.random() < problem.lost:
            events.append(TrialEnded(trial=trial, status="failed", reason="out of memory"))
            continue
        length = (
            RUNGS[int(order[trial] >= trials / 2) + int(order[trial] >= 3 * trials / 4)] if problem.has_rungs else 1
        )
        value = 0.5 + 0.05 * scores[trial]
        for epoch in range(1, length + 1):
            value += 0.0 if epoch == 1 else abs(float(random.normal(0, 0.02)))
            events.append(EpochReported(
                trial=trial, epoch=epoch, phase="scratch", seconds=1.0, best_so_far=value, learning_rate=1e-3,
                metrics={"loss": 1.0, "accuracy": value, "val_loss": 1.0, "val_accuracy": value},
            ))  # fmt: skip
        is_cut = problem.has_rungs and length < RUNGS[-1]
        events.append(TrialEnded(trial=trial, status="stopped" if is_cut else "completed", reason="scheduler"))
    return events


def _drawn(problem: Problem, random: np.random.Generator) -> tuple[Configuration, dict[str, float]]:
    """Return a configuration, and its values with mean 0 and variance 1."""
    architecture, place = str(random.choice(list(BRANCHES))), float(random.uniform())
    dropout, word, size = float(random.uniform()), int(random.integers(3)), int(random.integers(1, 5))
    momentum = float(random.uniform())
    values: Configuration = {
        "preprocess": ["grey", "colour", "edges"][word],
        "batch_size": int(random.choice([32, 64, 128])),
        "learning_rate": 10 ** (3 * place - 4),
        "dropout": dropout,
        "architecture": architecture,
        BRANCHES[architecture]: size,
        "momentum": momentum,
    }
    if random.random() < problem.missing:
        del values["momentum"]
    z = {
        "learning_rate": ((place - 0.6) ** 2 - 0.28 / 3) / 0.0943, "dropout": (dropout - 0.5) * 12**0.5,
        "preprocess": (word - 1) * 1.5**0.5, "architecture": 1.0 if architecture == "cnn" else -1.0,
        BRANCHES[architecture]: (size - 2.5) / 1.25**0.5, "momentum": (momentum - 0.5) * 12**0.5,
    }  # fmt: skip
    return values, z


def study(problem: Problem, trials: int, seed: int) -> Importances:
    """Return what the report says of a made-up search."""
    found = build_importances(build_results(replay(made_up(problem, trials, seed))))
    if found is None:
        raise RuntimeError("a search with trials must have something to say")
    return found


class Outcome(NamedTuple):
    """The result of many studies of one problem."""

    told: float
    """Share of the studies that show bars."""
    error: float
    """Largest distance of a share from the truth, in the median study of those."""
    bias: float
    """Largest distance of the mean share from the truth."""
    false: float
    """Share of all studies with a bar above 0 (its low end) that should be at 0."""


def judge(problem: Problem, trials: int, studies: int) -> Outcome:
    """Return how near the shares of some made-up searches are to the truth."""
    found = [study(problem, trials, seed) for seed in range(studies)]
    told = [{item.name: item for item in one.items} for one in found if one.items]
    errors = [[one[name].share - problem.truth.get(name, 0.0) for name in sorted(one)] for one in told]
    false = sum(any(item.low > 0 and name not in problem.truth for name, item in one.items()) for one in told)
    if not told:
        return Outcome(0.0, 0.0, 0.0, 0.0)
    table = np.array(errors)
    return Outcome(
        len(told) / studies,
        float(np.median(np.abs(table).max(axis=1))),
        float(np.abs(table.mean(axis=0)).max()),
        false / studies,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.importance", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 60, 200])
    options = parser.parse_args()
    print(
        "| problem | trials | shown | error, median study | of the mean | false bars |\n|---|---:|---:|---:|---:|---:|"
    )
    for name, problem in PROBLEMS.items():
        for trials in options.trials:
            told, error, bias, false = judge(problem, trials, options.studies)
            print(f"| {name} | {trials} | {told:.0%} | {error:.2f} | {bias:.2f} | {false:.0%} |", flush=True)


if __name__ == "__main__":
    main()
