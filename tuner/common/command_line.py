"""Parsing of arguments and exit statuses for every command. Light: nothing heavy is loaded for --help."""

from __future__ import annotations

import argparse
import json
import select
import sys
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any, NoReturn

from tuner import __version__
from tuner.common.errors import InputError, TunerError, printable, without_passwords
from tuner.common.files import is_disk_full, user_path
from tuner.common.process import settled, silence
from tuner.common.registry import is_nothing

_LONGEST = 1000
"""Characters of what is said of a wrong command line."""


class CommandParser(argparse.ArgumentParser):
    """The parser of `python -m tuner.COMMAND`: short errors without control characters, options that can be none.

    A path may begin with a home: `--csv=~/trials.csv` comes as it is written, since no shell looks behind the sign.

    An option that need not be given can be given as `none`, `off` or another word for nothing; one that stands for
    something if it is not given, such as a folder, cannot: a folder of such a name is written `./none`.
    """

    raises = False
    """Whether what is wrong is raised as InputError, for a program that has given the words."""

    def __init__(self, command: str, description: str, epilog: str | None = None) -> None:
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(f"python -m tuner.{command}", description=description, epilog=epilog, formatter_class=form)

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """Add an argument as argparse does, and read the words for nothing, and homes."""
        kind = settings.get("type", str)
        takes_text = isinstance(kind, type) and issubclass(kind, (str, float, PurePath)) and "choices" not in settings
        if takes_text and names[0].startswith("-") and settings.get("action", "store") in ("store", "extend"):
            settings["type"] = _or_nothing(kind, settings.get("default") is None)
        elif kind is Path:
            settings["type"] = _path
        return super().add_argument(*names, **settings)

    def add_plugins(self) -> None:
        """Add `--plugin`, for own code."""
        words = "own code: a file or module that registers architectures, augmentations and more (repeatable)"
        self.add_argument("--plugin", action="append", default=[], metavar="FILE.py|MODULE", dest="plugins", help=words)

    def add_version(self) -> None:
        """Add `--version`."""
        self.add_argument("--version", action="version", version=f"tuner {__version__}")

    def parse_known_args(self, *arguments: Any, **settings: Any) -> Any:
        """Return the arguments; a list of nothing is empty."""
        found, rest = super().parse_known_args(*arguments, **settings)
        for name, value in vars(found).items():
            if isinstance(value, list):
                setattr(found, name, [one for one in value if one is not None])
        return found, rest

    def keywords(self) -> dict[str, argparse.Action]:
        """Return the options by the names that a program gives them: `--no-finalists` is `no_finalists`."""
        named = {option: action for action in self._actions for option in action.option_strings}
        return {option[2:].replace("-", "_"): named[option] for option in named if option.startswith("--")}

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, after the usage and without passwords, and exit with status 2; or raise it."""
        said = without_passwords(message)
        if self.raises:
            raise InputError(printable(said))
        super().error(printable(said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."))


def verbatim(text: str) -> str:
    """Return a text as it is: the `type` of an option in which a word for nothing says more than if it is left out."""
    return text


def _path(text: str) -> Path:
    try:
        return user_path(text)
    except InputError:  # whoever looks for it tells that there is no such user
        return Path(text)


def _or_nothing(kind: type, can_be_nothing: bool) -> Callable[[str], Any]:
    convert: Callable[[str], Any] = _path if kind is Path else kind

    def read(text: str) -> Any:
        if is_nothing(text) and not can_be_nothing:
            raise argparse.ArgumentTypeError(f"cannot be {text}; a file or folder of this name is ./{text}")
        return None if is_nothing(text) else convert(text)

    read.__name__ = kind.__name__  # argparse says it of a value that is wrong
    return read


def failure(error: TunerError | OSError) -> tuple[list[str], int]:
    """Return the message lines and the exit status for an error that ends a command; raise any other error again."""
    if isinstance(error, TunerError):
        return error.lines(), error.exit_status
    if is_disk_full(error):
        return [f"the disk is full: {printable(str(error))}"], TunerError.exit_status
    raise error


def run_command(action: Callable[[], int]) -> int:
    """Run `action` and return its exit status; a deliberate error goes to standard error and gives its own status."""
    try:
        with settled():
            status = action()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except (TunerError, OSError) as error:
        if _is_unread() and not isinstance(error, TunerError):
            return 0  # whoever reads, such as `head`, has had enough
        lines, status = failure(error)
        if is_disk_full(error):
            silence(sys.stdout)
    except KeyboardInterrupt:
        _is_unread()
        lines, status = ["interrupted"], 130
    try:
        print(*lines, sep="\n", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        silence(sys.stderr)
    return status


def _is_unread() -> bool:
    """Return whether nobody reads standard output any more; what it still holds is dropped then."""
    try:
        poll = select.poll()
        poll.register(sys.stdout, 0)  # asks for errors alone
        is_gone = bool(poll.poll(0))
    except (OSError, ValueError, TypeError, AttributeError):  # it is no file
        return False
    if is_gone:
        silence(sys.stdout)
    return is_gone


def split_assignments(texts: Sequence[str]) -> dict[str, str]:
    """Return what `--data` gives, `["a=b"]`, as `{"a": "b"}`; raises InputError for one without a name or a value."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise InputError(f"--data must be NAME=VALUE; got {text!r}")
        pairs[name] = value
    return pairs


def override_of(key: str, value: object) -> str:
    """Return a setting as `--set` takes it, with all signs as they are: YAML reads no emoji that JSON has escaped.

    >>> override_of("search.warm_start", ["runs/été 🌞"])
    'search.warm_start=["runs/été 🌞"]'
    """
    return f"{key}={json.dumps(value, ensure_ascii=False)}"
