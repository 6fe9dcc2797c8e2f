"""`python -m benchmarks.report`: seconds, memory and bytes of the report of a large search.

A record of `--trials` trials with `--epochs` epochs each is made up, written, and reported by
`python -m tuner.report` in a process of its own, whose largest resident memory is taken. To reach: 10,000 trials of 50
epochs in under 10 s, under 1 GB, with a page under 5 MB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tuner.runs.events import EpochReported, Event, SessionEnded, SessionStarted, StudyCreated, TrialEnded, TrialStarted


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--keep", type=Path, help="write the report here and keep it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        with (run / "record.jsonl").open("wb") as file:
            for event in made_up(options.trials, options.epochs):
                file.write(event.model_dump_json().encode() + b"\n")
        output = options.keep or Path(folder) / "report"
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "tuner.report", str(run), "--output", str(output)], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        record_mb = (run / "record.jsonl").stat().st_size / 1e6
        page = (output / "index.html").stat().st_size
        print("| trials | epochs each | record, MB | seconds | largest memory, MB | page, MB | exit status |")
        print("|---:|---:|---:|---:|---:|---:|---:|")
        print(
            f"| {options.trials:,} | {options.epochs} | {record_mb:.0f} | {seconds:.1f} "
            f"| {usage.ru_maxrss / 1024:,.0f} | {page / 1e6:.2f} | {os.waitstatus_to_exitcode(status)} |"
        )


def made_up(trials: int, epochs: int) -> Iterator[Event]:
    """A search with two architectures; one trial in a hundred fails, four in ten are stopped at the last epoch."""
    random = np.random.default_rng(0)
    data = {"name": "made up", "class_names": ["a", "b"], "train_images": 50_000, "validation_images": 10_000}
    yield StudyCreated(
        study="large", metric="val_accuracy", mode="max", seed=0, max_epochs=epochs + 1, specification={}, data=data,
        environment={}, command=["search"],
    )  # fmt: skip
    yield SessionStarted(resumed=False, max_concurrent=16, sampler="random", scheduler="none")
    elapsed_s = 0.0
    for trial in range(trials):
        configuration: dict[str, bool | int | float | str | None] = {
            "architecture": str(random.choice(["mobilenet_v2", "cnn"])),
            "preprocess": str(random.choice(["resize(64)", "grayscale|resize(64)", "noise(0.1)"])),
            "batch_size": int(random.choice([32, 64, 128])),
            "learning_rate": float(10 ** random.uniform(-4, -2)),
            "dropout": float(random.uniform(0, 0.6)),
            "unfreeze_depth": int(random.integers(0, 7)),
        }
        origin = "baseline" if trial == 0 else "sampler"
        yield TrialStarted(trial=trial, configuration=configuration, origin=origin, elapsed_s=elapsed_s)
        level, best = float(random.uniform(0.2, 0.7)), 0.0
        for epoch in range(1, epochs + 1):
            value = level * (1 - float(np.exp(-epoch / 8))) + float(random.normal(0, 0.005))
            best, elapsed_s = max(best, value), elapsed_s + 0.1
            losses = {"loss": 2.5 - 2 * value, "val_loss": 2.6 - 2 * value}
            metrics = {**losses, "accuracy": value + 0.05, "val_accuracy": value}
            yield EpochReported(
                trial=trial, epoch=epoch, phase="head" if epoch < 4 else "fine_tune", seconds=1.6, metrics=metrics,
                best_so_far=best, learning_rate=1e-3, elapsed_s=elapsed_s,
            )  # fmt: skip
        fate = random.random()
        status = "failed" if fate < 0.01 else "stopped" if fate < 0.4 else "completed"
        reason = {"failed": "out of memory: OOM", "stopped": "scheduler", "completed": "early_stopping"}[status]
        yield TrialEnded(trial=trial, status=status, reason=reason, parameters=540_000, elapsed_s=elapsed_s)  # type: ignore[arg-type]  # it is one of the three
    yield SessionEnded(reason="finished", elapsed_s=elapsed_s)


if __name__ == "__main__":
    main()
