"""One search with trials that sleep, in a process of its own: `python -m benchmarks.scale.measure` prints JSON."""

from __future__ import annotations

import argparse
import cProfile
import dataclasses
import io
import json
import logging
import os
import pstats
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.curve_trials import SleepingTrials
from benchmarks.scale.account import Report, summarise
from tuner.execution.worker_process import TrialKind
from tuner.runs.events import EpochReported, Event, TrialStarted
from tuner.session._resolved import resolve
from tuner.session.options import parse_search_options
from tuner.session.preparation import prepare
from tuner.spec.spec import load_spec, require

SPACE = """
study: scale
data: {source: digits, max_train_images: 60, max_validation_images: 30}
space:
  learning_rate: {log_float: [1.0e-4, 1.0e-1]}
  dropout: {float: [0.0, 0.6]}
  batch_size: {choice: [32, 64, 128]}
  architecture:
    choose:
      dense: {hidden_layers: {int: [1, 4]}, dense_units: {int: [16, 512]}}
      cnn: {blocks: {int: [1, 2]}, filters: {int: [4, 64]}, dense_units: {choice: [16, 64, 128]}}
training: {max_epochs: 27, early_stopping: null}
search: {improvement_per_second: false}
resources: {cpus_per_trial: 1, gpus_per_trial: 0}
finalists: {count: 0}
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.measure", description=__doc__)
    add = parser.add_argument
    add("--slots", type=int, default=4)
    add("--epoch-s", type=float, default=1.0, help="mean seconds of an epoch")
    add("--seconds", type=float, default=60.0, help="time budget of the search; 0: none")
    add("--trials", type=int, default=100_000)
    add("--sampler", default="gp")
    add("--scheduler", default="asha")
    add("--profile", type=Path, help="write where the driver's time goes (cProfile; slows it down) to this file")
    return parser


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Run the search; what came of it."""
    import ray  # noqa: F401  it sets up its logs when it is imported, and would undo `logging_to`
    from rich.console import Console

    from tuner.common.process import logging_to
    from tuner.reports.console import SearchConsole
    from tuner.runs.directory import new_run
    from tuner.runs.record import Record
    from tuner.session.session import run_session

    reports, suggestions = list[Report](), list[tuple[int, float]]()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder, timing(suggestions):
        file = Path(folder) / "scale.yaml"
        file.write_text(SPACE)
        wanted = {
            "trials": options.trials,
            "max_concurrent": options.slots,
            "sampler": options.sampler,
            "scheduler": options.scheduler,
            "time_budget": f"{options.seconds:g}s" if options.seconds else "none",
        }
        resolved = resolve(require(load_spec(file, [f"search.{name}={value}" for name, value in wanted.items()])))
        console = SearchConsole(Console(file=io.StringIO(), soft_wrap=True))  # plain lines, as in a log
        run = new_run(Path(folder) / "runs", "scale")
        with run.locked(), logging_to(run.log), local_ray(options.slots) as capacity:
            trial_kind = TrialKind(partial(SleepingTrials, epoch_s=options.epoch_s))
            prepared = prepare(
                resolved.study, parse_search_options([str(file), "--cache", folder]), console, trial_kind
            )
            record_append = Record.append

            def append(record: Record, event: Event) -> bool:
                said = record_append(record, event)
                if isinstance(event, EpochReported | TrialStarted):
                    seconds = event.seconds if isinstance(event, EpochReported) else None
                    reports.append(Report(event.trial, seconds, time.perf_counter(), time.process_time()))
                return said

            Record.append = append  # type: ignore[method-assign]  # only a listener more, and before the first event
            started = time.perf_counter()
            with profiled(options.profile):
                reason, state = run_session(resolved, prepared, run, capacity, console, resumed=False)
    return {
        **{name: getattr(options, name) for name in ("slots", "epoch_s", "sampler", "scheduler")},
        "reason": reason,
        "trials": len(state.trials),
        "load_average": os.getloadavg()[1],
        **dataclasses.asdict(summarise(reports, options.slots, started)),
        "suggestions": suggestions,
    }


@contextmanager
def timing(suggestions: list[tuple[int, float]]) -> Iterator[None]:
    """Keep (number of the trial, seconds of processor time) of all suggestions."""
    from tuner.algorithms.study import SearchStudy

    suggest = SearchStudy.suggest

    def timed(study: SearchStudy) -> Any:
        started = time.thread_time()
        found = suggest(study)
        if found is not None:
            suggestions.append((found.number, time.thread_time() - started))
        return found

    SearchStudy.suggest = timed  # type: ignore[method-assign]  # a benchmark's own
    try:
        yield
    finally:
        SearchStudy.suggest = suggest  # type: ignore[method-assign]  # as it was


@contextmanager
def local_ray(slots: int) -> Iterator[Any]:
    """The product's Ray of one machine, told that it has a CPU per slot: sleeping needs none. Nothing is preloaded."""
    import ray

    from tuner.cluster import ray_session

    ray_session.set_worker_environment()
    from ray.tune.execution import class_cache

    class_cache.DEFAULT_ENV_VARS.clear()
    ray.init(address="local", num_cpus=slots, include_dashboard=False, log_to_driver=False,
             logging_level=logging.ERROR, configure_logging=False)  # fmt: skip
    try:
        with ray_session.local_ray() as capacity:
            yield capacity
    finally:
        ray.shutdown()


@contextmanager
def profiled(path: Path | None) -> Iterator[None]:
    """Write where the time of the main thread goes."""
    if path is None:
        yield
        return
    profile = cProfile.Profile()
    with profile:
        yield
    text = io.StringIO()
    for order in ("tottime", "cumulative"):
        pstats.Stats(profile, stream=text).sort_stats(order).print_stats(60)
    path.write_text(text.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    print(json.dumps(search(build_parser().parse_args(arguments))))


if __name__ == "__main__":
    main()
