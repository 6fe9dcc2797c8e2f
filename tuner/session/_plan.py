"""What a search would do, without training: the space, the rungs, the epochs, warnings."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tuner.algorithms.halving import Rung, default_grace_epochs, default_reduction_factor, expected_rungs, rung_epochs
from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import SCHEDULERS, SchedulerEntry
from tuner.common.metrics import METRICS
from tuner.models.architectures import ARCHITECTURES
from tuner.reports.console import format_seconds
from tuner.spec.space import Choose, Configuration, Dimension, Integer, Space, count, flatten, has_branches
from tuner.spec.spec import Spec

SAMPLER, SCHEDULER = "gp", "asha"


class Chosen(NamedTuple):
    """A name of a registry."""

    name: str
    why: str = ""
    """Empty when the file names it."""


def chosen_scheduler(spec: Spec) -> Chosen:
    """The scheduler of a search."""
    written = spec.search.scheduler
    return Chosen(written) if written != "auto" else Chosen(SCHEDULER, SCHEDULERS[SCHEDULER].why)


def weighs_seconds(spec: Spec) -> bool:
    """Whether the sampler expects improvement per second: where seconds are what is spent, if it can."""
    written = spec.search.improvement_per_second
    if isinstance(written, bool):
        return written
    return spec.search.time_budget is not None and SAMPLERS[chosen_sampler(spec).name].weighs_seconds


def chosen_sampler(spec: Spec) -> Chosen:
    """The sampler of a search: a space that can be tried as a whole needs no model."""
    written, scheduler = spec.search.sampler, chosen_scheduler(spec).name
    if written != "auto":
        return Chosen(written)
    if needed := SCHEDULERS[scheduler].sampler:
        return Chosen(needed, f"it goes with {scheduler}")
    configurations = count(spec.space)
    if configurations <= spec.search.trials and spec.search.time_budget is None:
        return Chosen("grid", f"{spec.search.trials} trials are enough for all {configurations} configurations")
    return Chosen(SAMPLER, SAMPLERS[SAMPLER].why)


@dataclass(frozen=True)
class Plan:
    """The figures of a planned search."""

    sampler: Chosen
    scheduler: Chosen
    configurations: int | float
    """How many there are in the space; infinite with a float range."""
    trials: int
    grace_epochs: int
    rungs: tuple[Rung, ...]
    """The last one is the full training; only that one without a scheduler that halves."""
    epochs_at_most: int
    """Of all trials, if none were stopped."""
    warnings: tuple[str, ...]

    @property
    def epochs_expected(self) -> int:
        """Of all trials, if halving goes as on paper and nothing ends early."""
        return self.rungs[-1].epochs_spent


def grace_epochs(spec: Spec) -> int:
    """The first epoch at which trials are compared: as the file says, or by the rule of `rungs`."""
    if spec.search.grace_epochs != "auto":
        return int(spec.search.grace_epochs)
    return default_grace_epochs(spec.training.head_epochs, has_unfreezing(spec.space), spec.training.max_epochs)


def reduction_factor(spec: Spec) -> int:
    """One of how many trials goes on at a rung."""
    given = spec.search.reduction_factor
    if isinstance(given, int):
        return given
    return default_reduction_factor(_scheduler(spec).pauses, has_branches(spec.space))


def _scheduler(spec: Spec) -> SchedulerEntry:
    return SCHEDULERS[chosen_scheduler(spec).name]


def has_unfreezing(space: Space) -> bool:
    """Whether some configuration of the space unfreezes blocks after a head phase."""
    depths = [parameter.dimension for parameter in flatten(space) if parameter.name == "unfreeze_depth"]
    return any(depth > 0 for dimension in depths for depth in _whole_numbers(dimension))


def unfreeze_depths(space: Space) -> dict[str, tuple[int, ...]]:
    """The unfreeze depths that the space holds for each architecture that has the parameter there."""
    found: dict[str, set[int]] = {}
    architectures = [str(value) for value in getattr(space.get("architecture"), "values", ())]
    for parameter in flatten(space):
        if parameter.name == "unfreeze_depth":
            branches = [branch for where, branch in parameter.conditions if where == "architecture"]
            for architecture in branches or architectures:
                found.setdefault(str(architecture), set()).update(_whole_numbers(parameter.dimension))
    return {architecture: tuple(sorted(depths)) for architecture, depths in found.items() if depths}


def _whole_numbers(dimension: Dimension) -> Iterable[int]:
    if isinstance(dimension, Integer):
        return range(dimension.low, dimension.high + 1, dimension.step)
    return [int(value) for value in getattr(dimension, "values", ()) if isinstance(value, int | float)]


def planned_trials(spec: Spec) -> int:
    """How many trials the search runs: a grid ends when it is used up, whatever `trials` says."""
    if chosen_sampler(spec).name != "grid":
        return spec.search.trials
    return int(min(spec.search.trials, count(spec.space)))


def build_plan(spec: Spec) -> Plan:
    """The plan of a checked search-space file."""
    sampler, scheduler = chosen_sampler(spec), chosen_scheduler(spec)
    entry = SCHEDULERS[scheduler.name]
    max_epochs, factor, trials = spec.training.max_epochs, reduction_factor(spec), planned_trials(spec)
    grace = grace_epochs(spec)
    compared = rung_epochs(max_epochs, grace, factor) if entry.halves else ()
    return Plan(
        sampler=sampler,
        scheduler=scheduler,
        configurations=count(spec.space),
        trials=trials,
        grace_epochs=grace,
        rungs=expected_rungs(trials, max_epochs, compared, factor),
        epochs_at_most=trials * max_epochs,
        warnings=tuple(_warnings(spec, trials, compared, entry.halves)),
    )


def _warnings(spec: Spec, trials: int, compared: tuple[int, ...], halves: bool) -> list[str]:
    found: list[str] = []
    if halves and not compared:
        found.append("no rung lies below max_epochs: every trial will be trained to its own end")
    if spec.baseline is None:
        found.append("no baseline is given: the report cannot say what the search gained over a known model")
    if halves and len(spec.metrics) > 1:
        found.append(
            f"the scheduler stops trials by {spec.metric} alone: small ones may be stopped before they have shown what "
            "they can; search.scheduler=none trains all to their end"
        )
    if trials > count(spec.space):
        found.append(f"more trials ({trials}) than configurations ({count(spec.space)}): some will be repeated")
    if spec.search.time_budget is None and trials > 100:
        found.append("no time budget is given, and many trials: consider search.time_budget")
    if has_unfreezing(spec.space) and spec.training.head_epochs >= spec.training.max_epochs:
        found.append("the head phase lasts to the end: no block will be unfrozen, whatever unfreeze_depth says")
    if spec.training.early_stopping is None and not halves:
        found.append("neither early stopping nor a scheduler that halves: every trial costs max_epochs")
    return found + [f"{name} means nothing to {other} and is ignored there" for name, other in _ignored(spec.space)]


def _ignored(space: Space) -> list[tuple[str, str]]:
    """(parameter, architecture) for shared parameters that one of the architectures does not have."""
    chosen = space.get("architecture")
    names = [str(value) for value in getattr(chosen, "values", ())]
    owned = {name for architecture in names for name in ARCHITECTURES[architecture].parameters}
    return [
        (name, architecture)
        for name in space
        if name in owned
        for architecture in names
        if name not in ARCHITECTURES[architecture].parameters
    ]


def print_plan(spec: Spec, plan: Plan, console: Console) -> None:
    """Print the plan for people."""
    budget = "none" if spec.search.time_budget is None else format_seconds(spec.search.time_budget)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("study", spec.study),
        ("data", f"{spec.data.source}, {spec.data.validation_fraction:.0%} for validation unless it has its own"),
        ("metrics" if len(spec.metrics) > 1 else "metric", _metric_words(spec)),
        ("configurations", _number_words(plan.configurations, "infinitely many")),
        ("sampler", _meaning(plan.sampler, _sampler_words(spec, plan.sampler.name))),
        ("scheduler", _meaning(plan.scheduler, SCHEDULERS[plan.scheduler.name].description)),
        (
            "trials",
            f"{plan.trials}, time budget {budget}, each with {_plural(spec.resources.cpus_per_trial, 'CPU')} "
            f"and {_plural(spec.resources.gpus_per_trial, 'GPU')}",
        ),
        *([("rungs", _rung_words(spec))] if len(plan.rungs) > 1 else []),
        ("epochs", f"about {plan.epochs_expected:,}, at most {plan.epochs_at_most:,}"),
        ("finalists", _finalist_words(spec)),
    ):
        facts.add_row(name, Text(value))
    console.print(
        Group(facts, "", draw_space(spec.space), "", _rung_table(plan)), soft_wrap=False
    )  # nothing is cut off
    if spec.baseline is not None:
        console.print(Text(f"baseline (trial 0): {_words(spec.baseline)}"))
    for warning in plan.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def _metric_words(spec: Spec) -> str:
    words = ", ".join(f"{metric} ({METRICS[metric]})" for metric in spec.metrics)
    if len(spec.metrics) == 1:
        return words
    return f"{words}: the report has their Pareto front; the scheduler and the winner go by {spec.metric}"


def _finalist_words(spec: Spec) -> str:
    count, seeds = spec.finalists.count, spec.finalists.seeds
    if not count:
        return "none: no trial is trained again, the test split stays unread"
    if len(spec.metrics) > 1:
        best = f"the best by {spec.metric}" + (f", {count - 1} more of the Pareto front" if count > 1 else "")
        return f"{best} and the baseline again, with {_plural(seeds, 'seed')} each; then the test split"
    return f"the best {count} and the baseline again, with {_plural(seeds, 'seed')} each; then the test split"


def _rung_words(spec: Spec) -> str:
    words = f"at each, the best 1 of {reduction_factor(spec)} go on"
    if spec.search.reduction_factor != "auto" or not _scheduler(spec).pauses:
        return words
    pace = "branches of a space learn at different paces" if has_branches(spec.space) else "a space without branches"
    return f"{words} (auto: {pace}; see benchmarks/LOG.md)"


def _sampler_words(spec: Spec, name: str) -> str:
    """What a sampler does; that times count is told, since suggestions are then not the same on every run."""
    return SAMPLERS[name].description + (" per second" if weighs_seconds(spec) else "")


def _meaning(chosen: Chosen, description: str) -> str:
    return f"{chosen.name}: {description}" + (f" (auto: {chosen.why})" if chosen.why else "")


def _plural(number: float | str, noun: str) -> str:
    if isinstance(number, str):
        return f"{number} {noun}s"
    return f"{number:g} {noun}" if number == 1 else f"{number:g} {noun}s"


def _words(configuration: Configuration) -> str:
    return ", ".join(f"{name} {value}" for name, value in configuration.items())


def draw_space(space: Space, tree: Tree | None = None) -> Tree:
    """The space as a tree, each branch with the number of its configurations."""
    tree = tree or Tree(Text("space", style="bold"))
    for name, dimension in space.items():
        node = tree.add(Text.assemble((name, "cyan"), ": ", dimension.describe()))
        if isinstance(dimension, Choose):
            for branch, inner in dimension.branches.items():
                words = _number_words(count(inner), "a continuum")
                draw_space(inner, node.add(Text.assemble((branch, "bold"), f" ({words} of its own)")))
    return tree


def _number_words(number: int | float, infinite: str) -> str:
    """A number of configurations for people; the product of many choices has no end of digits."""
    if number == math.inf:
        return infinite
    return f"{number:,}" if number < 10**15 else f"about 10^{math.log10(int(number)):.0f}"


def _rung_table(plan: Plan) -> Table:
    table = Table(title="rungs (expected)", title_justify="left", box=None, pad_edge=False)
    for name in ("epoch", "trials that train so far", "epochs spent by then"):
        table.add_column(name, justify="right")
    for rung in plan.rungs:
        table.add_row(str(rung.epoch), str(rung.trials), f"{rung.epochs_spent:,}")
    return table
