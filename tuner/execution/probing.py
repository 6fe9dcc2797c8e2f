"""Probes of frozen features in a process beside those of trials, while these run; the record is told of each.

It begins when the first epoch of the search has ended, so that no trial waits for it, and has a low priority. What it
may spend is processor time, with what loading its libraries took.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuner.cluster import key_value_store
from tuner.common.errors import TunerError, last_line
from tuner.datasets.loading import image_names
from tuner.execution.worker_process import Guard, OpenedData, WorkerContext, WorkerProcess, Workers
from tuner.runs.events import Notice, Probed, ProbeWorked
from tuner.runs.record import Record
from tuner.runs.state import best_probe
from tuner.spec.space import Configuration
from tuner.training.failures import attempt

NICE = 5
TOLD_EVERY_S, RECORDED_SHARE = 1.0, 0.05
"""What is spent is told so often, and recorded when it is so much of the limit more: a kill loses no more than that."""
_KEY = "probe-"
ENDS_S = 5.0
"""Within so many seconds a process that is killed has ended."""


class ProbeActor:
    """A Ray actor that probes one configuration after the other."""

    def __init__(self, context: WorkerContext, guard: Guard, apart: Path | None, name: str) -> None:
        """`apart` is where features are kept if trials train on GPUs, which would read what a CPU has computed.

        Under `name` the search reads how much has been spent.
        """
        os.nice(NICE)
        self._context, self._counted_s, self._name = replace(context, cpus=1.0, gpus=0.0), 0.0, name
        self._process = WorkerProcess(self._context, guard)
        self._apart = apart
        if apart is not None:
            apart.mkdir(mode=0o700, parents=True, exist_ok=True)  # on another node than the search, it is not there yet
        self._prober: Any = None

    def _opened(self) -> Any:
        from tuner.training.probes.probing import Prober

        kept = self._context.activations
        if self._prober is None and kept is not None:
            self._data = OpenedData(self._context).of_fold(0)
            kept = kept if self._apart is None else replace(kept, cache_dir=self._apart, depths={})
            self._prober = Prober(self._data, self._context.settings, kept, self._process.notices.append)
        return self._prober

    def probe(self, configuration: Configuration, left_s: float) -> Probed | None:
        """Return what a probe shows, with the processor time since the last; None if there was no time for it."""
        found: Probed | None = self._opened().probe(configuration, self._goes_on(left_s))
        if found is None:
            return None
        spent_s, self._counted_s = time.process_time() - self._counted_s, time.process_time()
        return found.model_copy(update={"seconds": spent_s})

    def _goes_on(self, left_s: float) -> Callable[[], bool]:
        ends_at, told_s = self._counted_s + left_s, self._counted_s

        def goes_on() -> bool:
            nonlocal told_s
            now_s = time.process_time()
            if now_s - told_s >= TOLD_EVERY_S:
                told_s = now_s
                key_value_store.put(_KEY + self._name, f"{now_s - self._counted_s:.1f}")
            return now_s < ends_at

        return goes_on

    def doubt(self, configuration: Configuration, left_s: float, features: int) -> Any:
        """Return the labels that look wrong, with pictures; None if there was no time, or why that cannot be told."""
        prober, context = self._opened(), self._context

        def doubts() -> Any:
            name = image_names(context.data, context.staged, self._data.prepared)
            return prober.doubt(configuration, features, name, self._goes_on(left_s))

        found, failure = attempt(doubts)
        # Plain values: to know of what class they are, the search would load Keras.
        return failure if found is None else (found.event, found.pictures)


def _where() -> tuple[NodeAffinitySchedulingStrategy, bool]:
    """Return a node that can run trials, and whether it is this one.

    This one if it can: Ray takes any, and a bare head need not see the data.
    """
    able = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    own = ray.get_runtime_context().get_node_id()
    is_own = own in able or not able
    return NodeAffinitySchedulingStrategy(own if is_own else able[0], soft=True), is_own


class _Process:
    """The actor in its process, asked for one thing at a time."""

    def __init__(self, workers: Workers) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # here: a process that is killed removes nothing
        if workers.packing.gpus_per_trial:
            self._folder = tempfile.TemporaryDirectory(prefix="tuner-", ignore_cleanup_errors=True)
        apart = None if self._folder is None else Path(self._folder.name)
        self._node, self._is_here = _where()
        make = ray.remote(ProbeActor).options(num_cpus=0, scheduling_strategy=self._node)
        self._name = secrets.token_hex(8)
        self._actor = make.remote(workers.context, workers.guard, apart, self._name)
        self._asked: Any = None

    def ask(self, what: str, configuration: Mapping[str, Any], left_s: float, *more: Any) -> None:
        """Ask for a probe, or for labels that look wrong."""
        key_value_store.delete(_KEY + self._name)
        self._asked = getattr(self._actor, what).remote(dict(configuration), left_s, *more)

    def spent_s(self) -> float:
        """Return the processor time that was told of, of what is asked for."""
        return float(key_value_store.get(_KEY + self._name) or 0.0)

    def answers(self) -> list[Any]:
        """Return the answer, once it is there; raises RayError when the process was lost."""
        found: list[Any] = ray.get(ray.wait([self._asked], timeout=0)[0])
        return found

    def end(self) -> None:
        """End the process, and remove what it has kept for itself."""
        ray.kill(self._actor)
        key_value_store.delete(_KEY + self._name)
        if self._folder is not None:
            ray.wait([] if self._asked is None else [self._asked], timeout=ENDS_S)  # it may still write
            if not self._is_here:
                remove = ray.remote(shutil.rmtree).options(num_cpus=0, scheduling_strategy=self._node)
                with suppress(RayError):  # the node is gone, or full of work
                    ray.get(remove.remote(self._folder.name, ignore_errors=True), timeout=ENDS_S)
            self._folder.cleanup()


class Probes:
    """The probes of a session: those that the record does not have yet, one after the other."""

    def __init__(
        self,
        record: Record,
        asked: Sequence[Configuration],
        limit_s: float,
        start: Callable[[], _Process],
        keep: Callable[[np.ndarray], None],
    ) -> None:
        """`start` starts the process; `keep` takes pictures of images whose labels look wrong."""
        self._record, self._start, self._keep = record, start, keep
        done = [dict(one.configuration) for one in record.state.probes]
        self._left = deque(one for one in asked if dict(one) not in done)
        self._limit_s, self._all = limit_s, len(asked)
        self._process: _Process | None = None
        self._spent_s, self._looked_at = 0.0, 0.0
        is_done = not self._left and record.state.doubted is not None
        self._is_over = not asked or is_done or self._left_s() <= 0

    @classmethod
    def on_ray(
        cls, workers: Workers, record: Record, asked: Sequence[Configuration], limit_s: float,
        keep: Callable[[np.ndarray], None],
    ) -> Probes:  # fmt: skip
        """Return probes in a process of the Ray that is connected."""
        return cls(record, asked, limit_s, lambda: _Process(workers), keep)

    def see(self) -> None:
        """Take what is done, and begin the next; called again and again while trials run."""
        if self._is_over or not any(trial.epochs for trial in self._record.state.trials.values()):
            return
        try:
            if self._process is None:
                self._process = self._start()
                self._ask_next(self._process)
            elif answers := self._process.answers():
                self._take(answers[0])
                if self._process is not None:
                    self._ask_next(self._process)
            elif time.monotonic() - self._looked_at >= TOLD_EVERY_S:
                self._looked_at, self._spent_s = time.monotonic(), self._process.spent_s()
                if self._spent_s - self._record.state.probe_under_way_s >= RECORDED_SHARE * self._limit_s:
                    self._record_spent()
        except RayError as error:
            self._end(f"frozen features are no longer probed: {last_line(error)}")

    def _record_spent(self) -> None:
        """Record what has been spent without a result, so that a session that goes on does not spend it again."""
        if self._spent_s > self._record.state.probe_under_way_s:
            self._record.append(ProbeWorked(seconds=self._spent_s))

    def _left_s(self) -> float:
        return self._limit_s - self._record.state.probe_s

    def _ask_next(self, process: _Process) -> None:
        state, self._spent_s = self._record.state, 0.0
        if self._left:
            process.ask("probe", self._left.popleft(), self._left_s())
        elif state.doubted is None and (best := best_probe(state)) is not None:
            process.ask("doubt", best.configuration, self._left_s(), best.features)
        else:
            self._end()

    def _take(self, found: Any) -> None:
        if isinstance(found, Probed):
            self._record.append(found)
        elif isinstance(found, str):
            self._end(f"labels were not looked at: {found}")
        elif found is None:
            done = len(self._record.state.probes)
            what = "labels were not looked at" if done == self._all else f"{done} of {self._all} were probed"
            self._spent_s = self._left_s() + self._record.state.probe_under_way_s  # all that there was
            self._end(f"frozen features: {what} in the {self._limit_s:.0f} s of processor time that it may take")
        else:
            event, pictures = found
            self._keep(pictures)
            self._record.append(event)

    def _end(self, text: str = "") -> None:
        if text:
            self._record.append(Notice(text=text))
        self._is_over = True
        self.close()

    def close(self) -> None:
        """End the process; what it was at is lost, but for the time that it took."""
        if self._process is not None:
            with suppress(TunerError):  # there may be no room for it
                self._record_spent()
            self._process.end()
            self._process = None
