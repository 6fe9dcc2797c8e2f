"""Own code of a search: which of it a search uses, and that a run goes on with the code that it began with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import SCHEDULERS
from tuner.common.errors import InputError, RunError
from tuner.common.metrics import METRICS, VALIDATION
from tuner.common.plugins import Plugin, as_given
from tuner.common.registry import PROGRAM, Origin, Registry
from tuner.datasets.sources import PREFIXED
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augment.operations import AUGMENTATION
from tuner.models.preprocessing import PREPROCESSING
from tuner.runs.directory import RunDirectory
from tuner.runs.events import OwnCode, StudyCreated
from tuner.session._resolved import ResolvedSearch, Study
from tuner.spec.space import flatten
from tuner.training.trainable import TRAINABLES

SHOWN = 12
"""Characters of a digest that are told."""


def used_code(search: ResolvedSearch, plugins: Sequence[Plugin]) -> list[OwnCode]:
    """Return all plugins of a search, and the code of installed packages that it uses."""
    given = [OwnCode(name=one.name, reference=one.reference, sha256=one.sha256) for one in plugins]
    known = {(one.name, one.sha256) for one in given}
    origins = sorted(set(_origins(search)) - known)
    return [*given, *(OwnCode(name=origin.name, sha256=origin.sha256) for origin in origins)]


def refuse_code_of_program(study: Study) -> None:
    """Refuse own code that no other process can have: it was registered by the program that calls tuner."""
    for what, origin in _of_study(study):
        if origin == PROGRAM:
            raise InputError(
                f"{what} was registered by this program, and processes that train do not have it: put it into a file "
                "of its own, and give that as a plugin"
            )


def refuse_missing_code(began: StudyCreated, plugins: Iterable[Plugin], run: RunDirectory) -> None:
    """Check that a run goes on with the plugins that it had; raises RunError that names the one that differs."""
    loaded = {plugin.name: plugin for plugin in plugins}
    for before in began.own_code:
        if before.reference is None:
            continue
        now = loaded.get(before.name)
        if now is None:
            raise RunError(
                f"{run.path} cannot go on without the own code that it began with: "
                f"--plugin {as_given(before.reference)} (sha256 {before.sha256[:SHOWN]})"
            )
        if now.sha256 != before.sha256:
            raise _other(run, as_given(now.reference), before.sha256, now.sha256)


def refuse_other_code(began: StudyCreated, search: ResolvedSearch, run: RunDirectory) -> None:
    """Check that installed packages have the code that a run has used; raises RunError that names what differs."""
    now = {origin.name: origin for origin in _origins(search)}
    for before in began.own_code:
        if before.name in now and now[before.name].sha256 != before.sha256:
            raise _other(run, before.name, before.sha256, now[before.name].sha256)


def _other(run: RunDirectory, name: str, before: str, now: str) -> RunError:
    return RunError(
        f"{run.path} cannot go on: the own code {name} is not the one that it began with (sha256 was "
        f"{before[:SHOWN]}, is {now[:SHOWN]}): put that back, or begin another run with --fresh"
    )


def _origins(search: ResolvedSearch) -> Iterator[Origin]:
    yield from (origin for _, origin in _of_study(search.study))
    policy = search.policy
    for origin in (SAMPLERS.origin(policy.sampler.value), SCHEDULERS.origin(policy.scheduler.value)):
        if origin is not None:
            yield origin


def _of_study(study: Study) -> Iterator[tuple[str, Origin]]:
    """Yield what of a study is own code, and where it comes from."""
    metrics = [name.removeprefix(VALIDATION) for name in study.metrics]
    found = [(METRICS.kind, name, METRICS.origin(name)) for name in metrics]
    kind = study.data.source.partition(":")[0]
    found.append((PREFIXED.kind, kind, PREFIXED.origin(kind)))
    if study.trainable is not None:
        found.append((TRAINABLES.kind, study.trainable, TRAINABLES.origin(study.trainable)))
    pipelines: dict[str, Registry[Any]] = {"preprocess": PREPROCESSING, "augment": AUGMENTATION}
    for parameter in flatten(study.network_space):
        values = [str(value) for value in getattr(parameter.dimension, "values", ())]
        if parameter.name == "architecture":
            found += [(ARCHITECTURES.kind, name, ARCHITECTURES.origin(name)) for name in values]
        elif (registry := pipelines.get(parameter.name.partition(".")[0])) is not None:
            # An operation may be named in a text, or by a strength of its own.
            names_there = re.findall(r"[A-Za-z_]\w*", " ".join([*values, parameter.name]))
            found += [(registry.kind, name, registry.origin(name)) for name in names_there]
    yield from ((f"{what} {name}", origin) for what, name, origin in found if origin is not None)
