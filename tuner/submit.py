"""`python -m tuner.submit`: a search on a cluster that is elsewhere: sent, followed, stopped, fetched.

Light at import: what checks a search and speaks to Ray is loaded when there is something to do.
"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.common.command_line import run_command
from tuner.jobs.options import parse_submit_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = parse_submit_options(arguments)

    def run() -> int:
        from tuner.jobs.submission import run_submit  # loaded after --help and usage errors have been answered

        return run_submit(options)

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
