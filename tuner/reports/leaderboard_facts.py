"""How a search was run, in Markdown: trials, time, data, seed, environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.reports.formatting import format_duration, without_folders
from tuner.reports.markdown import escaped
from tuner.reports.results import Results


def run_facts(results: Results) -> list[str]:
    """How many trials, how long, on what, with which seed."""
    if results.study is None:
        return []
    counts = ", ".join(f"{number} {status}" for status, number in results.counts.items())
    sessions = f" in {len(results.sessions)} sessions" if len(results.sessions) > 1 else ""
    epochs = f"{results.total_epochs:,} epoch{'' if results.total_epochs == 1 else 's'}"
    rows = [
        ("Trials", f"{len(results.trials):,} ({counts})" if results.trials else "none"),
        ("Search", f"{_session(results)}; {_end(results)}"),
        ("Warm start", _warm_start(results.study.specification)),
        ("Time", f"{format_duration(results.elapsed_s)}{sessions}{_finalists_time(results)}, {epochs} in trials"),
        ("Data", _data(results.study.data)),
        ("Seed", str(results.study.seed)),
        ("Environment", _environment(results.study.environment)),
    ]
    return [f"- **{name}**: {text}" for name, text in rows if text]


def _finalists_time(results: Results) -> str:
    if results.finalists_from_s is None:
        return ""
    return f", of these {format_duration(results.elapsed_s - results.finalists_from_s)} for the finalists"


def _session(results: Results) -> str:
    if not results.sessions:
        return "not begun"
    last = results.sessions[-1]
    slots = f"{last.max_concurrent} trial{'s' if last.max_concurrent > 1 else ''} at a time"
    return f"sampler {escaped(last.sampler)}, scheduler {escaped(last.scheduler)}, {slots}"


def _warm_start(specification: Mapping[str, Any]) -> str:
    """The earlier studies that the search began with, without the way to them on this machine."""
    search = specification.get("search")
    names = search.get("warm_start") if isinstance(search, dict) else None
    return escaped(", ".join(Path(str(name)).name for name in names)) if isinstance(names, list) else ""


def _end(results: Results) -> str:
    ended = results.session_ended
    if ended is None:
        return "the record does not say that it ended: it is running, or was killed"
    if ended.reason == "error":
        return f"it ended with an error: {escaped(ended.message or 'no message')}"
    return {"finished": "finished", "time_budget": "time budget spent"}.get(ended.reason, ended.reason)


def _data(data: Mapping[str, Any]) -> str:
    """The data set in words; what the record does not know is left out."""
    name, source = str(data.get("name", "")), without_folders(str(data.get("source", "")))
    parts = [escaped(name) + (f" from {escaped(source)}" if source and source != name else "")]
    for key, word in (("train_images", "training images"), ("validation_images", "validation images")):
        if isinstance(data.get(key), int):
            parts.append(f"{data[key]:,} {word}")
    if isinstance(data.get("image_shape"), list | tuple):
        parts.append("x".join(escaped(size) for size in data["image_shape"]))
    if isinstance(data.get("class_names"), list | tuple):
        parts.append(f"{len(data['class_names'])} classes")
    if data.get("fingerprint"):
        parts.append(f"fingerprint {escaped(str(data['fingerprint'])[:16])}")
    return ", ".join(part for part in parts if part)


def _environment(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages")
    versions = packages.items() if isinstance(packages, dict) else ()
    parts = [f"{name} {version}" for name, version in versions if version]
    if environment.get("cpus"):
        parts.append(f"{environment['cpus']} CPUs")
    if environment.get("commit"):
        parts.append(f"commit {str(environment['commit'])[:12]}")
    return escaped(", ".join(parts))
