"""The hyperparameters that every architecture has; those of one architecture stand with it in `architectures`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.models.architectures import Parameter

GENERAL: dict[str, Parameter] = {
    "preprocess": Parameter("text", default="scale(0,1)", description="preprocessing variant, part of the model"),
    "augment": Parameter("text", default="none", description="augmentation of training images"),
    "batch_size": Parameter("int", low=1, high=65_536, default=64, description="images per training step"),
    "learning_rate": Parameter(
        "float", low=1e-8, high=10.0, default=1e-3, description="of the head phase, or of a network from scratch"
    ),
    "fine_tune_learning_rate_factor": Parameter(
        "float", low=1e-6, high=10.0, default=0.1, description="times learning_rate once blocks are unfrozen"
    ),
    "optimizer": Parameter(
        "choice",
        values=("adam", "adamw", "sgd", "rmsprop"),
        default="adam",
        description="sgd has Nesterov momentum of 0.9",
    ),
    "weight_decay": Parameter("float", low=0.0, high=1.0, default=0.0, description="decoupled, per step"),
    "label_smoothing": Parameter(
        "float", low=0.0, high=0.9, default=0.0, description="share of the label spread over all classes"
    ),
}


def general(configuration: Mapping[str, Any], name: str) -> Any:
    """The value of a general hyperparameter in `configuration`, or its default."""
    return configuration.get(name, GENERAL[name].default)
