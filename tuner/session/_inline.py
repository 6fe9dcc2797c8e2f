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
from tuner.runs.epoch import Epoch
from tuner.runs.record import read_state
from tuner.session._resolved import ResolvedSearch, resolve
from tuner.session.options import SearchOptions
from tuner.session.preparation import Prepared, prepare
from tuner.spec.space import sample
from tuner.spec.spec import load_spec, require


def train_inline(search: ResolvedSearch, options: SearchOptions, console: SearchConsole) -> int:
    """Train the baseline (without one: a random configuration) as trial 0, and return the exit status."""
    study = search.study
    generator = np.random.default_rng(derive_seed(study.seed, "inline"))
    configuration = study.baseline if study.baseline is not None else sample(study.space, generator)
    alone = float(os.cpu_count() or 1) if search.shares.cpus is None else search.shares.cpus
    return _train(search, configuration, 0, prepare(study, options, console), alone, console)


def retrain(run_path: Path, number: int, options: SearchOptions, console: SearchConsole) -> int:
    """Train a trial of a run again, with its configuration and seed, and return the exit status.

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
    search = resolve(require(load_spec(run.specification, options.overrides)))
    cpus = state.sessions[-1].cpus_per_trial  # other threads, other roundings
    return _train(search, trials[number].configuration, number, prepare(search.study, options, console), cpus, console)


def _train(
    search: ResolvedSearch,
    configuration: Mapping[str, Any],
    number: int,
    prepared: Prepared,
    cpus: float,
    console: SearchConsole,
) -> int:
    configure_backend(cpus)
    from tuner.training.activations import Activations
    from tuner.training.trial import run_trial

    console.say(f"trial {number}: {', '.join(f'{name} {value}' for name, value in configuration.items())}")

    def report(epoch: Epoch) -> None:
        console.say(
            f"epoch {epoch.epoch}/{search.training.settings.max_epochs} {epoch.phase.replace('_', ' ')}: "
            f"{', '.join(f'{name} {value:.4f}' for name, value in epoch.metrics.items())}, "
            f"best {epoch.best_so_far:.4f} ({epoch.seconds:.1f} s)"
        )

    settings = replace(search.training.settings, seed=trial_seed(search.study.seed, number))
    kept = search.training.activations_in(prepared.cache_dir)
    activations = Activations(prepared.dataset, kept, console.say) if kept else None
    trial = run_trial(configuration, prepared.dataset, settings=settings, report=report, activations=activations)
    ended = trial.ended
    if ended is None or ended.status == "failed":
        console.say(f"failed: {ended.reason if ended else 'no end'}")
        return 1
    console.say(
        f"{ended.reason.replace('_', ' ')}: best {search.study.metric} {trial.best:.4f}; "
        f"{trial.parameters:,} parameters; built in {format_seconds(trial.setup_s)}"
    )
    return 0
