"""Synthetic records that look like real searches: slots, two phases, stopped, failed and running trials."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tuner.common.metrics import epoch_objectives, epoch_values, metric_of, objectives, oriented
from tuner.runs.events import (
    Configuration,
    EndStatus,
    EpochReported,
    Event,
    LabelsDoubted,
    Probed,
    Resolved,
    SessionEnded,
    SessionStarted,
    StudyCreated,
    Suspect,
    TrialEnded,
    TrialMeasured,
    TrialStarted,
)
from tuner.runs.record import replay
from tuner.runs.state import RunState

DATA = {
    "name": "cifar100",
    "source": "cifar100",
    "fingerprint": "9f2c4e",
    "class_names": [f"class {number}" for number in range(100)],
    "image_shape": [32, 32, 3],
    "train_images": 45_000,
    "validation_images": 5_000,
}
CEILING = {"mobilenet_v2": 0.60, "mobilenet_v3_small": 0.54, "cnn": 0.42, "dense": 0.24}
SPEED_S = {"mobilenet_v2": 21.0, "mobilenet_v3_small": 14.0, "cnn": 9.0, "dense": 2.0}
PARAMETERS = {"mobilenet_v2": 539_000, "mobilenet_v3_small": 1_100_000, "cnn": 1_297_028, "dense": 1_840_000}
VARIANTS = ("resize(64)|scale(-1,1)", "grayscale|resize(64)|scale(-1,1)", "noise(0.1)|resize(64)|scale(-1,1)")
PENALTY = dict(zip(VARIANTS, (0.0, 0.07, 0.03), strict=True))


EVIL = "<script>alert(1)</script>|*x*"
PROBES = (
    Probed(
        configuration={"architecture": "mobilenet_v2", "alpha": 0.35, "preprocess": "resize(64)|scale(-1,1)"},
        method="ridge", metrics={"val_accuracy": 0.6}, features=1280, images=1000, validation_images=500, seconds=2.0,
    ),
    Probed(
        configuration={"architecture": "own", "preprocess": "none", "images": 3}, method="ridge",
        reason="out of memory", seconds=1.0,
    ),
)  # fmt: skip
"""One that has a value, and one that failed, of an own architecture with a parameter that is called like a column."""
DOUBTED = LabelsDoubted(
    configuration=PROBES[0].configuration,
    images=1500,
    found=1,
    accuracy=0.6,
    suspects=[
        Suspect(split="validation", row=7, name=EVIL, label=EVIL, label_probability=0.1, likely="cat",
                likely_probability=0.75),
    ],
)  # fmt: skip


def study_created(metric: str = "val_accuracy", max_epochs: int = 20, **changes: Any) -> StudyCreated:
    values: dict[str, Any] = {
        "study": "cifar100",
        "metric": metric,
        "mode": metric_of(metric).mode if metric in objectives() else "min",
        "seed": 7,
        "max_epochs": max_epochs,
        "specification": {"study": "cifar100"},
        "data": DATA,
        "environment": {
            "python": "3.11.9",
            "cpus": 8,
            "commit": "f4fe498",
            "packages": {"keras": "3.15.1", "ray": None},
        },
        "command": ["search.py", "search_spaces/cifar100.yaml"],
    }
    return StudyCreated(**{**values, **changes})


def trial_started(trial: int, configuration: Configuration | None = None, **changes: Any) -> TrialStarted:
    origin = "baseline" if trial == 0 else "sampler"
    values = {"trial": trial, "configuration": configuration or {"architecture": "cnn"}, "origin": origin}
    return TrialStarted(**{**values, **changes})


def epoch(trial: int, number: int, value: float, best: float | None = None, **changes: Any) -> EpochReported:
    """One epoch with validation accuracy `value`; the other values follow from it."""
    values = {
        "trial": trial, "epoch": number, "phase": "scratch", "seconds": 2.0, "elapsed_s": 10.0 * trial + number,
        "best_so_far": value if best is None else best, "learning_rate": 1e-3,
    }  # fmt: skip
    metrics = {"loss": 1.0 - value / 2, "accuracy": value + 0.05, "val_loss": 1.1 - value / 2, "val_accuracy": value}
    changed = {name: changes.pop(name) for name in list(changes) if name in epoch_values(epoch_objectives())}
    return EpochReported(metrics={**metrics, **changed}, **{**values, **changes})


def session_started(slots: int = 1, rungs: Sequence[int] = (1, 3, 9), **changes: Any) -> SessionStarted:
    """A session that compares trials at some epochs."""
    resolved = Resolved(
        trials=64,
        time_budget_s=None,
        weighs_seconds=False,
        rungs=list(rungs),
        reduction_factor=3,
        memory_mb_per_trial=None,
    )
    values = {"resumed": False, "max_concurrent": slots, "sampler": "tpe", "scheduler": "asha", "resolved": resolved}
    return SessionStarted(**{**values, **changes})


def trial_ended(trial: int, status: EndStatus = "completed", reason: str = "max_epochs", **changes: Any) -> TrialEnded:
    return TrialEnded(**{"trial": trial, "status": status, "reason": reason, **changes})


def small_state(*events: Event, **study: Any) -> RunState:
    """The state of a study with these events after its first line."""
    return replay([study_created(**study), *events])


def make_events(
    trials: int = 30,
    *,
    seed: int = 0,
    metric: Literal["val_accuracy", "val_loss"] = "val_accuracy",
    max_epochs: int = 20,
    slots: int = 4,
    end: Literal["finished", "time_budget", "interrupted", "error"] | None = "finished",
    stop_early: bool = True,
    others: tuple[str, ...] = (),
) -> list[Event]:
    """The events of a search in the order of their time; with `end=None` the last trials still run.

    About one trial in ten fails, four in ten are stopped early (or none, with `stop_early=False`).
    With `others`, these are metrics too, and all that they could be is measured after each trial's first epoch.
    """
    generator = np.random.default_rng(seed)
    free = [3.0 + slot for slot in range(slots)]
    heapq.heapify(free)
    events: list[Event] = []
    for number in range(trials):
        start_s = heapq.heappop(free)
        made = _trial(number, start_s, generator, metric, max_epochs, stop_early)
        if end in (None, "interrupted") and number >= trials - slots:
            made = made[: max(1, len(made) // 2)]
        heapq.heappush(free, made[-1].elapsed_s + 0.2)
        events += made
        if others:
            events += [_measured(event) for event in made if isinstance(event, EpochReported) and event.epoch == 1]
    events.sort(key=lambda event: event.elapsed_s)
    last_s = events[-1].elapsed_s if events else 3.0
    rungs = [rung for rung in (1, 3, 9) if rung < max_epochs]
    started = session_started(slots, rungs, elapsed_s=2.0)
    ended = [] if end is None else [SessionEnded(reason=end, elapsed_s=last_s + 1)]
    metrics = {"metrics": [metric, *others]} if others else {}
    return [study_created(metric, max_epochs, **metrics), started, *events, *ended]


def _measured(first: EpochReported) -> TrialMeasured:
    parameters = 20_000 * (1 + first.trial * 37 % 100)
    mb, seconds = parameters / 2**18, 1e-4 + parameters * 1e-9
    return TrialMeasured(
        trial=first.trial, elapsed_s=first.elapsed_s, parameters=parameters, model_mb=mb, seconds_per_image=seconds
    )


def _configuration(number: int, generator: np.random.Generator) -> Configuration:
    if number == 0:
        return {
            "preprocess": VARIANTS[0], "augment": "none", "batch_size": 64, "learning_rate": 0.001,
            "architecture": "mobilenet_v2", "alpha": 0.35, "unfreeze_depth": 0, "head_units": 0, "dropout": 0.2,
        }  # fmt: skip
    architecture = str(generator.choice(list(CEILING), p=[0.4, 0.25, 0.25, 0.1]))
    general: Configuration = {
        "preprocess": str(generator.choice(VARIANTS)),
        "augment": str(generator.choice(["none", "flip|shift(4)"])),
        "batch_size": int(generator.choice([32, 64, 128])),
        "learning_rate": float(10 ** generator.uniform(-4, -2)),
        "architecture": architecture,
    }
    if architecture == "dense":
        return {**general, "hidden_layers": 3, "dense_units": int(generator.choice([256, 512]))}
    if architecture == "cnn":
        return {**general, "blocks": int(generator.integers(2, 5)), "filters": int(generator.choice([32, 64]))}
    return {
        **general, "alpha": 0.35 if architecture == "mobilenet_v2" else 1.0,
        "dropout": round(generator.uniform(0, 0.6), 2),
        "unfreeze_depth": int(generator.integers(0, 7)), "head_units": int(generator.choice([0, 128, 256])),
    }  # fmt: skip


def _trial(
    number: int, start_s: float, generator: np.random.Generator, metric: str, max_epochs: int, stop_early: bool
) -> list[Event]:
    configuration = _configuration(number, generator)
    architecture = str(configuration["architecture"])
    setup_s = float(generator.uniform(0.4, 4))
    made: list[Event] = [trial_started(number, configuration, elapsed_s=start_s)]
    fate = 1.0 if number == 0 else float(generator.random())
    facts = {"parameters": PARAMETERS[architecture], "batch_size_used": configuration["batch_size"], "setup_s": setup_s,
             "trainable_parameters": PARAMETERS[architecture] // (1 + 3 * ("alpha" in configuration))}  # fmt: skip
    if fate < 0.05:
        reason = "out of memory: OOM when allocating tensor with shape[128,64,64,96]"
        return [*made, trial_ended(number, "failed", reason, elapsed_s=start_s + setup_s)]
    length = max_epochs
    if stop_early and fate < 0.5:
        length = min(max_epochs, 1 if fate < 0.25 else 4)
    elif stop_early and fate < 0.8:
        length = max(1, int(generator.integers(max_epochs // 2, max_epochs + 1)))
    elapsed_s, best = start_s + setup_s, -math.inf
    for values in _curve(configuration, length, generator, metric):
        elapsed_s += values["seconds"]
        best = max(best, oriented(values["metrics"][metric], metric_of(metric).mode))
        made.append(EpochReported(trial=number, elapsed_s=elapsed_s, best_so_far=abs(best), **values))
    if fate < 0.1:
        made.append(trial_ended(number, "failed", f"not a number: loss is nan at epoch {length + 1}",
                                elapsed_s=elapsed_s + 1, **facts))  # fmt: skip
    elif length < max_epochs and fate < 0.5:
        made.append(trial_ended(number, "stopped", "scheduler", elapsed_s=elapsed_s + 0.1, **facts))
    else:
        reason = "max_epochs" if length == max_epochs else "early_stopping"
        made.append(trial_ended(number, "completed", reason, elapsed_s=elapsed_s + 0.1, **facts))
    return made


def _curve(
    configuration: Configuration, length: int, generator: np.random.Generator, metric: str, head_epochs: int = 3
) -> list[dict[str, Any]]:
    """Epochs of a plausible training: a ceiling by architecture, a step where blocks are unfrozen, overfitting."""
    architecture, rate = str(configuration["architecture"]), float(configuration["learning_rate"] or 0)
    depth = int(configuration.get("unfreeze_depth") or 0)
    is_backbone = "alpha" in configuration
    ceiling = CEILING[architecture] - PENALTY[str(configuration["preprocess"])] + 0.02 * math.sqrt(depth)
    ceiling -= 0.05 * abs(math.log10(rate) + 3) + float(generator.uniform(0, 0.06))
    pace, epochs = float(generator.uniform(0.25, 0.6)), []
    for number in range(1, length + 1):
        fine = is_backbone and depth > 0 and number > head_epochs
        top = ceiling if fine or not is_backbone else ceiling - 0.015 * depth
        reach = 1 - math.exp(-pace * number) if not fine else 1 - 0.5 * math.exp(-pace * (number - head_epochs))
        value = min(0.99, max(0.01, top * reach + float(generator.normal(0, 0.006))))
        train = min(0.99, value * (1 + 0.02 * number))
        phase = "scratch" if not is_backbone else "fine_tune" if fine else "head"
        seconds = SPEED_S[architecture] * (1.6 if fine else 1) * float(generator.uniform(0.9, 1.1))
        epochs.append({
            "epoch": number, "phase": phase, "seconds": seconds,
            "metrics": {
                "loss": -1.35 * math.log(train), "accuracy": train, "val_accuracy": value,
                "val_loss": -1.35 * math.log(value) + 0.015 * number,
            },
            "learning_rate": rate * (0.1 if fine else 1),
        })  # fmt: skip
    return epochs


def make_state(trials: int = 30, **options: Any) -> RunState:
    """The state after `make_events`."""
    return replay(make_events(trials, **options))


def write_record(path: Path, events: list[Event]) -> Path:
    """Write events as the lines of a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(event.model_dump_json().encode() + b"\n" for event in events))
    return path
