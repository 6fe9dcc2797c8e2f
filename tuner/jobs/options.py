"""Arguments of `python -m tuner.submit`. Light: nothing heavy is loaded for --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tuner.common.command_line import CommandParser, override_of
from tuner.common.errors import without_passwords
from tuner.trackers.options import add_tracker_options, trackers_asked_for

COMMANDS = {
    "status": "the searches of the cluster, or how one of them stands",
    "follow": "show a search, from its beginning to its end",
    "logs": "print what a search has said so far",
    "stop": "stop a search as Ctrl-C does, and wait until it has written all it knows",
    "fetch": "bring the report and the record of a search here, while it runs or afterwards",
}
SHARED = PurePosixPath("/shared/tuner")
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
"""Address of the dashboard after `ray dashboard FILE` or `kubectl port-forward`."""
_EPILOG = """\
commands (FILE is anything else; a file of such a name is ./status):
{commands}

examples:
  python -m tuner.submit search_spaces/digits.yaml                    send it, and show it
  python -m tuner.submit search_spaces/digits.yaml --detach           send it
  python -m tuner.submit follow digits                                show the newest search of this study
  python -m tuner.submit stop digits                                  stop it; --resume goes on with it
  python -m tuner.submit fetch digits --model                         runs/digits and reports/digits, with the model

The address is that of Ray's dashboard on the head, which `ray dashboard FILE` brings to this machine; the token is that
of ~/.ray/auth_token. Ctrl-C leaves the search running.
exit status: that of the search: 0 there is a winner, 1 there is none, 2 wrong input, 130 interrupted
"""


@dataclass(frozen=True)
class SubmitOptions:
    """The options of a command line; `command` is "submit" or one of COMMANDS."""

    command: str
    address: str
    file: Path = Path()
    """The search-space file that is submitted."""
    job: str | None = None
    overrides: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    """Files and modules of own code, which are sent."""
    resume: bool = False
    fresh: bool = False
    detach: bool = False
    shared: PurePosixPath = SHARED
    storage: str | None = None
    cache: str | None = None
    to: Path = Path()
    with_models: bool = False
    raw: bool = False
    trackers: tuple[str, ...] | None = None
    address_words: tuple[str, ...] = ()
    """The address as it has to be typed again."""


def build_submit_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.submit FILE`."""
    parser = CommandParser(
        "submit",
        "Send a search, with its file and its data, to a Ray cluster, and show it as if it ran here.",
        _EPILOG.format(commands="\n".join(f"  {name:8}{words}" for name, words in COMMANDS.items())),
    )
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="the search-space file (YAML), or one of the commands below")
    _add_address(parser)
    add("--detach", action="store_true", help="do not wait for the search: say how to follow it")
    add("--resume", action="store_true", help="go on with the latest unfinished run of this study")
    add("--fresh", action="store_true", help="begin a new run even if an unfinished one is there")
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="as of tuner.search")
    data = "as of tuner.search; files of this machine are sent, those below --shared are the cluster's"
    add("--data", action="append", default=[], metavar="NAME=SOURCE", help=data)
    parser.add_plugins()
    earlier = (
        "learn from earlier studies: run directories and files of this machine, or names of studies on the cluster"
    )
    add("--warm-start", action="extend", nargs="+", metavar="RUN", help=earlier)
    add("--no-finalists", action="store_true", help="as of tuner.search")
    shared = f"a folder of the cluster that all its nodes see, for runs, reports and data (default: {SHARED})"
    add("--shared", type=PurePosixPath, default=SHARED, metavar="DIR", help=shared)
    add("--storage", metavar="PLACE", help="as of tuner.search: a folder of the cluster, or a bucket")
    add_tracker_options(parser, "as of tuner.search, from the cluster: show the search")
    add("--cache", metavar="DIR", help="where each node keeps prepared data (default: its user's cache)")
    parser.add_version()
    return parser


def build_command_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.submit status` and the other commands."""
    parser = CommandParser(f"submit {command}", f"{COMMANDS[command].capitalize()}.")
    add = parser.add_argument
    is_optional = command == "status"
    words = "the name that was printed when it was submitted, or its study, whose newest search is meant"
    add("job", metavar="ID", nargs="?" if is_optional else None, help=words)
    _add_address(parser)
    if command == "fetch":
        add("--to", type=Path, default=Path(), metavar="DIR", help="where runs/ and reports/ are (default: here)")
        add("--model", action="store_true", dest="with_models", help="the exported models, too")
    if command == "logs":
        add("--raw", action="store_true", help="as Ray keeps it: lines of JSON, and whatever else was written")
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    words = f"Ray's dashboard (default: RAY_API_SERVER_ADDRESS, or {DEFAULT_ADDRESS})"
    parser.add_argument("--address", metavar="URL", help=words)


def parse_submit_options(arguments: Sequence[str] | None) -> SubmitOptions:
    """Return the options of a command line; exits with status 2 and a usage line when they contradict."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_command = bool(words) and words[0] in COMMANDS
    parser = build_command_parser(words[0]) if is_command else build_submit_parser()
    values: dict[str, Any] = vars(parser.parse_args(words[1:] if is_command else words))
    given = values.pop("address")
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    common: dict[str, Any] = {"address": address, "address_words": ("--address", given) if given else ()}
    if is_command:
        return SubmitOptions(command=words[0], **common, **values)
    warm_start, no_finalists = values.pop("warm_start"), values.pop("no_finalists")
    if values["resume"] and values["fresh"]:
        parser.error("--resume and --fresh cannot be used together")
    if values["resume"] and warm_start is not None:
        parser.error("--warm-start belongs to a new search; a resumed one knows what it began with")
    if not values["shared"].is_absolute():
        parser.error(f"--shared must be an absolute path on the cluster; got {str(values['shared'])[:200]!r}")
    for option in ("cache", "storage"):
        place = values[option]
        if place is not None and not place.startswith(("/", "~")) and "://" not in place:
            parser.error(f"--{option} must be an absolute path on the cluster; got {place[:200]!r}")
    values["trackers"] = _trackers(parser, values)
    overrides = [*values.pop("overrides"), *(["finalists.count=0"] if no_finalists else [])]
    overrides += [override_of("search.warm_start", warm_start)] if warm_start is not None else []
    common |= {name: tuple(values.pop(name)) for name in ("data", "plugins")}
    return SubmitOptions(command="submit", **common, **values, overrides=tuple(overrides))


def _trackers(parser: argparse.ArgumentParser, values: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the trackers asked for; exits for a place that is this machine's, or holds what others must not read."""
    asked = trackers_asked_for(parser, argparse.Namespace(**values))
    del values["mlflow"], values["tensorboard"]
    for one in asked or ():
        name, _, place = one.partition("=")
        if place != without_passwords(place):
            parser.error(
                f"--{name} must be without a password: jobs are shown to all who use the cluster; set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD on its head"
            )
        is_local = place.startswith("sqlite:///") and not place.startswith("sqlite:////")
        if is_local or (name == "tensorboard" and not place.startswith(("/", "~"))):
            parser.error(f"--{name} must be an absolute path on the cluster; got {place[:200]!r}")
    return asked
