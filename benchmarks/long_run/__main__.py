"""`python -m benchmarks.long_run`: memory, open files and disk of a real search of many small trials, as it goes.

The search is the product's own command in a process of its own; it is only looked at. Memory is what a process has for
itself (unique set size), so that what its workers share is not counted twice.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import psutil

from benchmarks.long_run.report import draw, tell
from tuner.runs.record import read_state

EVERY_S = 5.0
SETTLED_TRIALS = 50
"""Growth is counted from here: before, libraries load, workers start, and models fill."""
SPACE = """
study: long
data: {source: digits, max_train_images: 600, max_validation_images: 200}
space:
  learning_rate: {log_float: [1.0e-4, 1.0e-1]}
  batch_size: {choice: [32, 64]}
  architecture:
    choose:
      dense: {hidden_layers: {int: [1, 3]}, dense_units: {int: [16, 256]}}
      cnn: {blocks: {int: [1, 2]}, filters: {int: [4, 16]}, dense_units: {choice: [16, 32]}}
training: {max_epochs: 9, early_stopping: {patience: 3}}
finalists: {count: 0}
"""


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment."""

    seconds: float
    trials: int
    """That have begun."""
    driver_mb: float
    workers_mb: float
    """Of the largest process of Ray's that trains."""
    driver_files: int
    """File descriptors that the driver has open."""
    temporary_files: int
    """Entries of the folder for temporary files that the search was given."""
    run_mb: float
    """The run directory, with its checkpoints."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_run", description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as of tuner.search")
    parser.add_argument("--output", type=Path, required=True, help="folder for samples.csv and long_run.png")
    options = parser.parse_args()
    samples = watch(options.trials, options.overrides)
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.output / "samples.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in samples)
    draw(samples, options.output / "long_run.png")
    print(tell(samples, SETTLED_TRIALS))


def watch(trials: int, overrides: Sequence[str]) -> list[Sample]:
    """Run the search and look at it until it ends; raises RuntimeError when it fails."""
    with tempfile.TemporaryDirectory(prefix="long-") as name:
        folder = Path(name)
        (folder / "long.yaml").write_text(SPACE)
        (folder / "tmp").mkdir()
        words = [sys.executable, "-m", "tuner.search", "long.yaml", "--set", f"search.trials={trials}"]
        words += [word for override in overrides for word in ("--set", override)]
        environment = {**psutil.Process().environ(), "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(Path.cwd())}
        with (folder / "log").open("wb") as log:
            search = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log)
        samples, started = [], time.monotonic()
        while search.poll() is None:
            time.sleep(EVERY_S)
            sample = look(search.pid, folder, time.monotonic() - started)
            if sample is not None:
                samples.append(sample)
                print(f"{sample.seconds:.0f} s: {sample}", file=sys.stderr)
        if search.returncode:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        return samples


def look(pid: int, folder: Path, seconds: float) -> Sample | None:
    """The search as it is; None before its first trial and after its end."""
    record = folder / "runs" / "long" / "record.jsonl"
    if not record.exists() or not (trials := len(read_state(record).trials)):
        return None
    try:
        driver = psutil.Process(pid)
        workers = [_own_mb(one) for one in driver.children(recursive=True) if one.name().startswith("ray::")]
        return Sample(
            seconds,
            trials,
            _own_mb(driver),
            max(workers, default=0.0),
            driver.num_fds(),
            sum(1 for _ in (folder / "tmp").rglob("*")),
            sum(path.lstat().st_size for path in (folder / "runs").rglob("*") if path.is_file()) / 2**20,
        )
    except (psutil.NoSuchProcess, FileNotFoundError):  # a process or a file that has gone while it was looked at
        return None


def _own_mb(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / 2**20


if __name__ == "__main__":
    main()
