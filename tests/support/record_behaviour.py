"""Record anew what the product decides: `python -m tests.support.record_behaviour "REASON"`.

For a change of behaviour that is meant: the reason is kept in the files, and `git diff` shows what it changed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.behaviour import (
    PLANS,
    SEARCH_SPACES,
    SIMULATED_SEARCHES,
    SUGGESTIONS,
    plan_facts,
    simulated_jobs,
)


def write(path: Path, cases: Mapping[str, Any], reason: str) -> None:
    """Write cases by name, a line for each part of one, below the reasons that the file has had so far."""
    reasons = [*(json.loads(path.read_text())["reasons"] if path.exists() else []), reason]
    path.parent.mkdir(exist_ok=True)
    lines = ['{"reasons": ', json.dumps(reasons, indent=1), ',\n"cases": {']
    for number, (name, parts) in enumerate(cases.items()):
        lines.append(("," if number else "") + f"\n{json.dumps(name)}: ")
        if isinstance(parts, Mapping):
            lines.append("{\n" + ",\n".join(f" {json.dumps(key)}: {json.dumps(parts[key])}" for key in parts) + "}")
        else:
            lines.append("[\n" + ",\n".join(f" {json.dumps(part)}" for part in parts) + "]")
    path.write_text("".join([*lines, "\n}}\n"]))


def main() -> None:
    """Record plans and suggestions of the tree as it is."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.record_behaviour", description=main.__doc__)
    parser.add_argument("reason", help="why what the product decides is meant to have changed")
    reason = parser.parse_args().reason.strip()
    if len(reason.split()) < 4:
        parser.error(f"the reason must be a sentence; got {reason!r}")
    write(PLANS, {path.stem: plan_facts(path) for path in SEARCH_SPACES}, reason)
    write(SUGGESTIONS, {search.name: simulated_jobs(search) for search in SIMULATED_SEARCHES}, reason)


if __name__ == "__main__":
    main()
