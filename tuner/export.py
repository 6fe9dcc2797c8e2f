"""`python -m tuner.export RUN`: a run in the files of other programs, and for other people's searches.

Light at import: what writes a format is loaded when it is asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.common.command_line import CommandParser, run_command
from tuner.common.errors import printable, without_passwords
from tuner.trackers.options import add_tracker_options, trackers_asked_for

if TYPE_CHECKING:
    from tuner.runs.directory import RunDirectory
    from tuner.runs.state import RunState

_ALL = "--csv, --latex, --optuna, --study, --saved-model, --litert, --mlflow, --tensorboard, --tracker"
_NOT_ASKED = ("run", "trackers", "reports", "plugins", "names")
_EPILOG = """\
examples:
  python -m tuner.export runs/cifar100 --csv trials.csv --latex trials.tex
  python -m tuner.export runs/cifar100 --optuna sqlite:///studies.db        then: optuna-dashboard sqlite:///studies.db
  python -m tuner.export runs/cifar100 --study cifar100.json                then, elsewhere: --warm-start cifar100.json
  python -m tuner.export runs/cifar100 --mlflow http://localhost:5000
  python -m tuner.export runs/cifar100 --tensorboard tb                     then: tensorboard --logdir tb
  python -m tuner.export runs/cifar100 --saved-model best --litert best.tflite

exit status: 0 done, 1 failed, 2 wrong input
"""


def build_export_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.export`."""
    parser = CommandParser("export", "Write a run, or its best model, in the files of other programs.", _EPILOG)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run directory, for example runs/cifar100")
    add("--csv", type=Path, metavar="FILE", help="all trials as CSV")
    add("--latex", type=Path, metavar="FILE", help="the best trials as a LaTeX table")
    add("--optuna", metavar="URL", help="all trials as a new study of an Optuna storage")
    shown = "what its trials showed, for others to learn from (--warm-start FILE): no images, no names"
    add("--study", type=Path, metavar="FILE", help=shown)
    add("--names", action="store_true", help="with --study: the names of the study, its data and own code, too")
    add("--saved-model", type=Path, metavar="DIR", help="the best model as a TensorFlow SavedModel")
    add("--litert", type=Path, metavar="FILE", help="the best model for LiteRT (TensorFlow Lite)")
    add_tracker_options(parser, "show the run, or what is not yet there of it,")
    add("--reports", type=Path, default=Path("reports"), metavar="DIR", help="where its report is (default: reports)")
    parser.add_plugins()
    parser.add_version()
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = build_export_parser()
    options = parser.parse_args(arguments)
    trackers = trackers_asked_for(parser, options) or ()
    if not trackers and not any(value for name, value in vars(options).items() if name not in _NOT_ASKED):
        parser.error(f"at least one of {_ALL} must be given")
    if options.names and options.study is None:
        parser.error("--names belongs to --study")

    def run() -> int:
        from tuner.api.code_of_run import load_code_for
        from tuner.runs.directory import open_run

        for notice in load_code_for(open_run(options.run), options.plugins):
            print(printable(notice), file=sys.stderr)
        return _export(options, trackers)

    return run_command(run)


def _export(options: argparse.Namespace, trackers: Sequence[str]) -> int:
    from tuner.common.process import logging_to
    from tuner.reports import exports
    from tuner.reports.results import build_results
    from tuner.runs.directory import open_run
    from tuner.runs.record import read_state
    from tuner.trackers.feed import deliver
    from tuner.trackers.opening import kept_files, make_trackers

    exports.check_targets(options)
    run = open_run(options.run)
    state = read_state(run.record)
    results = build_results(state)
    written: list[object] = []
    told = make_trackers(trackers, run, goes_on=True)
    with logging_to(run.log, is_new=False):  # what libraries say meanwhile
        if options.csv:
            written.append(exports.save_csv(results, options.csv))
        if options.latex:
            written.append(exports.save_latex(results, options.latex))
        if options.optuna:
            name = exports.save_optuna(run, state, options.optuna)
            written.append(f"study {name} in {without_passwords(options.optuna)}")
        if options.study:
            written.append(_save_study(run, state, options))
        written += _save_models(run, options)
        files = kept_files(run, options.reports / run.name)
        written += [deliver(tracker, run.record, files) for tracker in told]
    for one in written:
        print(one)
    return 0


def _save_study(run: RunDirectory, state: RunState, options: argparse.Namespace) -> Path:
    from tuner.algorithms.study_file import save_study, study_of
    from tuner.api.own_names import without_own_names
    from tuner.common.files import user_path

    study = study_of(run, state, dict if options.names else without_own_names(), is_named=options.names)
    return save_study(study, user_path(options.study))


def _save_models(run: RunDirectory, options: argparse.Namespace) -> Iterator[Path]:
    from tuner.api.code_of_run import brought_to
    from tuner.models.export import save_model_as

    if options.saved_model:
        yield save_model_as(run.exported_model(), options.saved_model, "tf_saved_model", brought_to(run))
    if options.litert:
        yield save_model_as(run.exported_model(), options.litert, "litert", brought_to(run))


if __name__ == "__main__":
    raise SystemExit(main())
