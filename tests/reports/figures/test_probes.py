"""Probes of frozen features as data."""

from __future__ import annotations

import pytest

from tests.support.make_record import PROBES, epoch, small_state, trial_started
from tuner.reports.figures.probes import MOST_PROBES, build_probes
from tuner.reports.figures.registry import FIGURES, draw_figure
from tuner.reports.results import build_results
from tuner.runs.events import Probed

OTHER = {"architecture": "mobilenet_v2", "alpha": 0.35, "preprocess": "none"}


def test_probes_stand_beside_the_best_trial_on_the_same_backbone_the_best_first():
    better = Probed(configuration=OTHER, method="ridge", metrics={"val_accuracy": 0.7}, seconds=1.0)
    of_first = {**PROBES[0].configuration, "dropout": 0.1}
    state = small_state(*PROBES, better, trial_started(0, of_first), epoch(0, 1, 0.8), trial_started(1, of_first),
                        epoch(1, 1, 0.9), trial_started(2, {**of_first, "alpha": 1.0}), epoch(2, 1, 0.95))  # fmt: skip
    data = build_probes(build_results(state))
    assert [(one.words, one.value, one.trial, one.trained) for one in data.points] == [
        ("architecture mobilenet_v2, preprocess none", 0.7, None, None),
        ("architecture mobilenet_v2, preprocess resize(64)|scale(-1,1)", 0.6, 1, 0.9),
    ]
    words = FIGURES["probes"].describe(data)
    assert "resize(64)|scale(-1,1): 60.00%, trained 90.00% (trial 1)" in words
    assert draw_figure("probes", build_results(state)) is not None


@pytest.mark.parametrize("probes", [(), PROBES[1:]], ids=["none", "all failed"])
def test_without_a_value_there_is_no_figure(probes):
    assert build_probes(build_results(small_state(*probes))) is None


def test_probes_without_room_are_counted():
    many = (PROBES[0].model_copy(update={"configuration": {**OTHER, "preprocess": f"resize({n})"}}) for n in range(30))
    data = build_probes(build_results(small_state(*many)))
    assert (len(data.points), data.left_out) == (MOST_PROBES, 30 - MOST_PROBES)
    assert f"{30 - MOST_PROBES} more are not shown" in FIGURES["probes"].describe(data)
