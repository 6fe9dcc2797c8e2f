"""`python -m tuner.search`: from a search-space file, or images alone, to a leaderboard.

Light at import: TensorFlow and Ray are loaded when there is something to train.
"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.common.command_line import run_command
from tuner.common.process import process_began
from tuner.common.termination import terminating_as_interrupt
from tuner.session.options import parse_search_options


def main(arguments: Sequence[str] | None = None, began: float | None = None) -> int:
    """Run the command, whose time is counted from `began`, or from now on; returns its exit status."""
    options = parse_search_options(arguments)

    def run() -> int:
        from tuner.reports.console import SearchConsole  # loaded after --help and usage errors have been answered
        from tuner.session.commands import run_search

        return run_search(options, SearchConsole(began=began))

    with terminating_as_interrupt():
        return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main(began=process_began()))
