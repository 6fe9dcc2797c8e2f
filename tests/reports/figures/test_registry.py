"""Figures: what is in them is compared as data; that they can be drawn is tried for every kind of record."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.support import ROOT
from tests.support.make_record import epoch, make_state, small_state, trial_ended, trial_started
from tuner.common.errors import UnknownNameError
from tuner.reports.figures import registry
from tuner.reports.figures.registry import FIGURES, FORMATS, draw_figure, save_figures
from tuner.reports.results import build_results
from tuner.runs.events import Probed, SessionEnded
from tuner.runs.state import RunState

ODD = "$x_1$ <b>|`猫`\n_a_"
STATES = {
    "finished": make_state(30),
    "running": make_state(12, end=None, metric="val_loss"),
    "interrupted": make_state(12, end="interrupted"),
    "three metrics": make_state(30, others=("parameters", "seconds_per_image")),
    "a loss and what is maximised": make_state(12, end=None, metric="val_loss", others=("val_accuracy",)),
    "one trial, one epoch": small_state(trial_started(0), epoch(0, 1, 0.3), trial_ended(0)),
    "equal values": small_state(*(event for n in range(3) for event in (trial_started(n), epoch(n, 1, 0.0)))),
    "exploding loss": small_state(
        trial_started(0), epoch(0, 1, 0.1, best=1e30, val_loss=1e30), epoch(0, 2, 0.2, best=0.5, val_loss=0.5),
        metric="val_loss",
    ),
    "negative loss": small_state(trial_started(0), epoch(0, 1, 0.1, best=-2.0, val_loss=-2.0), metric="val_loss"),
    "not numbers": small_state(
        trial_started(0), epoch(0, 1, 0.2, loss=float("nan"), val_loss=float("inf")),
        epoch(0, 2, 0.3, loss=float("nan")),
    ),
    "a failed trial beside": small_state(
        trial_started(0), epoch(0, 1, 0.2), trial_started(1), trial_ended(1, "failed", "x")
    ),
    "odd names": small_state(
        *(event for n in range(2) for event in (trial_started(n, {"architecture": ODD, "preprocess": ODD * n}),
                                                epoch(n, 1, 0.2), epoch(n, 2, 0.3, phase="fine_tune"))),
        Probed(configuration={"architecture": ODD, "preprocess": ODD}, method="ridge", metrics={"val_accuracy": 0.1},
               seconds=1.0),
    ),
    "all failed": small_state(trial_started(0), epoch(0, 1, 0.3), trial_ended(0, "failed", "x")),
    "no epoch": small_state(trial_started(0)),
    "no trial": small_state(),
    "empty": RunState(),
}  # fmt: skip
WITHOUT = {"all failed", "no epoch", "no trial", "empty"}
OPTIONAL = {"by_preprocessing", "importance", "slices", "parallel_coordinates", "confusion", "class_accuracy",
            "confident_mistakes", "predictions", "variants", "pareto", "probes"}  # fmt: skip
"""They need several settings, several metrics, many trials, probes, or a test split that was read."""
SMALL_PANELS = {"slices", "parallel_coordinates"}
"""Their panels and axes are named by titles and ticks."""


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("state", STATES)
def test_every_figure_of_every_kind_of_record_is_drawn_described_or_left_out(name, state):
    results = build_results(STATES[state])
    data = FIGURES[name].build(results)
    figure = draw_figure(name, results)
    if data is None:
        assert figure is None and (state in WITHOUT or name in OPTIONAL)
        return
    assert state not in WITHOUT or name == "rungs"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layout that does not fit is a warning of matplotlib's
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(io.BytesIO(), format="png", dpi=30)
    words = FIGURES[name].describe(data)
    assert words.endswith(".") and len(words) > 60 and " nan" not in words
    assert figure.get_suptitle() and "\n" not in figure.get_suptitle()
    if name in SMALL_PANELS:
        return
    for panel in figure.axes:
        assert panel.get_xlabel()
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            assert any(low <= place <= high for place in axis.get_majorticklocs()), "an axis without a number on it"


def test_files_are_pictures_and_the_same_for_the_same_data(tmp_path):
    """Those for print, which take long to write, are looked at in tests/commands/test_report.py."""
    results = build_results(make_state(12))
    first, again = (save_figures(results, tmp_path / name, ["png"]) for name in ("first", "again"))
    assert [figure.name for figure in first] == [name for name in FIGURES if FIGURES[name].build(results) is not None]
    for one, other in zip(first, again, strict=True):
        (path,) = one.paths
        assert path.suffix == ".png" and path.read_bytes() == other.paths[0].read_bytes()
        with Image.open(path) as image:
            assert image.width > 1000
            assert np.asarray(image.convert("L")).std() > 5  # not blank
    assert {path.suffix for path in (tmp_path / "first").iterdir()} == {".png"}


def test_figures_of_an_earlier_report_that_no_longer_hold_are_removed(tmp_path):
    for name in ("own", *FIGURES):
        for suffix in FORMATS:
            (tmp_path / f"{name}.{suffix}").write_bytes(b"of an earlier report, or a user's")
    drawn = save_figures(build_results(small_state(trial_started(0), epoch(0, 1, 0.1))), tmp_path, ["png"])
    kept = {"own.png", "own.svg", *(f"{figure.name}.png" for figure in drawn)}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert "by_preprocessing" not in {figure.name for figure in drawn}


def test_matplotlibs_settings_are_as_they_were_and_the_users_do_not_show(tmp_path):
    results = build_results(make_state(6))
    plain = save_figures(results, tmp_path / "plain", ["png"])
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        before = dict(mpl.rcParams)
        odd = save_figures(results, tmp_path / "odd", ["png"])
        assert dict(mpl.rcParams) == before
    assert [f.paths[0].read_bytes() for f in plain] == [f.paths[0].read_bytes() for f in odd]


def test_a_dollar_sign_is_no_formula():
    state = small_state(
        trial_started(0, {"architecture": r"$\notacommand{$"}), epoch(0, 1, 0.1), SessionEnded(reason="error")
    )
    draw_figure("by_architecture", build_results(state)).savefig(io.BytesIO(), format="png", dpi=30)


def test_an_unknown_figure_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="unknown figure 'winer'; did you mean 'winner'"):
        draw_figure("winer", build_results(RunState()))


def report_in_a_process(folder: Path, code: str) -> str:
    """Write a small report into `folder`/report after `code`; return which heavy modules were loaded."""
    program = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(folder)!r}]
from pathlib import Path
import matplotlib.backends.backend_svg
from tests.support.make_record import make_state
from tuner.reports.writer import write_report
{code}
write_report(make_state(4), Path({str(folder)!r}, "report"), formats=("png",))
print(sorted({{"ray", "tensorflow", "keras", "matplotlib.pyplot"}} & set(sys.modules)))
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_figures_need_neither_pyplot_nor_ray_nor_tensorflow(tmp_path):
    assert report_in_a_process(tmp_path, "").strip() == "[]"


NEW_FIGURE = """
from typing import NamedTuple

from tuner.reports.figures.style import FigureKind, build_figure, set_title


class Length(NamedTuple):
    trial: int
    epochs: int


def build_lengths(results):
    return tuple(Length(trial.number, len(trial.epochs)) for trial in results.trials) or None


def draw_lengths(data):
    figure, (panel,) = build_figure(5, 3)
    panel.bar([row.trial for row in data], [row.epochs for row in data])
    set_title(figure, "How long trials trained")
    return figure


def describe_lengths(data):
    return f"How long {len(data)} trials trained."


LENGTHS = FigureKind(build_lengths, draw_lengths, describe_lengths, part="cost")
"""


def test_a_new_figure_is_one_file_and_one_entry(tmp_path):
    (tmp_path / "lengths.py").write_text(NEW_FIGURE)
    entry = (
        "import lengths\nfrom tuner.reports.figures.registry import FIGURES\nFIGURES.add('lengths', lengths.LENGTHS)"
    )
    report_in_a_process(tmp_path, entry)
    with Image.open(tmp_path / "report" / "figures" / "lengths.png") as image:
        assert np.asarray(image.convert("L")).std() > 5  # not blank
    words = "How long 4 trials trained."
    assert f"![{words}](figures/lengths.png)" in (tmp_path / "report" / "leaderboard.md").read_text(encoding="utf-8")
    page = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert f'alt="{words}"' in page.split('id="cost"')[1].split("</section>")[0]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("part", ["build", "draw", "describe"])
def test_a_figure_that_raises_is_left_out_and_named_and_the_others_are_drawn(name, part, tmp_path, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("division by zero")

    nothing = SimpleNamespace(build=lambda _: None)
    something = SimpleNamespace(build=lambda _: 1, draw=lambda _: Figure(), describe=lambda _: "a line")
    broken = SimpleNamespace(**{**vars(something), part: fail})
    kinds = {other: broken if other == name else something if other == "cost" else nothing for other in FIGURES}
    monkeypatch.setattr(registry, "FIGURES", kinds)
    left = tmp_path / f"{name}.png"
    left.touch()
    problems: list[str] = []
    drawn = registry.save_figures(None, tmp_path, ("png",), problems.append)
    assert [figure.name for figure in drawn] == [other for other in ["cost"] if other != name]
    assert problems == [f"the figure {name} is left out of the report: ZeroDivisionError: division by zero"]
    assert not left.exists(), "that of an earlier report"
