"""Checks that the names and values in a search-space file exist and go together, before anything heavy is loaded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import MUTABLE, SCHEDULERS, mutable_dimensions, numeric
from tuner.cluster.ray_session import Capacity, gpus_here
from tuner.common.errors import InputError, Problem
from tuner.common.metrics import epoch_objectives, facts, metric_of
from tuner.common.plugins import loaded_plugins
from tuner.common.process import usable_cpus
from tuner.common.registry import is_nothing, unknown_name
from tuner.common.words import as_written
from tuner.datasets.request import check_source_exists, contradictions
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augmentation import by_operation, call_with, parse_augment, strength_parameter
from tuner.models.parameters import GENERAL, Parameter
from tuner.models.preprocessing import parse_preprocess
from tuner.session._resolved import Shares, has_unfreezing, resolved_scheduler
from tuner.spec.schema import AUTO, given
from tuner.spec.space import Choice, Choose, Dimension, Integer, Real, Space, count
from tuner.spec.spec import SpecReading
from tuner.spec.strengths import OWNER, Finding, Path
from tuner.training.recipes.combinations import against_training, without_effect
from tuner.training.trainable import TRAINABLES, Trainable

BATCH_SIZE = "batch_size"


def check_names(reading: SpecReading, staged: Mapping[str, str], *, goes_on: bool = False) -> list[Problem]:
    """Return every unknown name in a file, and every setting that contradicts another; empty when all is well.

    `staged` are the copies of data sets by name: these names are known too. Where a run `goes_on`, a setting that has
    no effect is none of its problems: it began with it, and no other is allowed.
    """
    findings = [
        *_check_data(reading, staged),
        *_check_folds(reading),
        *_check_devices(reading),
        *(_check_networks(reading) if reading.trainable is None else _check_trainable(reading)),
        *_check_search(reading, goes_on),
    ]
    written = [(_as_written(reading, path), message) for path, message in findings]
    problems = [reading.problem(path, message) for path, message in dict.fromkeys(written)]
    return [problem for problem in problems if not reading.document.is_echo(problem.field)]


def check_files(reading: SpecReading, staged: Mapping[str, str]) -> list[Problem]:
    """Return the problems with the location of a file's data, without looking at the data."""
    try:
        if reading.data is not None:
            check_source_exists(reading.data.source, staged)
    except InputError as error:
        return [reading.problem(("data", "source"), str(error))]
    return []


def beyond_this_machine(shares: Shares) -> str:
    """Return what is wrong with shares that this machine cannot give to one trial; empty: it can."""
    cpus, gpus = usable_cpus(), gpus_here() if shares.gpus else 0
    for name, wanted, there in (("cpus", shares.cpus, cpus), ("gpus", shares.gpus, gpus)):
        if wanted and wanted > there:
            return (
                f"resources.{name}_per_trial must be at most {there}, the {name[:-1].upper()}s that this machine gives "
                f"to tuner; got {wanted:g}"
            )
    return ""


def checked_gpus(shares: Shares, capacity: Capacity, computes: Callable[[], bool]) -> tuple[Capacity, str]:
    """Return the capacity without GPUs of this machine on which TensorFlow cannot compute, and what to say of them.

    Raises:
        InputError: trials are to have them.
    """
    if not capacity.gpus or capacity.is_cluster or shares.gpus == 0 or computes():
        return capacity, ""
    why = (
        f"TensorFlow sees none of this machine's {capacity.gpus:g} GPUs: its CUDA libraries come with "
        "pip install --editable '.[gpu]' (or CUDA_VISIBLE_DEVICES hides them)"
    )
    if shares.gpus:
        raise InputError(f"resources.gpus_per_trial must be 0 here; {why}")
    return replace(capacity, gpus=0.0), f"trials train on CPUs: {why}"


def _as_written(reading: SpecReading, path: Path) -> Path:
    """Return the path of a value in the space as far as it is written: a constant has no `choice`, a text no parts."""
    value: Any = reading.document.values
    for length, part in enumerate(path if path[:1] == ("space",) else ()):
        if not isinstance(value, dict | list) or (part == "choice" and part not in value):
            return path[:length]
        value = value[int(part)] if isinstance(value, list) else value.get(part, {})
    return path


def _check_data(reading: SpecReading, staged: Mapping[str, str]) -> Iterator[Finding]:
    if reading.data is None:
        return
    data = reading.data
    for name, problem in contradictions(data.source, data.layout, data.model_dump()["columns"], data.group, staged):
        yield ("data", name), problem
    if data.jpeg_quality is not None and data.storage == "arrays":
        yield ("data", "jpeg_quality"), "must be none with storage: arrays, which lose nothing; encoded images have one"


def _check_folds(reading: SpecReading) -> Iterator[Finding]:
    """Yield settings beside folds that say, too, how much is held out and how often finalists are trained."""
    data, finalists = reading.data, reading.finalists
    if data is None or data.validation is None:
        return
    folds = data.validation.folds
    if "validation_fraction" in data.model_fields_set:
        yield (
            ("data", "validation_fraction"),
            f"must be left out with data.validation: each of {folds} folds holds out one of {folds} images; "
            f"got {data.validation_fraction:g}: leave one of the two out",
        )
    if finalists is not None and "seeds" in finalists.model_fields_set:
        yield (
            ("finalists", "seeds"),
            f"must be left out with data.validation: a finalist is trained on each of {folds} folds, with a new seed "
            f"on each; got {finalists.seeds}: leave one of the two out",
        )


def _check_networks(reading: SpecReading) -> Iterator[Finding]:
    """Yield the problems with networks; with their recipes where names and values are right."""
    findings = list(_check_architectures(reading))
    if not findings and "architecture" in reading.space and reading.training is not None:
        training, stopping = reading.training, reading.training.early_stopping
        patience = None if stopping is None else stopping.patience
        findings += without_effect(reading.space)
        findings += against_training(reading.space, training.max_epochs, training.head_epochs, patience)
    yield from findings


def _check_devices(reading: SpecReading) -> Iterator[Finding]:
    """Yield sizes of batches of which some of a trial's GPUs would have no image."""
    gpus = given(reading.resources.gpus_per_trial) if reading.resources is not None else None
    if gpus is None or gpus <= 1 or reading.trainable is not None:
        return
    rule = f"must be at least {gpus:g}, the GPUs of a trial (resources.gpus_per_trial), which share a batch"
    branches = [
        (branch, ("space", owner, "choose", name))
        for owner, dimension in reading.space.items()
        if isinstance(dimension, Choose)
        for name, branch in dimension.branches.items()
    ]
    found = [
        (level[BATCH_SIZE], (*path, BATCH_SIZE))
        for level, path in [(reading.space, ("space",)), *branches]
        if BATCH_SIZE in level
    ]
    for dimension, path in found:
        if isinstance(dimension, Integer | Real) and dimension.low < gpus:
            yield path, f"{rule}; got {dimension.describe()}"
        for index, value in enumerate(getattr(dimension, "values", ())):
            if isinstance(value, int | float) and value < gpus:
                yield (*path, "choice", index), f"{rule}; got {value}"
    default = GENERAL[BATCH_SIZE].default
    if not found and int(str(default)) < gpus:
        yield ("resources", "gpus_per_trial"), f"must be at most {default}, the size of a batch; got {gpus:g}"


def _check_architectures(reading: SpecReading) -> Iterator[Finding]:
    """Yield the problems with the names of architectures and with their parameters and values."""
    space = reading.space
    chosen = space.get("architecture")
    if chosen is None:
        if space and not _is_named(reading.document.values):  # one that cannot be read is reported
            names = ", ".join(sorted(ARCHITECTURES))
            own = f", or the file a trainable ({', '.join(TRAINABLES)})" if len(TRAINABLES) else ""
            yield ("space",), f"must have an architecture (known: {names}){own}"
        return
    if isinstance(chosen, Integer | Real):
        yield ("space", "architecture"), f"must be a choice of names; got {chosen.describe()}"
        return
    for index, name in enumerate(chosen.values):
        if name not in ARCHITECTURES:
            place = ("choose", str(name)) if isinstance(chosen, Choose) else ("choice", index)
            yield ("space", "architecture", *place), ARCHITECTURES.refusal(str(name))
    known = [str(name) for name in chosen.values if name in ARCHITECTURES]
    if len(known) == len(chosen.values):
        yield from _check_level(space, known, ("space",))
    else:  # nobody can say whose parameters are meant
        yield from _check_level(space, list(ARCHITECTURES), ("space",), is_of_all=False)
    if isinstance(chosen, Choose):
        for name in known:
            yield from _check_level(chosen.branches[name], [name], ("space", "architecture", "choose", name))


def _is_named(written: Mapping[str, Any]) -> bool:
    return "architecture" in written["space"] or not is_nothing(written.get("trainable"))


def _check_level(
    space: Space, architectures: Sequence[str], path: Path, *, is_of_all: bool = True
) -> Iterator[Finding]:
    """Yield the problems with one level: each parameter must be general, or of an architecture that may see it.

    Its values must be right for all of these architectures, or else for one of them.
    """
    for name, dimension in space.items():
        if name == "architecture" and path == ("space",):
            continue
        owners = [GENERAL] if name in GENERAL else [ARCHITECTURES[other].parameters for other in architectures]
        parameters = [owner[name] for owner in owners if name in owner]
        if not parameters:
            known = {*GENERAL, *(known for owner in owners for known in owner)}
            yield (*path, name), unknown_name("hyperparameter", name, known)
        found = [list(_check_values(name, dimension, parameter, (*path, name))) for parameter in parameters]
        if is_of_all or all(found):
            yield from (problem for problems in (found if is_of_all else found[:1]) for problem in problems)


def _check_values(name: str, dimension: Dimension, parameter: Parameter, path: Path) -> Iterator[Finding]:
    match dimension:
        case Integer(low, high, _, _) | Real(low, high, _):
            if misfit := parameter.range_misfit(low, high):
                yield path, misfit
            elif isinstance(dimension, Real) and parameter.kind == "int":
                yield path, f"must be a range of whole numbers; got {dimension.describe()}"
        case Choose(branches) if name == OWNER:
            for branch, inner in branches.items():
                for operation, dimensions in by_operation(inner).items():
                    yield from _check_strengths(operation, dimensions, (*path, "choose", branch, operation))
        case Choose():
            yield path, f"must not branch: only the architecture and {OWNER} have parameters of their own"
        case Choice(values):
            for index, value in enumerate(values):
                misfit = parameter.misfit(value)
                if misfit := misfit or (_text_misfit(name, value) if parameter.kind == "text" else None):
                    yield (*path, "choice", index), misfit


def _check_strengths(operation: str, dimensions: Mapping[str, Dimension], path: Path) -> Iterator[Finding]:
    """Yield the problems with an operation of a branch of `augment`: its name, its strengths, what they lack."""
    found: list[Finding] = []
    for argument, dimension in dimensions.items():
        place = (*path, argument) if argument else path
        try:
            parameter = strength_parameter(operation, argument)
        except InputError as error:
            found.append((place, str(error)))
            continue
        if isinstance(dimension, Choice):
            misfits = ((index, _misfit_of(operation, argument, value)) for index, value in enumerate(dimension.values))
            found += [((*place, "choice", index), misfit) for index, misfit in misfits if misfit]
        else:
            found += _check_values(operation, dimension, parameter, place)
    if not found:
        found += [
            (path, str(error))
            for error in _refusals(operation, {name: _first(one) for name, one in dimensions.items()})
        ]
    yield from found


def _misfit_of(operation: str, argument: str, value: object) -> str | None:
    """Return the problem with one strength, or None."""
    if argument:
        parameter = strength_parameter(operation, argument)  # of words, also for true and numbers of own choices
        is_known = parameter.kind == "choice" and parameter.misfit(as_written(value)) is None
        return None if is_known else parameter.misfit(value)
    return next((str(error) for error in _refusals(operation, {argument: value})), None)


def _refusals(operation: str, values: Mapping[str, object]) -> Iterator[InputError]:
    try:
        call_with(operation, values)
    except InputError as error:
        yield error


def _first(dimension: Dimension) -> object:
    return dimension.low if isinstance(dimension, Integer | Real) else dimension.values[0]


_TEXTS: dict[str, Callable[[str], object]] = {"preprocess": parse_preprocess, "augment": parse_augment}


def _text_misfit(name: str, value: object) -> str | None:
    """Return the problem with a preprocessing or augmentation text, or None."""
    if name not in _TEXTS or not isinstance(value, str):
        return None
    try:
        _TEXTS[name](value)
    except InputError as error:
        return str(error)
    return None


def _check_search(reading: SpecReading, goes_on: bool) -> Iterator[Finding]:
    """Yield unknown samplers and schedulers, and settings of the search that contradict each other."""
    search = reading.search
    if search is None:
        return
    sampler, scheduler = given(search.sampler), resolved_scheduler(search.scheduler).value
    needed = SCHEDULERS[scheduler].sampler if scheduler in SCHEDULERS else None
    if sampler is not None and sampler not in SAMPLERS:
        yield ("search", "sampler"), unknown_name("sampler", sampler, [*SAMPLERS, AUTO])
    elif (
        search.improvement_per_second is True
        and (used := sampler or (None if goes_on else needed))  # the latter was no problem of earlier versions
        and not SAMPLERS[used].weighs_seconds
    ):
        heeding = [name for name in SAMPLERS if SAMPLERS[name].weighs_seconds]
        yield (
            ("search", "improvement_per_second"),
            f"must be false with {sampler or scheduler}: only {', '.join(heeding)} weighs seconds",
        )
    elif sampler is not None and SAMPLERS[sampler].tries_all and count(reading.space) == math.inf:
        ranges = ", ".join(_continuous(reading.space))
        yield ("search", "sampler"), f"must not be {sampler} with ranges of floats; got {ranges}: list choices"
    yield from _check_metrics(reading)
    yield from _check_stop(reading)
    if scheduler not in SCHEDULERS:
        yield ("search", "scheduler"), unknown_name("scheduler", scheduler, [*SCHEDULERS, AUTO])
    else:
        yield from _check_scheduler(reading, scheduler)


def _check_metrics(reading: SpecReading) -> Iterator[Finding]:
    """Yield a sampler or a scheduler that looks at one metric, where there are several."""
    search = reading.search
    if search is None or len(reading.metrics) < 2:
        return
    if search.stop_when is not None:
        yield ("search", "stop_when"), "must be none with several metrics: they have no best value to gain on"
    able = sorted(name for name in SAMPLERS if not SAMPLERS[name].knows_one_metric)
    if search.sampler in SAMPLERS and search.sampler not in able:
        words = f"must be auto, {', '.join(able[:-1])} or {able[-1]} with several metrics"
        yield ("search", "sampler"), f"{words}; got {search.sampler}, which knows one"
    scheduler = resolved_scheduler(search.scheduler).value
    needed = SCHEDULERS[scheduler].sampler if scheduler in SCHEDULERS else None
    if needed is not None and needed not in able:
        words = f"must not be {scheduler} with several metrics: its sampler, {needed}, knows one"
        yield ("search", "scheduler"), words


def _check_stop(reading: SpecReading) -> Iterator[Finding]:
    """Yield an expected gain of a share that is more than all there is: every search would end by it."""
    stop = None if reading.search is None else reading.search.stop_when
    if stop is None or not reading.metrics or reading.metrics[0] not in epoch_objectives():
        return
    if metric_of(reading.metrics[0]).unit == "share" and stop.expected_gain_below >= 1:
        words = f"must be below 1 for {reading.metrics[0]}, of which 0.01 is one point"
        yield ("search", "stop_when", "expected_gain_below"), f"{words}; got {stop.expected_gain_below:g}"


def _continuous(space: Space) -> Iterator[str]:
    for name, dimension in space.items():
        if isinstance(dimension, Real):
            yield name
        elif isinstance(dimension, Choose):
            for inner in dimension.branches.values():
                yield from _continuous(inner)


def _check_scheduler(reading: SpecReading, name: str) -> Iterator[Finding]:
    search, entry = reading.search, SCHEDULERS[name]
    if search is None:
        return
    if entry.sampler and given(search.sampler) not in (None, entry.sampler):
        copies = ", which copies and perturbs" if entry.is_population else ""
        yield ("search", "sampler"), f"must be auto or {entry.sampler} with {name}{copies}; got {search.sampler}"
    if entry.is_population and reading.space:
        mutable = mutable_dimensions(reading.space, _changeable(reading))
        usable = numeric(mutable) if entry.changes_numbers_only else mutable
        if not usable:
            kind = "range of numbers" if entry.changes_numbers_only else "choice or range"
            such = ", such as learning_rate" if reading.trainable is None else ": @tuner.trainable(changeable=[...])"
            yield (
                ("search", "scheduler"),
                f"must not be {name}: the space has no {kind} that can change in running trials{such}",
            )
    yield from _check_grace(reading, entry.halves)


def _changeable(reading: SpecReading) -> tuple[str, ...]:
    name = reading.trainable
    return TRAINABLES[name].changeable if name is not None and name in TRAINABLES else MUTABLE


def _check_grace(reading: SpecReading, halves: bool) -> Iterator[Finding]:
    search, training = reading.search, reading.training
    grace = given(search.grace_epochs) if search is not None else None
    if grace is None or training is None:
        return
    if grace > training.max_epochs:
        yield ("search", "grace_epochs"), f"must be at most max_epochs, {training.max_epochs}; got {grace}"
    if halves and reading.trainable is None and has_unfreezing(reading.space) and grace <= training.head_epochs:
        yield (
            ("search", "grace_epochs"),
            f"must be longer than the head phase, {training.head_epochs} epochs: before it ends, shallow and deep "
            f"unfreezing cannot be compared; got {grace}",
        )


def _check_trainable(reading: SpecReading) -> Iterator[Finding]:
    """Yield the problems of a file that names a trainable."""
    name = str(reading.trainable)
    if "architecture" in reading.space:
        yield (
            ("trainable",),
            "must be left out beside space.architecture: trials train either networks or a function of your own; "
            "leave one of the two out",
        )
    elif name not in TRAINABLES:
        yield ("trainable",), _unknown_trainable(name)
    else:
        yield from _check_own_space(reading, TRAINABLES[name])
    yield from _check_network_settings(reading)


def _unknown_trainable(name: str) -> str:
    """Return what to say of a name that no plugin has registered."""
    if len(TRAINABLES):
        return unknown_name("trainable", name, TRAINABLES)
    plugins = ", ".join(plugin.name for plugin in loaded_plugins())
    brought = f"{plugins} registers none" if plugins else "--plugin FILE.py brings the file that registers it"
    return f"unknown trainable {name[:80]!r}: {brought}, below @tuner.trainable(parameters=...)"


def _check_own_space(reading: SpecReading, trainable: Trainable) -> Iterator[Finding]:
    for name, dimension in reading.space.items():
        path: Path = ("space", name)
        if name not in trainable.parameters:
            known = ", ".join(trainable.parameters) or "none"
            words = unknown_name("hyperparameter", name, trainable.parameters)
            yield path, f"{words.partition(' (known')[0]} ({trainable.words} has: {known})"
        elif isinstance(dimension, Choose):
            yield path, f"must not branch: the parameters of {trainable.words} are all on one level"
        else:
            yield from _check_values(name, dimension, trainable.parameters[name], path)


def _check_network_settings(reading: SpecReading) -> Iterator[Finding]:
    """Yield settings that are of networks alone."""
    written = reading.document.values
    kept = written.get("activations")
    if kept is not None and not is_nothing(kept) and kept != {"enabled": False}:
        yield (
            ("activations",),
            "must be left out with a trainable: what of it is frozen, and could be kept, only its author knows",
        )
    if reading.training is not None and "head_epochs" in reading.training.model_fields_set:
        yield ("training", "head_epochs"), "must be left out with a trainable: it has no phases but its author's"
    for index, metric in enumerate(reading.metrics):
        if metric in facts():
            yield (
                ("metrics", index),
                f"must be measured in every epoch with a trainable; {metric} is told of networks alone",
            )
