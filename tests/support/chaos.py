"""A real search that is killed at random moments and resumed each time; for test_chaos."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.support import ROOT
from tests.support.chaos_kills import ENDS_SESSION, MARK, TRAINS, Planned, cut_power, find_victims, kill, marked
from tuner.runs.directory import RunDirectory
from tuner.runs.events import EpochReported, Event, FinalistTested, FinalistTrained
from tuner.runs.record import read_events, read_state
from tuner.runs.state import RunState

SPACE = """
study: small
data: {{source: digits, max_train_images: 1000, max_validation_images: 200}}
space:
  preprocess: "resize(32)|scale(-1,1)"
  batch_size: {{choice: [32, 64]}}
  learning_rate: {{log_float: [1.0e-3, 1.0e-1]}}
  architecture:
    choose:
      dense: {{dense_units: {{choice: [16, 32]}}, hidden_layers: 1}}
      mobilenet_v2: {{alpha: 0.35, weights: none, head_units: {{choice: [0, 16]}}}}
baseline: {{architecture: dense, dense_units: 16, hidden_layers: 1, batch_size: 64, learning_rate: 0.001,
           preprocess: "resize(32)|scale(-1,1)"}}
training: {{max_epochs: 9, early_stopping: {{patience: 3}}}}
search: {{trials: {trials}, sampler: gp, scheduler: asha, reduction_factor: 2, max_concurrent: 1}}
resources: {{cpus_per_trial: 1}}
finalists: {{count: 1, seeds: {seeds}}}
"""
GONE_WITHIN_S = 180.0
"""After the driver was killed, nothing of the search is left."""
LOOKS_EVERY_S = 0.2
"""How often the record, or all processes of the machine, are read."""
LOSSES = 2
"""Workers that a search may lose before it blames the trial."""
Fact = tuple[object, ...]


@dataclass
class Kill:
    """A kill that was done, and what came of it."""

    victim: str
    moment: str
    followed: str = ""


class Search:
    """A search in `folder`, whose sessions may be killed."""

    def __init__(self, folder: Path, trials: int, seeds: int, seed: int, seconds: float) -> None:
        folder.mkdir()
        self.folder, self.kills, self.sessions = folder, list[Kill](), 0
        self.ever: dict[Fact, Fact] = {}
        """All that the record has ever said of an epoch or a finalist."""
        self.changed: list[str] = []
        """What it said differently later."""
        self._mark, self._random = uuid.uuid4().hex, np.random.default_rng(seed)
        self._space = SPACE.format(trials=trials, seeds=seeds)
        self._machine, self._losses = folder / "machine-1", 0
        self._deadline = time.monotonic() + seconds

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self._machine / "runs" / "small")

    @property
    def report(self) -> Path:
        return self._machine / "reports" / "small"

    @property
    def state(self) -> RunState:
        return read_state(self.run.record) if self.run.record.exists() else RunState()

    def go(self, planned: list[Planned]) -> None:
        """Search, kill as planned, resume each time, and let the last session come to its end."""
        try:
            self._start()
            for one in planned:
                self._strike(one)
            self._wait(lambda: False)
            self._follow()
            assert self._process.returncode == 0, self._told()
            self._wait_for_silence()
            self._look()
        finally:
            kill(list(marked(self._mark)))
            self._process.wait()

    def _start(self) -> None:
        """The first session, or one that goes on with what is there."""
        self._machine.mkdir(exist_ok=True)
        self.sessions, self._losses = self.sessions + 1, 0
        (self._machine / "small.yaml").write_text(self._space)
        more = ["--resume"] if self.state.study is not None else []
        places = ["--runs", "runs", "--reports", "reports", "--cache", "cache"]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with (self.folder / f"output-{self.sessions:02d}.txt").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.chaos_search", "small.yaml", *more, *places],
                cwd=self._machine, env={**os.environ, MARK: self._mark, "PYTHONPATH": path},
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _strike(self, planned: Planned) -> None:
        """Wait for the moment and the victim, kill it, and begin the next session if that ended this one."""
        self._wait(lambda: self._has_come(planned))
        self._follow()
        victim = "driver" if planned.victim in TRAINS and self._losses >= LOSSES else planned.victim
        self._wait(lambda: self._is_too_late(planned) or bool(self._find(victim)))
        time.sleep(planned.delay_s)
        found = self._find(victim)
        if not found:
            if self._process.poll() is not None:  # the search is over: that it is over can be disturbed, too
                self._start()
                time.sleep(planned.delay_s)
            victim = "driver"
            found = self._find(victim)
        self.kills.append(Kill(victim, self._moment()))
        kill(found)
        self._losses += victim in TRAINS
        if victim in ENDS_SESSION:
            self.kills[-1].followed = ", ".join(self._clear_up(victim))
            self._start()

    def _clear_up(self, victim: str) -> list[str]:
        """Wait till nothing is left, look at the record, and do what else a power cut does; says what was seen."""
        words = [f"all gone after {self._wait_for_silence():.0f} s"]
        self._look()
        if victim == "everything" and self.state.study is not None:
            words += cut_power(self.run, self._random)
            if self._random.random() < 0.5:
                before, self._machine = self._machine, self.folder / f"machine-{self.sessions + 1}"
                shutil.copytree(before / "runs", self._machine / "runs")
                shutil.rmtree(before)
                words.append("on another machine")
        return words

    def _wait_for_silence(self) -> float:
        """Wait until all processes of the search have ended by themselves; the seconds that it took."""
        self._process.wait()
        started = time.monotonic()
        while left := list(marked(self._mark)):
            assert time.monotonic() < started + GONE_WITHIN_S, f"these were left: {left}"
            time.sleep(LOOKS_EVERY_S)
        return time.monotonic() - started

    def _look(self) -> None:
        """Remember what the record says, and what it says differently from before."""
        if self.run.record.exists():
            for key, values in facts(self.run.record):
                if self.ever.setdefault(key, values) != values:
                    self.changed.append(f"{key}: {self.ever[key]} became {values}")

    def _has_come(self, planned: Planned) -> bool:
        state = self.state
        if planned.phase == "end":
            return state.session_ended is not None
        if planned.phase == "trials":
            return number_of_epochs(state) >= planned.count
        return state.finalists_started is not None and len(state.finalists) >= planned.count

    def _is_too_late(self, planned: Planned) -> bool:
        """Whether its victim may not come any more in its phase; to wait longer would let the next phase pass by."""
        state = self.state
        return state.session_ended is not None or (planned.phase == "trials" and state.finalists_started is not None)

    def _find(self, victim: str) -> list[object]:
        return find_victims(victim, self._mark, self._process.pid, self._machine / "cache")

    def _moment(self) -> str:
        """Where the search stands."""
        state = self.state
        if state.session_ended is not None:
            return "concluding"
        if state.finalists_started is not None:
            return f"{len(state.finalists)} finalists trained"
        running = ", ".join(f"trial {one.number} at {len(one.epochs)}" for one in state.with_status("running"))
        return f"{number_of_epochs(state)} epochs{'; ' if running else ''}{running}"

    def _follow(self) -> None:
        """Say of the last kill how far the search has come since."""
        if self.kills:
            words = [self.kills[-1].followed, f"went on, till {self._moment()}"]
            self.kills[-1].followed = ", ".join(filter(None, words))

    def _wait(self, happened: Callable[[], bool]) -> None:
        """Wait until it has happened, or the session is over."""
        while self._process.poll() is None and not happened():
            assert time.monotonic() < self._deadline, f"not done in time\n{self._told()}"
            time.sleep(LOOKS_EVERY_S)

    def _told(self) -> str:
        return (self.folder / f"output-{self.sessions:02d}.txt").read_text(errors="replace")[-4000:]


def number_of_epochs(state: RunState) -> int:
    """Epochs of all trials."""
    return sum(len(trial.epochs) for trial in state.trials.values())


def facts(record: Path) -> list[tuple[Fact, Fact]]:
    """What a record says that must not be lost and must not change, without times."""
    return [found for event in read_events(record) if (found := _fact(event)) is not None]


def _fact(event: Event) -> tuple[Fact, Fact] | None:
    match event:
        case EpochReported():
            values = (event.phase, *event.metrics.values(), event.best_so_far)
            return ("epoch", event.trial, event.epoch), (*values, event.learning_rate)
        case FinalistTrained():
            values = (event.status, event.reason, event.epochs, event.best)
            return ("finalist", event.trial, event.number), values
        case FinalistTested():
            return ("tested", event.trial, event.number), (event.test_accuracy, event.test_loss, event.correct)
        case _:
            return None


def table(kills: list[Kill]) -> str:
    """The kills, in Markdown."""
    rows = [f"| {number} | {one.victim} | {one.moment} | {one.followed} |" for number, one in enumerate(kills, 1)]
    return "\n".join(["| | killed | when | what followed |", "|---:|---|---|---|", *rows])
