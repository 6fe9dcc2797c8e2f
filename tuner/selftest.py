"""`python -m tuner.selftest`: the contract tests of tuner's own code on own code (`--plugin`), or on a GPU (`--gpu`).

Light at import: Keras is loaded when there is something to test. Ray never is.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tuner import __version__
from tuner.common.command_line import CommandParser, run_command
from tuner.common.errors import InputError, printable

if TYPE_CHECKING:
    from rich.console import Console

    from tuner.contracts.check import Outcome
    from tuner.contracts.plugin import CheckedSubject

_EPILOG = """\
examples:
  python -m tuner.selftest --plugin own_nets.py                 every architecture, augmentation and preprocessing in it
  python -m tuner.selftest --plugin own_nets.py --only my_net   one of them
  python -m tuner.selftest --plugin own_nets.py --json          one JSON document on standard output
  python -m tuner.selftest --gpu                                what the GPU of this machine does, in about a minute

Each is built and run on a few small drawn images, as a search would; neither data nor Ray is needed. A small network
takes about a minute.
exit status: 0 every promise is kept, 1 one is not, 2 wrong input (there was nothing to test, or no GPU)
"""
_MARKS = {
    "passed": "[green]passed [/green]",
    "failed": "[red]failed [/red]",
    "not run": "[dim]not run[/dim]",
    "measured": "[dim]told   [/dim]",
}

_NO_CHECKS = "there are no checks of this kind"


def build_selftest_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.selftest`."""
    parser = CommandParser("selftest", "Test own code, or a GPU, by what is promised of tuner's own code.", _EPILOG)
    add = parser.add_argument
    parser.add_plugins()
    add("--only", action="append", default=[], metavar="NAME", help="test what is registered by this name (repeatable)")
    what = "what an own source is given to read, for example mine:data/photos (repeatable)"
    add("--source", action="append", default=[], metavar="NAME:REFERENCE", dest="sources", help=what)
    add("--gpu", action="store_true", help="test the GPU instead: speed, waiting, memory, precision, its numbers")
    add("--on-cpu", action="store_true", help="with --gpu: the same on the CPU, with less to do, where there is no GPU")
    add("--json", action="store_true", help="print JSON (docs/own_code.md and docs/gpu.md name its fields)")
    parser.add_version()
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = build_selftest_parser().parse_args(arguments)
    return run_command(lambda: _test(options))


def _test(options: argparse.Namespace) -> int:
    if options.gpu:
        return _test_gpu(options)
    if options.on_cpu:
        raise InputError("--on-cpu must stand beside --gpu")
    if not options.plugins:
        raise InputError("--plugin must be given: a file of Python or a module that registers own code")
    from tuner.contracts.plugin import checked_subjects

    started, failed, documents = time.monotonic(), [], []
    console = _console(sys.stderr if options.json else sys.stdout)
    with checked_subjects(options.plugins, options.only, options.sources) as subjects:
        for subject in subjects:
            found = _tell(console, subject)
            documents.append(_document(subject, found))
            if any(outcome.status != "passed" for outcome in found):
                failed.append(f"{subject.kind} {subject.name}")
    _conclude(console, failed, started)
    if options.json:
        _write({"passed": not failed, "tested": documents})
    return 1 if failed else 0


def _test_gpu(options: argparse.Namespace) -> int:
    if options.plugins or options.only or options.sources:
        raise InputError("--gpu must stand alone: --plugin, --only and --source are of own code")
    from rich.markup import escape

    from tuner.models.backend import configure_backend

    configure_backend()  # before what follows loads Keras, with all that TensorFlow says then
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # that many networks are traced
    from tuner.contracts.gpu.measurements import measure_device

    started, found = time.monotonic(), []
    console = _console(sys.stderr if options.json else sys.stdout)
    for one in measure_device(options.on_cpu):
        found.append(one)
        console.print(f"  {_MARKS[one.status]}  {one.name}: {escape(printable(one.told))}", soft_wrap=True)
    failed = [one.name for one in found if one.status == "failed"]
    _conclude(console, failed, started)
    if options.json:
        _write({"passed": not failed, "measured": [asdict(one) for one in found]})
    return 1 if failed else 0


def _conclude(console: Console, failed: Sequence[str], started: float) -> None:
    told = f"failed: {', '.join(failed)}" if failed else "every promise is kept"
    console.print(f"{printable(told)} ({time.monotonic() - started:.0f} s)", soft_wrap=True, markup=False)


def _write(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"version": __version__, **document}, indent=1, allow_nan=False) + "\n")


def _tell(console: Console, subject: CheckedSubject) -> list[Outcome]:
    """Print one line for each check as soon as it is done, and what is wrong below it; return what was found."""
    from rich.text import Text

    console.print(
        Text(printable(f"{subject.kind} {subject.name}"), style="bold").append(f"  {subject.place}", style="dim")
    )
    if not subject.checks:
        is_source = subject.kind == "data source"
        why = f"give it something to read: --source {subject.name}:REFERENCE" if is_source else _NO_CHECKS
        console.print(f"  {why}\n", markup=False)
    found = []
    for outcome in _with_progress(console, subject):
        found.append(outcome)
        console.print(f"  {_MARKS[outcome.status]}  {outcome.check}: {outcome.promise}", soft_wrap=True)
        for problem in outcome.problems:
            console.print(Text(f"           {printable(problem)}"), soft_wrap=True)
    console.print()
    return found


def _with_progress(console: Console, subject: CheckedSubject) -> Iterator[Outcome]:
    """Yield the outcomes; on a terminal, a line below them says how many are done."""
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn(f"testing {subject.name}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=subject.checks)
        for outcome in subject.run(()):
            yield outcome
            progress.advance(task)


def _console(file: Any) -> Console:
    from rich.console import Console

    return Console(file=file, highlight=False)


def _document(subject: CheckedSubject, found: list[Outcome]) -> dict[str, Any]:
    return {
        "kind": subject.kind,
        "name": subject.name,
        "plugin": subject.plugin,
        "place": subject.place,
        "passed": all(outcome.status == "passed" for outcome in found),
        "checks": [asdict(outcome) for outcome in found],
    }


if __name__ == "__main__":
    raise SystemExit(main())
