"""Arguments of `python -m tuner.search`. Light: nothing heavy is loaded for --help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tuner.common.command_line import CommandParser, override_of, verbatim
from tuner.trackers.options import add_tracker_options, trackers_asked_for

_EPILOG = """\
examples:
  python -m tuner.search folder:photos --time 30m                     look at them, write photos.yaml, search
  python -m tuner.search search_spaces/digits.yaml                    search, then write reports/digits
  python -m tuner.search search_spaces/cifar100.yaml --plan           what it would do, without training
  python -m tuner.search search_spaces/cifar100.yaml --inline         train its baseline here, without Ray
  python -m tuner.search search_spaces/digits.yaml --resume           go on with the latest unfinished run
  python -m tuner.search search_spaces/digits.yaml --set search.trials=8 --set search.seed=1
  python -m tuner.search search_spaces/cifar100.yaml --warm-start cifar10 runs/fashion_mnist
  python -m tuner.search search_spaces/digits.yaml --mlflow http://localhost:5000 --tensorboard tb
  python -m tuner.search --retrain runs/digits 3                      train trial 3 again, with its seed
  python -m tuner.search search_spaces/cifar100.yaml --address auto --storage s3://bucket/tuner    train on a cluster

exit status: 0 there is a winner, 1 there is none, 2 wrong input (nothing was trained), 130 interrupted
"""

REPORTS = Path("reports")
_WITHOUT_RECORD = ("plan", "inline", "retrain")


@dataclass(frozen=True)
class SearchOptions:
    """The options of a search's command line."""

    file: Path | None
    """The search-space file, or a source of images for which one is to be written."""
    time: str | None
    """All the time that may be spent, as it was written; None: what the file says."""
    overrides: tuple[str, ...]
    data: tuple[str, ...]
    plan: bool
    inline: bool
    resume: str | None
    """The run to resume, or its address in a storage; an empty text: the study's latest unfinished one."""
    retrain: tuple[Path, int] | None
    fresh: bool
    runs_dir: Path
    reports_dir: Path
    cache_dir: Path | None
    address: str | None
    """The Ray cluster that trains; None: this machine alone."""
    storage: str | None
    """Location of checkpoints; None: in the run directory, or where an earlier session kept them."""
    insecure: bool
    """Whether the cluster may answer without a token."""
    dashboard: bool
    """Whether the Ray of this machine shows its dashboard."""
    trackers: tuple[str, ...] | None = None
    """As NAME or NAME=PLACE; None: those that a resumed run had before."""
    probe: bool = False
    """Whether a plan says what frozen features give."""
    plugins: tuple[str, ...] = ()
    """Files and modules of own code."""


def build_search_parser() -> CommandParser:
    """Return the parser of `python -m tuner.search`."""
    parser = CommandParser(
        "search", "Find the best image classifier for a data set, as a search-space file describes.", _EPILOG
    )
    add = parser.add_argument
    what = "a search-space file (YAML); or images, as folder:photos: a file is written for them first"
    add("file", nargs="?", type=_given_path, metavar="FILE|SOURCE", help=what)
    limit = "all that may be spent, as 90s, 20m or 2h, or none (default: what FILE says; for a SOURCE 30m)"
    add("--time", type=verbatim, metavar="TIME", help=limit)
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a setting of the file, the value in YAML: --set search.trials=8 (repeatable)",
    )
    add(
        "--data",
        action="append",
        default=[],
        metavar="NAME=SOURCE",
        help="take data set NAME from SOURCE, for example cifar100=parquet:/data/cifar100 (repeatable); "
        "the variable TUNER_DATA names a folder of such copies",
    )
    parser.add_plugins()
    add(
        "--plan",
        action="store_true",
        help="print space, rungs, epochs, disk use and warnings; train nothing",
    )
    add(
        "--probe",
        action="store_true",
        help="with --plan: say what frozen backbones give under each preprocessing, computed here (search.probe)",
    )
    add("--inline", action="store_true", help="train one trial (the baseline, or a first suggestion) here, without Ray")
    add(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN",
        help="go on with an unfinished run (without RUN: the latest of this study), or with its copy in a storage",
    )
    add("--retrain", nargs=2, metavar=("RUN", "TRIAL"), help="train a trial of a run again here, with its seed")
    add("--fresh", action="store_true", help="begin a new run even if an unfinished one is there")
    add(
        "--warm-start",
        action="extend",
        nargs="+",
        default=None,
        metavar="RUN",
        help="learn from earlier studies, also on other data: run directories, files that tuner.export --study has "
        "written, or names of studies under --runs",
    )
    add("--no-finalists", action="store_true", help="do not train the best trials again; leave the test split unread")
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are kept (default: runs)")
    add("--reports", type=Path, default=REPORTS, metavar="DIR", help="where reports go (default: reports)")
    add(
        "--cache",
        type=Path,
        default=None,
        metavar="DIR",
        help="where prepared data are kept (default: the user's cache)",
    )
    add(
        "--address",
        default=None,
        metavar="HOST:PORT",
        help="train on the Ray cluster at HOST:PORT, or on that of this machine (auto), with --storage, or --runs in a "
        "folder that all its nodes see (cluster/README.md)",
    )
    add(
        "--storage",
        default=None,
        metavar="PLACE",
        help="keep checkpoints, and a copy of the run and its report, in a folder that all nodes see or in a bucket: "
        "s3://BUCKET/FOLDER, gs://..., abfss://...",
    )
    add(
        "--insecure",
        action="store_true",
        help="with --address: use a cluster that answers without a token; whoever reaches it can run programs on it",
    )
    add(
        "--dashboard",
        action="store_true",
        help="show Ray's dashboard of the search on this machine and export its metrics (cluster/monitoring)",
    )
    add_tracker_options(parser)
    parser.add_version()
    return parser


def words_to_go_on(options: SearchOptions) -> list[str]:
    """Return the words of a command line with which a search is resumed, beside its run and its own code.

    They say where its data, caches and reports are, and which Ray trains. The settings that it began with are kept with
    the run; those of a session that was resumed itself, a larger budget say, are not.
    """
    words = [word for one in options.data for word in ("--data", one)]
    words += ["--cache", str(options.cache_dir)] if options.cache_dir is not None else []
    words += ["--reports", str(options.reports_dir)] if options.reports_dir != REPORTS else []
    words += ["--address", options.address] if options.address is not None else []
    words += [f"--{name}" for name in ("insecure", "dashboard") if getattr(options, name)]
    if options.resume is None:
        return words
    settings = [word for one in options.overrides for word in ("--set", one)]
    return [*([] if options.file is None else [str(options.file)]), *settings, *words]


def _modes(parsed: argparse.Namespace) -> list[str]:
    names = ("plan", "inline", "resume", "retrain", "fresh")
    return [name for name in names if getattr(parsed, name) not in (None, False)]


def _refuse_contradictions(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Exit with status 2 and a usage line where options contradict."""
    modes = _modes(parsed)
    if len(modes) > 1:
        parser.error(f"--{modes[0]} and --{modes[1]} cannot be used together")
    if parsed.address is not None and (set(modes) & {"plan", "inline", "retrain"}):
        parser.error(f"--address and --{modes[0]} cannot be used together: --{modes[0]} runs here")
    if parsed.storage is not None and (set(modes) & {"plan", "inline", "retrain"}):
        parser.error(f"--storage and --{modes[0]} cannot be used together: --{modes[0]} keeps no checkpoints")
    if parsed.probe and not parsed.plan:
        parser.error("--probe belongs to --plan; a search that probes has search.probe: true")
    if parsed.insecure and parsed.address is None:
        parser.error("--insecure belongs to --address: a Ray of this machine alone always has a token")
    if parsed.dashboard and (set(modes) & {"plan", "inline", "retrain"}):
        parser.error(f"--dashboard and --{modes[0]} cannot be used together: --{modes[0]} runs without Ray")
    if parsed.dashboard and parsed.address is not None:
        parser.error("--dashboard and --address cannot be used together: a cluster has its own, shown on its head")
    if parsed.warm_start is not None and parsed.file is None:
        parser.error("--warm-start needs FILE, the search that is to begin")
    if parsed.warm_start is not None and parsed.resume is not None:
        parser.error("--warm-start belongs to a new search; a resumed one knows what it began with")
    if parsed.time is not None and any(one.strip().startswith("search.time_budget") for one in parsed.overrides):
        parser.error("--time and --set search.time_budget say the same: leave one of the two out")
    if parsed.retrain is not None and parsed.file is not None:
        parser.error("--retrain trains by the file that RUN keeps: leave FILE out, and change settings with --set")
    if parsed.time is not None and parsed.retrain is not None:
        parser.error("--time and --retrain cannot be used together: a trial is trained for as many epochs as it had")


def _given_path(text: str) -> Path:
    """Return the path, or the source, of a text."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must name a file or images")
    return Path(text)


def parse_search_options(arguments: Sequence[str] | None, parser: CommandParser | None = None) -> SearchOptions:
    """Return the options of a command line; exits with status 2 and a usage line when they contradict."""
    parser = parser or build_search_parser()
    parsed = parser.parse_args(arguments)
    if parsed.file is None and parsed.resume in (None, "") and parsed.retrain is None:
        taken = f"; {parsed.mlflow} was taken for the URI of --mlflow: write FILE before it" if parsed.mlflow else ""
        rule = "FILE must be given, for example search_spaces/digits.yaml; or images, for example folder:photos"
        parser.error(f"{rule}{taken}")
    _refuse_contradictions(parser, parsed)
    retrain = None
    if parsed.retrain is not None:
        if not re.fullmatch("[0-9]{1,9}", parsed.retrain[1]):
            parser.error(f"--retrain RUN TRIAL: TRIAL must be a number; got {parsed.retrain[1][:60]!r}")
        retrain = (Path(parsed.retrain[0]), int(parsed.retrain[1]))
    overrides = [*parsed.overrides]
    overrides += ["finalists.count=0"] if parsed.no_finalists else []
    overrides += ["search.probe=true"] if parsed.probe else []
    overrides += [override_of("search.warm_start", parsed.warm_start)] if parsed.warm_start is not None else []
    return SearchOptions(
        file=parsed.file,
        time=parsed.time,
        overrides=tuple(overrides),
        data=tuple(parsed.data),
        plan=parsed.plan,
        probe=parsed.probe,
        inline=parsed.inline,
        resume=parsed.resume,
        retrain=retrain,
        fresh=parsed.fresh,
        runs_dir=parsed.runs,
        reports_dir=parsed.reports,
        cache_dir=parsed.cache,
        address=parsed.address,
        storage=parsed.storage,
        insecure=parsed.insecure,
        dashboard=parsed.dashboard,
        trackers=trackers_asked_for(parser, parsed, [name for name in _modes(parsed) if name in _WITHOUT_RECORD]),
        plugins=tuple(parsed.plugins),
    )
