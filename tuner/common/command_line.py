"""Parsing of arguments and exit statuses for every command. Light: nothing heavy is loaded for --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from tuner.common.errors import InputError, TunerError, printable
from tuner.common.files import is_disk_full
from tuner.common.process import settled

_LONGEST = 1000
"""Characters of what is said of a wrong command line."""


class CommandParser(argparse.ArgumentParser):
    """An argparse parser whose error messages are short and free of control characters."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, after the usage, and exit with status 2."""
        super().error(printable(message if len(message) <= _LONGEST else f"{message[:_LONGEST]} ..."))


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
            return action()
    except (TunerError, OSError) as error:
        lines, status = failure(error)
        print(*lines, sep="\n", file=sys.stderr)
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def split_assignments(texts: Sequence[str], option: str) -> dict[str, str]:
    """Return `["a=b"]` as `{"a": "b"}`; raises InputError for one without a name or a value."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise InputError(f"{option} must be NAME=VALUE; got {text!r}")
        pairs[name] = value
    return pairs
