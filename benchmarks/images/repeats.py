"""Own code for the searches that are measured: random draws, of which each sixth is trained with another seed.

A draw depends on the number of the trial alone, so a table can be gone on with to any length, at once or in parts. All
architectures have equally many draws: a search asks for one of them again and again.
"""

from copy import copy
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from tuner.algorithms.samplers import SAMPLERS, SamplerEntry
from tuner.algorithms.tpe import IndependentRandomSampler

EVERY = 6
"""The last of so many trials has the configuration of the first of them."""
SHIFT = 1e-6
"""Share by which its learning rate differs: no search trains a configuration twice."""


def is_repeat(number: int) -> bool:
    """Return whether a trial repeats one.

    >>> [number for number in range(18) if is_repeat(number)]
    [5, 11, 17]
    """
    return number % EVERY == EVERY - 1


def first_of(number: int) -> int:
    """Return the trial whose configuration a trial has: another one, or itself.

    >>> [first_of(number) for number in (0, 4, 5, 6, 11)]
    [0, 4, 0, 6, 6]
    """
    return number - (EVERY - 1) * is_repeat(number)


def draws_before(number: int) -> int:
    """Return how many trials before one repeat none.

    >>> [draws_before(number) for number in (0, 5, 6, 12)]
    [0, 5, 5, 10]
    """
    return number - number // EVERY


class RepeatingSampler(IndependentRandomSampler):
    """Uniform draws by the trial's number; each architecture in turn; some trials repeat others."""

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value of one parameter; see optuna.samplers.BaseSampler."""
        drawn = copy(trial)
        drawn.number = first_of(trial.number)
        if param_name == "architecture" and isinstance(param_distribution, CategoricalDistribution):
            return param_distribution.choices[draws_before(drawn.number) % len(param_distribution.choices)]
        value = super().sample_independent(study, drawn, param_name, param_distribution)
        if param_name != "learning_rate" or drawn.number == trial.number:
            return value
        return value * (1 - SHIFT) if value * (1 - SHIFT) >= param_distribution.low else value * (1 + SHIFT)


if __name__ == "repeats":  # given as a plugin; imported by its package, it registers nothing
    SAMPLERS.add(
        "repeating",
        SamplerEntry(lambda context: RepeatingSampler(context.seed), "independent uniform draws, some of them twice"),
    )
