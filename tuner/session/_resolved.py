"""A search with nothing left open: each `auto` of its file is answered here, once, and nowhere else.

What the machines answer (how many trials run at once, and what each gets) is `None` until `_packing` has seen them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from tuner.algorithms.halving import bracket_epochs, default_grace_epochs, default_reduction_factor, rung_epochs
from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import MUTABLE, SCHEDULERS
from tuner.common.metrics import Mode, metric_of
from tuner.datasets.request import DataRequest
from tuner.models.architectures import ARCHITECTURES, PRETRAINED
from tuner.models.preprocessing import asked_by
from tuner.runs.events import SessionStarted
from tuner.spec.schema import ActivationsSection, StopWhenSection, given
from tuner.spec.space import Choice, Configuration, Dimension, Integer, Space, count, flatten, has_branches
from tuner.spec.spec import Spec
from tuner.training.settings import ActivationSettings, TrialSettings
from tuner.training.trainable import TRAINABLES

SAMPLER, SCHEDULER = "gp", "asha"
"""Scheduler for `auto` where nothing speaks for another one."""

PRIOR_WHY = "measured ahead after a tenth of the budget, and not behind at its end"

PROBE_SHARE, PROBE_S = 0.05, 60.0
"""Most of a time budget that probes of frozen features take, in processor time; without a budget, so many seconds."""
PROBED_FROM_S = 600.0
"""With `auto`, the shortest time budget with which features are probed."""

Value = TypeVar("Value")


class Chosen(NamedTuple, Generic[Value]):
    """A setting, and why it has its value."""

    value: Value
    why: str = ""
    """Empty where the file gives the value."""


NO_PROBE = Chosen(False)


@dataclass(frozen=True)
class Study:
    """The question: which configuration of the space does best on the data."""

    name: str
    data: DataRequest
    metrics: tuple[str, ...]
    """All that is optimised; the scheduler compares the first, and the first makes the winner."""
    space: Space
    baseline: Configuration | None
    seed: int

    @property
    def metric(self) -> str:
        """The first of the metrics, which every epoch measures."""
        return self.metrics[0]

    @property
    def mode(self) -> Mode:
        """Whether the metric is to be maximised or minimised."""
        return metric_of(self.metric).mode

    @property
    def trainable(self) -> str | None:
        """The training function of one's own that trials train; None: networks of an architecture in the space."""
        return None

    @property
    def network_space(self) -> Space:
        """The space as far as its names are those of networks."""
        return self.space

    @property
    def changeable(self) -> tuple[str, ...]:
        """Hyperparameters that a population may change in running trials."""
        return MUTABLE


@dataclass(frozen=True)
class OwnStudy(Study):
    """A study of a training function of one's own."""

    function: str

    @property
    def trainable(self) -> str:
        """The name of the function."""
        return self.function

    @property
    def network_space(self) -> Space:
        """An empty space: what networks know by the names in it may be something else."""
        return {}

    @property
    def changeable(self) -> tuple[str, ...]:
        """The parameters that its author lets a population change."""
        return TRAINABLES[self.function].changeable


@dataclass(frozen=True)
class Policy:
    """The rules by which configurations are chosen, and by which trials go on."""

    sampler: Chosen[str]
    scheduler: Chosen[str]
    weighs_seconds: bool
    """Whether the sampler expects improvement per second."""
    grace_epochs: int
    """The first epoch at which trials are compared."""
    reduction_factor: Chosen[int]
    """One of how many trials goes on at a rung."""
    rungs: tuple[int, ...]
    """The epochs below the last at which trials are compared; where the scheduler does not halve, would be."""

    @property
    def compared_at(self) -> tuple[int, ...]:
        """The rungs of a scheduler that halves; none of another one."""
        return self.rungs if SCHEDULERS[self.scheduler.value].halves else ()


@dataclass(frozen=True)
class Budget:
    """All that a search may spend."""

    trials: int
    time_s: float | None
    finalists: int
    trainings_each: int
    """Of a finalist: with so many seeds, or on so many folds."""
    folds: int = 0
    """Of the data; 0: there are none."""
    stop_when: StopWhenSection | None = None
    """The expected gain with which the search ends; None: it is not looked at."""


@dataclass(frozen=True)
class Training:
    """The training of every trial."""

    settings: TrialSettings
    """With the study's seed, from which each trial derives its own."""
    activations: ActivationsSection
    depths: Mapping[str, tuple[int, ...]]
    """The unfreeze depths that the space holds, by architecture."""
    probe: Chosen[bool] = NO_PROBE
    """Whether frozen features are probed while the first trials train."""

    def augmented_on(self, place: Literal["host", "device"]) -> Training:
        """Return the same training with images augmented there."""
        return replace(self, settings=replace(self.settings, augments_on_device=place == "device"))

    def activations_in(self, cache_dir: Path) -> ActivationSettings | None:
        """Return how activations of frozen layers are kept in a folder; None: they are computed in every epoch."""
        kept = self.activations
        if not kept.enabled:
            return None
        return ActivationSettings(cache_dir, kept.dtype, int(kept.max_gb * 2**30), kept.views, self.depths)


@dataclass(frozen=True)
class Shares:
    """The part of the machines that the file gives to trials; what is None, the machines decide (`_packing`)."""

    at_once: int | None
    cpus: float | None
    gpus: float | None
    memory_gb: float | None
    """Most host memory; infinite: there is no limit."""
    hung_after_epochs: float | None
    """A trial that shows nothing for so many epochs is ended; None: none is."""


@dataclass(frozen=True)
class ResolvedSearch:
    """A search-space file with nothing left open."""

    study: Study
    policy: Policy
    budget: Budget
    training: Training
    shares: Shares
    specification: Mapping[str, Any]
    """The file itself with every default written out, as the record keeps it."""


def resolve(spec: Spec) -> ResolvedSearch:
    """Return the search that a checked file asks for."""
    search, written = spec.search, spec.resolved()
    of_networks = spec.space if spec.trainable is None else {}
    data = DataRequest(**written["data"], asked=asked_by(of_networks))
    study = Study(spec.study, data, spec.metrics, spec.space, spec.baseline, search.seed)
    return ResolvedSearch(
        study if spec.trainable is None else OwnStudy(**vars(study), function=spec.trainable),
        _policy(spec),
        Budget(
            _trials(spec),
            search.time_budget,
            spec.finalists.count,
            data.folds or spec.finalists.seeds,
            data.folds or 0,
            search.stop_when,
        ),
        Training(_settings(spec), _activations(spec), unfreeze_depths(of_networks), _probe(spec)),
        _shares(spec),
        written,
    )


def augment_on(search: ResolvedSearch, gpus: float, before: Sequence[SessionStarted]) -> Literal["host", "device"]:
    """Return where images are augmented: on the GPU, if a trial has one, or as in the sessions `before` this one.

    The two draw other numbers, so a study stays with what it began with, whatever machine goes on with it. For several
    GPUs of one trial, batches are parted on the host.
    """
    if before:
        return before[0].augment_on
    written: Literal["host", "device"] | None = given(search.specification["training"]["augment_on"])
    shared = search.shares.gpus
    return written or ("device" if gpus and (shared is None or 0 < shared <= 1) else "host")


def _policy(spec: Spec) -> Policy:
    scheduler = resolved_scheduler(spec.search.scheduler)
    sampler = _sampler(spec, scheduler.value)
    grace, factor = _grace_epochs(spec), _reduction_factor(spec, scheduler.value)
    if SCHEDULERS[scheduler.value].has_brackets:
        rungs = bracket_epochs(spec.training.max_epochs, factor.value)
        grace = (*rungs, spec.training.max_epochs)[0]
    else:
        rungs = rung_epochs(spec.training.max_epochs, grace, factor.value)
    return Policy(sampler, scheduler, _weighs_seconds(spec, sampler.value), grace, factor, rungs)


def prior_of(search: ResolvedSearch) -> Chosen[bool]:
    """Return whether the shipped prior is used; where it has nothing to say, not even if the file says so."""
    written = given(search.specification["search"]["prior"])
    if written == "none":
        return Chosen(False)
    if search.study.trainable is not None:
        return Chosen(False, "a training function of one's own has hyperparameters that no other study knows")
    if all(known is None for known in pretrained_in(search.study.space).values()):
        return Chosen(False, "it knows no architecture of the space")
    if not written and (search.policy.sampler.value, search.policy.scheduler.value) != (SAMPLER, SCHEDULER):
        return Chosen(False, f"only measured with {SAMPLER} and {SCHEDULER}")
    return Chosen(True, "" if written else PRIOR_WHY)


def _probe(spec: Spec) -> Chosen[bool]:
    """Return whether frozen features are probed; where there are none, not even if the file says so."""
    written, names = given(spec.search.probe), getattr(spec.space.get("architecture"), "values", ())
    if written is False:
        return Chosen(False)
    if spec.trainable is not None:
        return Chosen(False, "a training function of one's own has no frozen features")
    if not any(ARCHITECTURES[str(name)].is_backbone for name in names):
        return Chosen(False, "no architecture of the space is a backbone")
    if not spec.activations.enabled:
        return Chosen(False, "activations.enabled is false, and probes read what is kept of them")
    if written is None and (spec.search.time_budget or 0) < PROBED_FROM_S:
        return Chosen(False, f"a time budget of at least {PROBED_FROM_S / 60:.0f} minutes pays for it")
    return Chosen(True, "" if written else f"it takes {PROBE_SHARE:.0%} of the time budget at most")


def probe_limit_s(time_budget_s: float | None) -> float:
    """Return the seconds of processor time that probes may take."""
    return PROBE_S if time_budget_s is None else PROBE_SHARE * time_budget_s


def _activations(spec: Spec) -> ActivationsSection:
    """Return how activations are kept: not of a training function, of which nobody knows what is frozen."""
    return spec.activations if spec.trainable is None else spec.activations.model_copy(update={"enabled": False})


def resolved_scheduler(written: str) -> Chosen[str]:
    """Return the scheduler that a file asks for."""
    name = given(written)
    return Chosen(name) if name is not None else Chosen(SCHEDULER, SCHEDULERS[SCHEDULER].why)


def _sampler(spec: Spec, scheduler: str) -> Chosen[str]:
    """Return the sampler: a space that can be tried as a whole needs no model."""
    if (written := given(spec.search.sampler)) is not None:
        return Chosen(written)
    if needed := SCHEDULERS[scheduler].sampler:
        return Chosen(needed, f"it goes with {scheduler}")
    configurations = count(spec.space)
    if configurations <= spec.search.trials and spec.search.time_budget is None:
        return Chosen("grid", f"{spec.search.trials} trials are enough for all {configurations} configurations")
    return Chosen(SAMPLER, SAMPLERS[SAMPLER].why)


def _weighs_seconds(spec: Spec, sampler: str) -> bool:
    """Return whether improvement per second is expected: where seconds are what is spent, if the sampler can."""
    written = given(spec.search.improvement_per_second)
    wanted = spec.search.time_budget is not None if written is None else written
    return wanted and SAMPLERS[sampler].weighs_seconds


def _grace_epochs(spec: Spec) -> int:
    written = given(spec.search.grace_epochs)
    if written is not None:
        return written
    unfreezes = spec.trainable is None and has_unfreezing(spec.space)
    return default_grace_epochs(spec.training.head_epochs, unfreezes, spec.training.max_epochs)


def _reduction_factor(spec: Spec, scheduler: str) -> Chosen[int]:
    written = given(spec.search.reduction_factor)
    if written is not None:
        return Chosen(written)
    pauses, branches = SCHEDULERS[scheduler].pauses, has_branches(spec.space)
    pace = "branches of a space learn at different paces" if branches else "a space without branches"
    return Chosen(default_reduction_factor(pauses, branches), f"{pace}; see benchmarks/LOG.md" if pauses else "")


def _trials(spec: Spec) -> int:
    """Return how many trials there will be: a search ends when its space is used up, whatever the file says."""
    return int(min(spec.search.trials, count(spec.space)))


def _settings(spec: Spec) -> TrialSettings:
    stopping = spec.training.early_stopping
    return TrialSettings(
        max_epochs=spec.training.max_epochs,
        head_epochs=spec.training.head_epochs if spec.trainable is None else 0,
        patience=stopping.patience if stopping else None,
        min_delta=stopping.min_delta if stopping else 0.0,
        metric=spec.metric,
        mode=spec.mode,
        seed=spec.search.seed,
        times_inference="seconds_per_image" in spec.metrics,
        other_metrics=tuple(spec.metrics[1:]),
    )


def _shares(spec: Spec) -> Shares:
    resources, patience = spec.resources, spec.search.hung_after_epochs
    memory_gb: float | Literal["none"] | None = given(resources.memory_gb_per_trial)
    return Shares(
        given(spec.search.max_concurrent),
        given(resources.cpus_per_trial),
        given(resources.gpus_per_trial),
        math.inf if memory_gb == "none" else memory_gb,
        None if patience == "never" else patience,
    )


def has_unfreezing(space: Space) -> bool:
    """Return whether some configuration of the space unfreezes blocks after a head phase."""
    depths = [parameter.dimension for parameter in flatten(space) if parameter.name == "unfreeze_depth"]
    return any(depth > 0 for dimension in depths for depth in _whole_numbers(dimension))


def unfreeze_depths(space: Space) -> dict[str, tuple[int, ...]]:
    """Return the unfreeze depths that the space holds for each architecture that has the parameter there."""
    found: dict[str, set[int]] = {}
    architectures = [str(value) for value in getattr(space.get("architecture"), "values", ())]
    for parameter in flatten(space):
        if parameter.name == "unfreeze_depth":
            branches = [branch for where, branch in parameter.conditions if where == "architecture"]
            for architecture in branches or architectures:
                found.setdefault(str(architecture), set()).update(_whole_numbers(parameter.dimension))
    return {architecture: tuple(sorted(depths)) for architecture, depths in found.items() if depths}


def pretrained_in(space: Space) -> dict[str, bool | None]:
    """Return whether each architecture of a space begins with trained weights; None: of own code nobody knows.

    Backbones whose weights are drawn are left out: what others of their name have shown was shown with trained ones.

    >>> from tuner.spec.space import Choice
    >>> pretrained_in({"architecture": Choice(("mobilenet_v2", "cnn"))})
    {'mobilenet_v2': True, 'cnn': False}
    """
    names = [str(name) for name in getattr(space.get("architecture"), "values", ())]
    return {name: _is_pretrained(name) for name in names if not _is_drawn(name, space)}


def _is_pretrained(name: str) -> bool | None:
    return ARCHITECTURES[name].is_backbone if name in ARCHITECTURES and not ARCHITECTURES[name].is_own else None


def _is_drawn(name: str, space: Space) -> bool:
    """Return whether an architecture is a backbone whose weights are drawn, or may be where a recipe is moved to it."""
    if not _is_pretrained(name):
        return False
    conditions = ((), (("architecture", name),))
    weights = [one.dimension for one in flatten(space) if one.name == "weights" and one.conditions in conditions]
    only_trained = Choice((ARCHITECTURES[name].parameters["weights"].default,))  # in a word that may not be ours
    return not all(one.contains(PRETRAINED) or one == only_trained for one in weights)


def _whole_numbers(dimension: Dimension) -> Iterable[int]:
    if isinstance(dimension, Integer):
        return range(dimension.low, dimension.high + 1, dimension.step)
    return [int(value) for value in getattr(dimension, "values", ()) if isinstance(value, int | float)]
