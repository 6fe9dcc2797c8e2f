"""The files of cluster/monitoring, for the tests: what the dashboard asks Prometheus for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.support import ROOT
from tuner.execution.metrics_export import METRICS

MONITORING = ROOT / "cluster" / "monitoring"
_WORDS = {"by", "sum", "max", "avg", "rate"}


def dashboard_queries() -> list[str]:
    """Every query of the dashboard, as Grafana sends it: with its variables filled in."""
    board = json.loads((MONITORING / "dashboard.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return [query.replace("$study", ".*").replace("$__rate_interval", "1m") for query in queries]


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that a query names, each with the labels that it is asked by."""
    bare = re.sub(r'"(\\.|[^"\\])*"', '""', query)
    bare = re.sub(r"\bby\s*\([^)]*\)", "", bare)
    for found in re.finditer(r"([a-zA-Z_:][\w:]*)\s*(\{([^}]*)\})?", re.sub(r"\[\w+\]", "", bare)):
        if found[1] not in _WORDS:
            yield found[1], set(re.findall(r"(\w+)\s*[=!]", found[3] or ""))


def exported_name(name: str) -> str:
    """The name of a metric in Prometheus."""
    return f"ray_{name}" + ("_total" if METRICS[name].kind == "counter" else "")
