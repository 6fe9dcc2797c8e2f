"""One epoch of a trial: as it is trained and kept, and what Ray is told of it. Light: a worker loads it, too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, NotRequired, TypedDict

from tuner.common.metrics import facts

Phase = Literal["head", "fine_tune", "scratch"]
EndStatus = Literal["completed", "stopped", "failed"]

METRIC: Final = "best_so_far"
TIME: Final = "epoch"
"""Names, in what Ray is told, of the value that schedulers compare and of the epoch."""


class Epoch(NamedTuple):
    """The results of one epoch."""

    epoch: int
    """Counted from 1 over both phases."""
    phase: Phase
    seconds: float
    """Training and validation of this epoch."""
    learning_rate: float
    """Of the head, the mean over steps. Not a number where nobody knows it: own training functions need have none."""
    best_so_far: float
    """Best value of the study's metric up to this epoch; what samplers and schedulers compare."""
    metrics: Mapping[str, float]
    """Values that were measured in this epoch, by name (`common.metrics.epoch_values`)."""
    elapsed_s: float = 0.0
    """Seconds that the study had run; 0 until the epoch is recorded."""

    @property
    def values(self) -> dict[str, float]:
        """All that was measured, and the learning rate where it is known, by name."""
        rate = {"learning_rate": self.learning_rate} if math.isfinite(self.learning_rate) else {}
        return {**self.metrics, **rate}

    def measured(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return all that samplers may read of the epoch, by name, with the facts of its trial."""
        return {**self.metrics, **facts, "seconds": self.seconds}


class StepResult(TypedDict):
    """The result that a worker gives Ray after each step; Ray adds fields of its own."""

    epoch: int
    """Epochs trained so far."""
    best_so_far: float
    shown: Epoch | None
    """The epoch that the step trained; None: it trained none, and this is a sign of life."""
    building: tuple[int, int] | None
    """Images of which activations are in the cache, of so many; None: none had to be computed."""
    ended_status: Literal["completed", "failed"] | None
    """The trial's end by itself; None: it goes on."""
    ended_reason: str | None
    parameters: int | None
    trainable_parameters: int | None
    batch_size_used: int | None
    setup_s: float | None
    cut: str | None
    node: str | None
    model_mb: float | None
    seconds_per_image: float | None
    notices: list[str]
    """Messages for users."""
    cache: dict[str, int | None] | None
    """Use of the cache since the last step."""
    generation: int
    """Generation of the workers, as the searcher counts them."""
    worker_memory_mb: float
    should_checkpoint: bool
    """Asks Ray to keep the trial's state now."""
    done: bool
    node_ip: NotRequired[str]
    """Ray's."""


def facts_of(told: StepResult) -> dict[str, Any]:
    """Return the facts of a trial that are metrics, by name; None for what is not known."""
    values: Mapping[str, Any] = told
    return {name: values.get(name) for name in facts()}
