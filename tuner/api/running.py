"""A search in a process of its own, as the command line would run it, seen from the program that has begun it."""

from __future__ import annotations

import html
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from tuner.api._search_process import VARIABLE
from tuner.api.run import Run, load_run
from tuner.common import errors
from tuner.common.errors import InputError, Problem, SpecError, TunerError, printable
from tuner.common.process import environment_with_package
from tuner.jobs.progress_stream import Replay
from tuner.reports.console import SearchConsole, describe_search, time_left_s

_LOOK_EVERY_S = 0.2
_LAST_BYTES = 4000


@dataclass(frozen=True)
class Progress:
    """The state of a running search at one moment."""

    text: str
    """All of it in words."""
    trials: int
    """Trials that have ended, stopped ones with them."""
    of: int | None
    """Trials that it may train; None as long as it is being prepared."""
    best: float | None
    """The best value of its metric so far."""
    elapsed_s: float
    left_s: float | None
    """None while nobody can tell."""

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        bar = f'<progress max="{self.of}" value="{self.trials}"></progress> ' if self.of else ""
        return f"<p>{bar}{html.escape(self.text)}</p>"


class RunningSearch:
    """A search that goes on in the background, until it is over, stopped, or this program ends.

    Whichever of these it is, nothing that was reported is lost, and it can be gone on with: `Study.run(resume=True)`.
    """

    def __init__(self, words: Sequence[str], console: SearchConsole, plugins: Sequence[str] = ()) -> None:
        self._replay, self._lock = Replay(console), threading.Lock()
        self._plugins = plugins
        self._problem: TunerError | None = None
        self._was_stopped = False
        self._last_words = ""
        output = tempfile.TemporaryFile()  # noqa: SIM115 the thread that reads closes it, when the process has ended
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own module, and no shell: each word is one argument
                [sys.executable, "-m", "tuner.api._search_process", *words],
                env=environment_with_package(**{VARIABLE: str(writing)}),
                stdin=subprocess.PIPE,  # closed when this process ends, also by a kill
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,  # an interrupted cell is not meant for it
            )
        finally:
            os.close(writing)
        self._ended = threading.Event()  # to join a thread is not safe: Python 3.11 takes it for ended after Ctrl-C
        threading.Thread(target=self._read, args=(reading, output), daemon=True).start()

    def _read(self, reading: int, output: IO[bytes]) -> None:
        try:
            with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    with self._lock:
                        self._replay.feed(line)
        except TunerError as error:
            self._problem = error
            self.stop()
        finally:
            self._process.wait()
            self._last_words = _last_line(output)
            for stream in (output, self._process.stdin):
                if stream is not None:
                    stream.close()
            with self._lock:
                self._replay.close()
            self._ended.set()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return not self._ended.is_set()

    @property
    def run(self) -> Run | None:
        """The run that it writes; None before it has begun one."""
        return None if self._replay.run is None else load_run(self._replay.run, self._plugins)

    @property
    def progress(self) -> Progress:
        """Return how far it is."""
        with self._lock:
            return _progress(self._replay, self.is_running)

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does; asked again, it ends at once. It does not wait: `wait` does."""
        self._was_stopped = True
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float | None = None) -> Run:
        """Wait until it has ended, and return its run.

        Raises:
            TimeoutError: it has not after `timeout` seconds, and goes on.
            TunerError: what the command would have said instead of searching, an InputError for wrong input.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._ended.wait(_LOOK_EVERY_S):
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"the search has not ended within {timeout:g} s, and goes on: {self.progress.text}")
        return self._outcome()

    def plan(self) -> str:
        """Wait until it has ended, and return the plan that it has told."""
        while not self._ended.wait(_LOOK_EVERY_S):
            continue
        self._refuse()
        return self._replay.plan

    def _outcome(self) -> Run:
        self._refuse()
        run = self.run
        if run is None:
            raise TunerError("the search was stopped before it began a run")
        return run

    def _refuse(self) -> None:
        """Raise what has gone wrong, if something has."""
        if self._problem is not None:
            raise self._problem
        if self._replay.errors:
            raise _raised(self._replay.error, self._replay.status)
        if self._replay.status is None and not (self._was_stopped and self._replay.run is None):
            raise TunerError(self._died())

    def _died(self) -> str:
        """Return in a line how the process has ended without a word, with the last that it wrote."""
        code = self._process.returncode
        how = f"by signal {-code}" if code < 0 else f"with status {code}"
        again = f"; what was reported is kept in {self._replay.run}: go on with resume=True" if self._replay.run else ""
        return printable(
            f"the process of the search has ended {how}{self._last_words and f': {self._last_words}'}{again}"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.progress.text}>"

    def _repr_html_(self) -> str:
        return self.progress._repr_html_()


def _last_line(output: IO[bytes]) -> str:
    output.seek(max(0, output.seek(0, os.SEEK_END) - _LAST_BYTES))
    lines = output.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def run_to_the_end(words: Sequence[str], console: SearchConsole, plugins: Sequence[str] = ()) -> Run:
    """Run a search and return its run; Ctrl-C stops it as it does on the command line, twice at once.

    Raises:
        KeyboardInterrupt: after the second Ctrl-C, or when nothing had begun.
        TunerError: as `RunningSearch.wait`.
    """
    search = RunningSearch(words, console, plugins)
    interrupts = 0
    while True:
        try:
            run = search.wait()
        except KeyboardInterrupt:
            interrupts += 1
            search.stop()
            continue
        except TunerError:
            if interrupts and search.run is None:
                raise KeyboardInterrupt from None
            raise
        if interrupts > 1:
            raise KeyboardInterrupt
        return run


def _progress(replay: Replay, is_running: bool) -> Progress:
    state, limits = replay.mirror.state, replay.limits
    elapsed_s, best = replay.mirror.elapsed_s(), state.best_trial()
    ended = len(state.trials) - len(state.with_status("running")) - len(state.with_status("paused"))
    if limits is None:
        text = "being prepared" if is_running else "ended before a trial began"
        return Progress(text, ended, None, None, elapsed_s, None)
    left_s = time_left_s(state, limits, elapsed_s) if is_running else None
    text = describe_search(state, limits, elapsed_s if is_running else None)
    return Progress(text, ended, limits.trials, None if best is None else best.best, elapsed_s, left_s)


def _raised(told: Mapping[str, Any], status: int | None) -> TunerError:
    """Return the error that the process has told of."""
    if told.get("type") == "SpecError":
        return SpecError(str(told["file"]), [Problem(**each) for each in told["problems"]])
    kind = getattr(errors, str(told.get("type")), None)
    make: Callable[[str], TunerError] = InputError if status == InputError.exit_status else TunerError
    if isinstance(kind, type) and issubclass(kind, TunerError):
        make = kind
    return make(str(told.get("message") or "\n".join(told["lines"])))
