"""Feed of a tracker: a thread that reads the record behind the search, and gives the tracker what is new.

The record itself is the queue: whatever the tracker does, nothing piles up in memory, nothing is lost, and the search
waits for nothing. A tracker that fails is given everything again, from the first event, when it can be reached; so is
that of a resumed search, and that of a run that is exported. What it has already it passes over.
"""

from __future__ import annotations

import logging
import shlex
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tuner.common.errors import TunerError, cause_of, first_line, printable, without_passwords
from tuner.common.files import as_typed
from tuner.common.plugins import as_given, loaded_plugins
from tuner.runs.events import Event
from tuner.runs.record import read_on
from tuner.trackers.tracker import Refused, Tracker, Unavailable

REPORT_PAGE = "report/index.html"
"""Place of the report among the files that trackers keep."""
REPORTS = Path("reports")
"""Where it lies on the disk if nothing else is said."""
MOST_AT_ONCE = 500
"""Events that are in memory at a time."""
POLL_S = 1.0
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
END_S = 30.0
"""At most so long a session waits at its end for what is still to be delivered."""
_LOG = logging.getLogger(__name__)


def told(error: BaseException) -> str:
    """Return one line about what went wrong, without passwords."""
    cause = first_line(error) if isinstance(error, Unavailable | Refused) else cause_of(error)
    return printable(without_passwords(cause))


class Delivery:
    """The way of a record to a tracker: how far it is, and what was left out."""

    def __init__(self, tracker: Tracker, record: Path) -> None:
        self._tracker, self._record = tracker, record
        self._position = 0
        self.given = 0
        """Events that it has been given since it last began."""
        self.reached = 0
        """The most that it has been given."""
        self.refused = 0
        """Events, or parts of one, that the tracker cannot take."""
        self.why_refused: BaseException | None = None

    def give_new(self, is_given_up: Callable[[], bool] = lambda: False) -> None:
        """Give all that is new in the record; raises what the tracker raises when it is to be tried again."""
        try:
            while not is_given_up():
                happened, position = read_on(self._record, self._position, MOST_AT_ONCE)
                if not happened:
                    return
                self._give(happened)
                self._position, self.given = position, self.given + len(happened)
                self.reached = max(self.reached, self.given)
        except BaseException:
            self._position = self.given = self.refused = 0
            raise

    def _give(self, happened: Sequence[Event]) -> None:
        try:
            self._tracker.take(happened)
        except (Unavailable, OSError):
            raise
        except Refused as refused:
            self._leave_out(refused, refused.number)
        except Exception as error:  # noqa: BLE001  others' code: what it cannot take must not keep the rest from it
            if len(happened) == 1:
                self._leave_out(error, 1)
                return
            for one in happened:
                self._give([one])

    def _leave_out(self, why: BaseException, number: int) -> None:
        self.refused += number
        self.why_refused = self.why_refused or why


@dataclass(frozen=True)
class Told:
    """A tracker that is told of a search, with its name for messages and the words that ask for it."""

    label: str
    asked: str
    tracker: Tracker


class Feed:
    """Thread of one tracker."""

    def __init__(self, tracker: Told, record: Path, say: Callable[[str], None]) -> None:
        self._told, self._record, self._say_line = tracker, record, say
        self._delivery = Delivery(tracker.tracker, record)
        self._files: Mapping[str, Path] = {}
        self._ended = threading.Event()
        self._is_given_up = False
        self._is_over = False
        self._failure: str | None = None
        """Why the last attempt failed; None: it did not."""
        self._has_failed = self._has_said_refused = False
        self._thread = threading.Thread(target=self._run, name=tracker.label, daemon=True)

    def start(self) -> None:
        """Begin to follow the record, which need not be there yet."""
        self._thread.start()

    def end(self, files: Mapping[str, Path]) -> None:
        """Say that nothing more will be recorded, and which files are to be kept."""
        self._files = files
        self._ended.set()

    def wait(self, seconds: float) -> None:
        """Wait at most so long for what is still to be delivered, and say what was not."""
        self._thread.join(max(0.0, seconds))
        self._is_given_up = True
        if self._is_over:
            if self._has_failed:
                self._say_line(f"{self._told.label}: has been told of everything after all")
            if self._delivery.refused:
                self._say_line(f"{self._told.label}: {self._delivery.refused} values or events were left out")
            return
        total = _lines_of(self._record)
        missing = total - self._delivery.reached
        what = f"{missing} of {total} events were" if missing else "the model was"
        why = self._failure or "it was too slow"
        own = [word for one in loaded_plugins() for word in ("--plugin", as_given(one.reference))]  # it may be in one
        run, tracker = as_typed(self._record.parent), self._told.asked
        words = ["python", "-m", "tuner.export", run, "--tracker", tracker, *self._where_report_is(), *own]
        self._say_line(f"{self._told.label}: {what} not delivered ({why}); deliver with: {shlex.join(words)}")

    def _where_report_is(self) -> list[str]:
        """Return the option that says in which folder the report's own lies, where it needs one."""
        page = self._files.get(REPORT_PAGE)
        if page is None or page.parents[1] == REPORTS:
            return []
        return ["--reports", as_typed(page.parents[1])]

    def _run(self) -> None:
        failures = 0
        while not self._is_given_up:
            is_last = self._ended.is_set()  # whatever was recorded before is read below
            try:
                self._delivery.give_new(lambda: self._is_given_up)
                self._say_refused()
                if is_last and not self._is_given_up:
                    self._tracker_ends()
                    return
                failures, self._failure = 0, None
            except BaseException as error:  # noqa: BLE001  whatever it is, it must not end the search, nor this thread
                self._fail(error)
                failures += 1
                if is_last:
                    return
            self._ended.wait(RETRY_S[min(failures, len(RETRY_S)) - 1] if failures else POLL_S)

    def _tracker_ends(self) -> None:
        _keep(self._tracker, self._files)
        self._is_over = True

    @property
    def _tracker(self) -> Tracker:
        return self._told.tracker

    def _fail(self, error: BaseException) -> None:
        self._failure = told(error)
        if not self._has_failed:
            self._has_failed = True
            _log(self._told.label, error)
            then = "the search goes on, and what is missing is delivered when it can be"
            self._say(f"{self._told.label}: {self._failure}; {then}")

    def _say_refused(self) -> None:
        why = self._delivery.why_refused
        if why is not None and not self._has_said_refused:
            self._has_said_refused = True
            _log(self._told.label, why)
            self._say(f"{self._told.label}: leaves out what it cannot take: {told(why)}; the search goes on")

    def _say(self, text: str) -> None:
        if not self._is_given_up:
            self._say_line(text)


def _keep(tracker: Tracker, files: Mapping[str, Path]) -> None:
    """Let a tracker keep the files that are there, the last that it does."""
    if there := {place: path for place, path in files.items() if path.is_file()}:
        tracker.keep(there)
    tracker.close()


def _log(label: str, error: BaseException) -> None:
    lines = "".join(traceback.format_exception(error))
    _LOG.warning("%s: %s", label, without_passwords(lines))


def _lines_of(path: Path) -> int:
    with suppress(OSError), path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)
    return 0


@contextmanager
def following(
    trackers: Sequence[Told], record: Path, files: Mapping[str, Path], say: Callable[[str], None]
) -> Iterator[None]:
    """Tell trackers of a search in this block, then wait a while for them, unless it is interrupted."""
    feeds = [Feed(tracker, record, say) for tracker in trackers]
    for feed in feeds:
        feed.start()
    patience_s = END_S
    try:
        yield
    except KeyboardInterrupt:
        patience_s = 0.0
        raise
    finally:
        for feed in feeds:
            feed.end(files)
        until = time.monotonic() + patience_s
        for feed in feeds:
            feed.wait(until - time.monotonic())


def deliver(tracker: Told, record: Path, files: Mapping[str, Path]) -> str:
    """Tell a tracker of a run that is there, and return what became of it in a line.

    Raises TunerError when it cannot be reached.
    """
    delivery = Delivery(tracker.tracker, record)
    try:
        delivery.give_new()
        _keep(tracker.tracker, files)
    except TunerError:  # of the record
        raise
    except Exception as error:  # noqa: BLE001  whatever others' code raises is told in a line, as during a search
        if not isinstance(error, Unavailable | OSError):  # others' code, when it is to keep the files
            _log(tracker.label, error)
        raise TunerError(f"{tracker.label}: {told(error)}") from None
    left_out = f", but for {delivery.refused} that it cannot take" if delivery.refused else ""
    return f"{tracker.label}: {delivery.given} events{left_out}"
