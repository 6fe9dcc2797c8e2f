"""What a session leaves behind: the report, the best model, and a few words on the console."""

from __future__ import annotations

import os
from pathlib import Path

from tuner.common.errors import TunerError
from tuner.reports.console import SearchConsole, describe_trial, format_seconds
from tuner.reports.writer import retrain_command, write_report
from tuner.runs.directory import RunDirectory
from tuner.runs.finalists import summarise_finalists
from tuner.runs.state import RunState
from tuner.session._build import worker_context
from tuner.session._stopping import Reason
from tuner.session.preparation import Prepared
from tuner.spec.spec import Spec

_REASONS = {"finished": "finished", "time_budget": "time budget spent", "interrupted": "interrupted",
            "given_up": "given up"}  # fmt: skip

GOES_ON = ("interrupted", "given_up")
"""What ends a session before the search is over."""


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
    numbers = {
        status: len(state.with_status(status)) for status in ("completed", "stopped", "failed", "paused", "running")
    }
    counts = ", ".join(f"{number} {status}" for status, number in numbers.items() if number)
    console.say(f"{_REASONS[reason]} after {format_seconds(state.elapsed_s)}: {counts or 'no trials'}")
    best = state.best_trial()
    if best is not None:
        console.say(f"best: {spec.metric} {best.best:.4f}, trial {best.number}, {describe_trial(best)}")
    _say_finalists(state, console)
    try:
        if reason not in GOES_ON and best is not None:
            _export(spec, prepared, run, state, console)
    finally:  # whatever became of the model, the search is done and is reported
        with console.preparing("writing the report"):
            paths = write_report(state, reports_dir / run.name, retrain_command(run.path, state), run=run)
        console.say(f"report: {_relative(paths.page)}")
    if reason == "given_up" and state.session_ended is not None:
        console.say(f"given up: {state.session_ended.message}")
    if reason in GOES_ON:
        console.say(f"go on with: {console.resume_command(Path(_relative(run.path)))}")


def _say_finalists(state: RunState, console: SearchConsole) -> None:
    """The first finalist, once it was judged on the test split."""
    finalists = summarise_finalists(state)
    if not finalists or finalists[0].test_accuracy is None:
        return
    mean, low, high = finalists[0].test_accuracy
    between = "" if low is None or high is None else f" (95% interval {low:.4f} to {high:.4f})"
    seeds = f"{finalists[0].trained} seed{'' if finalists[0].trained == 1 else 's'}"
    console.say(f"won: trial {finalists[0].trial}, test accuracy {mean:.4f}{between}, {seeds}")


def _export(spec: Spec, prepared: Prepared, run: RunDirectory, state: RunState, console: SearchConsole) -> None:
    from tuner.session._model_export import export_best, export_front
    from tuner.training.variants import build_variants, save_variants

    try:
        with console.preparing("exporting the best model"):
            # With as many threads as the trials had: other threads, other roundings.
            context = worker_context(spec, prepared, state.sessions[-1].cpus_per_trial)
            path = export_best(run, state, context, retrain_command(run.path, state))
            front = export_front(run, state, context)
    except TunerError as error:  # say what is missing
        console.say(f"the best model was not exported: {error}")
        return
    save_variants(run.variants, build_variants(spec.space, prepared.dataset, spec.search.seed))
    console.say(f"model: {_relative(path)} (labels: {_relative(run.labels)})")
    if front:
        console.say(f"other finalists on the Pareto front: {', '.join(_relative(other) for other in front)}")


def _relative(path: Path) -> str:
    """A path as the user would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
