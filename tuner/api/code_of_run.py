"""Own code for a run that is there: loaded for its model and metrics, and compared with that of its search."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tuner.common.errors import RunError
from tuner.common.plugins import Plugin, load_plugins
from tuner.models.own_networks import load_own_code
from tuner.runs.directory import RunDirectory
from tuner.runs.events import StudyCreated
from tuner.runs.record import read_events


def load_code_for(
    run: RunDirectory,
    references: Iterable[str],
    load: Callable[[Iterable[str]], tuple[Plugin, ...]] = load_plugins,
) -> list[str]:
    """Load own code, and return what is to be told of it: what is not as it was when the run was searched."""
    plugins = load_own_code(references, load)
    began = _began(run)
    before = {one.name: one.sha256 for one in began.own_code} if began is not None else {}
    return [
        f"the own code {one.name} has changed since {run.path} was searched with it (sha256 was "
        f"{before[one.name][:12]}, is {one.sha256[:12]}): its model may answer otherwise"
        for one in plugins
        if before.get(one.name, one.sha256) != one.sha256
    ]


def brought_to(run: RunDirectory) -> tuple[str, ...]:
    """Return the references of the plugins that a run was searched with; none where its record cannot be read."""
    began = _began(run)
    return () if began is None else began.plugins


def _began(run: RunDirectory) -> StudyCreated | None:
    try:
        first = next(read_events(run.record), None)
    except RunError:
        return None
    return first if isinstance(first, StudyCreated) else None
