"""Following a job through lost connections, with a cluster that is a script."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console

from tuner.common.errors import InputError, LostError
from tuner.jobs._commands import FIRST_WAIT_S, LONGEST_WAIT_S, follow, wait_until_over
from tuner.jobs.client import Job, State
from tuner.jobs.progress_stream import Replay
from tuner.reports.console import SearchConsole

LOG = "".join(json.dumps({"tuner": "say", "text": f"line {number}"}) + "\n" for number in range(10))


def job(state: State, exit_status: int | None = None) -> Job:
    return Job("small-1", state, {"study": "small"}, 0.0, None, "", exit_status)


class Cluster:
    """What happens when it is asked, in turn: an error, or so many characters of the log and how the stream ends."""

    address = "http://head:8265"

    def __init__(self, *script: object) -> None:
        self.script, self.skipped, self.is_over = list(script), [], False

    def look(self, name: str) -> Job:
        if self.script and isinstance(self.script[0], Exception):
            raise self.script.pop(0)
        return job("finished" if not self.script else "running")

    def log(self, name: str) -> str:
        return LOG

    def tail(self, name: str, skip: int, take: Callable[[str], None]) -> None:
        self.skipped.append(skip)
        length, how = self.script.pop(0)
        if length > skip:
            take(LOG[skip:length])
        if how == "broken":
            raise LostError("the connection to http://head:8265 is lost: reset by peer")


def shown_by(cluster: Cluster) -> tuple[list[str], list[float], Job]:
    output, slept = io.StringIO(), []
    console = SearchConsole(Console(file=output, soft_wrap=True, highlight=False, force_terminal=False))
    end = follow(cluster, "small-1", Replay(console), slept.append)
    return output.getvalue().splitlines(), slept, end


EVERY_LINE = [f"line {number}" for number in range(10)]


def test_a_job_is_shown_to_its_end_also_what_came_after_the_stream() -> None:
    lines, slept, end = shown_by(Cluster((50, "ended")))
    assert lines == EVERY_LINE and end.state == "finished" and not slept


def test_a_lost_connection_is_said_once_and_nothing_is_lost_or_shown_twice() -> None:
    lost = LostError("the connection to http://head:8265 is lost: refused")
    cluster = Cluster((75, "broken"), lost, lost, (200, "ended"))
    lines, slept, _ = shown_by(cluster)
    said = "the connection to http://head:8265 is lost: reset by peer; the search does not need it, trying again"
    assert lines == [*EVERY_LINE[:2], said, "connected to http://head:8265 again", *EVERY_LINE[2:]]
    assert cluster.skipped == [0, 75] and slept == [1.0, 2.0, 4.0]


def test_the_waits_grow_to_a_limit_and_begin_anew_after_a_connection() -> None:
    outage = [LostError("lost")] * 9
    _, slept, _ = shown_by(Cluster(*outage, (10, "broken"), (20, "ended")))
    assert slept[:9] == [1, 2, 4, 8, 16, 30, 30, 30, 30] and LONGEST_WAIT_S == 30
    assert slept[9:] == [FIRST_WAIT_S]


def test_a_stream_that_ends_without_a_word_is_asked_for_again_not_too_often() -> None:
    lines, slept, _ = shown_by(Cluster((0, "ended"), (0, "ended"), (30, "ended"), (30, "ended")))
    assert lines == EVERY_LINE and slept == [FIRST_WAIT_S] * 3


def test_what_the_user_must_mend_ends_it() -> None:
    with pytest.raises(InputError, match="knows no job"):
        shown_by(Cluster((50, "broken"), InputError("http://head:8265 knows no job 'small-1' any more")))


def test_waiting_for_an_end_outlives_a_lost_connection_but_not_its_time() -> None:
    slept: list[float] = []
    found = wait_until_over(Cluster(LostError("lost"), LostError("lost")), "small-1", 5, slept.append)
    assert found.is_over and slept == [0.5, 0.5]
    with pytest.raises(LostError, match="small-1 has not ended within 2 s"):
        wait_until_over(Cluster((0, "ended")), "small-1", 2, slept.append)
    with pytest.raises(LostError, match="refused"):
        wait_until_over(Cluster(*[LostError("refused")] * 9), "small-1", 2, slept.append)
