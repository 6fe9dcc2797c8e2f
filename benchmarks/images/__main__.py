"""`python -m benchmarks.images`: tables of real fine-tuning, on which searches are then simulated.

    networks    train the two small networks on half of CIFAR-100's classes: networks.npz, to be committed
    measure     run the product's own search over each task, in a working folder, as long as is asked for
    collect     take all tasks that are complete into tables.npz, to be committed; those that it has stay
    list        how far each task is
    prior       write the prior that comes with the product, from all tables

`measure` is the product itself: random draws, all trials to their end after 20 epochs, probes of frozen features, every
curve from its record. Each sixth trial repeats an earlier one with another seed: that is the noise. What is done can be
killed at any time, and the same command goes on; only whole tasks go from one machine to another, by tables.npz.

TUNER_DATA must name a folder with cifar100, hands and flowers, KERAS_HOME one with Fashion-MNIST and the weights of
MobileNetV2 (alpha 0.35, 224 px). `python -m benchmarks.search_quality --suites images_choosing` searches the tables.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.images import measuring
from benchmarks.images.prior import prior_of
from benchmarks.images.repeats import EVERY
from benchmarks.images.tables import TABLES, TaskTable, merged, read_tables, write_tables
from benchmarks.images.tasks import TASKS, chosen_tasks, trials_for
from tuner.algorithms.prior import FILE, save_prior
from tuner.common.command_line import run_command
from tuner.common.process import usable_cpus
from tuner.common.termination import terminating_as_interrupt


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)

    def run() -> int:
        return int(options.run(options))

    with terminating_as_interrupt():
        return run_command(run)


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.images", description=__doc__, formatter_class=form)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run in _COMMANDS.items():
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        if name == "prior":
            command.add_argument("--tables", type=Path, default=TABLES, help="(default: beside this program)")
            command.add_argument("--prior", type=Path, default=FILE, help="(default: that of the product)")
            continue
        command.add_argument("--folder", type=Path, default=Path("images"), help="working folder (default: images)")
        if name == "networks":
            command.add_argument("--epochs", type=int, default=12)
            continue
        command.add_argument("--tasks", nargs="+", choices=list(TASKS), default=[], metavar="NAME")
        command.add_argument("--split", choices=["choosing", "judging"])
        command.add_argument("--configurations", type=int, default=100, help="of each task (default: 100)")
        command.add_argument("--tables", type=Path, default=TABLES, help="(default: beside this program)")
        if name == "measure":
            command.add_argument(
                "--minutes", type=float, default=math.inf, help="stop then (default: when all is done)"
            )
            command.add_argument("--slots", type=int, default=usable_cpus(), help="trials at a time, a CPU for each")
    return parser


def _networks(options: argparse.Namespace) -> int:
    from benchmarks.images.pretraining import networks

    networks(measuring.WEIGHTS, options.epochs, options.folder.absolute() / "cache" / "base")
    return 0


def _measure(options: argparse.Namespace) -> int:
    """Measure one task after the other, but for those that the tables have."""
    ends_at = time.monotonic() + 60 * options.minutes
    places, kept = measuring.Places(options.folder.absolute()), _kept(options.tables)
    measuring.keep_to_networks(places.folder)
    for task in chosen_tasks(options.tasks, options.split):
        if task.name in kept and len(kept[task.name].configurations) >= options.configurations:
            continue
        if not measuring.measure(task, places, options.configurations, options.slots, ends_at):
            print("stopped; the same command goes on")
            break
    return 0


def _kept(path: Path) -> dict[str, TaskTable]:
    return read_tables(path) if path.is_file() else {}


def _collect(options: argparse.Namespace) -> int:
    places = measuring.Places(options.folder.absolute())
    new = {
        task.name: measuring.measured(task, places)
        for task in chosen_tasks(options.tasks, options.split)
        if measuring.is_complete(places.state(task), options.configurations)
    }
    tables = merged(_kept(options.tables), new, TASKS)
    if tables:
        write_tables(tables, options.tables)
    print(f"{len(tables)} tasks in {options.tables}, {len(new)} of them from {options.folder}")
    return 0


def _list(options: argparse.Namespace) -> int:
    places, kept = measuring.Places(options.folder.absolute()), _kept(options.tables)
    of = trials_for(options.configurations, EVERY)
    print("| task | base | split | trials here | of | configurations in the tables | best | noise | seconds each |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for task in chosen_tasks(options.tasks, options.split):
        done = measuring.trials_done(places.state(task))
        print(f"| {task.name} | {task.base} | {task.split} | {done} | {of} | {_shown(kept.get(task.name))} |")
    return 0


def _prior(options: argparse.Namespace) -> int:
    path = save_prior(prior_of(read_tables(options.tables).values()), options.prior)
    print(f"{path}: {path.stat().st_size / 2**20:.2f} MB")
    return 0


_COMMANDS = {"networks": _networks, "measure": _measure, "collect": _collect, "list": _list, "prior": _prior}


def _shown(table: TaskTable | None) -> str:
    import numpy as np

    if table is None:
        return "0 | | | "
    best, seconds = float(np.nanmax(table.accuracy)), float(np.nansum(table.seconds, axis=1).mean())
    return f"{len(table.configurations)} | {best:.3f} | {table.noise:.4f} | {seconds:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
