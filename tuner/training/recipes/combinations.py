"""Checks of recipes against a space: a part without effect on any trial is a mistake of its author. Light: no Keras.

Where it has an effect for some configurations, it is known for the others too, and does nothing there: momentum with
an optimizer that has none, a schedule or an average with one that is schedule-free, rates of blocks where none is
unfrozen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuner.models.parameters import GENERAL
from tuner.spec.space import Choose, Dimension, Integer, Real, Space
from tuner.spec.strengths import Finding, Path
from tuner.training.recipes.numbers import MOMENTUM, SCHEDULE_FREE
from tuner.training.recipes.schedules import PLATEAU_EPOCHS


def without_effect(space: Space) -> Iterator[Finding]:
    """Yield each part of a recipe that no configuration of a space makes use of, and why."""
    scopes = _scopes(space)
    for path, own in _levels(space).items():
        for name, dimension in own.items():
            if name in _RULES and any(value != _unused(name) for value in _ends(dimension)):
                seen = scopes.values() if path == ("space",) else [scopes[path]]
                reasons = [_RULES[name](scope) for scope in seen]
                if all(reasons):
                    yield (*path, name), f"must be left out {reasons[0]}; got {dimension.describe()}"


def against_training(space: Space, max_epochs: int, head_epochs: int, patience: int | None) -> Iterator[Finding]:
    """Yield each part of a recipe that a training of this length, or of this patience, would end before."""
    yield from _never_unfrozen(space, max_epochs, head_epochs)
    for path, own in _levels(space).items():
        longest = max((value for value in _ends(own.get("warmup_epochs"))), default=0)
        if longest > max_epochs:
            yield (
                (*path, "warmup_epochs"),
                f"must be at most training.max_epochs, {max_epochs}, or no rate reaches its value; got {longest:g}",
            )
        if "plateau" in _ends(own.get("schedule")) and patience is not None and patience <= PLATEAU_EPOCHS:
            yield (
                (*path, "schedule"),
                f"must not be plateau with a training.early_stopping.patience of {patience}: it reduces the rate after "
                f"{PLATEAU_EPOCHS} epochs without improvement, when trials have ended",
            )


def _never_unfrozen(space: Space, max_epochs: int, head_epochs: int) -> Iterator[Finding]:
    """Yield each depth to which blocks are unfrozen one by one, and which no trial reaches."""
    epochs = max_epochs - head_epochs
    for path, depths in gradual_depths(space).items():
        if 0 < epochs < min(depths):
            yield (
                path,
                f"must be at most {epochs} with unfreeze: gradual, one block more in each epoch after the head phase "
                f"(training.max_epochs {max_epochs}, training.head_epochs {head_epochs}), or no trial reaches it; "
                f"got {min(depths)}",
            )


def gradual_depths(space: Space) -> dict[Path, tuple[int, ...]]:
    """Return the smallest and the largest depth above 0 to which blocks may be unfrozen one by one, by its path."""
    found: dict[Path, tuple[int, ...]] = {}
    levels = _levels(space)
    for path, scope in _scopes(space).items():
        if "gradual" in _ends(scope.get("unfreeze")) and (depths := _depths(scope)):
            found[(*(path if "unfreeze_depth" in levels[path] else ("space",)), "unfreeze_depth")] = depths
    return found


def _depths(scope: Space) -> tuple[int, ...]:
    """Return the smallest and the largest depth above 0 that trials may have."""
    dimension = scope.get("unfreeze_depth")
    if isinstance(dimension, Integer):
        return (max(1, dimension.low), dimension.high) if dimension.high > 0 else ()
    depths = [int(depth) for depth in _ends(dimension) if isinstance(depth, int | float) and depth > 0]
    return (min(depths), max(depths)) if depths else ()


def _levels(space: Space) -> dict[Path, Space]:
    """Return what stands on each level of a space, by its path: outside of branches, and in each one."""
    chosen = space.get("architecture")
    branches = chosen.branches if isinstance(chosen, Choose) else {}
    return {("space",): space} | {("space", "architecture", "choose", name): own for name, own in branches.items()}


def _scopes(space: Space) -> dict[Path, Space]:
    """Return all that trials of each branch have, by its path; of the space, where it has none."""
    levels = _levels(space)
    return {path: {**space, **own} for path, own in levels.items() if len(levels) == 1 or path != ("space",)}


def _ends(dimension: Dimension | None) -> Sequence[Any]:
    if dimension is None:
        return ()
    return (dimension.low, dimension.high) if isinstance(dimension, Integer | Real) else dimension.values


def _unused(name: str) -> Any:
    return 0 if name == "momentum" else GENERAL[name].default


def _optimizers(scope: Space) -> Sequence[Any]:
    return _ends(scope.get("optimizer")) or (GENERAL["optimizer"].default,)


def _no_momentum(scope: Space) -> str:
    optimizers = _optimizers(scope)
    if any(one in MOMENTUM for one in optimizers):
        return ""
    return f"with {', '.join(optimizers)}: of the optimizers, {', '.join(MOMENTUM)} have a momentum"


def _is_free(scope: Space) -> str:
    if not set(_optimizers(scope)) <= set(SCHEDULE_FREE):
        return ""
    return f"with {', '.join(SCHEDULE_FREE)}, which averages weights by itself in place of a schedule"


def _nothing_unfrozen(scope: Space) -> str:
    if any(depth > 0 for depth in _ends(scope.get("unfreeze_depth")) if isinstance(depth, int | float)):
        return ""
    return "where no block is unfrozen: it is about the blocks of a backbone, above an unfreeze_depth of 0"


_RULES: Mapping[str, Any] = {
    "momentum": _no_momentum,
    "schedule": _is_free,
    "ema": _is_free,
    "layer_decay": _nothing_unfrozen,
    "unfreeze": _nothing_unfrozen,
}
