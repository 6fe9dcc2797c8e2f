"""The contents of a plugin, with the checks that there are for each."""

from __future__ import annotations

import importlib.util
import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tuner.common.errors import InputError, PluginError
from tuner.common.files import as_typed, user_path
from tuner.common.metrics import METRICS
from tuner.common.plugins import Plugin, is_file, load_plugins
from tuner.common.registry import unknown_name
from tuner.contracts.author import Author
from tuner.contracts.check import Check, Outcome, outcomes
from tuner.contracts.fresh_process import FreshProcess
from tuner.datasets.sources import NAMED, PREFIXED

_LOADS = Check[Any]("loading", "is executed, and registers what can be", lambda _subject: ())


@dataclass(frozen=True)
class CheckedSubject:
    """One thing that a plugin registers: where it stands, how many checks there are, and what runs them."""

    kind: str
    name: str
    plugin: str
    place: str
    checks: int
    run: Callable[[Collection[str]], Iterator[Outcome]]
    """Runs all checks, or those of some names and the ones that these need."""


@contextmanager
def checked_subjects(
    references: Sequence[str], only: Sequence[str], sources: Sequence[str] = ()
) -> Iterator[list[CheckedSubject]]:
    """Load plugins, and give what is tested of each, in order; a plugin that cannot be loaded fails its only check.

    `sources`, `NAME:REFERENCE`, say what sources are given to read that take a reference.

    Raises:
        InputError: a plugin is not there, or nothing is registered under a name of `only` or `sources`.
    """
    given = dict(one.partition(":")[::2] for one in sources)
    found: list[CheckedSubject] = []
    processes: list[FreshProcess] = []
    try:
        for reference in dict.fromkeys(references):
            found += _subjects(reference, only, processes, given)
        names = [one.name for one in found if one.kind != "plugin"]
        unknown = next((name for name in only if name not in names), None)
        if unknown is not None and all(one.kind != "plugin" for one in found):
            raise InputError(f"--only: {unknown_name('name', unknown, names)}")
        own = [one.name for one in found if one.kind == PREFIXED.kind and one.name in PREFIXED]
        strange = next((name for name in given if name not in own), None)
        if strange is not None and all(one.kind != "plugin" for one in found):
            raise InputError(f"--source: {unknown_name('own source with a reference', strange, own)}")
        yield [one for one in found if not only or one.name in only or one.kind == "plugin"]
    finally:
        for process in processes:
            process.end()


def _subjects(
    reference: str, only: Sequence[str], processes: list[FreshProcess], given: Mapping[str, str]
) -> list[CheckedSubject]:
    if not _is_there(reference):
        load_plugins([reference])  # says why it is not, before Keras is loaded
    _load_quietly()
    from tuner.contracts._process_state import state
    from tuner.contracts._reproducibility import globals_watched
    from tuner.models.own_networks import load_own_code

    author = Author.of(str(user_path(reference)) if is_file(reference) else reference)
    seen: dict[str, str] = {}
    before = state()
    try:
        with globals_watched(author, seen):
            plugin = load_own_code([reference])[0]
    except PluginError as error:
        outcome = Outcome(_LOADS.name, _LOADS.promise, "failed", (str(error),))
        return [CheckedSubject("plugin", reference, reference, reference, 1, lambda _names: iter([outcome]))]
    author = Author(author.place, seen, before)
    names = [name for kind, name in plugin.registered if kind == "architecture" and (not only or name in only)]
    fresh = FreshProcess(plugin.reference, names)
    processes.append(fresh)
    return [_tested(plugin, kind, name, author, fresh, given) for kind, name in plugin.registered]


def _load_quietly() -> None:
    """Load Keras without what TensorFlow says of itself, and of networks that are built many times."""
    from tuner.models.backend import configure_backend

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    configure_backend()


def _is_there(reference: str) -> bool:
    """Return whether a plugin is there, so that what is wrong is its code."""
    if is_file(reference):
        return user_path(reference).is_file()
    try:
        return importlib.util.find_spec(reference) is not None
    except (ImportError, ValueError):
        return importlib.util.find_spec(reference.partition(".")[0]) is not None


def _tested(
    plugin: Plugin, kind: str, name: str, author: Author, fresh: FreshProcess | None, given: Mapping[str, str]
) -> CheckedSubject:
    if kind == PREFIXED.kind:  # that of NAMED, too
        checks, subject, function = _source(name, author, "" if name in NAMED else given.get(name))
    else:
        checks, subject, function = _MAKERS.get(kind, _nothing)(name, author, fresh)
    line = getattr(getattr(inspect.unwrap(function), "__code__", None), "co_firstlineno", None) if function else None
    file = as_typed(Path(plugin.reference)) if is_file(plugin.reference) else plugin.reference
    place = f"{file}:{line}" if line and is_file(plugin.reference) else file
    return CheckedSubject(kind, name, plugin.name, place, len(checks), partial(_outcomes, subject, checks))


def _outcomes(subject: Any, checks: Sequence[Check[Any]], names: Collection[str]) -> Iterator[Outcome]:
    return outcomes(subject, [check for check in checks if not names or check.is_needed or check.name in names])


Made = tuple[Sequence[Check[Any]], Any, Callable[..., Any] | None]


def _nothing(_name: str, _author: Author, _fresh: FreshProcess | None) -> Made:
    return (), None, None


def _architecture(name: str, author: Author, fresh: FreshProcess | None) -> Made:
    from tuner.contracts.architectures import ARCHITECTURE_CHECKS
    from tuner.contracts.networks import ArchitectureSubject
    from tuner.models.architectures import ARCHITECTURES

    architecture = ARCHITECTURES[name]
    function = inspect.getclosurevars(architecture.build).nonlocals.get("function")
    declared = None if architecture.backbone_parameters is None else frozenset(architecture.backbone_parameters)
    elsewhere = None if fresh is None else fresh.found
    subject = ArchitectureSubject(architecture, author, function, own_parameters=declared, elsewhere=elsewhere)
    return ARCHITECTURE_CHECKS, subject, function


def _augmentation(name: str, author: Author, _fresh: FreshProcess | None) -> Made:
    from tuner.contracts.augmentations import AUGMENTATION_CHECKS
    from tuner.contracts.preprocessing import OperationSubject
    from tuner.models.augment.operations import AUGMENTATION, OnBatch

    effect = AUGMENTATION[name].effect
    function = inspect.getclosurevars(effect.apply).nonlocals.get("function") if isinstance(effect, OnBatch) else None
    return AUGMENTATION_CHECKS, OperationSubject(name, AUGMENTATION[name].arguments, author), function


def _preprocessing(name: str, author: Author, _fresh: FreshProcess | None) -> Made:
    from tuner.contracts.preprocessing import PREPROCESSING_CHECKS, OperationSubject
    from tuner.models.preprocessing import PREPROCESSING

    effect = PREPROCESSING[name].effect
    function = inspect.getclosurevars(effect.apply).nonlocals.get("function")
    return PREPROCESSING_CHECKS, OperationSubject(name, PREPROCESSING[name].arguments, author), function


def _metric(name: str, author: Author, _fresh: FreshProcess | None) -> Made:
    from tuner.contracts.data import METRIC_CHECKS, MetricSubject

    measure = METRICS[name].measure
    function = inspect.getclosurevars(measure).nonlocals.get("function") if callable(measure) else None
    return METRIC_CHECKS, MetricSubject(name, METRICS[name], author), function


def _source(name: str, author: Author, reference: str | None) -> Made:
    from tuner.contracts.data import SOURCE_CHECKS, SourceSubject

    source = NAMED[name] if name in NAMED else PREFIXED[name]
    function = inspect.getclosurevars(source.read).nonlocals.get("function")
    if reference is None:
        return (), None, function
    return SOURCE_CHECKS, SourceSubject(name, source, reference, author), function


def _trainable(name: str, author: Author, _fresh: FreshProcess | None) -> Made:
    from tuner.contracts.trainables import TRAINABLE_CHECKS, TrainableSubject
    from tuner.training.trainable import TRAINABLES

    trainable = TRAINABLES[name]
    return TRAINABLE_CHECKS, TrainableSubject(trainable, author), trainable.train


_MAKERS: dict[str, Callable[[str, Author, FreshProcess | None], Made]] = {
    "architecture": _architecture,
    "augmentation": _augmentation,
    "preprocessing": _preprocessing,
    "trainable": _trainable,
    "metric": _metric,
}
