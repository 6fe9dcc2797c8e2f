"""What the race leaves: a table in Markdown and a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.race.legs import LEGS
from benchmarks.race.limit_share import LimitShare, share_of_limit
from benchmarks.race.plot import draw_race, save_picture
from benchmarks.race.results import Comparison, Run, Summary, best_peer, compare, summarise
from benchmarks.race.workload import SIZES

Runs = Mapping[str, Mapping[str, Sequence[Run]]]
"""By size, by leg, by round."""

HEADER = (
    "| leg | rounds | epochs | epochs/s | second half | first epoch | best accuracy | reached after "
    "| tuner: times the epochs/s | tuner: that accuracy after | of the budget |"
)


def write_report(runs: Runs, budget_s: float, folder: Path) -> list[Path]:
    """Write `race.md` and `race.png`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "race.md", folder / "race.png"
    table.write_text(render_report(runs, budget_s))
    save_picture(draw_race(runs, budget_s), picture)
    return [table, picture]


def render_report(runs: Runs, budget_s: float) -> str:
    """The whole table, size by size."""
    parts = [
        f"# The race, {budget_s:g} s for each\n\nMedians over the rounds. ![best accuracy against time](race.png)\n"
    ]
    parts += [render_size(size, legs, budget_s) for size, legs in runs.items() if legs]
    return "\n".join(parts)


def render_size(size: str, legs: Mapping[str, Sequence[Run]], budget_s: float) -> str:
    """The table of one size and the line on the best peer."""
    summaries = {
        leg: summarise(leg, rounds, budget_s, to_last_epoch=bool(LEGS[leg].follows)) for leg, rounds in legs.items()
    }
    ours = summaries.get("tuner")
    comparisons = {
        leg: compare(ours, legs["tuner"], summary, budget_s)
        for leg, summary in summaries.items()
        if ours is not None and LEGS[leg].is_peer
    }
    rows = [render_row(summary, comparisons.get(leg)) for leg, summary in summaries.items()]
    lines = [f"## {size}: {SIZES[size]} px\n", HEADER, "|---|" + "---:|" * (HEADER.count("|") - 2), *rows]
    best = best_peer(summary for leg, summary in summaries.items() if LEGS[leg].is_peer)
    if best is not None and best.leg in comparisons:
        lines += ["", render_best_peer(best, comparisons[best.leg])]
    if "tuner" in legs and "limit" in legs:
        lines += ["", render_limit(share_of_limit(legs["tuner"], legs["limit"]))]
    return "\n".join(lines) + "\n"


def render_row(summary: Summary, against: Comparison | None) -> str:
    """One leg."""
    cells = [
        LEGS[summary.leg].label,
        f"{summary.rounds}",
        f"{summary.epochs:g}",
        f"{summary.epochs_per_s:.3f}",
        f"{summary.epochs_per_s_later:.3f}",
        _shown(summary.first_epoch_s, _seconds),
        _shown(summary.accuracy, _accuracy),
        _shown(summary.accuracy_at_s, _seconds),
    ]
    if against is None:
        cells += ["", "", ""]
    else:
        cells += [
            _shown(against.speed_ratio, lambda ratio: f"{ratio:.1f}"),
            _shown(against.reached_s, _seconds, "never"),
            _shown(against.share_of_budget, _share),
        ]
    return "| " + " | ".join(cells) + " |"


def render_best_peer(peer: Summary, against: Comparison) -> str:
    """How much of the best peer's time tuner needed for the same accuracy."""
    label = LEGS[peer.leg].label
    begin = (
        f"The best peer is {label}: {_shown(peer.accuracy, _accuracy)} after {_shown(peer.accuracy_at_s, _seconds)}."
    )
    if against.reached_s is None:
        return f"{begin} Tuner did not reach that within the budget."
    return (
        f"{begin} Tuner had that accuracy after {_seconds(against.reached_s)}: "
        f"**{_shown(against.share_of_its_time, _share)} of that peer's own time, "
        f"{_shown(against.share_of_budget, _share)} of the budget**. "
        f"It ended {_shown(against.accuracy_gained, lambda gain: f'{100 * gain:+.2f}')} points from it, "
        f"with {_shown(against.speed_ratio, lambda ratio: f'{ratio:.1f}')} times its epochs per second."
    )


def render_limit(share: LimitShare | None) -> str:
    """Tuner's share of what a bare loop reaches."""
    if share is None:
        return "The limit: no round in which tuner and the bare loop trained the same trials."
    return (
        f"The limit is a bare Keras loop over tuner's own cache and trials. **Once caches are built, tuner reaches "
        f"{_share(share.share)} of the limit's epochs/s**: for the same {share.epochs:g} epochs, from the begin of the "
        f"first, tuner took {_seconds(share.tuner_s)} and the limit {_seconds(share.limit_s)} "
        f"({share.epochs / share.tuner_s:.2f} and {share.epochs / share.limit_s:.2f} epochs/s; medians of "
        f"{share.rounds} rounds, {_share(share.least)} in the worst)."
    )


def _shown(value: float | None, show: Callable[[float], str], otherwise: str = "none") -> str:
    return otherwise if value is None else show(value)


def _seconds(value: float) -> str:
    return f"{value:.0f} s"


def _accuracy(value: float) -> str:
    return f"{100 * value:.2f}%"


def _share(value: float) -> str:
    return f"{100 * value:.0f}%"
