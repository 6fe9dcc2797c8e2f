"""The error tree. Every deliberate error of tuner is one of these, with a message that a user can act on.

TunerError                   something tuner itself refuses or cannot do        exit status 1
├── LostError                the connection to a cluster broke; trying again may help
├── DiskFullError            no room where a run is written: what is there is whole, and can be gone on with
└── InputError               the user's input is wrong: say what and where      exit status 2
    ├── PluginError          own code that cannot be used, with file and line
    ├── UnknownNameError     a name that no registry knows, with the nearest one
    ├── DuplicateNameError   a name that a registry has already
    ├── SpecError            a search-space file, all its problems at once
    ├── DataError            a data set that cannot be found, read or split
    ├── PipelineError        a preprocessing or augmentation text
    ├── WeightsError         pretrained weights that cannot be fetched
    └── RunError             a run directory or its record
        └── RunInUseError    another search is in it, or was quicker to begin one there
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


class TunerError(Exception):
    """Base of all deliberate errors; `exit_status` is what the command line exits with."""

    exit_status = 1

    def lines(self) -> list[str]:
        """Return the message as it is printed: a line for each problem, control characters written out."""
        return [printable(str(self))]


class LostError(TunerError):
    """A broken connection to a cluster, or one too busy to answer: trying again may help."""


class DiskFullError(TunerError):
    """No space is left where something is to be written; everything written before is whole."""


class InputError(TunerError):
    """A mistake in the user's input."""

    exit_status = 2


class PluginError(InputError):
    """Own code that cannot be loaded or registers what cannot be; the message has file and line."""


class UnknownNameError(InputError):
    """A name that is not registered; the message holds the nearest and all known names."""


class DuplicateNameError(InputError):
    """A name that is registered already; the message says by whom."""


class DataError(InputError):
    """A data set that cannot be found, read or split."""


class PipelineError(InputError):
    """A preprocessing or augmentation text that cannot be understood."""


class WeightsError(InputError):
    """Pretrained weights that cannot be fetched; the message says which file to put where."""


class RunError(InputError):
    """A run directory or its record that cannot be used."""


class RunInUseError(RunError):
    """A run directory that another search is in, or has begun meanwhile."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message, or the name of its class when it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def cause_of(error: BaseException) -> str:
    """Return one line about an error: its message, after its class where that is none of tuner's or the system's."""
    told = isinstance(error, TunerError | OSError) and str(error)
    return printable(first_line(error) if told else f"{type(error).__name__}: {first_line(error)}")


def last_line(error: BaseException) -> str:
    """Return the last line of a library's message: where the message holds a traceback, this line names the cause."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:300]


def is_failed_download(error: Exception) -> bool:
    """Return whether this is Keras's error for a failed download: its get_file raises a bare Exception (keras 3.15)."""
    return type(error) is Exception or isinstance(error, OSError)


def printable(text: str) -> str:
    r"""Return `text` on one line with control characters escaped: a file name can hold codes that a terminal obeys.

    >>> print(printable("red\x1b[31m cat\n"))
    red\x1b[31m cat\n
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def without_passwords(text: str) -> str:
    """Return `text` with passwords of addresses left out: what stands before a host, and settings called like one.

    >>> without_passwords("--mlflow=https://me:se@cret@host:5000/x?token=1 refuses")
    '--mlflow=https://***@host:5000/x?token=*** refuses'
    """
    before_host = re.sub(r"(?<=://)(?<!sqlite://)(?<!file://)\S*@", "***@", text)  # in a path it is a sign as any other
    return re.sub(r"(?i)([?&][^=\s]*(?:token|password|pwd|secret|key)=)[^&\s]+", r"\1***", before_host)


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a search-space file: where (field, line) and why (message)."""

    field: str
    message: str
    line: int | None = None

    def describe(self, file: str) -> str:
        """Return `FILE:LINE: FIELD MESSAGE`, as compilers print it."""
        place = f"{file}:{self.line}" if self.line is not None else file
        between = " " if self.message.startswith("must") else ": "
        return f"{place}: {self.field}{between}{self.message}" if self.field else f"{place}: {self.message}"


class SpecError(InputError):
    """All problems of one search-space file."""

    def __init__(self, file: str, problems: Iterable[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line or 0, problem.field)))
        super().__init__("\n".join(problem.describe(file) for problem in self.problems))

    def lines(self) -> list[str]:
        """Return one line for each problem."""
        return [printable(problem.describe(self.file)) for problem in self.problems]
