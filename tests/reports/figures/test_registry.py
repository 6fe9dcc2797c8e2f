"""Figures: what is in them is compared as data; that they can be drawn is tried for every kind of record."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from pathlib import Path
from xml.parsers.expat import ParserCreate

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tests.support import ROOT
from tests.support.make_record import epoch, make_state, small_state, trial_ended, trial_started
from tuner.common.errors import UnknownNameError
from tuner.reports.figures.registry import FIGURES, draw_figure, save_figures
from tuner.reports.results import build_results
from tuner.runs.events import SessionEnded
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
    ),
    "all failed": small_state(trial_started(0), epoch(0, 1, 0.3), trial_ended(0, "failed", "x")),
    "no epoch": small_state(trial_started(0)),
    "no trial": small_state(),
    "empty": RunState(),
}  # fmt: skip
WITHOUT = {"all failed", "no epoch", "no trial", "empty"}
OPTIONAL = {"by_preprocessing", "importance", "slices", "parallel_coordinates", "confusion", "class_accuracy",
            "confident_mistakes", "predictions", "variants", "pareto"}  # fmt: skip
"""They need several settings, several metrics, many trials, or a test split that was read."""
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


def elements(path: Path) -> list[str]:
    """The names of the elements of a well-formed file, the outermost first."""
    found: list[str] = []
    parser = ParserCreate()
    parser.StartElementHandler = lambda name, _attributes: found.append(name)
    parser.Parse(path.read_bytes(), True)
    return found


def test_files_are_pictures_and_the_same_for_the_same_data(tmp_path):
    results = build_results(make_state(12))
    first, again = (save_figures(results, tmp_path / name) for name in ("first", "again"))
    assert [figure.name for figure in first] == [name for name in FIGURES if FIGURES[name].build(results) is not None]
    for one, other in zip(first, again, strict=True):
        assert [path.suffix for path in one.paths] == [".png", ".svg"]
        assert [path.read_bytes() for path in one.paths] == [path.read_bytes() for path in other.paths]
        with Image.open(one.paths[0]) as image:
            assert image.width > 1000
            assert np.asarray(image.convert("L")).std() > 5  # not blank
        assert elements(one.paths[1])[0] == "svg"
    assert {path.suffix for path in (tmp_path / "first").iterdir()} == {".png", ".svg"}


def test_figures_of_an_earlier_report_that_no_longer_hold_are_removed(tmp_path):
    (tmp_path / "own.png").write_bytes(b"a user's file")
    save_figures(build_results(make_state(12)), tmp_path)
    drawn = save_figures(build_results(small_state(trial_started(0), epoch(0, 1, 0.1))), tmp_path, ["svg"])
    assert {path.name for path in tmp_path.iterdir()} == {"own.png", *(f"{figure.name}.svg" for figure in drawn)}
    assert "by_preprocessing" not in {figure.name for figure in drawn}


def test_matplotlibs_settings_are_as_they_were_and_the_users_do_not_show(tmp_path):
    results = build_results(make_state(6))
    plain = save_figures(results, tmp_path / "plain", ["svg"])
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        before = dict(mpl.rcParams)
        odd = save_figures(results, tmp_path / "odd", ["svg"])
        assert dict(mpl.rcParams) == before
    assert [f.paths[0].read_bytes() for f in plain] == [f.paths[0].read_bytes() for f in odd]


def test_a_dollar_sign_is_no_formula():
    state = small_state(
        trial_started(0, {"architecture": r"$\notacommand{$"}), epoch(0, 1, 0.1), SessionEnded(reason="error")
    )
    draw_figure("by_architecture", build_results(state)).savefig(io.BytesIO(), format="svg")


def test_an_unknown_figure_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="unknown figure 'winer'; did you mean 'winner'"):
        draw_figure("winer", build_results(RunState()))


def test_figures_need_neither_pyplot_nor_ray_nor_tensorflow():
    code = """
import sys, pathlib, tempfile
from tests.support import ROOT
from tests.support.make_record import make_state
from tuner.reports.writer import write_report
write_report(make_state(4), pathlib.Path(tempfile.mkdtemp()))
print(sorted({"ray", "tensorflow", "keras", "matplotlib.pyplot"} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == "[]"
