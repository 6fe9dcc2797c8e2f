"""Optuna's NSGA-II (Deb et al. 2002) for our studies: trials that are stopped early, and spaces with branches.

Optuna's sampler wants a study with several values per trial, and a search's study has one value per epoch. So every
suggestion comes from a study of its own, made of what the trials have shown until then: each trial that has an epoch
and has not failed is complete there, with its best value so far and its other metrics, be it finished, stopped,
waiting or still running. Populations are trials in the order of their numbers. A suggestion therefore follows from the
seed and the trials alone, and a resumed search makes the same.

Optuna crosses the hyperparameters that all trials have, and draws those of branches at random. Here a trial's missing
ones are filled with random values, the same each time, so that branches are crossed too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.algorithms._observations import directions_of, evidence_of, reached
from tuner.algorithms.tpe import IndependentRandomSampler, space_of
from tuner.common.seeds import derive_seed

POPULATION = 16
"""Trials of a generation. Optuna's 50 would leave a search of 64 trials at random."""


class _Generations(NSGAIISampler):
    """Optuna's NSGA-II with complete trials, in their order, as its generations."""

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Return the number of populations that are full."""
        return len(_complete(study)) // (self.population_size or 1)

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the trials of one generation."""
        size = self.population_size or 1
        return _complete(study)[generation * size : (generation + 1) * size]

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation, computed from the first one up; Optuna would recurse deeply."""
        for earlier in range(1, generation):
            super().get_parent_population(study, earlier)  # kept in the study
        return super().get_parent_population(study, generation)


def _complete(study: Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


class EvolutionSampler(IndependentRandomSampler):
    """The sampler. The first generation, mutations and failed trials' places are drawn at random."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return every parameter that a trial has had; see optuna.samplers.BaseSampler."""
        return space_of(study.get_trials(deepcopy=False), {})

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a child of two parents; parameters that it lacks are drawn at random."""
        trials = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        complete = self._seen(study, trials, search_space)
        if len(complete) < POPULATION:
            return {}
        seed = derive_seed(self._seed, "suggestion", trial.number)
        sampler = _Generations(population_size=POPULATION, seed=seed)
        view = optuna.create_study(directions=directions_of(study), sampler=sampler)
        view.add_trials(complete)
        return dict(view.ask().relative_params)

    def _seen(
        self, study: Study, trials: Sequence[FrozenTrial], space: dict[str, BaseDistribution]
    ) -> list[FrozenTrial]:
        """Return the trials with all metrics known, complete, each with a value for every parameter of the space."""
        found = []
        for trial in trials:
            values = None if evidence_of(trial).has_failed else reached(study, trial)
            if values is not None:
                parameters = {name: self._gene(study, trial, name, one) for name, one in space.items()}
                found.append(create_trial(values=values, params=parameters, distributions=space))
        return found

    def _gene(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        if trial.distributions.get(name) == distribution:
            return trial.params[name]
        return self._drawn("dormant", study, trial, name, distribution)
