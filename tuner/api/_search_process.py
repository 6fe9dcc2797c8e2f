"""`python -m tuner.api._search_process WORD...`: the work of `python -m tuner.search`, told to who began it, a program.

What happens is written as lines of JSON into the pipe that TUNER_PROGRESS names. When that program ends, so does the
search, as after Ctrl-C.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from rich.console import Console

from tuner.common.command_line import failure
from tuner.common.errors import SpecError, TunerError
from tuner.common.process import process_began, settled
from tuner.common.termination import terminating_as_interrupt
from tuner.jobs.progress_stream import ProgressStream
from tuner.reports.console import SearchConsole
from tuner.session.options import SearchOptions, parse_search_options

VARIABLE = "TUNER_PROGRESS"
PLAN_WIDTH = 120


class _Stream(ProgressStream):
    """A console that tells a program what happens."""

    stop_hint, quit_hint = SearchConsole.stop_hint, SearchConsole.quit_hint

    def resume_command(self, run: Path, more: Sequence[str] = ()) -> str:
        """Return the command that goes on with an interrupted run."""
        return SearchConsole.resume_command(self, run, more)


def main() -> int:
    """Search as the words of the command line say, and return the exit status."""
    number = int(os.environ.pop(VARIABLE))
    os.set_inheritable(number, False)  # what Ray starts may live on, and would hold the pipe open
    with os.fdopen(number, "w", encoding="utf-8") as pipe:
        stream = _Stream(lambda line: _write(pipe, line), "")
        stream.began = process_began()
        threading.Thread(target=_end_with_the_program, daemon=True).start()
        with stream.beating(), terminating_as_interrupt():
            try:
                with settled():
                    status = _run(sys.argv[1:], stream)
            except (TunerError, OSError) as error:
                lines, status = failure(error)
                stream.send("error", lines=lines, **_described(error))
            except KeyboardInterrupt:
                status = 130
        stream.send("ended", status=status)
    return status


def _write(pipe: TextIO, line: str) -> None:
    try:
        pipe.write(line)
        pipe.flush()
    except BrokenPipeError:  # nobody listens any more: the search is ending
        pass


def _end_with_the_program() -> None:
    os.read(0, 1)  # past Python's buffer: a thread that waits in it aborts the process at its end
    os.kill(os.getpid(), signal.SIGTERM)


def _run(words: list[str], stream: _Stream) -> int:
    from tuner.session.commands import run_search

    sys.argv = ["tuner.search", *words]  # what the record says of how the search was begun
    options = parse_search_options(words)
    return _plan(options, stream) if options.plan else run_search(options, stream)


def _plan(options: SearchOptions, stream: _Stream) -> int:
    from tuner.session.commands import run_search

    text = io.StringIO()
    status = run_search(options, SearchConsole(Console(file=text, width=PLAN_WIDTH, soft_wrap=True, highlight=False)))
    stream.send("plan", text=text.getvalue())
    return status


def _described(error: Exception) -> dict[str, object]:
    """Return what is needed to raise the error again in the program."""
    if isinstance(error, SpecError):
        return {"type": "SpecError", "file": error.file, "problems": [asdict(each) for each in error.problems]}
    return {"type": type(error).__name__, "message": str(error)}


if __name__ == "__main__":
    raise SystemExit(main())
