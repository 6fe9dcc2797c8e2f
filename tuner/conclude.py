"""What a session leaves behind: the report, the best model, and a few words on the console."""

from __future__ import annotations

import os
from pathlib import Path

from tuner.errors import TunerError
from tuner.preparation import Prepared
from tuner.progress import SearchConsole, describe_trial, format_seconds
from tuner.record import RunState
from tuner.report import retrain_command, write_report
from tuner.runs import RunDirectory
from tuner.session import Reason, activation_settings, trial_settings
from tuner.spec import Spec

_REASONS = {"finished": "finished", "time_budget": "time budget spent", "interrupted": "interrupted"}


def conclude(
    spec: Spec,
    prepared: Prepared,
    run: RunDirectory,
    state: RunState,
    reason: Reason,
    reports_dir: Path,
    console: SearchConsole,
) -> None:
    """Write the report and export the best model; say what was found and where it is."""
    numbers = {status: len(state.with_status(status)) for status in ("completed", "stopped", "failed", "running")}
    counts = ", ".join(f"{number} {status}" for status, number in numbers.items() if number)
    console.say(f"{_REASONS[reason]} after {format_seconds(state.elapsed_s)}: {counts or 'no trials'}")
    best = state.best_trial()
    if best is not None:
        console.say(f"best: {spec.metric} {best.best:.4f}, trial {best.number}, {describe_trial(best)}")
    with console.preparing("writing the report"):
        paths = write_report(state, reports_dir / run.name, retrain_command=retrain_command(run.path, state))
    console.say(f"report: {_relative(paths.leaderboard)}")
    if reason == "interrupted":
        console.say(f"go on with: python -m tuner.search --resume {_relative(run.path)}")
        return
    if best is not None:
        _export(spec, prepared, run, state, console)


def _export(spec: Spec, prepared: Prepared, run: RunDirectory, state: RunState, console: SearchConsole) -> None:
    from tuner.export import export_best

    try:
        with console.preparing("exporting the best model"):
            path = export_best(
                run,
                state,
                prepared.dataset,
                trial_settings(spec),
                activation_settings(spec, prepared.cache_dir),
                state.sessions[-1].cpus_per_trial,  # other threads, other roundings
            )
    except TunerError as error:  # the search itself is done and reported: say what is missing
        console.say(f"the best model was not exported: {error}")
        return
    console.say(f"model: {_relative(path)} (labels: {_relative(run.labels)})")


def _relative(path: Path) -> str:
    """A path as the user would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
