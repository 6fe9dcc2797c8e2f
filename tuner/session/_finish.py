"""The end of a session: the best model as a file that anyone with Keras can use, the report, and a few words."""

from __future__ import annotations

import json
import logging
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuner.common.errors import RunError, TunerError, cause_of, first_line
from tuner.common.files import as_typed, write_text
from tuner.common.intervals import Interval
from tuner.common.locations import Location, fetched
from tuner.common.metrics import ACCURACY
from tuner.common.seeds import trial_seed
from tuner.common.termination import ignore_hangup
from tuner.execution.worker_process import WorkerContext
from tuner.reports.console import SearchConsole, describe_trial
from tuner.reports.formatting import format_seconds, metric_words
from tuner.reports.remarks import edges, majority_sentences
from tuner.reports.results import build_results
from tuner.reports.writer import plugin_options, retrain_command, write_report
from tuner.runs.directory import RunDirectory
from tuner.runs.events import KERAS
from tuner.runs.finalists import best_training, finalist_seed, judged_by, not_tested, summarise_finalists
from tuner.runs.pareto import comparable_values, metrics_of, pareto_front
from tuner.runs.predictions import save_variants
from tuner.runs.state import RunState
from tuner.session._resolved import ResolvedSearch
from tuner.session._stopping import Reason
from tuner.session.options import SearchOptions, words_to_go_on
from tuner.session.preparation import Prepared
from tuner.training.failures import ADVICE, kind_of
from tuner.training.trial_like import TrainedTrial, trained

_LOG = logging.getLogger(__name__)
_REASONS = {"finished": "finished", "time_budget": "time budget spent",
            "expected_gain": "ended, as little more was expected to be gained", "interrupted": "interrupted",
            "given_up": "given up"}  # fmt: skip

GOES_ON = ("interrupted", "given_up")
"""Reasons that end a session before the search is over."""


def finish_session(
    search: ResolvedSearch,
    prepared: Prepared,
    run: RunDirectory,
    end: tuple[Reason, RunState],
    options: SearchOptions,
    console: SearchConsole,
) -> bool:
    """Write the report, export the best model, and say the result and where it is; return whether there is a winner."""
    (reason, state), is_exported = end, True
    ignore_hangup()  # all that is left is to tell of it
    numbers = {
        status: len(state.with_status(status)) for status in ("completed", "stopped", "failed", "paused", "running")
    }
    counts = ", ".join(f"{number} {status}" for status, number in numbers.items() if number)
    console.say(f"{_REASONS[reason]} after {format_seconds(state.elapsed_s)}: {counts or 'no trials'}")
    best = state.best_trial()
    if best is not None:
        console.say(f"best: {search.study.metric} {best.best:.4f}, trial {best.number}, {describe_trial(best)}")
    with console.beside("the result cannot be summed up"):
        _say_result(state, console, is_over=reason not in GOES_ON)
    try:
        if reason not in GOES_ON and best is not None:
            is_exported = _export(search, prepared, run, state, console)
    finally:  # whatever became of the model, the search is done and is reported
        again = f"write it with: {shlex.join(['python', '-m', 'tuner.report', as_typed(run.path)])}"
        with console.beside("the report was not written", again):
            with console.preparing("writing the report"):
                command = retrain_command(run.path, state)
                paths = write_report(state, options.reports_dir / run.name, command, run=run, say=console.say)
            console.say(f"report: {as_typed(paths.page)}")
    if reason == "given_up" and state.session_ended is not None:
        console.say(f"given up: {state.session_ended.message}")
    resume = console.resume_command(Path(as_typed(run.path)), [*words_to_go_on(options), *plugin_options(state)])
    if reason in GOES_ON:
        console.say(f"go on with: {resume}")
        return False
    lacking = missing_winner(state, reason, resume, Path(as_typed(run.log)))
    if lacking is not None:
        console.say(lacking)
    return lacking is None and is_exported


def missing_winner(state: RunState, reason: Reason, resume: str, log: Path) -> str | None:
    """Return in a line why a search that is over has no winner, and what to do; None if it has one."""
    failed = Counter(kind_of(trial.reason) for trial in state.with_status("failed"))
    others = len(state.trials) - failed.total()
    if state.best_trial() is None:
        if not others and failed:
            return f"no winner: {_failures([trial.reason for trial in state.with_status('failed')], 'trial', log)}"
        ended = "time budget ended" if reason == "time_budget" else "search ended"
        return (
            f"no winner: the {ended} before any trial had finished an epoch"
            f"{f' ({failed.total()} failed)' if failed else ''}; give more time: {resume} --set search.time_budget=..."
        )
    trainings = [one.trained for one in state.finalists.values()]
    if state.finalists_started is None or summarise_finalists(state) or not trainings:
        return None
    words = _failures([one.reason for one in trainings], "finalist training", log)
    return f"no winner: {words}; the model is that of the best trial, which nothing has confirmed"


def _failures(reasons: Sequence[str], what: str, log: Path) -> str:
    """Return in words that all of some failed, mostly why, and what to do about it."""
    (kind, number), *_ = Counter(map(kind_of, reasons)).most_common(1)
    latest = next(reason for reason in reversed(reasons) if kind_of(reason) == kind)
    every = f"all {len(reasons)} {what}s" if len(reasons) > 1 else f"the only {what}"
    shared = "" if number == len(reasons) else f", {number} of them"
    return f"{every} failed{shared} with: {latest}; {ADVICE.get(kind, f'see {log}')}"


def _say_result(state: RunState, console: SearchConsole, *, is_over: bool) -> None:
    """Say the result of the first finalist, once it was judged on the test split, and what lies at the edge."""
    _say_finalists(state, console, is_over=is_over)
    results = build_results(state)
    for sentence in majority_sentences(results):
        console.say(sentence)
    for edge in edges(results):
        console.say(f"{edge.said}, try {edge.wider}")


def _say_finalists(state: RunState, console: SearchConsole, *, is_over: bool) -> None:
    """Say the result of the first finalist, once it was judged on the test split."""
    finalists = summarise_finalists(state)
    if not finalists:
        return
    if finalists[0].test is None:
        if not_tested(state) and is_over and state.study is not None:
            first, repeats = finalists[0], f"{finalists[0].trained} {'folds' if state.folds else 'seeds'}"
            value = f"{state.study.metric} {first.validation.mean:.4f}, the mean of {repeats}"
            console.say(f"won: trial {first.trial}, {value}; not tested: {not_tested(state)}")
        return
    first, test, metric = finalists[0], finalists[0].test, metric_words(judged_by(state))
    repeat, another = ("fold", "other") if state.folds else ("seed", "new")
    of, for_what = (
        (f"one {repeat}", "new images alone:") if first.tested == 1
        else (f"the mean of {first.tested} {repeat}s", f"the mean over {another} {repeat}s and new images:")
    )  # fmt: skip
    seeds = f"{of} (95% interval for {for_what} {_bounds(test)})"
    is_baseline = ", the baseline" if state.trials[first.trial].is_baseline else ""
    ahead = "won" if is_over else "ahead"
    console.say(f"{ahead}: trial {first.trial}{is_baseline}, test {metric} {test.mean:.4f}, {seeds}")
    if metric != ACCURACY and first.test_accuracy is not None:
        console.say(f"its test accuracy: {first.test_accuracy.mean:.4f}")
    if first.tested > 1 and first.model_test is not None:
        which = "one of these trainings" if not state.folds else f"the one on fold {(first.model or 0) + 1}"
        model = state.study.model_name if state.study is not None else ""
        own = f"{first.model_test.mean:.4f} (95% interval for new images {_bounds(first.model_test)})"
        console.say(f"{model}, {which}: {own}")


def _bounds(interval: Interval) -> str:
    """Return the bounds of an interval in words; there are none where no draw of the test images has a value."""
    if interval.low is None or interval.high is None:
        return "not known"
    return f"{interval.low:.4f} to {interval.high:.4f}"


def _export(
    search: ResolvedSearch, prepared: Prepared, run: RunDirectory, state: RunState, console: SearchConsole
) -> bool:
    """Export the best model with what belongs to it, and return whether it is there, if the trials have any."""
    from tuner.session._variants import build_variants

    try:
        with console.preparing("exporting the best model"):
            # With as many threads as the trial had: other threads, other roundings.
            best = state.best_trial()
            session = state.sessions[-1] if best is None else state.session_of(best.number)
            training = search.training.augmented_on(session.augment_on)
            context = prepared.worker_context(training, session.cpus_per_trial)
            path = export_best(run, state, context, retrain_command(run.path, state))
    # Keras raises errors of any kind for a layer that cannot be saved.
    except Exception as error:  # noqa: BLE001  whatever it is, it is said, and the search is reported
        if not isinstance(error, TunerError):
            _LOG.warning("export", exc_info=True)
        console.say(f"the best model was not exported: {cause_of(error)}")
        return isinstance(error, _NoNetworkError)
    console.say(f"{'model' if path.suffix == KERAS else 'state'}: {as_typed(path)} (labels: {as_typed(run.labels)})")
    with console.beside("the report lacks its examples of images"):
        save_variants(run.variants, build_variants(search.study.network_space, prepared.dataset, search.study.seed))
    front: list[Path] = []
    with console.beside("the other models of the Pareto front were not exported"):
        front = export_front(run, state, context)
    if front:
        console.say(f"other finalists on the Pareto front: {', '.join(as_typed(other) for other in front)}")
    return True


def export_best(run: RunDirectory, state: RunState, context: WorkerContext, retrain_command: str | None) -> Path:
    """Write the best model with its best weights and the files beside it, and return the model's path.

    The model takes raw images `[N, H, W, C]` of any size, values 0..255, and loads without tuner. It is the training
    of the winning finalist that did best on the validation split; without finalists, the best trial.

    Raises:
        RunError: no trial has reported an epoch, or a checkpoint is missing or damaged.
    """
    models = TrainedModels(context, run, state)
    finalists = summarise_finalists(state)
    if finalists:
        number = finalists[0].trial
        trial = models.finalist(number, best_training(state, number) or 0)
    else:
        number, trial = models.best()
    path = _save(trial, run.path / f"best{trial.model_suffix}")
    labels = list(trial.data.class_names)
    write_text(run.labels, json.dumps(labels, ensure_ascii=False, indent=1))
    about = {
        "study": state.study.study if state.study else "",
        "trial": number,
        "configuration": dict(trial.configuration),
        "image_shape": list(trial.data.image_shape),
        "fit": trial.data.fit,
        "labels": labels,
        **({"trainable": state.study.trainable} if state.study and state.study.trainable else {}),
        "retrain": retrain_command,
        "environment": state.study.environment if state.study else {},
    }
    write_text(run.about_best, json.dumps(about, ensure_ascii=False, indent=1))
    return path


def export_front(run: RunDirectory, state: RunState, context: WorkerContext) -> list[Path]:
    """Write the models of the other finalists on the Pareto front, as `export_best` does, and return their paths.

    Those of an earlier session that are not on the front any more are removed.

    Raises:
        RunError: a finalist has no checkpoint.
    """
    metrics = metrics_of(state)
    on_front = pareto_front(comparable_values(state), metrics) if len(metrics) > 1 else ()
    models, written = TrainedModels(context, run, state), []
    for finalist in summarise_finalists(state)[1:]:
        if finalist.trial in on_front:
            model = models.finalist(finalist.trial, best_training(state, finalist.trial) or 0)
            written.append(_save(model, run.front_model(finalist.trial, model.model_suffix)))
    for earlier in set(run.front_models()) - set(written):
        earlier.unlink()
    return written


def _save(trial: TrainedTrial, path: Path) -> Path:
    aside = path.with_name("partial." + path.name)  # Keras goes by the suffix
    try:
        trial.save_model(aside)
        return aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


class _NoNetworkError(RunError):
    """Trials of a kind that has no network."""


class TrainedModels:
    """The trials of a run with their best weights, made in this process."""

    def __init__(self, context: WorkerContext, run: RunDirectory, state: RunState) -> None:
        self._trials, self._seed = context.trials(), context.settings.seed
        self._run, self._state = run, state

    def finalist(self, trial_number: int, number: int) -> TrainedTrial:
        """Return a training of a finalist; raises RunError when its checkpoint is missing or damaged."""
        configuration, folds = self._state.trials[trial_number].configuration, self._state.folds
        trial = self._make(configuration, finalist_seed(self._seed, number), number if folds else 0)
        with reading(self._run.finalist(trial_number, number, folds)) as folder:
            trial.load(folder)
        trial.restore_best()
        return trial

    def best(self) -> tuple[int, TrainedTrial]:
        """Return the best trial of the search and its number; raises RunError when there is none."""
        best = self._state.best_trial()
        if best is None:
            raise RunError(f"{self._run.path}: no trial has reported an epoch, so there is no model to export")
        trial = self._make(best.configuration, trial_seed(self._seed, best.number))
        if best.checkpoint is not None:
            with reading(self._run.checkpoints.child(best.checkpoint.path)) as folder:
                trial.load(folder)
        while trial.best != best.best and trial.epoch < best.epochs[-1].epoch and trial.ended is None:
            trial.advance()  # checkpoints are not written after every epoch; one killed at its end may have none
        trial.restore_best()
        return best.number, trial

    def _make(self, configuration: Mapping[str, Any], seed: int, fold: int = 0) -> TrainedTrial:
        trial = self._trials.begin(dict(configuration), seed, fold=fold)
        found = trained(trial)
        if found is None:
            raise _NoNetworkError(f"trials of the kind {type(trial).__name__} have no network to export or to test")
        return found


@contextmanager
def reading(location: Location) -> Iterator[Path]:
    """Yield a local folder as `locations.fetched` does; raises RunError when the location cannot be read."""
    try:
        with fetched(location) as folder:
            yield folder
    except OSError as error:
        raise RunError(f"{location.address}: the checkpoint cannot be read: {first_line(error)}") from None
