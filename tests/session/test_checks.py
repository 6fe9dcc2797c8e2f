"""Names and values that do not exist or do not go together, in a corpus of wrong files, and in the command."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.wrong_files import MISTAKES, NO_BASELINE, RIGHT, wrong
from tuner.algorithms.schedulers import SCHEDULERS
from tuner.common.errors import InputError
from tuner.models.architectures import ARCHITECTURES
from tuner.models.parameters import GENERAL
from tuner.search import main
from tuner.session.checks import check_names
from tuner.session.preparation import check_metrics
from tuner.spec.spec import read_spec


def problems(text: str, *overrides: str) -> list[str]:
    reading = read_spec(text, "f", overrides)
    found = [*reading.problems, *check_names(reading, {})]
    return [problem.describe("f") for problem in sorted(found, key=lambda problem: (problem.line or 0, problem.field))]


def test_the_right_file_is_right():
    assert problems(RIGHT) == []


def test_there_are_enough_wrong_files():
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_line_field_rule_and_value_and_nothing_else_is(name):
    lines, expected = MISTAKES[name]
    found = problems(wrong(lines))
    assert len(found) == len(expected), found
    for text, words in zip(found, expected, strict=True):
        assert words in text


def test_a_wrong_file_ends_the_real_command_with_2_and_without_a_traceback(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        wrong({1: "study: a b", 7: "  batch_size: {choice: [0]}", 15: "search: {sampler: tpf}", **NO_BASELINE})
    )
    command = [sys.executable, "-m", "tuner.search", str(path), "--runs", str(tmp_path / "runs")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{path}:1: study must be at most 64 letters, digits, '_', '-' or '.', beginning with a letter or digit; got 'a b'",
        f"{path}:7: space.batch_size.choice[0] must be between 1 and 65536; got 0",
        f"{path}:15: search.sampler: unknown sampler 'tpf'; did you mean 'tpe'? (known: auto, cmaes, gp, grid, nsga2, qmc, random, tpe)",
    ]  # fmt: skip
    assert not (tmp_path / "runs").exists()


def test_a_staged_name_is_a_known_source():
    text = wrong({2: "data: {source: my_pictures}"})
    reading = read_spec(text, "f")
    assert len(check_names(reading, {})) == 1
    assert check_names(reading, {"my_pictures": "folder:somewhere"}) == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_of_an_architecture_may_be_searched_within_its_bounds(name):
    parameters = ARCHITECTURES[name].parameters
    values = {
        key: parameter.values or ((True, False) if parameter.kind == "bool" else (parameter.default,))
        for key, parameter in parameters.items()
    }
    inner = ", ".join(
        f"{key}: {{choice: [{', '.join(str(value).lower() if isinstance(value, bool) else str(value) for value in found)}]}}"
        for key, found in values.items()
    )
    assert problems(wrong({11: f"      {name}: {{{inner}}}", 12: "", **NO_BASELINE})) == []


@pytest.mark.parametrize("name", [key for key, parameter in GENERAL.items() if parameter.kind in ("int", "float")])
def test_a_general_number_outside_its_bounds_is_refused(name):
    high = GENERAL[name].high
    kind = GENERAL[name].kind
    text = wrong({8: f"  {name}: {{{kind}: [{high}, {high * 2}]}}" if name != "batch_size" else "", **NO_BASELINE})
    if name == "batch_size":
        text = wrong({7: f"  batch_size: {high + 1}", **NO_BASELINE})
    (problem,) = problems(text)
    assert f"space.{name}" in problem and "must be between" in problem


SHARED = "the GPUs of a trial (resources.gpus_per_trial), which share a batch"


@pytest.mark.parametrize(
    ("lines", "gpus", "told"),
    [
        ({}, "auto", []),
        ({}, 0.25, []),
        ({}, 1, []),
        ({}, 2, []),
        ({}, 32, []),
        ({}, 40, [f"f:7: space.batch_size.choice[0] must be at least 40, {SHARED}; got 32"]),
        ({7: "  batch_size: 1"}, 2, [f"f:7: space.batch_size must be at least 2, {SHARED}; got 1"]),
        ({7: "  batch_size: {int: [2, 8]}"}, 4, [f"f:7: space.batch_size must be at least 4, {SHARED}; got int 2 to 8"]),
        ({7: ""}, 64, []),
        ({7: ""}, 65, ["f:16: resources.gpus_per_trial must be at most 64, the size of a batch; got 65"]),
        (
            {7: "", 11: "      dense: {batch_size: {choice: [8, 4, 2]}}"},
            4,
            [f"f:11: space.architecture.choose.dense.batch_size.choice[2] must be at least 4, {SHARED}; got 2"],
        ),
    ],
)  # fmt: skip
def test_no_gpu_of_a_trial_is_without_an_image_of_a_batch(lines, gpus, told):
    text = wrong({**lines, 16: f"resources: {{gpus_per_trial: {gpus}}}", **NO_BASELINE})
    assert problems(text) == told


def test_parameters_of_the_chosen_architectures_may_stand_beside_the_choice():
    lines = {
        9: "  architecture: {choice: [dense, cnn]}",
        10: "  dense_units: {choice: [32, 64]}",
        11: "  blocks: 2",
        12: "",
    }
    assert problems(wrong({**lines, **NO_BASELINE})) == []
    (problem,) = problems(wrong({**lines, 11: "  alpha: 1.0", **NO_BASELINE}))
    assert problem.startswith("f:11: space.alpha: unknown hyperparameter 'alpha' (known: augment,")


def test_a_misspelt_architecture_does_not_make_its_parameters_unknown():
    lines = {9: "  architecture: mobilenet_v4", 10: "  alpha: 1.0", 11: "  unfreeze_depth: 2", 12: "", **NO_BASELINE}
    (problem,) = problems(wrong(lines))
    assert problem.startswith(
        "f:9: space.architecture: unknown architecture 'mobilenet_v4'; did you mean 'mobilenet_v2'?"
    )


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler_goes_with_the_sampler_that_auto_chooses(scheduler):
    assert problems(RIGHT, f"search.scheduler={scheduler}", "search.sampler=auto") == []


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if SCHEDULERS[name].halves])
def test_a_grace_period_within_the_head_phase_is_refused_only_where_blocks_are_unfrozen(scheduler):
    backbone = wrong({12: "      mobilenet_v2: {unfreeze_depth: {int: [0, 4]}}", **NO_BASELINE})
    overrides = ["search.sampler=auto", f"search.scheduler={scheduler}", "search.grace_epochs=3"]
    assert problems(RIGHT, *overrides) == []
    (problem,) = problems(backbone, *overrides)
    assert problem.startswith("f: search.grace_epochs must be longer than the head phase, 3 epochs")
    assert problems(backbone, *overrides[:2], "search.grace_epochs=4") == []


def test_a_wrong_section_does_not_hide_what_is_wrong_elsewhere():
    found = problems(wrong({15: "search: {sampler: tpe, trials: x}", 14: "training: 3", 6: "  augment: spin"}))
    assert [text.split(" ")[1] for text in found] == ["space.augment:", "baseline.augment", "training", "search.trials"]


def test_terminal_codes_in_a_file_do_not_reach_the_terminal(tmp_path, capsys):
    path = tmp_path / "escape.yaml"
    path.write_text(wrong({3: r'"\e[2J": 1', 5: r'  preprocess: "\e[31mred"', **NO_BASELINE}), encoding="utf-8")
    assert main([str(path), "--plan"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("metric", "classes", "labels", "words"),
    [
        ("val_top5_accuracy", 5, [0, 1, 4], "metric val_top5_accuracy needs at least 6 classes"),
        ("val_top5_accuracy", 6, [0, 0], None),
        ("val_auc", 3, [2, 2], "metric val_auc needs validation images of at least 2 classes"),
        ("val_auc", 2, [0, 1], None),
        ("val_balanced_accuracy", 2, [0, 0], None),
        ("parameters", 2, [0], None),
    ],
)
def test_a_metric_that_says_nothing_of_such_data_is_refused_before_anything_is_trained(metric, classes, labels, words):
    if words is None:
        check_metrics(["val_loss", metric], np.array(labels), classes)
        return
    with pytest.raises(InputError, match=f"^{words}"):
        check_metrics(["val_accuracy", metric], np.array(labels), classes)


RECIPES = """study: s
data: {source: digits}
training: {max_epochs: 10}
space:
  %s
  architecture: {choose: {%s}}
"""
NETS = "dense: {}, mobilenet_v2: {unfreeze_depth: {int: [0, 2]}}"
WITHOUT_EFFECT = {
    "momentum of adam": ("momentum: {float: [0.5, 0.9]}", NETS, "space.momentum must be left out with adam: of the"),
    "momentum of several": ("momentum: 0.9\n  optimizer: {choice: [adam, lion]}", NETS, "out with adam, lion: of the"),
    "momentum of a branch": (
        "optimizer: adamw", "dense: {momentum: 0.9}",
        "space.architecture.choose.dense.momentum must be left out with adamw",
    ),
    "a schedule of none": (
        "optimizer: schedule_free_adamw\n  schedule: {choice: [cosine, linear]}", NETS,
        "space.schedule must be left out with schedule_free_adamw, which averages",
    ),
    "two averages": ("optimizer: schedule_free_adamw\n  ema: 0.99", NETS, "space.ema must be left out with schedule_free"),
    "rates of no blocks": ("layer_decay: {float: [0.5, 1]}", "dense: {}", "space.layer_decay must be left out where no"),
    "a frozen backbone": ("unfreeze: gradual", "mobilenet_v2: {}", "space.unfreeze must be left out where no block"),
    "a depth of 0": ("unfreeze: gradual", "mobilenet_v2: {unfreeze_depth: 0}", "space.unfreeze must be left out where no"),
    "a branch without blocks": (
        "weight_decay: 0", "dense: {layer_decay: 0.5}, mobilenet_v2: {unfreeze_depth: 2}",
        "space.architecture.choose.dense.layer_decay must be left out where no block is unfrozen",
    ),
    "a long warm-up": ("warmup_epochs: {int: [0, 11]}", NETS, "space.warmup_epochs must be at most training.max_epochs, 10"),
    "an unknown schedule": ("schedule: cosin", NETS, "space.schedule must be one of constant, cosine, linear, one_cycle"),
    "an unknown optimizer": ("optimizer: schedule_free", NETS, "did you mean schedule_free_adamw"),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_what_has_no_effect_on_any_trial_is_told_with_the_reason(name):
    general, nets, words = WITHOUT_EFFECT[name]
    (problem,) = problems(RECIPES % (general, nets))
    assert words in problem


@pytest.mark.parametrize(
    ("general", "nets"),
    [
        ("momentum: {float: [0.5, 0.9]}\n  optimizer: {choice: [adam, sgd]}", NETS),
        ("momentum: 0", NETS),
        ("layer_decay: 1\n  unfreeze: together\n  ema: 0", "dense: {}"),
        ("layer_decay: {choice: [0.5, 1]}\n  unfreeze: {choice: [gradual, together]}", NETS),
        ("optimizer: {choice: [schedule_free_adamw, adam]}\n  schedule: cosine\n  ema: 0.99", NETS),
        ("optimizer: schedule_free_adamw\n  schedule: constant\n  warmup_epochs: 10", NETS),
        ("schedule: one_cycle", "dense: {optimizer: sgd, momentum: 0.5}, cnn: {}"),
        ("momentum: 0.9", "cnn: {}, dense: {optimizer: muon}"),
        ("schedule: plateau", NETS),
    ],
)
def test_what_has_an_effect_on_some_trial_is_right(general, nets):
    assert problems(RECIPES % (general, nets)) == []


@pytest.mark.parametrize(
    ("general", "nets", "training", "path"),
    [
        ("unfreeze: gradual", "mobilenet_v2: {unfreeze_depth: 5}", (7, 3), "architecture.choose.mobilenet_v2."),
        ("unfreeze: gradual", "mobilenet_v2: {unfreeze_depth: {int: [5, 8]}}", (5, 1), "architecture.choose.mobilenet_v2."),
        ("unfreeze: {choice: [together, gradual]}", "mobilenet_v2: {unfreeze_depth: {choice: [0, 5]}}", (7, 3),
         "architecture.choose.mobilenet_v2."),
        ("unfreeze_depth: 5", "mobilenet_v2: {unfreeze: gradual}, dense: {}", (7, 3), ""),
        ("unfreeze_depth: 5\n  unfreeze: gradual", "mobilenet_v2: {}, vgg16: {}", (7, 3), ""),
        ("unfreeze: gradual", "mobilenet_v2: {unfreeze_depth: 5}, dense: {}", (8, 3), None),
        ("unfreeze: gradual", "mobilenet_v2: {unfreeze_depth: {int: [0, 5]}}", (7, 3), None),
        ("unfreeze: gradual", "mobilenet_v2: {unfreeze_depth: {choice: [4, 5]}}", (7, 3), None),
        ("unfreeze: together", "mobilenet_v2: {unfreeze_depth: 5}", (7, 3), None),
        ("unfreeze: gradual", "mobilenet_v2: {unfreeze_depth: 5}", (3, 3), None),
    ],
)  # fmt: skip
def test_a_depth_that_no_trial_reaches_one_block_an_epoch_is_refused(general, nets, training, path):
    whole, head = training
    settings = [f"training.max_epochs={whole}", f"training.head_epochs={head}"]
    found = problems(RECIPES % (general, nets), *settings)
    assert len(found) == (path is not None)
    if path is not None:
        rule = (
            f"space.{path}unfreeze_depth must be at most 4 with unfreeze: gradual, one block more in each epoch after"
        )
        assert rule in found[0] and found[0].endswith("got 5")
        assert f"(training.max_epochs {whole}, training.head_epochs {head})" in found[0]


@pytest.mark.parametrize("patience", ["1", "2", "3", "none"])
def test_a_rate_is_not_reduced_when_trials_have_ended(patience):
    stopping = "none" if patience == "none" else f"{{patience: {patience}}}"
    found = problems(RECIPES % ("schedule: {choice: [constant, plateau]}", NETS), f"training.early_stopping={stopping}")
    assert len(found) == (patience in "12")
    assert all("space.schedule must not be plateau with a training.early_stopping.patience of" in one for one in found)
