"""What was seen of a long search: in words, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from benchmarks.long_run.__main__ import Sample

_CURVES = {
    "driver_mb": "driver, MB",
    "workers_mb": "largest worker, MB",
    "driver_files": "open files of the driver",
    "temporary_files": "temporary files",
    "run_mb": "run directory, MB",
}
FEW = 10
"""Samples of which the median is taken."""


def growth(samples: Sequence[Sample], settled_trials: int, name: str) -> tuple[float, float]:
    """A figure when `settled_trials` had begun, and at the end; medians of a few samples."""
    settled = [getattr(sample, name) for sample in samples if sample.trials >= settled_trials]
    if not settled:
        raise ValueError(f"samples must reach {settled_trials} trials; they end at {samples[-1].trials}")
    return median(settled[:FEW]), median(settled[-FEW:])


def tell(samples: Sequence[Sample], settled_trials: int) -> str:
    """A table in Markdown."""
    lines = [f"| | at {settled_trials} trials | at {samples[-1].trials} | growth |", "|---|---:|---:|---:|"]
    for name, words in _CURVES.items():
        before, after = growth(samples, settled_trials, name)
        share = f"{after / before - 1:+.1%}" if before else ""
        lines.append(f"| {words} | {before:,.0f} | {after:,.0f} | {share} |")
    return "\n".join(lines)


def draw(samples: Sequence[Sample], path: Path) -> None:
    """A curve each, over the trials that have begun."""
    figure = Figure(figsize=(8, 9), layout="constrained")
    for axes, (name, words) in zip(figure.subplots(len(_CURVES), sharex=True), _CURVES.items(), strict=True):
        axes.plot([sample.trials for sample in samples], [getattr(sample, name) for sample in samples])
        axes.set_ylabel(words)
        axes.set_ylim(bottom=0)
    axes.set_xlabel("trials that have begun")
    figure.savefig(path, dpi=100)
