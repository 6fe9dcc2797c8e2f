"""Optuna's samplers for our studies: trials that are stopped early, spaces with branches, searches that are resumed.

None of them keeps anything: a suggestion follows from the seed and the trials alone, so a resumed search makes the same
as the undisturbed one, however many trials ran side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import NSGAIISampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.algorithms._encoding import Encoding
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
    """NSGA-II (Deb et al. 2002): the first generation, mutations and failed trials' places are drawn at random.

    Optuna's wants a study with several values per trial, and a search's study has one value per epoch. So every
    suggestion comes from a study of its own, made of what the trials have shown until then: each trial that has an
    epoch and has not failed is complete there, with its best value so far and its other metrics, be it finished,
    stopped, waiting or still running. Populations are trials in the order of their numbers.

    Optuna crosses the hyperparameters that all trials have, and draws those of branches at random. Here a trial's
    missing ones are filled with random values, the same each time, so that branches are crossed too.
    """

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


class CovarianceSampler(IndependentRandomSampler):
    """CMA-ES (Hansen 2016) over the numbers that all trials have; all else is drawn at random.

    Optuna's keeps its distribution and its random stream from suggestion to suggestion. Here the distribution is made
    of the complete trials each time: a generation are the next ones in the order of their numbers.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the ranges of numbers that all other trials have; see optuna.samplers.BaseSampler."""
        known = [one.distributions for one in study.get_trials(deepcopy=False) if one.state != TrialState.FAIL]
        spaces = [one for one in known if one]
        return {
            name: distribution
            for name, distribution in (spaces[0] if spaces else {}).items()
            if not isinstance(distribution, CategoricalDistribution) and not distribution.single()
            if all(name in one for one in spaces)
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a draw from the distribution that the complete trials have led to; nothing before there is one."""
        encoding, size = Encoding(search_space), len(search_space)
        sign = 1.0 if study.direction == StudyDirection.MINIMIZE else -1.0
        shown = [(encoding.row(one.params), sign * (one.value or 0.0)) for one in _complete(study)]
        if not shown or not size:
            return {}
        from cmaes import CMA

        bounds = np.tile([0.0, 1.0], (size, 1))
        seed = derive_seed(self._seed, "suggestion", trial.number) % 2**32
        evolution = CMA(np.full(size, 0.5), 1 / 6, bounds, n_max_resampling=10 * size, seed=seed)
        population = evolution.population_size
        for end in range(population, len(shown) + 1, population):
            evolution.tell(shown[end - population : end])
        return encoding.parameters(evolution.ask())


class SobolSampler(IndependentRandomSampler):
    """Scrambled Sobol points over the parameters of the first trial; what it has not is drawn at random.

    Optuna's counts its points in the study, and takes its space from the first trial that has ended.
    """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters of the first trial; see optuna.samplers.BaseSampler."""
        return dict(study.get_trials(deepcopy=False)[0].distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the point of this trial's number."""
        if not search_space:
            return {}
        from scipy.stats.qmc import Sobol

        points = Sobol(len(search_space), rng=self._seed)
        if trial.number > 1:  # it cannot go on by none
            points.fast_forward(trial.number - 1)
        return Encoding(search_space).parameters(points.random()[0])
