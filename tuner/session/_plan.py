"""The plan of a search as `--plan` prints it: the space, the rungs, the epochs, warnings. Nothing is trained."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tuner.algorithms.halving import Rung, expected_in_brackets, expected_rungs
from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import SCHEDULERS
from tuner.common.metrics import metric_of
from tuner.common.words import counted
from tuner.datasets.loading import DataWords
from tuner.models.architectures import ARCHITECTURES
from tuner.models.parameters import general
from tuner.reports.formatting import describe_configuration, format_seconds
from tuner.runs.expected_gain import FEWEST_TRIALS
from tuner.runs.forecast import expected_parts
from tuner.session._resolved import (
    Budget,
    Chosen,
    Policy,
    ResolvedSearch,
    Study,
    has_unfreezing,
    prior_of,
    probe_limit_s,
)
from tuner.session.checks import beyond_this_machine
from tuner.session.preparation import backbone_configurations
from tuner.spec.schema import AUTO, StopWhenSection, given
from tuner.spec.space import Choose, Dimension, FlatDimension, Integer, Real, Space, count, flatten
from tuner.spec.strengths import OWNER
from tuner.training.recipes.combinations import gradual_depths
from tuner.training.trainable import TRAINABLES, Trainable

ENDS_EARLY = "the search ends when each was tried once"


def planned_rungs(search: ResolvedSearch) -> tuple[Rung, ...]:
    """Return how many trials train how far if halving goes as on paper; the last rung is the full training."""
    policy, max_epochs = search.policy, search.training.settings.max_epochs
    if SCHEDULERS[policy.scheduler.value].has_brackets:
        return expected_in_brackets(search.budget.trials, max_epochs, policy.reduction_factor.value)
    return expected_rungs(search.budget.trials, max_epochs, policy.compared_at, policy.reduction_factor.value)


def most_epochs(search: ResolvedSearch) -> int:
    """Return the epochs of all trials if none were stopped."""
    return search.budget.trials * search.training.settings.max_epochs


def plan_warnings(search: ResolvedSearch) -> list[str]:
    """Return what is allowed and probably not meant."""
    found: list[str] = []
    study, training, trials = search.study, search.training.settings, search.budget.trials
    halves = SCHEDULERS[search.policy.scheduler.value].halves
    if halves and not search.policy.rungs:
        found.append("no rung lies below max_epochs: every trial will be trained to its own end")
    found += _bracket_warnings(search)
    if search.budget.folds and not search.budget.finalists:
        found.append(f"no finalist is trained, so only the first of {search.budget.folds} folds is used")
    if study.baseline is None:
        found.append("no baseline is given: the report cannot say what the search gained over a known model")
    if halves and len(study.metrics) > 1:
        found.append(
            f"the scheduler stops trials by {study.metric} alone: small ones may be stopped before they have shown "
            "what they can; search.scheduler=none trains all to their end"
        )
    asked = search.specification["search"]["trials"]
    if asked > trials:
        found.append(f"the space has fewer configurations ({trials}) than search.trials ({asked}): {ENDS_EARLY}")
    if search.budget.time_s is None and trials > 100:
        found.append("no time budget is given, and many trials: consider search.time_budget")
    if has_unfreezing(study.network_space) and training.head_epochs >= training.max_epochs:
        found.append("the head phase lasts to the end: no block will be unfrozen, whatever unfreeze_depth says")
    epochs, deepest = training.max_epochs - training.head_epochs, _deepest_gradual(study.network_space)
    if 0 < epochs < deepest:
        found.append(
            f"with unfreeze: gradual no trial unfreezes more than {epochs} of its blocks, one in each epoch after the "
            f"head phase; unfreeze_depth goes up to {deepest}"
        )
    if training.patience is None and not halves:
        found.append("neither early stopping nor a scheduler that halves: every trial costs max_epochs")
    if search.training.activations.views and any(_is_range_of_strengths(one) for one in flatten(study.space)):
        found.append("activations.views keeps views of each strength of augment; those of a range are not shared")
    if beyond := beyond_this_machine(search.shares):
        found.append(f"{beyond}; more takes a cluster (--address)")
    return found + [f"{name} means nothing to {other} and is ignored there" for name, other in _ignored(study.space)]


def _bracket_warnings(search: ResolvedSearch) -> list[str]:
    """Return what a scheduler with brackets does otherwise than a file says, or than comparisons need."""
    scheduler, rungs = search.policy.scheduler.value, search.policy.compared_at
    if not rungs or not SCHEDULERS[scheduler].has_brackets:
        return []
    where = f"the brackets of {scheduler} compare trials at epochs {', '.join(map(str, rungs))}"
    found = []
    if given(search.specification["search"]["grace_epochs"]) is not None:
        found.append(f"search.grace_epochs has no effect: {where}, as max_epochs and reduction_factor say")
    if has_unfreezing(search.study.network_space) and rungs[0] <= search.training.settings.head_epochs:
        found.append(f"{where}: before the head phase ends, shallow and deep unfreezing cannot be told apart")
    return found


def _deepest_gradual(space: Space) -> int:
    return max((max(depths) for depths in gradual_depths(space).values()), default=0)


def _is_range_of_strengths(parameter: FlatDimension) -> bool:
    return parameter.name.startswith(f"{OWNER}.") and isinstance(parameter.dimension, Integer | Real)


def _ignored(space: Space) -> list[tuple[str, str]]:
    """Return (parameter, architecture) for shared parameters that one of the architectures does not have."""
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


def print_plan(search: ResolvedSearch, console: Console, known: DataWords = DataWords()) -> None:  # noqa: B008  frozen
    """Print the plan for people, with what is known of the data."""
    study, budget, rungs = search.study, search.budget, planned_rungs(search)
    time_budget = "none" if budget.time_s is None else format_seconds(budget.time_s)
    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in (
        ("study", study.name),
        ("data", _data_words(study)),
        *([] if study.trainable is None else [("trainable", _trainable_words(TRAINABLES[study.trainable]))]),
        *([("classes", known.classes)] if known.classes else []),
        *([("prepared", known.prepared)] if known.prepared else []),
        ("metrics" if len(study.metrics) > 1 else "metric", _metric_words(study)),
        ("configurations", _number_words(count(study.space), "infinitely many")),
        ("sampler", _meaning(search.policy.sampler, _sampler_words(search.policy))),
        ("prior", _meaning(*_prior_words(prior_of(search)))),
        ("scheduler", _meaning(search.policy.scheduler, SCHEDULERS[search.policy.scheduler.value].description)),
        ("trials", f"{budget.trials}, time budget {time_budget}, {_share_words(search)}"),
        *([("devices", words)] if (words := _device_words(search)) else []),
        *([("stop when", _stop_words(budget.stop_when, study.metric))] if budget.stop_when is not None else []),
        *([("rungs", _rung_words(search.policy))] if len(rungs) > 1 else []),
        ("epochs", f"about {rungs[-1].epochs_spent:,}, at most {most_epochs(search):,}"),
        *([("probe", _probe_words(search))] if search.training.probe.value else []),
        ("finalists", _finalist_words(search)),
        *([("time", _time_words(budget.time_s, budget))] if budget.time_s is not None else []),
    ):
        facts.add_row(name, Text(value))
    console.print(Group(facts, "", draw_space(study.space), "", _rung_table(rungs)), soft_wrap=False)  # nothing is cut
    if study.baseline is not None:
        console.print(Text(f"baseline (trial 0): {describe_configuration(study.baseline, list(study.baseline))}"))
    for warning in plan_warnings(search):
        console.print(Text(f"warning: {warning}", style="yellow"))


def _trainable_words(trainable: Trainable) -> str:
    about = f": {trainable.description}" if trainable.description else ""
    return f"{trainable.name}, {Path(trainable.file).name}{about}"


def _data_words(study: Study) -> str:
    if study.data.folds:
        return f"{study.data.source}, parted into {study.data.folds} folds; the search validates on the first"
    return f"{study.data.source}, {study.data.validation_fraction:.0%} for validation unless it has its own"


def _metric_words(study: Study) -> str:
    words = ", ".join(f"{metric} ({metric_of(metric).mode})" for metric in study.metrics)
    if len(study.metrics) == 1:
        return words
    return f"{words}: the report has their Pareto front; the scheduler and the winner go by {study.metric}"


def _probe_words(search: ResolvedSearch) -> str:
    limit, why = format_seconds(probe_limit_s(search.budget.time_s)), search.training.probe.why
    number = len(backbone_configurations(search.study.network_space))
    words = f"what frozen features give of {number} of backbone and preprocessing"
    return f"{words}, in at most {limit} of a processor" + (f" (auto: {why})" if why else "")


def _prior_words(prior: Chosen[bool]) -> tuple[Chosen[str], str]:
    """Return the word of the file for a prior, with why it has it, and its meaning."""
    word, meaning = (
        ("shipped", "first what was best of each architecture on other data")
        if prior.value
        else ("none", "only what this search sees")
    )
    return Chosen(word, prior.why), meaning


def _finalist_words(search: ResolvedSearch) -> str:
    number, budget = search.budget.finalists, search.budget
    each = f"on each of {budget.folds} folds" if budget.folds else f"with {counted(budget.trainings_each, 'seed')} each"
    if not number:
        return "none: no trial is trained again, the test split stays unread"
    best = f"the best {number}"
    if len(search.study.metrics) > 1:
        best = f"the best by {search.study.metric}" + (f", {number - 1} more of the Pareto front" if number > 1 else "")
    baseline = " and the baseline" if search.study.baseline is not None else ""
    return f"{best}{baseline} again, {each}{_test_words(search.study)}"


def _test_words(study: Study) -> str:
    if study.trainable is None or TRAINABLES[study.trainable].predicts is not None:
        return "; then the test split"
    return f"; not the test split: {TRAINABLES[study.trainable].words} has no predict"


def _time_words(budget_s: float, budget: Budget) -> str:
    """Return the parts of a time budget; they are forecast anew from what is seen."""
    trials_s, finalists_s, closing_s = (
        format_seconds(seconds) for seconds in expected_parts(budget_s, budget.finalists)
    )
    words = f", at most {finalists_s} for finalists" if budget.finalists else ""
    return (
        f"at least {trials_s} for preparation and trials{words}, about {closing_s} for export and report; what does "
        f"not fit is left out: {'folds' if budget.folds else 'seeds'}, then finalists"
    )


def _stop_words(stop: StopWhenSection, metric: str) -> str:
    within = format_seconds(stop.within)
    return (
        f"another {within} are expected to gain less than {stop.expected_gain_below:g} of {metric}; not in the first "
        f"{within}, nor before {FEWEST_TRIALS} trials have a value"
    )


def _rung_words(policy: Policy) -> str:
    factor = policy.reduction_factor
    return f"at each, the best 1 of {factor.value} go on" + (f" (auto: {factor.why})" if factor.why else "")


def _sampler_words(policy: Policy) -> str:
    """Return what the sampler does; that times count is told, since suggestions are then not the same on every run."""
    return SAMPLERS[policy.sampler.value].description + (" per second" if policy.weighs_seconds else "")


def _share_words(search: ResolvedSearch) -> str:
    shares = {"CPU": search.shares.cpus, "GPU": search.shares.gpus}
    words = [f"{AUTO} {name}s" if share is None else counted(share, name) for name, share in shares.items()]
    return f"each with {' and '.join(words)}"


def _device_words(search: ResolvedSearch) -> str:
    """Return how several GPUs train a trial; empty where one does, or a share of one."""
    gpus, trainable = search.shares.gpus or 0.0, search.study.trainable
    if gpus <= 1:
        return ""
    if trainable is not None:
        return f"{gpus:g} GPUs for each trial, for {TRAINABLES[trainable].words} to use"
    sizes = [one.dimension for one in flatten(search.study.space) if one.name == "batch_size"]
    usual = int(str(general({}, "batch_size")))
    each = ", ".join(dict.fromkeys(words for size in sizes for words in _parts_of_batches(size, int(gpus))))
    return f"{gpus:g} GPUs train each trial together; of a batch, each takes: {each or _part(usual, int(gpus))}"


def _parts_of_batches(size: Dimension, gpus: int) -> list[str]:
    if isinstance(size, Integer | Real):
        return [f"{_part(int(size.low), gpus)} up to {_part(int(size.high), gpus)}"]
    return [_part(int(str(value)), gpus) for value in size.values]


def _part(images: int, gpus: int) -> str:
    """Return how many of a batch's images a device has.

    >>> _part(64, 2), _part(33, 2)
    ('32 of 64', '16 or 17 of 33')
    """
    least, more = divmod(images, gpus)
    return f"{least}{f' or {least + 1}' if more else ''} of {images}"


def _meaning(chosen: Chosen[str], description: str) -> str:
    return f"{chosen.value}: {description}" + (f" (auto: {chosen.why})" if chosen.why else "")


def draw_space(space: Space, tree: Tree | None = None) -> Tree:
    """Return the space as a tree, each branch with the number of its configurations."""
    tree = tree or Tree(Text("space", style="bold"))
    for name, dimension in space.items():
        written = name.partition(".")[2] or name  # of strengths, as they stand in their branch
        node = tree.add(Text.assemble((written, "cyan"), ": ", dimension.describe()))
        if isinstance(dimension, Choose):
            for branch, inner in dimension.branches.items():
                words = _number_words(count(inner), "a continuum")
                draw_space(inner, node.add(Text.assemble((branch, "bold"), f" ({words} of its own)")))
    return tree


def _number_words(number: int | float, infinite: str) -> str:
    """Return a number of configurations for people; the product of many choices has no end of digits."""
    if number == math.inf:
        return infinite
    return f"{number:,}" if number < 10**15 else f"about 10^{math.log10(int(number)):.0f}"


def _rung_table(rungs: tuple[Rung, ...]) -> Table:
    table = Table(title="rungs (expected)", title_justify="left", box=None, pad_edge=False)
    for name in ("epoch", "trials that train so far", "epochs spent by then"):
        table.add_column(name, justify="right")
    for rung in rungs:
        table.add_row(str(rung.epoch), str(rung.trials), f"{rung.epochs_spent:,}")
    return table
