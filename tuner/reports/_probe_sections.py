"""Words for what frozen features give before training, and for labels that look wrong by them."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np

from tuner.common.errors import printable
from tuner.common.metrics import oriented
from tuner.reports.data_section import PageSheet, picture_jpeg
from tuner.reports.formatting import backbone_words, escaped, format_value, metric_words, table
from tuner.reports.results import Results
from tuner.runs.events import LabelsDoubted, Probed, Suspect

MOST_PROBES, MOST_SUSPECTS = 12, 40
MOSTLY_WRONG = 0.7
"""A probe that is right less often than that is more often wrong itself than the labels that it doubts."""


def probes_section(results: Results) -> list[str]:
    """Say what frozen features gave; nothing where none were probed."""
    if not results.probes:
        return []
    metric, known = results.metric, [one for one in results.probes if results.metric in one.metrics]
    known.sort(key=lambda one: -oriented(one.metrics[metric], results.mode))
    rows = [
        [escaped(backbone_words(one.configuration)), format_value(metric, one.metrics[metric]), f"{one.seconds:.1f} s"]
        for one in known[:MOST_PROBES]
    ]
    failed = [
        f"- {escaped(backbone_words(one.configuration))}: {escaped(one.reason)}" for one in results.probes if one.reason
    ]
    numbers = (metric_words(metric), "processor time")
    more = len(known) - MOST_PROBES
    return [
        "## What frozen features give",
        "",
        _probe_words(results.probes[-1]),
        *(["", *table(["backbone", *numbers], rows, frozenset(numbers))] if rows else []),
        *(["", f"{more:,} more in `probes.parquet`."] if more > 0 else []),
        *(["", *failed] if failed else []),
    ]


def _probe_words(latest: Probed) -> str:
    return (
        "A linear classifier (ridge regression in closed form) of what each backbone gives of "
        f"{latest.images:,} training images, judged by {latest.validation_images:,} validation images, before anything "
        "was trained. It says how good a start is, not how far training comes from there."
    )


def suspects_words(doubted: LabelsDoubted) -> str:
    """Say how labels were looked at, and what is not known of them."""
    right = f"{doubted.accuracy:.0%}"
    caution = " At that, most of these are rather its own mistakes." if doubted.accuracy < MOSTLY_WRONG else ""
    if not doubted.found:
        return f"None of the {doubted.images:,} labels that were looked at look wrong by {_how(doubted, right)}."
    return (
        f"{doubted.found:,} of {doubted.images:,} labels look wrong by {_how(doubted, right)}{caution} Other features "
        "would doubt others: a hard picture may be labelled right, and a wrong label that looks like its class is not "
        "found. Nothing was removed or changed, and no test image was looked at."
    )


def _how(doubted: LabelsDoubted, right: str) -> str:
    return (
        f"the frozen features of {escaped(backbone_words(doubted.configuration))} alone: a linear classifier of them, "
        f"trained on other images and right for {right}, takes them for another class; how many labels are doubted is "
        "counted by confident learning."
    )


def suspects_section(results: Results, *, with_table: bool = True) -> list[str]:
    """Say which labels look wrong; nothing where they were not looked at."""
    doubted = results.doubted
    if doubted is None:
        return []
    rows = [
        [escaped(one.name), one.split, escaped(one.label), escaped(one.likely), f"{one.likely_probability:.0%}"]
        for one in doubted.suspects[:MOST_SUSPECTS]
    ]
    heads = ["image", "split", "label", "looks like", "probability"]
    lines = ["## Labels that look wrong", "", suspects_words(doubted)]
    if with_table and rows:
        lines += ["", *table(heads, rows, frozenset({"probability"}))]
    if doubted.found > MOST_SUSPECTS:
        kept = len(doubted.suspects)
        lines += ["", f"The {MOST_SUSPECTS} surest are shown; the {kept:,} surest are in `suspect_labels.parquet`."]
    return lines


def suspect_sheets(results: Results, pictures: np.ndarray) -> list[PageSheet]:
    """Return pictures `[S, H, W, C] uint8` of images whose labels look wrong, each with both classes, for the page."""
    suspects: Sequence[Suspect] = results.doubted.suspects if results.doubted is not None else ()
    return [_sheet(one, picture) for one, picture in zip(suspects[:MOST_SUSPECTS], pictures, strict=False)]


def _sheet(suspect: Suspect, picture: np.ndarray) -> PageSheet:
    width, height, jpeg = picture_jpeg([picture])
    classes = printable(f"{suspect.label}, looks like {suspect.likely}")
    alt = printable(f"{suspect.name}: {classes}")
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    number = printable(f"{suspect.likely_probability:.0%}, {suspect.name}")
    return PageSheet(classes, number, source, alt, width, height)
