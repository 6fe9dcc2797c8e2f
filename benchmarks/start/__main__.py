"""`python -m benchmarks.start`: where the seconds go from launch to the end of the first epoch, beside a bare loop.

The search is the race's at 64 px, from four beginnings: cold from arrays (12,200 images of 32 px), cold from Parquet
(50,000), and again with what each has left in its cache. The bare loop is the race's limit: one process that opens the
same data from a cache in the same state, builds the same network, and trains an epoch of the same head, from the images
or from the cached activations; no Ray, no search, no record. In turn, as many rounds as asked for; ratios are of
medians.

How to read it. Stages are noted by `traced/sitecustomize.py`, which every process of a command loads: imports of the
large libraries, and named functions. They nest and, in several processes, overlap. Processor seconds are those of the
stage's process. The picture has a row for the driver and for each worker. `python -m benchmarks.start.inline` compares
`--inline` with a bare `fit`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tuner.common.command_line import run_command
from tuner.common.errors import RunError

ROOT = Path(__file__).parents[2]
LONGEST_S = 300.0
LEAST_DRAWN_S = 0.1


@dataclass(frozen=True)
class Stage:
    """What a process did for a while; seconds since launch."""

    process: str
    name: str
    begin_s: float
    end_s: float
    cpu_s: float


@dataclass(frozen=True)
class Start:
    """One launch, to the end of its first epoch."""

    first_epoch_s: float
    stages: tuple[Stage, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sources", nargs="*", choices=["arrays", "parquet"], default=["arrays", "parquet"])
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="write start.md and start.png there")
    options = parser.parse_args(arguments)
    return run_command(lambda: measure(options))


def measure(options: argparse.Namespace) -> int:
    """Launch everything in turn, and print the tables."""
    from benchmarks.race.workload import check_weights, find_parquet, prepare_images

    check_weights(os.environ)
    found: dict[str, list[Start]] = {}
    with tempfile.TemporaryDirectory(prefix="start-") as name:
        folder, parquet = Path(name), find_parquet(os.environ)
        sources = {"arrays": f"npz:{prepare_images(parquet, folder)}", "parquet": f"parquet:{parquet}"}
        for number in range(options.rounds):
            for source in options.sources:
                for state in ("cold", "again"):
                    place, what = folder / f"{source}-{number}", f"{state}, {source}"
                    search, bare = launches(place, sources[source], state)
                    found.setdefault(what, []).append(search())
                    found.setdefault(f"bare, {what}", []).append(bare())
                    print(f"{what}: {found[what][-1].first_epoch_s:.1f} s", flush=True)
                    print(f"bare, {what}: {found['bare, ' + what][-1].first_epoch_s:.1f} s", flush=True)
    text = render(found)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "start.md").write_text(text)
        draw(found, options.out / "start.png")
    return 0


def launches(place: Path, source: str, state: str) -> tuple[Callable[[], Start], Callable[[], Start]]:
    """The search and the bare loop after it: each with a cache that is empty at first, or that the search has left."""
    runs, bare = place / state, place / f"bare-{state}"
    record = runs / "race_small" / "record.jsonl"
    search_command = [
        *("tuner.search", str(ROOT / "benchmarks" / "race" / "small.yaml"), "--no-finalists"),
        *("--data", f"cifar100={source}", "--set", f"search.time_budget={LONGEST_S:g}s"),
        *("--set", "search.prior=auto"),  # a user's search reads it
        *("--cache", str(place / "cache"), "--runs", str(runs), "--reports", str(place / f"reports-{state}")),
    ]
    cache = place / "cache" if state == "again" else place / "bare-cache"

    def bare_command(launched: float) -> list[str]:
        return [
            *("benchmarks.race.limit", "--record", str(record), "--cache", str(cache), "--data", source),
            *("--epochs-file", str(bare / "epochs.jsonl"), "--scratch", str(bare)),
            *("--launched", repr(launched), "--image-px", "64", "--seed", "0"),
        ]

    return (
        lambda: launch(lambda _launched: search_command, record, '"event":"epoch"', place / f"trace-{state}"),
        lambda: launch(bare_command, bare / "epochs.jsonl", '"epoch"', bare),
    )


def launch(command: Callable[[float], list[str]], told: Path, mark: str, trace: Path) -> Start:
    """Start a module until a line with `mark` is in the file where it tells its epochs, and end it.

    Raises:
        RunError: it ended before, or took too long.
    """
    trace.mkdir(parents=True, exist_ok=True)
    paths = os.pathsep.join([str(Path(__file__).parent / "traced"), str(ROOT)])
    traced = {**os.environ, "PYTHONPATH": paths, "TUNER_START_TRACE": str(trace), "TF_CPP_MIN_LOG_LEVEL": "3"}
    launched = time.time()
    with (trace / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command(launched)],
            **{"cwd": ROOT, "env": traced, "stdout": log, "stderr": log, "start_new_session": True},
        )
    try:
        while (line := line_with(told, mark)) is None:
            if process.poll() is not None or time.time() - launched > LONGEST_S:
                raise RunError(f"no epoch after {LONGEST_S:g} s: {(trace / 'log').read_text()[-1000:]}")
            time.sleep(0.02)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    end = json.loads(line).get("time") or launched + json.loads(line)["elapsed_s"]
    return Start(end - launched, stages(trace, process.pid, launched, end))


def line_with(path: Path, mark: str) -> str | None:
    """The first whole line of a file that may not be there yet which holds `mark`."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return next((line for line in lines if mark in line and line.endswith("\n")), None)


def stages(trace: Path, driver: int, launched: float, end: float) -> tuple[Stage, ...]:
    """What the driver and its workers did until `end`, in the order of their begins."""
    found, workers = [], 0
    for path in sorted(trace.glob("*.jsonl")):
        if not path.stem.isdecimal():
            continue
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        if int(path.stem) == driver:
            process = "driver"
        elif any(line["name"] == "import of Keras" for line in lines):
            workers += 1
            process = f"worker {workers}"
        else:  # Ray's own
            continue
        found += [
            Stage(process, one["name"], one["began"] - launched, min(one["ended"], end) - launched, one["cpu"])
            for one in lines
            if one["began"] < end and one["name"] != "process"
        ]
    return tuple(sorted(found, key=lambda stage: (stage.process, stage.begin_s)))


def render(found: Mapping[str, Sequence[Start]]) -> str:
    """The tables in Markdown: the ratios, then the stages of the first round."""
    lines = ["| launch to first epoch | search, s | bare, s | ratio |\n|---|---:|---:|---:|"]
    for what, starts in found.items():
        if what.startswith("bare"):
            continue
        ours, theirs = (median(one.first_epoch_s for one in way) for way in (starts, found[f"bare, {what}"]))
        lines.append(f"| {what} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |")
    for what, starts in found.items():
        lines.append(f"\n{what}:\n\n| process | stage | begin, s | end, s | processor, s |\n|---|---|---:|---:|---:|")
        lines += [
            f"| {one.process} | {one.name} | {one.begin_s:.2f} | {one.end_s:.2f} | {one.cpu_s:.2f} |"
            for one in merged(starts[0].stages)
            if one.end_s - one.begin_s >= LEAST_DRAWN_S
        ]
    return "\n".join(lines) + "\n"


def merged(stages: Sequence[Stage]) -> list[Stage]:
    """The stages, with those of one name that follow upon one another in a process as one."""
    found: list[Stage] = []
    for one in stages:
        if found and (found[-1].process, found[-1].name) == (one.process, one.name):
            last = found.pop()
            one = Stage(one.process, one.name, last.begin_s, one.end_s, last.cpu_s + one.cpu_s)
        found.append(one)
    return found


def draw(found: Mapping[str, Sequence[Start]], path: Path) -> None:
    """Draw the stages of the first round, a panel for each launch, a row for each process and depth of nesting."""
    from matplotlib import style

    from tuner.reports.figures.style import BLUE, GREEN, GREY, ORANGE, STYLE, VERMILLION, build_figure, set_title

    colours = {"import": GREY, "Ray": BLUE, "data": ORANGE, "network": GREEN, "backbones": GREEN}
    latest = max(start.first_epoch_s for starts in found.values() for start in starts[:1])
    with style.context(STYLE, after_reset=True):
        figure, panels = build_figure(11.0, 2.2 * len(found), 1, len(found))
        for panel, (what, starts) in zip(panels, found.items(), strict=False):
            rows: list[str] = []
            ends: list[float] = []
            for one in merged(starts[0].stages):
                if one.end_s - one.begin_s < LEAST_DRAWN_S:
                    continue
                free = [at for at, name in enumerate(rows) if name == one.process and ends[at] <= one.begin_s + 1e-3]
                row = free[0] if free else len(rows)
                if not free:
                    rows.append(one.process)
                    ends.append(0.0)
                ends[row] = one.end_s
                colour = next((colours[word] for word in colours if word in one.name), VERMILLION)
                panel.barh(row, one.end_s - one.begin_s, left=one.begin_s, color=colour, edgecolor="white")
                if one.end_s - one.begin_s > latest / 25:
                    panel.text(one.begin_s, row, one.name, fontsize=6, va="center", clip_on=True)
            panel.set_yticks(range(len(rows)), rows, fontsize=6)
            panel.invert_yaxis()
            panel.set_xlim(0, latest)
            panel.set_title(f"{what}: {starts[0].first_epoch_s:.1f} s", fontsize=8)
        set_title(figure, "Seconds from launch to the end of the first epoch")
        figure.savefig(path, dpi=130)


if __name__ == "__main__":
    raise SystemExit(main())
