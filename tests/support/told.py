"""What a worker tells Ray of a trial, without a worker."""

from __future__ import annotations

from typing import Any

from tuner.runs.epoch import Epoch


def shown(epoch: int = 1, best: float = 0.5, seconds: float = 1.0, **metrics: float) -> Epoch:
    """An epoch with `best` as its validation accuracy."""
    values = {"loss": 1.0, "accuracy": best, "val_loss": 1.0, "val_accuracy": best, **metrics}
    return Epoch(epoch, "scratch", seconds, 0.001, best, values)


def told(epoch: int, best: float, **changes: Any) -> dict[str, Any]:
    """The result of one step; epoch 0 is a sign of life before the first epoch."""
    return {
        "epoch": epoch,
        "best_so_far": best,
        "shown": shown(epoch, best) if epoch else None,
        "building": None,
        "ended_status": None,
        "ended_reason": None,
        "parameters": None,
        "notices": [],
        "cache": None,
        "generation": 0,
        "worker_memory_mb": 1.0,
        "done": False,
        **changes,
    }
