"""`python -m tuner.cache`: what is kept on this machine, listed, verified, cleared.

Light at import: numpy and rich are loaded when there is a cache to look at.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.common.command_line import CommandParser, run_command
from tuner.common.errors import TunerError, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tuner.training.activation_store import Store
    from tuner.training.cache_contents import Item

DAY_S = 86400.0
IN_USE = "in use"
_OF_CLEAR = ("all", "brought", "unused_days", "damaged", "yes")
_EPILOG = """\
actions:
  list     what is kept, how large it is, when it was last used (the default)
  verify   read everything against its checksums
  clear    remove cached activations that no process uses; what is needed again is made again

Arrays, tables and dictionaries that programs gave to tuner.Study are listed and verified too. Nobody can make them
again: clear removes them with --brought alone, and a search of them goes on when they are given again.

examples:
  python -m tuner.cache                             what is kept on this machine
  python -m tuner.cache verify
  python -m tuner.cache clear --unused-days 30      activations that were not used for 30 days
  python -m tuner.cache clear --all --yes           prepared data sets too, without a question
  python -m tuner.cache clear --brought             what programs have brought too

A prepared data set counts as used when it was made and when activations of it were used. It is in use while it is made
and while activations of it are; a search that trains from its images goes on with what it has open.

exit status: 0 done, 1 something is damaged or could not be removed, 2 wrong input, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse_cache_options(arguments)

    def run() -> int:
        from tuner.common.files import check_folder, user_path
        from tuner.datasets.prepared import default_cache_dir

        cache = user_path(options.cache or default_cache_dir()).absolute()
        check_folder(cache, "the cache", is_written=False)
        action = {"list": show_items, "verify": verify_items, "clear": clear_items}[options.action]
        try:
            return action(cache, options)
        except OSError as error:
            raise TunerError(f"{cache}: the cache cannot be used: {error}") from error

    return run_command(run)


def parse_cache_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line; exits with status 2 and a usage line when they contradict."""
    parser = CommandParser(
        "cache", "Prepared data, cached activations, what programs brought: list, verify, clear.", _EPILOG
    )
    add = parser.add_argument
    add("action", nargs="?", default="list", choices=("list", "verify", "clear"), help="what to do (default: list)")
    add("--cache", type=Path, metavar="DIR", help="the folder (default: TUNER_CACHE, or the user's cache)")
    add("--json", action="store_true", help="list: print JSON")
    add("--all", action="store_true", help="clear: remove prepared data sets too")
    add("--brought", action="store_true", help="clear: remove arrays and tables that programs have brought too")
    add("--unused-days", type=float, metavar="N", help="clear: only what was not used for N days")
    add("--damaged", action="store_true", help="clear: only what is damaged, of all kinds, after reading everything")
    add("--yes", action="store_true", help="clear: do not ask (without a terminal, nothing is asked)")
    options = parser.parse_args(arguments)
    for name, action in {"json": "list", **dict.fromkeys(_OF_CLEAR, "clear")}.items():
        if options.action != action and getattr(options, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} can only be used with {action}")
    if options.unused_days is not None and not 0 <= options.unused_days < float("inf"):
        parser.error(f"--unused-days must be a number of days, 0 or more; got {options.unused_days:g}")
    if options.damaged and (options.all or options.brought or options.unused_days is not None):
        parser.error("--damaged cannot be used together with --all, --brought or --unused-days")
    return options


# --- list ---


def show_items(cache: Path, options: argparse.Namespace) -> int:
    """Print what the cache holds, as a table or as JSON."""
    from tuner.training.cache_contents import list_items, total_words

    items = list_items(cache)
    if options.json:
        sys.stdout.write(_as_json(cache, items))
        return 0
    console = _console()
    if items:
        console.print(_table(items))
        _say(console, "")
    _say(console, f"{total_words(items)}, in {cache}" if items else f"the cache is empty: {cache}")
    return 0


def _as_json(cache: Path, items: Sequence[Item]) -> str:
    used = [datetime.fromtimestamp(item.used, UTC).isoformat(timespec="seconds") for item in items]
    listed = [
        {**asdict(item), "folder": str(item.folder), "used": when} for item, when in zip(items, used, strict=True)
    ]
    total = sum(item.size_bytes for item in items)
    return json.dumps({"folder": str(cache), "size_bytes": total, "entries": listed}, indent=1) + "\n"


def _table(items: Sequence[Item]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from tuner.common.files import format_size

    table = Table(box=None, pad_edge=False)
    for name in ("data set", "what"):
        table.add_column(name, overflow="fold", min_width=8)
    for name in ("images", "size", "last used", "status"):
        table.add_column(name, justify="right" if name in ("images", "size") else "left", no_wrap=True)
    for item in items:
        used = datetime.fromtimestamp(item.used).strftime("%Y-%m-%d")
        images = "-" if item.images is None else f"{item.images:,}"
        status = f"{item.status}, in use" if item.in_use else item.status
        cells = (item.name, item.describe(), images, format_size(item.size_bytes), used, status)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    return table


def _console() -> Console:
    """Return a console that cuts nothing: where there is no terminal, lines are as long as they must be."""
    from rich.console import Console

    return Console() if Console().is_terminal else Console(width=10_000)


def _say(console: Console, text: str) -> None:
    from rich.text import Text

    console.print(Text(printable(text)), soft_wrap=True)


def _name(item: Item) -> str:
    from tuner.common.files import format_size

    return f"{item.name}: {item.describe()}; {format_size(item.size_bytes)} ({item.folder})"


# --- verify ---


def verify_items(cache: Path, options: argparse.Namespace) -> int:
    """Read everything through; returns 1 if something is damaged."""
    from tuner.training.cache_contents import list_items, total_words

    console = _console()
    items = list(_read_through(cache, list_items(cache), console))
    damaged = [item for item in items if item.status == "damaged"]
    for item in damaged:
        _say(console, f"damaged: {_name(item)}")
    whole = [item for item in items if item.status == "whole"]
    _say(console, f"whole: {total_words(whole)}; damaged: {total_words(damaged)}; in {cache}")
    if damaged:
        again = "it will be made again when it is needed; what a program brought, when it is given again"
        _say(console, f"clear --damaged removes what is damaged; {again}")
    return 1 if damaged else 0


def _read_through(cache: Path, items: Sequence[Item], console: Console) -> Iterator[Item]:
    """Yield each item after reading all its values, as damaged if they are; a terminal shows the progress."""
    from rich.progress import Progress

    from tuner.training.activation_store import Store

    store, total = Store(cache), sum(item.size_bytes for item in items)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=total)
        for item in items:
            yield _checked(store, item) if item.status == "whole" else item
            progress.advance(task, item.size_bytes)


def _checked(store: Store, item: Item) -> Item:
    from tuner.training.cache_contents import ACTIVATIONS, damage

    if not item.folder.exists():  # removed meanwhile
        return item
    if item.kind == ACTIVATIONS:
        with suppress(OSError):  # an entry of another user is read without
            store.hold(item.folder)  # nobody removes it while it is read
    try:
        problem = damage(item)
    finally:
        store.release(item.folder)
    return item if problem is None else replace(item, status="damaged", reason=problem)


# --- clear ---


def clear_items(cache: Path, options: argparse.Namespace) -> int:
    """Remove what the options name and no process uses; returns 1 if something of it could not be removed."""
    from tuner.training.cache_contents import list_items, total_words

    console = _console()
    items = list_items(cache)
    items = list(_read_through(cache, items, console)) if options.damaged else items
    reasons = [_why_kept(item, options) for item in items]
    wanted = [item for item, reason in zip(items, reasons, strict=True) if reason is None]
    free = [item for item in wanted if not item.in_use]
    if free and not options.yes and sys.stdin.isatty() and not _is_agreed(f"remove {total_words(free)}?"):
        _say(console, "nothing was removed")
        return 0
    problems = []
    for item in wanted:
        problems.append(problem := _remove(item))
        _say(console, f"kept, {problem}: {_name(item)}" if problem else f"removed: {_name(item)}")
    for why in sorted({reason for reason in reasons if reason}):
        alike = [item for item, reason in zip(items, reasons, strict=True) if reason == why]
        _say(console, f"kept, {why}: {total_words(alike)}")
    removed = [item for item, problem in zip(wanted, problems, strict=True) if problem is None]
    _say(console, f"removed in all: {total_words(removed)}, from {cache}")
    return 1 if set(problems) - {None, IN_USE} else 0


def _why_kept(item: Item, options: argparse.Namespace) -> str | None:
    """Return why the options keep an item; None if they remove it, or if its removal was interrupted."""
    from tuner.datasets.prepared import BROUGHT
    from tuner.training.cache_contents import DATASETS

    if item.folder.name.endswith(".removed"):
        return None
    if options.damaged:
        return None if item.status == "damaged" else "not damaged"
    if item.kind == DATASETS and not options.all:
        return "removed with --all only"
    if item.kind == BROUGHT and item.status == "whole" and not options.brought:
        return "removed with --brought only"
    if options.unused_days is not None and item.used > time.time() - options.unused_days * DAY_S:
        return f"used within the last {options.unused_days:g} days"
    return None


def _remove(item: Item) -> str | None:
    """Remove an item: renamed first, so that nobody finds half of it. Returns why it was kept, None if it is gone."""
    from filelock import FileLock, Timeout

    from tuner.datasets.prepared import BROUGHT
    from tuner.training.activation_store import is_in_use
    from tuner.training.cache_contents import ACTIVATIONS, build_lock

    if item.in_use:
        return IN_USE
    folder = item.folder
    is_activations = item.kind == ACTIVATIONS
    lock = FileLock(folder.with_name("removal.lock")) if is_activations else build_lock(folder)
    try:
        if item.kind == BROUGHT:
            folder.unlink()
            return None
        with lock:  # nobody makes room, or this data set, meanwhile
            if is_activations and is_in_use(folder):  # since it was listed
                return IN_USE
            if not folder.name.endswith(".removed"):
                folder = folder.replace(folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.removed"))
        shutil.rmtree(folder)
    except Timeout:
        return IN_USE
    except FileNotFoundError:
        return None  # another process has removed it
    except OSError as error:
        return f"it cannot be removed ({error.strerror or error})"
    return None


def _is_agreed(question: str) -> bool:
    sys.stdout.write(f"{question} [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


if __name__ == "__main__":
    raise SystemExit(main())
