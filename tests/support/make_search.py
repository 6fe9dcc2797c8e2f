"""Small searches for the tests: the file, the command, and what holds of every record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.curve_trials import SleepingTrials
from tuner.common.command_line import run_command
from tuner.common.termination import terminating_as_interrupt
from tuner.execution.worker_process import TrialKind
from tuner.runs.events import EpochReported
from tuner.runs.record import read_events, read_state
from tuner.runs.state import RunState
from tuner.search import main
from tuner.session import commands
from tuner.session.options import parse_search_options

SPACE = """
study: {study}
data: {{source: digits, max_train_images: 240, max_validation_images: 80}}
space:
  batch_size: {{choice: [32, 64]}}
  learning_rate: {learning_rate}
  architecture:
    choose:
      dense: {{dense_units: {{choice: [16, 32]}}, hidden_layers: 1}}
      cnn: {{blocks: 1, convolutions_per_block: 1, filters: {{choice: [4, 8]}}, dense_units: 16}}
baseline: {{architecture: dense, dense_units: 16, hidden_layers: 1, batch_size: 64, learning_rate: 0.001}}
training: {{max_epochs: 6, early_stopping: {{patience: 3}}}}
search: {{trials: {trials}, sampler: {sampler}, scheduler: {scheduler}, reduction_factor: 2, max_concurrent: 2}}
finalists: {{count: 0}}
"""


def write_file(folder: Path, study: str = "small", sampler: str = "random", scheduler: str = "none",
               trials: int = 4, learning_rate: str = "{log_float: [1.0e-3, 1.0e-1]}") -> Path:  # fmt: skip
    path = folder / f"{study}.yaml"
    path.write_text(
        SPACE.format(study=study, sampler=sampler, scheduler=scheduler, trials=trials, learning_rate=learning_rate)
    )
    return path


def run_search(folder: Path, file: Path, cache_dir: Path, *more: str, trial_kind: TrialKind | None = None) -> int:
    folders = ["--runs", str(folder / "runs"), "--reports", str(folder / "reports"), "--cache", str(cache_dir)]
    return search_here([str(file), *folders, *more], trial_kind)


def search_here(arguments: Sequence[str] | None, trial_kind: TrialKind | None = None) -> int:
    """Run the command; its trials are of `trial_kind`, if one is given."""
    if trial_kind is None:
        return main(arguments)
    options = parse_search_options(arguments)
    with terminating_as_interrupt():
        return run_command(lambda: commands.run_search(options, trial_kind=trial_kind))


SLEEPING = TrialKind(SleepingTrials)
"""Trials that sleep for hundredths of a second instead of training a network."""
SLEEPING_SEARCH = """
import sys
from functools import partial
from benchmarks.curve_trials import SleepingTrials
from tests.support.make_search import search_here
from tuner.cluster import ray_session
from tuner.execution.worker_process import TrialKind
ray_session.starting_ray = partial(ray_session.starting_ray, preloads=False)
sys.exit(search_here(None, TrialKind(partial(SleepingTrials, epoch_s=float(sys.argv.pop(1))))))
"""
"""A search of trials that sleep for about so many seconds an epoch, then the arguments of a search, as a program.

Its workers do not load a network's libraries first, which none of them needs.
"""


def check_record(path: Path, jumps: bool = False) -> RunState:
    """What holds for every finished search.

    A member of a population may take over the epoch and the best value of the one it copies.
    """
    epochs = Counter((event.trial, event.epoch) for event in read_events(path) if isinstance(event, EpochReported))
    assert all(number == 1 for number in epochs.values())
    state = read_state(path)
    for trial in state.trials.values():
        assert trial.status in {"completed", "stopped", "failed"}
        epochs_seen = [epoch.epoch for epoch in trial.epochs]
        assert epochs_seen == (sorted(epochs_seen) if jumps else list(range(1, len(trial.epochs) + 1)))
        best = [epoch.best_so_far for epoch in trial.epochs]
        own = list(np.maximum.accumulate([epoch.metrics["val_accuracy"] for epoch in trial.epochs]))
        assert best == sorted(best) if jumps else own == pytest.approx(best)
    return state
