"""`python -m benchmarks.overhead`: what a search costs beside training, from its record or from a search of its own.

How to read it. *Share of the slots' time* is the sum of the epochs' seconds over slots x time: from the begin of the
first epoch what a long search tends to, from launch what a user waits for (imports, data, cached activations). The
table is per trial, with the sum, so that what a typical trial costs and where the time went can be told apart: the
first trials also compute what is cached. Memory is measured only in a search of its own, since a record does not hold
it. When the process was launched is known of runs of the race (`round_N.about.json` beside the record), of a search
of its own, or from --launched.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from benchmarks.overhead.account import account, render
from benchmarks.overhead.memory import Sample, render_memory, sample_workers
from tuner.common.command_line import run_command
from tuner.common.errors import InputError, RunError
from tuner.runs.record import read_events

ROOT = Path(__file__).parents[2]
SAMPLE_EVERY_S = 1.0


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("records", nargs="*", type=Path, metavar="RECORD", help="records of finished runs (default: run a search)")
    add("--launched", type=float, metavar="T", help="Unix time at which the process of the one record was launched")
    add("--budget", type=float, default=100.0, metavar="S", help="seconds of its own search (default: 100)")
    add("--trials-at-once", type=int, default=None, metavar="N", help="its workers, sharing the CPUs (default: auto)")
    add("--images", type=Path, default=None, metavar="DIR", help="where the images are (default: a user cache)")
    add("--out", type=Path, default=None, metavar="DIR", help="also write overhead.md there")
    return parser


def launch_of(record: Path) -> float | None:
    """When the process of a run of the race was launched, from what the race keeps beside its record."""
    about = record.with_name(record.name.removesuffix(".record.jsonl") + ".about.json")
    return float(json.loads(about.read_text())["launched"]) if about.is_file() else None


def search(folder: Path, budget_s: float, at_once: int | None, images: Path | None) -> tuple[Path, float, list[Sample]]:
    """Run the race's small search in `folder`: its record, when it was launched, and the memory of its workers.

    Raises:
        InputError: images or weights are missing.
        RunError: the search failed.
    """
    from benchmarks.race.workload import check_weights, find_parquet, prepare_images

    parquet = find_parquet(os.environ)
    check_weights(os.environ)
    data = prepare_images(parquet, images or Path(platformdirs.user_cache_dir("tuner-race"))).absolute()
    log, samples, launched = folder / "log", [], time.time()
    with log.open("wb") as output:
        process = subprocess.Popen(
            search_command(folder, data, budget_s, at_once), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                samples += sample_workers(process.pid)
                time.sleep(SAMPLE_EVERY_S)
        finally:
            process.terminate()
            process.wait()
    if process.returncode != 0:
        raise RunError(f"the search ended with {process.returncode}: {log.read_text()[-1000:]}")
    return folder / "runs" / "race_small" / "record.jsonl", launched, samples


def search_command(folder: Path, data: Path, budget_s: float, at_once: int | None) -> list[str]:
    """The search; with `at_once`, so many trials share the CPUs of this machine."""
    command = [
        *(sys.executable, "-m", "tuner.search", str(ROOT / "benchmarks" / "race" / "small.yaml"), "--no-finalists"),
        *("--data", f"cifar100=npz:{data}", "--set", f"search.time_budget={budget_s:g}s"),
        *("--cache", str(folder / "cache"), "--runs", str(folder / "runs"), "--reports", str(folder / "reports")),
    ]
    if at_once is not None:
        cpus = math.floor(100 * (os.cpu_count() or 1) / at_once) / 100
        command += ["--set", f"search.max_concurrent={at_once}", "--set", f"resources.cpus_per_trial={cpus:g}"]
    return command


def measure(options: argparse.Namespace) -> int:
    """Print the account of every record, or of a search of its own, and write it with --out."""
    if options.launched is not None and len(options.records) != 1:
        raise InputError(f"--launched must come with one record; got {len(options.records)}")
    if options.trials_at_once is not None and options.trials_at_once < 1:
        raise InputError(f"--trials-at-once must be at least 1; got {options.trials_at_once}")
    if not (options.budget > 0 and math.isfinite(options.budget)):
        raise InputError(f"--budget must be above 0 seconds; got {options.budget}")
    parts = ["# What a search costs beside training\n"]
    for record in options.records:
        launched = options.launched if options.launched is not None else launch_of(record)
        parts.append(render(str(record), account(read_events(record), launched)))
    if not options.records:
        with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
            found = search(Path(folder), options.budget, options.trials_at_once, options.images)
            record, launched, samples = found
            whole = account(read_events(record), launched)
        parts += [render(f"race_small, {options.budget:g} s", whole), render_memory(samples, whole.slots)]
    text = "\n".join(parts)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "overhead.md").write_text(text)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    return run_command(lambda: measure(options))


if __name__ == "__main__":
    raise SystemExit(main())
