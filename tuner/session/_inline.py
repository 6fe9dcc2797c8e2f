"""One trial in this process, without Ray: for a first look, for debugging, and to train a trial of a run again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.errors import RunError
from tuner.common.seeds import derive_seed, trial_seed
from tuner.models.backend import configure_backend
from tuner.reports.console import SearchConsole, format_seconds
from tuner.runs.directory import open_run
from tuner.runs.record import read_state
from tuner.session._build import activation_settings, trial_settings
from tuner.session.options import SearchOptions
from tuner.session.preparation import Prepared, prepare
from tuner.spec.space import sample
from tuner.spec.spec import Spec, load_spec, require


def train_inline(spec: Spec, options: SearchOptions, console: SearchConsole) -> int:
    """Train the baseline (without one: a random configuration) as trial 0; returns the exit status."""
    generator = np.random.default_rng(derive_seed(spec.search.seed, "inline"))
    configuration = spec.baseline if spec.baseline is not None else sample(spec.space, generator)
    cpus = spec.resources.cpus_per_trial
    alone = float(os.cpu_count() or 1) if cpus == "auto" else float(cpus)
    return _train(spec, configuration, 0, prepare(spec, options, console), alone, console)


def retrain(run_path: Path, number: int, options: SearchOptions, console: SearchConsole) -> int:
    """Train a trial of a run again, with its configuration and seed; returns the exit status.

    Raises:
        RunError: there is no such run, or no such trial in it.
    """
    run = open_run(run_path)
    state = read_state(run.record)
    trials = state.trials
    if number not in trials:
        raise RunError(
            f"{run_path}: trial must be one of {min(trials, default=0)} to {max(trials, default=0)}; got {number}"
        )
    if not state.sessions:
        raise RunError(f"{run_path}: must say with how many CPUs a trial was trained; its record has no session")
    spec = require(load_spec(run.specification, options.overrides))
    cpus = state.sessions[-1].cpus_per_trial  # other threads, other roundings
    return _train(spec, trials[number].configuration, number, prepare(spec, options, console), cpus, console)


def _train(
    spec: Spec,
    configuration: Mapping[str, Any],
    number: int,
    prepared: Prepared,
    cpus: float,
    console: SearchConsole,
) -> int:
    configure_backend(cpus)
    from tuner.training.activations import Activations
    from tuner.training.settings import EpochResult
    from tuner.training.trial import run_trial

    console.say(f"trial {number}: {', '.join(f'{name} {value}' for name, value in configuration.items())}")

    def report(epoch: EpochResult) -> None:
        console.say(
            f"epoch {epoch.epoch}/{spec.training.max_epochs} {epoch.phase.replace('_', ' ')}: "
            f"loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.4f}, val_loss {epoch.val_loss:.4f}, "
            f"val_accuracy {epoch.val_accuracy:.4f}, best {epoch.best_so_far:.4f} ({epoch.seconds:.1f} s)"
        )

    settings = trial_settings(spec)
    settings = replace(settings, seed=trial_seed(settings.seed, number))
    kept = activation_settings(spec, prepared.cache_dir)
    activations = Activations(prepared.dataset, kept, console.say) if kept else None
    trial = run_trial(configuration, prepared.dataset, settings=settings, report=report, activations=activations)
    ended = trial.ended
    if ended is None or ended.status == "failed":
        console.say(f"failed: {ended.reason if ended else 'no end'}")
        return 1
    console.say(
        f"{ended.reason.replace('_', ' ')}: best {spec.metric} {trial.best:.4f}; {trial.parameters:,} parameters; "
        f"built in {format_seconds(trial.setup_s)}"
    )
    return 0
