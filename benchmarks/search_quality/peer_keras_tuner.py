"""KerasTuner's Hyperband: its own oracle, asked and told as its tuner does.

The oracle starts a trial for each round of a bracket; one that continues another names it in `tuner/trial_id` and
starts at `tuner/initial_epoch`: here the older trial trains on. Conditions are KerasTuner's own conditional scopes.
"""

from __future__ import annotations

import importlib.util
import tempfile
from dataclasses import dataclass
from typing import Any

from benchmarks.search_quality.problems import Problem
from tuner.spec.space import Choice, Choose, Configuration, Dimension, Integer, Space, configure

SWEEPS = 10**6
"""Iterations of Hyperband: until the time is up, as in benchmarks/race."""


@dataclass
class _Round:
    """A trial of KerasTuner's on its worker."""

    trial: Any
    worker: str
    last_epoch: int


class KerasTunerPolicy:
    """keras_tuner.oracles.HyperbandOracle with its default factor of 3."""

    def __init__(self, problem: Problem, slots: int, seed: int) -> None:
        import keras_tuner

        self._folder = tempfile.TemporaryDirectory()  # the oracle writes every trial down
        self._oracle = keras_tuner.oracles.HyperbandOracle(
            objective=keras_tuner.Objective("value", "max"),
            max_epochs=problem.max_epochs,
            hyperband_iterations=SWEEPS,
            seed=seed + 1,  # it takes 0 for none
            hyperparameters=as_hyperparameters(problem.space),
        )
        self._oracle.verbose = 0
        self._oracle._set_project_dir(self._folder.name, "search")
        self._space = problem.space
        self._workers = [f"worker-{number}" for number in reversed(range(slots))]
        self._numbers: dict[str, int] = {}
        self._rounds: dict[int, _Round] = {}

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """See Policy."""
        trial = self._oracle.create_trial(self._workers[-1])
        if trial.status == "IDLE":
            return None
        if trial.status == "STOPPED":
            return "the oracle has stopped"
        values = trial.hyperparameters.values
        earlier = values.get("tuner/trial_id")
        number = len(set(self._numbers.values())) if earlier is None else self._numbers[earlier]
        self._numbers[trial.trial_id] = number
        self._rounds[number] = _Round(trial, self._workers.pop(), values["tuner/epochs"])
        return number, configure(self._space, lambda qualified, _, dimension: _own(dimension, values[qualified]))

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
        """See Policy; the score of a round is the running best, as for all policies."""
        current = self._rounds[number]
        if epoch < current.last_epoch:
            return True
        self._oracle.update_trial(current.trial.trial_id, {"value": best}, step=epoch)
        current.trial.status = "COMPLETED"
        self._oracle.end_trial(current.trial)
        self._workers.append(current.worker)
        return False

    def close(self) -> None:
        """Remove what the oracle wrote."""
        self._folder.cleanup()


def as_hyperparameters(space: Space) -> Any:
    """A space as KerasTuner's HyperParameters, under qualified names."""
    import keras_tuner

    found = keras_tuner.HyperParameters()

    def declare(level: Space, prefix: str) -> None:
        for name, dimension in level.items():
            _declare(found, prefix + name, dimension)
            if isinstance(dimension, Choose):
                for branch, inner in dimension.branches.items():
                    with found.conditional_scope(prefix + name, [branch]):
                        declare(inner, f"{prefix}{name}.{branch}.")

    declare(space, "")
    return found


def _declare(found: Any, name: str, dimension: Dimension) -> None:
    if isinstance(dimension, Choice | Choose):
        found.Choice(name, list(dimension.values))
        return
    sampling = "log" if dimension.log else "linear"
    if isinstance(dimension, Integer):
        step = {} if dimension.log else {"step": dimension.step}
        found.Int(name, dimension.low, dimension.high, sampling=sampling, **step)
    else:
        found.Float(name, dimension.low, dimension.high, sampling=sampling)


def _own(dimension: Dimension, value: Any) -> Any:
    """The dimension's own value: the oracle gives 1 for a choice of true."""
    return dimension.values[dimension.values.index(value)] if isinstance(dimension, Choice | Choose) else value


def left_out() -> str | None:
    """Why the policy cannot be had; None: it can."""
    if importlib.util.find_spec("keras_tuner") is None:
        return "keras_tuner must be installed (the extra `benchmarks`); it is not"
    return None
