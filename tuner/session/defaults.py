"""What `auto` stands for in a search-space file, and why. Pure; benchmarks/LOG.md has the measurements."""

from __future__ import annotations

from typing import NamedTuple

from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import SCHEDULERS
from tuner.spec.space import count
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
