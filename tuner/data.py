"""`python -m tuner.data SOURCE`: what is in a data set, what is wrong with it, and what a search would make of it.

Light at import: numpy and Pillow are loaded when there are images to look at. Ray, TensorFlow and Keras never are, but
for a data set that comes with them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.common.command_line import CommandParser, run_command, split_assignments
from tuner.common.errors import InputError, SpecError, printable
from tuner.common.files import shown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tuner.datasets.account.facts import Account
    from tuner.datasets.account.taking import Aims, Watch
    from tuner.datasets.request import DataRequest
    from tuner.spec.schema import DataSection
    from tuner.spec.spec import SpecReading

_SPACE_FILES = (".yaml", ".yml")
_EPILOG = """\
examples:
  python -m tuner.data folder:data/flowers                      classes, sizes, broken images, what to do next
  python -m tuner.data search_spaces/digits.yaml                the data of a search, split as it would split them
  python -m tuner.data folder:data/flowers --page flowers.html  one page with pictures of every class
  python -m tuner.data folder:data/flowers --json               one JSON document on standard output
  python -m tuner.data folder:data/flowers --quick              without decoding: headers only
  python -m tuner.data folder:data/flowers --set data.layout=classes

Nothing is changed or prepared. Every image is decoded, so that all that are broken are named.
exit status: 0 the data were looked at, whatever is wrong with them, 2 wrong input (there was nothing to look at)
"""


def build_data_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.data`."""
    parser = CommandParser("data", "Tell what is in a data set, and what is wrong with it.", _EPILOG)
    add = parser.add_argument
    source = "a source as in data.source, for example folder:data/flowers; or a search-space file (.yaml): its data"
    add("source", metavar="SOURCE", help=source)
    setting = "set a setting of the section data, the value in YAML: --set data.layout=classes (repeatable)"
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=setting)
    staged = "take data set NAME from SOURCE, for example cifar100=parquet:/data/cifar100 (repeatable)"
    add("--data", action="append", default=[], metavar="NAME=SOURCE", help=staged)
    add("--cache", type=Path, metavar="DIR", help="where prepared data are kept (default: the user's cache)")
    add("--json", action="store_true", help="print JSON (docs/look_at_data.md names its fields)")
    page = "write one page with contact sheets (default: data-NAME.html here, or with a number)"
    add("--page", nargs="?", const="", metavar="FILE", help=page)
    add("--quick", action="store_true", help="read headers only: no broken pixels, brightness, copies or pictures")
    parser.add_plugins()
    parser.add_version()
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = build_data_parser().parse_args(arguments)
    return run_command(lambda: _look(options))


def _look(options: argparse.Namespace) -> int:
    from tuner.common.files import check_file, check_folder, user_path
    from tuner.common.plugins import load_plugins
    from tuner.common.process import set_surroundings
    from tuner.datasets.loading import look_at_data, staged_sources
    from tuner.datasets.prepared import default_cache_dir

    set_surroundings()  # before own code imports what heeds them
    load_plugins(options.plugins)
    staged = staged_sources(os.environ, split_assignments(options.data))
    _refuse_bare_path(options.source, staged)
    name, request, aims = _read(options.source, options.overrides, staged)
    cache = user_path(options.cache or default_cache_dir()).absolute()
    check_folder(cache, "--cache (or TUNER_CACHE)", is_written=False)
    page = None if options.page is None else user_path(options.page) if options.page else _free_page(name)
    if page is not None:
        check_file(page, "--page")
    with _progress() as watch:
        account, gallery = look_at_data(
            request, staged=staged, cache_dir=cache, aims=aims, is_quick=options.quick, watch=watch
        )
    if options.json:
        sys.stdout.write(json.dumps(account.as_json(), indent=1, allow_nan=False) + "\n")
    else:
        _print(account)
    if page is not None:
        from tuner.reports.writer import write_data_page

        write_data_page(page, account, None if options.quick else gallery)
        print(printable(shown(page)), file=sys.stderr if options.json else sys.stdout)
    return 0


# --- what is looked at ---


def _is_space_file(source: str) -> bool:
    return source.lower().endswith(_SPACE_FILES) and ":" not in source


def _refuse_bare_path(source: str, staged: Mapping[str, str]) -> None:
    """Refuse a path without its kind, and say how to write it."""
    from tuner.common.files import user_path
    from tuner.datasets.sources import NAMED
    from tuner.proposals.asking import source_asked_for

    is_known = ":" in source or source in NAMED or source in staged or _is_space_file(source)
    if not is_known and source.strip() and os.path.lexists(user_path(source)):
        meant = source_asked_for(source, staged)
        if meant is None:
            raise InputError(f"{source}: must be images, a table of images, or a search-space file (.yaml)")
        raise InputError(f"{source}: must begin with its kind: {meant}")


def _read(source: str, overrides: Sequence[str], staged: Mapping[str, str]) -> tuple[str, DataRequest, Aims]:
    """Return a name for the data, the request for them, and what a study aims at.

    Raises:
        SpecError: the section `data`, or what `--set` sets, is wrong; the rest of a file does not matter here.
    """
    from tuner.datasets.account.taking import Aims
    from tuner.datasets.request import DataRequest
    from tuner.models.preprocessing import asked_by
    from tuner.spec.space import flatten
    from tuner.spec.spec import dump_spec, load_spec, read_spec

    is_file = _is_space_file(source)
    if is_file:
        reading = load_spec(Path(source), overrides)
    else:
        reading = read_spec(dump_spec({"data": {"source": source}}), source, overrides)
    set_here = {one.partition("=")[0].strip() for one in overrides}
    problems = [one for one in reading.problems if _is_about_data(one.field) or one.field in set_here]
    if problems or reading.data is None:
        told = problems or reading.problems
        raise SpecError(reading.file, told if is_file else [replace(problem, line=None) for problem in told])
    if is_file or overrides:
        _check(reading, reading.data, staged)
    asked = asked_by(reading.space) if is_file else None
    request = DataRequest(**reading.data.model_dump(), asked=asked)
    seed = reading.search.seed if reading.search is not None else 0
    names = frozenset(parameter.name for parameter in flatten(reading.space))
    aims = Aims(reading.metrics, names, seed) if is_file else Aims(seed=seed)
    return Path(source).stem if is_file else source, request, aims


def _check(reading: SpecReading, data: DataSection, staged: Mapping[str, str]) -> None:
    """Check that the source of a file is known, and that its layout goes with it; raises SpecError."""
    from tuner.datasets.request import contradictions

    columns = data.model_dump()["columns"]
    for field, text in contradictions(data.source, data.layout, columns, data.group, staged):
        problem = reading.problem(("data", field), text)
        line = problem.line if _is_space_file(reading.file) else None
        raise SpecError(reading.file, [replace(problem, line=line)])


def _is_about_data(field: str) -> bool:
    return not field or field.startswith("--set") or field.partition(".")[0] == "data"


def _free_page(name: str) -> Path:
    """Return a file name in this folder that is not taken yet."""
    plain = re.sub(r"[^\w.-]+", "-", name.rstrip("/").rpartition("/")[2].rpartition(":")[2]).strip("-.")[:60] or "set"
    numbered = itertools.chain([f"data-{plain}.html"], (f"data-{plain}-{number}.html" for number in itertools.count(2)))
    return next(path for path in map(Path, numbered) if not os.path.lexists(path))


# --- what is told ---


@contextmanager
def _progress() -> Iterator[Watch]:
    """Show on standard error, if that is a terminal, how many images have been looked at."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("looking at images"), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _print(account: Account) -> None:
    """Print the account: classes in a table, facts in lines, then what to do next."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:  # as long as they must be, and nothing behind them
        console = Console(width=10_000, highlight=False)
    with console.capture() as captured:
        console.print(Text(printable(account.source), style="bold"), soft_wrap=True)
        for block in _blocks(account):
            console.print(block)
            console.print()
        if account.advice:
            console.print(Text("what to do next", style="bold"))
        for text in account.advice:
            console.print(Text(f"- {printable(text)}"), soft_wrap=True)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")) + "\n")


def _blocks(account: Account) -> Iterator[RenderableType]:
    """Yield the table of classes, and the facts, each of what is told below its name once."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from tuner.reports.data_section import account_lines, class_cells, class_table

    heads, rows, left_out = class_table(account)
    classes = Table(box=None, pad_edge=False)
    for head in heads:
        classes.add_column(head, overflow="fold", justify="left" if head == "class" else "right")
    for one in rows:
        classes.add_row(*(Text(cell) for cell in class_cells(one, heads, account.images)))
    yield Group(classes, Text(left_out)) if left_out else classes
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(no_wrap=True, style="bold")
    facts.add_column(overflow="fold")
    before = ""
    for about, text in account_lines(account):
        facts.add_row("" if about == before else about, Text(text))
        before = about
    yield facts


if __name__ == "__main__":
    raise SystemExit(main())
