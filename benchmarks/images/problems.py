"""Tables of real fine-tuning as problems that are searched in simulated time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.images.tables import TABLES, TaskTable, read_tables
from benchmarks.search_quality.problems import Table, places
from tuner.common.errors import InputError
from tuner.spec.space import Choice, Choose, Space
from tuner.spec.space_parser import parse_space

SUITE = "images_"


def image_problems(split: str, noise: float = 0.0, path: Path | None = None) -> list[Table] | str:
    """The tasks of a split, `choosing` or `judging`; a reason where none is at hand.

    The file is the one that is committed, unless another is given.
    """
    path = path or TABLES
    try:
        tables = read_tables(path)
    except InputError as error:
        return str(error)
    found = [problem_of(table, noise) for table in tables.values() if table.facts["split"] == split]
    return found or f"{path} has no task of {split}: python -m benchmarks.images measures them"


def problem_of(table: TaskTable, noise: float = 0.0) -> Table:
    """One task; trials that failed are left out."""
    whole = np.isfinite(table.accuracy).all(axis=1) & np.isfinite(table.seconds).all(axis=1)
    space = varied(parse_space(table.facts["space"])[0])
    unit, branches = places(space, [one for one, is_whole in zip(table.configurations, whole, strict=True) if is_whole])
    return Table(
        name=f"{SUITE}{table.facts['split']}-{table.facts['base']}-{table.name}",
        space=space,
        unit=unit,
        values=table.accuracy[whole].astype(float),
        seconds=table.seconds[whole].astype(float),
        noise=noise,
        branches=branches,
    )


def base_of(name: str) -> str:
    """The base set of a problem by its name; empty: it is no problem of images.

    >>> base_of("images_judging-flowers-flowers_30"), base_of("lcbench-adult")
    ('flowers', '')
    """
    suite, _, rest = name.partition("-")
    return rest.partition("-")[0] if suite.startswith(SUITE) else ""


def varied(space: Space) -> Space:
    """A space without its constants."""
    found: dict[str, Any] = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choose):
            found[name] = Choose({branch: varied(inner) for branch, inner in dimension.branches.items()})
        elif not (isinstance(dimension, Choice) and len(dimension.values) == 1):
            found[name] = dimension
    return found
