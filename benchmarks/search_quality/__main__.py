"""`python -m benchmarks.search_quality`: which policy finds how much with a budget, in simulated time.

Every policy searches every problem with every seed; a budget is a number of full trainings of a random configuration,
and all policies have the same simulated seconds. Regret: (best - found) / (best - median random configuration). What
decides is real: the product's own sampler, searcher and scheduler in the order in which Ray calls them; the peers' own.
TUNER_LCBENCH must name lcbench_tables.npz; without it only the synthetic problems are searched. TUNER_PEERS_PYTHON must
name the Python of an environment with peers.txt; without it Syne Tune's policies are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from benchmarks.search_quality.peers import left_out
from benchmarks.search_quality.plot import draw
from benchmarks.search_quality.policies import POLICIES, SERIES
from benchmarks.search_quality.report import tables
from benchmarks.search_quality.rows import Row, append_rows, found, once, read_rows, write_rows
from benchmarks.search_quality.searches import SUITES, Came, Progress, Wanted, search, suite, wanted
from tuner.common.errors import InputError, TunerError


def main() -> None:
    options = _parser().parse_args()
    try:
        _run(options)
    except TunerError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        print("ended; the same command with the same --output goes on", file=sys.stderr)
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--policies",
        nargs="+",
        choices=[*POLICIES, *SERIES],
        default=list(POLICIES),
        metavar="NAME",
        help=f"(default: all of {', '.join(POLICIES)}) also: {', '.join(SERIES)}",
    )
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=list(SUITES))
    parser.add_argument("--budgets", nargs="+", type=float, default=[20], help="full trainings (default: 20)")
    parser.add_argument("--slots", nargs="+", type=int, default=[4])
    parser.add_argument("--seeds", type=int, default=5, help="(default: 5; 0: search nothing, show what is there)")
    parser.add_argument("--noise", type=float, default=0.0, help="added to LCBench, as a share of the range")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for rows.csv, search_quality.md and .png; what its rows.csv has is not searched again",
    )
    parser.add_argument("--also", nargs="+", type=Path, default=[], help="rows.csv of other runs, shown as well")
    return parser


def _run(options: argparse.Namespace) -> None:
    file = options.output / "rows.csv" if options.output else None
    rows = read_rows(file) if file else []
    if file:
        options.output.mkdir(parents=True, exist_ok=True)
        write_rows(rows, file)
    searches = wanted(
        _policies(options.policies),
        _problems(options.suites, options.noise),
        options.slots,
        options.budgets,
        options.seeds,
        options.noise,
        {found(row) for row in rows},
    )
    rows += _search_all(searches, options.processes, file)
    for path in options.also:
        rows += read_rows(path)
    rows = once(rows)
    if not rows:
        raise InputError("--policies, --suites or --seeds must leave something to search or to show; nothing is left")
    text = tables(rows)
    print(text)
    if options.output:
        (options.output / "search_quality.md").write_text(text, encoding="utf-8")
        draw(rows, options.output / "search_quality.png")


def _policies(names: list[str]) -> list[str]:
    reasons = {name: left_out(name) for name in names}
    for name, reason in reasons.items():
        if reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)
    return [name for name, reason in reasons.items() if not reason]


def _problems(suites: list[str], noise: float) -> list[str]:
    names = []
    for name in suites:
        problems = suite(name, noise)
        if isinstance(problems, str):
            print(f"{name} is left out: {problems}", file=sys.stderr)
        else:
            names += [problem.name for problem in problems]
    return names


def _search_all(searches: list[Wanted], processes: int, file: Path | None) -> list[Row]:
    rows: list[Row] = []
    progress = Progress(searches, processes)
    for one, new, seconds in _finished(searches, processes):
        rows += new
        if file:
            append_rows(new, file)
        print(progress.finished(one, seconds), file=sys.stderr, flush=True)
    return rows


def _finished(searches: list[Wanted], processes: int) -> Iterator[Came]:
    """What came of searches, in the order in which they end."""
    if processes == 1:
        yield from map(search, searches)
        return
    with ProcessPoolExecutor(processes) as pool:
        try:
            for future in as_completed([pool.submit(search, one) for one in searches]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


if __name__ == "__main__":
    main()
