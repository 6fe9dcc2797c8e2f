"""Remarks on the winner: values at the end of their range, and what it is worth beside answering the largest class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tuner.common.metrics import (
    LOSS,
)
from tuner.models.augmentation import strength_bounds
from tuner.models.parameters import GENERAL, OF_ARCHITECTURES, OF_TRAINABLES, Parameter
from tuner.reports.formatting import (
    describe_configuration,
    format_advantage,
    format_gain,
    format_value,
    metric_words,
    sign_of,
)
from tuner.reports.results import Results
from tuner.runs.events import StudyCreated
from tuner.runs.finalists import (
    value_on_test,
)
from tuner.spec.space import Choice, FlatDimension, flatten, widened
from tuner.spec.space_parser import parse_space
from tuner.spec.strengths import OWNER


def _owners(study: StudyCreated | None, architecture: object) -> tuple[Mapping[str, Parameter], ...]:
    """Return the hyperparameters among which that of a name is: those of a training function are its author's alone."""
    if study is not None and study.trainable is not None:
        return (OF_TRAINABLES.get(study.trainable, {}),)
    return GENERAL, OF_ARCHITECTURES.get(str(architecture), {})


def _limits(one: FlatDimension, owners: tuple[Mapping[str, Parameter], ...]) -> tuple[float | None, float | None]:
    """Return what a hyperparameter can be at least and at most, as far as that is known without its network."""
    if one.name.startswith(f"{OWNER}."):
        return strength_bounds(one.name)
    if parameter := next((owner[one.name] for owner in owners if one.name in owner), None):
        return parameter.low, parameter.high
    if "dropout" in one.name:
        return 0.0, 0.9
    numbers = one.dimension.values if isinstance(one.dimension, Choice) else (getattr(one.dimension, "low", None),)
    least = min((value for value in numbers if isinstance(value, int)), default=0)
    return (1.0 if least >= 1 and all(isinstance(value, int) for value in numbers) else None), None


@dataclass(frozen=True)
class Edge:
    """A value of the chosen trial at an end of its range: `said` of it, and the `wider` range as the file writes it."""

    said: str
    wider: str


def edges(results: Results) -> list[Edge]:
    """Return each value of the chosen trial at an end of its range, with the range to try.

    Ends of what is possible at all, such as no dropout, are none; nor are those of `alpha`, of which there are few.
    """
    specification = results.study.specification if results.study is not None else {}
    space, findings = parse_space(specification.get("space"))
    if results.chosen is None or findings or len(results.ranked) < 2:
        return []
    values = results.chosen.configuration
    owners = _owners(results.study, values.get("architecture"))
    found = []
    for one in flatten(space):
        names = [(where.rpartition(".")[2], branch) for where, branch in one.conditions]
        if one.name not in values or one.name == "alpha" or any(values.get(name) != branch for name, branch in names):
            continue
        if (wider := widened(one.dimension, values[one.name], *_limits(one, owners))) is not None:
            end, text = wider
            value = describe_configuration(values, [one.name])
            said = f"the best {value} is at the {end} end of what was searched ({one.dimension.describe()})"
            found.append(Edge(f"{said}; better ones may lie beyond it", f"{one.name}: {text}"))
    return found


def majority_sentences(results: Results) -> list[str]:
    """Say the share of the largest class on the test split, and whether the winner beats answering nothing else.

    Nothing where that cannot be told, as of a metric that has no value for the one or the other.
    """
    guess, gain, metric = results.guess, results.gain_over_guess, results.judge
    value = None if guess is None else value_on_test(guess, metric)
    if guess is None or gain is None or value is None or gain.low is None or math.isnan(gain.mean):
        return []
    answer = "answering the classes' shares" if metric == LOSS else "always answering it"
    shares = (
        f"{guess.share:.1%} of the test images are {guess.largest_class}, the largest class of the training images: "
        f"{answer} has test {metric_words(metric)} {format_value(metric, value)}"
    )
    beats = "the winner beats that:" if sign_of(metric, *gain[1:]) > 0 else "the winner does not beat that:"
    between = f"95% interval {format_gain(metric, gain.low)} to {format_gain(metric, gain.high)}"
    return [f"{shares}; {beats} {format_advantage(metric, gain.mean)}, {between}"]
