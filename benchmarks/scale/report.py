"""The results of benchmarks.scale as a page."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.scale.account import efficiency_at

PAPER_SLOTS = (16, 64, 256, 1000)
PAPER_EPOCHS_S = (1.0, 10.0, 60.0)
BUCKET = 500
Suggestions = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Results:
    """What lies in a folder of results."""

    rows: Sequence[Mapping[str, Any]]
    simulated: Suggestions
    """Of a search in simulated time."""

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        return [row for row in self.rows if row["kind"] == kind]

    @property
    def searched(self) -> Suggestions:
        """Of the longest search on Ray."""
        return max((row["suggestions"] for row in self.of("search")), key=len, default=[])

    @property
    def report_s(self) -> float | None:
        """Processor time of the driver for a report while 16 slots keep it busy, with asha; None: not measured."""
        found = [row["cpu_per_report_s"] for row in self.of("reports") if row["scheduler"] == "asha"]
        return median(found) if found else None


def load(folder: Path) -> Results:
    """The results so far."""
    rows, simulated = folder / "rows.jsonl", folder / "suggestions.json"
    return Results(
        [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else [],
        json.loads(simulated.read_text()) if simulated.exists() else [],
    )


def render(results: Results) -> str:
    """All tables."""
    return "\n".join(["# How a search grows\n", *_efficiency(results), *_reports(results), *_suggestions(results)])


def by_slots(results: Results) -> dict[int, list[Mapping[str, Any]]]:
    """The searches of the efficiency table."""
    found = defaultdict(list)
    for row in results.of("efficiency"):
        found[row["slots"]].append(row)
    return dict(sorted(found.items()))


def _table(head: Iterable[str], lines: Iterable[Iterable[object]]) -> list[str]:
    names = list(head)
    return [
        f"| {' | '.join(names)} |",
        f"|{'---:|' * len(names)}",
        *(f"| {' | '.join(map(str, cells))} |" for cells in lines),
        "",
    ]


def _efficiency(results: Results) -> list[str]:
    if not results.of("efficiency"):
        return []
    epoch_s = results.of("efficiency")[0]["epoch_s"]
    lines = []
    for slots, rows in by_slots(results).items():
        shares = [row["efficiency"] for row in rows]
        lines.append(
            (
                slots,
                f"{median(shares):.3f}",
                f"{min(shares):.3f} to {max(shares):.3f}",
                f"{median(row['all_slots_after_s'] for row in rows):.1f}",
                f"{1000 * median(row['cpu_per_report_s'] for row in rows):.1f}",
                f"{median(row['load_average'] for row in rows):.0f}",
            )
        )
    head = ("slots", "efficiency", "range", "all busy after, s", "driver, ms of CPU per report", "load of the machine")
    return [f"Epochs of {epoch_s:g} s, gp and asha; medians of {len(rows)}.\n", *_table(head, lines)]


def _reports(results: Results) -> list[str]:
    lines = []
    for scheduler in ("none", "asha"):
        rows = [row for row in results.of("reports") if row["scheduler"] == scheduler]
        if rows:
            cost = median(row["cpu_per_report_s"] for row in rows)
            seen = median(row["reports_per_s"] for row in rows)
            starts = median(row["trials"] / row["reports"] for row in rows)
            lines.append((scheduler, f"{starts:.2f}", f"{1000 * cost:.1f}", f"{1 / cost:.0f}", f"{seen:.0f}"))
    if not lines or results.report_s is None:
        return []
    head = (
        "scheduler",
        "new trials per report",
        "driver, ms of CPU per report",
        "reports/s that allows",
        "reports/s seen",
    )
    shares = [
        (f"{epoch_s:g}", *(f"{efficiency_at(slots, epoch_s, results.report_s):.3f}" for slots in PAPER_SLOTS))
        for epoch_s in PAPER_EPOCHS_S
    ]
    return [
        "16 slots, epochs of 0.01 s.\n",
        *_table(head, lines),
        "On paper, from the cost with asha: efficiency by seconds of an epoch and slots.\n",
        *_table(("epoch, s", *(f"{slots:,} slots" for slots in PAPER_SLOTS)), shares),
    ]


def _suggestions(results: Results) -> list[str]:
    lines = []
    for name, found in (("on Ray", results.searched), ("simulated", results.simulated)):
        for start in range(0, len(found), BUCKET):
            seconds = sorted(took for number, took in found if start <= number < start + BUCKET)
            if seconds:
                cells = (median(seconds), seconds[int(0.99 * (len(seconds) - 1))], seconds[-1])
                lines.append((name, f"{start:,} to {start + BUCKET:,}", *(f"{1000 * one:.0f}" for one in cells)))
    return _table(("search", "trials", "median, ms", "99th percentile", "largest"), lines) if lines else []
