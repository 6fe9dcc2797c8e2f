"""Training with and without cached activations, for the tests of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.datasets.loading import Dataset
from tuner.runs.epoch import Epoch
from tuner.training.activation_store import Entry, list_entries
from tuner.training.activations import Activations
from tuner.training.settings import ActivationSettings, TrialSettings
from tuner.training.trial import run_trial

SETTINGS = TrialSettings(
    max_epochs=2, head_epochs=1, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=7
)
MOBILENET = {
    "architecture": "mobilenet_v2", "alpha": 0.35, "weights": "none", "preprocess": "resize(32)|scale(-1,1)",
    "unfreeze_depth": 2, "dropout": 0.2, "batch_size": 60, "learning_rate": 0.003,
}  # fmt: skip


def whole_entries(cache: Path) -> list[Entry]:
    """Random weights make activations so small that float16 is refused for them; those marks are left out."""
    return [entry for entry in list_entries(cache / "activations") if entry.status == "whole"]


def settings_for(cache: Path, **changes: Any) -> ActivationSettings:
    return replace(ActivationSettings(cache, "float16", 2**30), **changes)


def kept(data: Dataset, cache: Path, said: list[str] | None = None, **changes: Any) -> Activations:
    return Activations(data, settings_for(cache, **changes), (said if said is not None else []).append)


def epochs_of(
    configuration: dict[str, Any],
    data: Dataset,
    activations: Activations | None,
    settings: TrialSettings = SETTINGS,
    **options: Any,
) -> list[Epoch]:
    reports: list[Epoch] = []
    run_trial(configuration, data, settings=settings, report=reports.append, activations=activations, **options)
    return reports


def numbers(reports: list[Epoch]) -> list[dict[str, Any]]:
    return [{**report._asdict(), "seconds": 0} for report in reports]
