"""`python -m benchmarks.time_budget`: eight searches with budgets of 2 to 10 minutes, and whether they keep them.

Each is the product's own command in a process of its own, timed from its start to its exit. To reach: total time within
the budget plus 5% or 10 s, a report and a model of each, finalists in all of 3 minutes or more; on a quiet machine, and
(`--load N`) beside so many processes that compute all the time. Results are kept in `--results`, one line for each
search and series, and what is there is not run again: a series that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tuner.runs.record import read_state
from tuner.runs.state import RunState

ROOT, HERE = Path(__file__).parents[2], Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A search with a budget."""

    file: Path
    minutes: int

    @property
    def name(self) -> str:
        return f"{self.file.stem}, {self.minutes} min"


CASES = tuple(
    Case(file, minutes)
    for file, all_minutes in (
        (ROOT / "search_spaces" / "digits.yaml", (2, 4)),
        (HERE / "hands.yaml", (3, 6)),
        (HERE / "flowers.yaml", (4, 10)),
        (ROOT / "search_spaces" / "cifar100_small.yaml", (3, 5)),
    )
    for minutes in all_minutes
)


@dataclass(frozen=True)
class Outcome:
    """What was seen of a search."""

    series: str
    case: str
    budget_s: float
    total_s: float
    status: int
    preparation_s: float
    trials_s: float
    finalists_s: float
    test_s: float
    closing_s: float
    trials: int
    finalists: int
    trainings: int
    tested: int
    has_report: bool
    has_model: bool
    left_out: str

    @property
    def is_kept(self) -> bool:
        in_time = self.total_s <= self.budget_s + max(10.0, 0.05 * self.budget_s)
        has_finalists = self.trainings > 0 or self.budget_s < 180
        return in_time and has_finalists and self.has_report and self.has_model and self.status == 0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.time_budget",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--results", type=Path, required=True, help="file of results, one line each; runs lie beside it"
    )
    parser.add_argument("--series", default="quiet", help="a name for this series")
    parser.add_argument("--load", type=int, default=0, help="processes that compute all the time beside the searches")
    parser.add_argument("--only", default="", help="only the cases whose names contain this")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=SOURCE", help="staged data, as for a search"
    )
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    done = {(one.series, one.case): one for one in _read(options.results)}
    for case in CASES:
        if options.only in case.name and (options.series, case.name) not in done:
            with _load(options.load):
                outcome = _run(case, options.series, options.results.parent.resolve(), options.data)
            done[options.series, case.name] = outcome
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
            print(_row(outcome), flush=True)
    print("\n".join(table([one for one in done.values() if one.series == options.series])))


def _read(path: Path) -> list[Outcome]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Outcome(**json.loads(line)) for line in lines]


@contextlib.contextmanager
def _load(processes: int) -> Iterator[None]:
    """Keep the machine busy until the end of the block."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def _run(case: Case, series: str, folder: Path, data: Sequence[str]) -> Outcome:
    place = folder / f"{series}-{case.name.replace(', ', '-').replace(' ', '')}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    command = [sys.executable, "-m", "tuner.search", str(case.file), "--set", f"search.time_budget={case.minutes}m",
               "--runs", str(place / "runs"), "--reports", str(place / "reports"), "--cache", str(folder / "cache"),
               *(word for one in data for word in ("--data", one))]  # fmt: skip
    started = time.perf_counter()
    with (place / "output.txt").open("w") as output:
        status = subprocess.run(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env={**os.environ}, check=False
        ).returncode
    total_s = time.perf_counter() - started
    run, report = place / "runs" / case.file.stem, place / "reports" / case.file.stem
    return outcome_of(
        series, case, total_s, status, read_state(run / "record.jsonl") if run.exists() else RunState(),
        has_report=(report / "index.html").is_file(), has_model=(run / "best.keras").is_file(),
    )  # fmt: skip


def outcome_of(
    series: str, case: Case, total_s: float, status: int, state: RunState, *, has_report: bool, has_model: bool
) -> Outcome:
    """Return what is told of a search, from its record and what was seen from outside."""
    began_s = state.sessions[0].elapsed_s if state.sessions else 0.0
    ended_s = state.session_ended.elapsed_s if state.session_ended is not None else state.elapsed_s
    started = state.finalists_started
    trials_end_s = started.elapsed_s if started is not None else ended_s
    trained = [one.trained for one in state.finalists.values() if one.trained.status == "completed"]
    tested = [one.tested for one in state.finalists.values() if one.tested is not None]
    trained_end_s = max((one.elapsed_s for one in trained), default=trials_end_s)
    return Outcome(
        series, case.name, 60.0 * case.minutes, round(total_s, 1), status,
        preparation_s=round(began_s, 1), trials_s=round(trials_end_s - began_s, 1),
        finalists_s=round(trained_end_s - trials_end_s, 1), test_s=round(ended_s - trained_end_s, 1),
        closing_s=round(total_s - ended_s, 1), trials=len(state.trials),
        finalists=len({one.trial for one in trained}), trainings=len(trained), tested=len(tested),
        has_report=has_report, has_model=has_model,
        left_out=" ".join(text for text in state.notices if text.startswith("left out")),
    )  # fmt: skip


HEAD = (
    "| search | total / budget, s | share | preparation | trials | finalists | test | export, report | trials run "
    "| finalists | trainings | tested | report, model | kept |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|---|",
)


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the outcomes as a table in Markdown, and how many searches kept their budgets."""
    kept = sum(one.is_kept for one in outcomes)
    return [*HEAD, *map(_row, outcomes), "", f"{kept} of {len(outcomes)} searches kept what they promised."]


def _row(one: Outcome) -> str:
    parts = (one.preparation_s, one.trials_s, one.finalists_s, one.test_s, one.closing_s)
    there = f"{'yes' if one.has_report else 'NO'}, {'yes' if one.has_model else 'NO'}"
    return (
        f"| {one.case} | {one.total_s:.0f} / {one.budget_s:.0f} | {one.total_s / one.budget_s:.0%} | "
        f"{' | '.join(f'{part:.0f}' for part in parts)} | {one.trials} | {one.finalists} | {one.trainings} "
        f"| {one.tested} | {there} | {'yes' if one.is_kept else f'NO (status {one.status})'} |"
    )


if __name__ == "__main__":
    main()
