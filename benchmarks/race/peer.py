"""One peer's search in a process of its own: the entry that the harness starts. Light at import.

The peers are written as a careful user of each would write them after its documentation, and train nothing with tuner.
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Search:
    """What a peer is told. Plain values: it travels to other processes."""

    data: Path
    image_px: int
    seed: int
    launched: float
    """Unix time at which the harness started this process."""
    epochs_file: Path
    scratch: Path
    """An empty folder for whatever the peer writes."""


def main() -> None:
    """Search until the harness ends this process."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("peer", help="a module of this package with a function run(search)")
    for name in ("data", "epochs-file", "scratch"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--launched", type=float, required=True)
    parser.add_argument("--image-px", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    told = vars(parser.parse_args())
    module = importlib.import_module(f"benchmarks.race.{told.pop('peer')}")
    module.run(Search(**told))


if __name__ == "__main__":
    main()
