"""Words for nothing: they mean it wherever a setting can be nothing, and are refused by name where it cannot be."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tests.support.wrong_files import RIGHT, wrong
from tuner.cache import parse_cache_options
from tuner.common.command_line import verbatim
from tuner.common.registry import NEVER_NOTHING, NOTHING
from tuner.data import build_data_parser
from tuner.export import build_export_parser
from tuner.jobs.options import build_command_parser, build_submit_parser, parse_submit_options
from tuner.models.architectures import ARCHITECTURES
from tuner.models.own_networks import own_network
from tuner.models.parameters import GENERAL, Parameter
from tuner.new import build_new_parser
from tuner.predict import build_predict_parser
from tuner.report import build_report_parser
from tuner.session.checks import check_names
from tuner.session.options import build_search_parser, parse_search_options
from tuner.spec.schema import SECTIONS, EarlyStoppingSection, Names, meanings_of_nothing
from tuner.spec.space import Choice
from tuner.spec.spec import Spec, read_spec, require
from tuner.training.trainable import meaning_of_nothing

WORDS = [*NOTHING, "None", "NO", "Off", "FALSE", "Null", "~", "' none '", "'off'", "'false'"]
SETTINGS = {
    **{f"{section}.{name}": field for section, model in SECTIONS.items() for name, field in model.model_fields.items()},
    **{f"training.early_stopping.{name}": field for name, field in EarlyStoppingSection.model_fields.items()},
    **Names.model_fields,
}
CAN_BE_NOTHING = {
    "data.image_px": None,
    "data.jpeg_quality": None,
    "data.max_train_images": None,
    "data.max_validation_images": None,
    "data.validation": None,
    "data.columns": None,
    "data.group": None,
    "training.early_stopping": None,
    "training.early_stopping.min_delta": 0.0,
    "search.scheduler": "none",
    "search.time_budget": None,
    "search.stop_when": None,
    "search.warm_start": [],
    "search.prior": "none",
    "search.improvement_per_second": False,
    "search.hung_after_epochs": "never",
    "search.probe": False,
    "resources.gpus_per_trial": 0.0,
    "resources.memory_gb_per_trial": "none",
    "activations.enabled": False,
    "activations.views": None,
    "finalists.count": 0,
    "metrics": None,
    "trainable": None,
}
ARE_NAMES = {"data.source", "study", "metric", "search.sampler"}
"""Text: whether there is something of such a name is not for the schema to say."""


def test_what_can_be_nothing_is_what_a_setting_may_be() -> None:
    found = {name: meanings_of_nothing(field) for name, field in SETTINGS.items()}
    expected = {name: [meaning] for name, meaning in CAN_BE_NOTHING.items() if name in SETTINGS}
    assert {name: meaning for name, meaning in found.items() if meaning} == expected
    assert set(expected) == set(CAN_BE_NOTHING) & set(SETTINGS)


def value_at(spec: Spec, setting: str) -> object:
    found: object = spec
    for part in setting.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("setting", [name for name in SETTINGS if name not in ARE_NAMES])
def test_every_word_for_nothing_is_nothing_or_is_refused(setting, word) -> None:
    reading = read_spec(RIGHT, "f", [f"{setting}={word}"])
    if setting == "metrics":
        assert require(reading).metrics == ("val_accuracy",)
    elif setting in CAN_BE_NOTHING:
        assert value_at(require(reading), setting) == CAN_BE_NOTHING[setting]
    else:
        (problem,) = reading.problems
        assert problem.field == setting and NEVER_NOTHING in problem.message


@pytest.mark.parametrize("word", ["off", "None", "null", "false"])
@pytest.mark.parametrize("setting", sorted(ARE_NAMES - {"study"}))
def test_a_name_that_must_be_given_cannot_be_nothing(setting, word) -> None:
    reading = read_spec(RIGHT, "f", [f"{setting}={word}"])
    problems = [*reading.problems, *check_names(reading, {})]
    assert [problem.field for problem in problems] == [setting]
    assert "cannot be none" in problems[0].message


@pytest.mark.parametrize("word", WORDS)
def test_a_section_that_can_be_left_out_can_be_nothing(word) -> None:
    assert require(read_spec(RIGHT, "f", [f"finalists={word}"])).finalists.count == 0
    assert require(read_spec(RIGHT, "f", [f"activations={word}"])).activations.enabled is False
    assert require(read_spec(RIGHT, "f", [f"baseline={word}"])).baseline is None
    for section in ("data", "training", "search", "resources"):
        (problem,) = read_spec(RIGHT, "f", [f"{section}={word}"]).problems
        assert problem.field == section and NEVER_NOTHING in problem.message


@pytest.mark.parametrize("section", ["finalists", "activations", "training", "search"])
def test_a_section_left_empty_is_not_taken_for_one_that_is_nothing(section) -> None:
    for text in (RIGHT + f"\n{section}:\n", RIGHT + f"\n{section}:   # count: 3\n"):
        reading = read_spec(wrong({14: "", 15: "", 16: ""}) + text[len(RIGHT) :], "f")
        assert [problem.field for problem in reading.problems] == [section]


@pytest.mark.parametrize("word", ["yes", "on", "true", "On", "YES"])
def test_words_for_yes_switch_on(word) -> None:
    assert require(read_spec(RIGHT, "f", [f"activations.enabled={word}"])).activations.enabled is True


@pytest.mark.parametrize("value", ["x", "-3", "{a: 1}", "yes"])
@pytest.mark.parametrize(
    "setting", ["training.early_stopping", "data.image_px", "activations.views", "search.warm_start"]
)
def test_what_is_wrong_says_that_it_can_be_none(setting, value) -> None:
    messages = [problem.message for problem in read_spec(RIGHT, "f", [f"{setting}={value}"]).problems]
    assert messages and (any(", or none" in one for one in messages) or "unknown setting" in messages[0])


# --- hyperparameters ---


PARAMETERS = {
    name: one
    for owner in (GENERAL, *(ARCHITECTURES[each].parameters for each in ARCHITECTURES))
    for name, one in owner.items()
}


@pytest.mark.parametrize("word", WORDS)
def test_every_hyperparameter_is_nothing_or_refuses_to_be(word) -> None:
    for name in PARAMETERS:
        key = "space" if name in GENERAL else "space.architecture.choose.mobilenet_v2"
        if name not in GENERAL and name not in ARCHITECTURES["mobilenet_v2"].parameters:
            continue
        text = RIGHT.split("space:")[0] + "space:\n  architecture: {choose: {mobilenet_v2: {}}}\n"
        reading = read_spec(text, "f", [f"{key}.{name}={word}"], meaning_of_nothing)
        problems = [*reading.problems, *check_names(reading, {})]
        meaning = meaning_of_nothing(name)
        if meaning is None:
            assert [
                NEVER_NOTHING[5:] in problem.message or "must be one of" in problem.message for problem in problems
            ] == [True], name
        else:
            assert not problems
            space = require(reading).space
            found = space if name in GENERAL else space["architecture"].branches["mobilenet_v2"]
            assert found[name].values == (meaning,)


@pytest.mark.parametrize("word", WORDS)
def test_nothing_can_be_one_of_several_and_part_of_the_baseline(word) -> None:
    overrides = [f"space.augment.choice=[{word}, shift(1)]", f"baseline.augment={word}"]
    spec = require(read_spec(RIGHT, "f", overrides, meaning_of_nothing))
    assert spec.space["augment"].values == ("none", "shift(1)")
    assert spec.baseline is not None and spec.baseline["augment"] == "none"


def test_numbers_that_can_be_nothing_are_nought() -> None:
    expected = {"dropout": 0.0, "weight_decay": 0.0, "label_smoothing": 0.0, "unfreeze_depth": 0, "head_units": 0}
    assert {name: meaning_of_nothing(name) for name in expected} == expected
    assert meaning_of_nothing("weights") == meaning_of_nothing("preprocess") == "none"
    assert meaning_of_nothing("learning_rate") is meaning_of_nothing("nobody knows it") is None


@pytest.mark.parametrize(
    "architecture",
    ["{choose: {own_net: BRANCH, cnn: {dropout: none}}}", "{choose: {cnn: {dropout: none}, own_net: BRANCH}}"],
)
def test_nothing_is_what_it_is_for_the_architecture_of_a_branch(architecture) -> None:
    own = {
        "dropout": Parameter("bool", default=True),
        "reduction": Parameter("int", low=0, high=4, default=1),
    }
    ARCHITECTURES.add_own("own_net", own_network("own_net", "", lambda images: images, own, 1, None))
    try:
        branch = "{dropout: {choice: [true, false]}, reduction: none}"
        text = RIGHT.split("space:")[0] + f"space:\n  architecture: {architecture.replace('BRANCH', branch)}\n"
        text += "baseline: {architecture: own_net, dropout: off, reduction: no}\n"
        reading = read_spec(text, "f", (), meaning_of_nothing)
        spec = require(reading, check_names(reading, {}))
    finally:
        ARCHITECTURES.remove("own_net")
    branches = spec.space["architecture"].branches
    assert branches["own_net"] == {"dropout": Choice((True, False)), "reduction": Choice((0,))}
    assert branches["cnn"] == {"dropout": Choice((0.0,))}
    assert spec.baseline == {"architecture": "own_net", "dropout": False, "reduction": 0}


# --- options ---


PARSERS: dict[str, tuple[argparse.ArgumentParser, list[str]]] = {
    "search": (build_search_parser(), ["f.yaml"]),
    "new": (build_new_parser(), ["digits"]),
    "submit": (build_submit_parser(), ["f.yaml"]),
    "fetch": (build_command_parser("fetch"), ["job"]),
    "data": (build_data_parser(), ["digits"]),
    "report": (build_report_parser(), ["run"]),
    "predict": (build_predict_parser(), ["run", "image"]),
    "export": (build_export_parser(), ["run"]),
}
OPTIONS = [
    (command, action)
    for command, (parser, _) in PARSERS.items()
    for action in parser._actions
    if isinstance(action, argparse._StoreAction | argparse._ExtendAction)
    and action.option_strings
    and action.nargs in (None, "?", "+")
]


@pytest.mark.parametrize(("command", "action"), OPTIONS, ids=lambda part: getattr(part, "dest", part))
def test_every_option_that_need_not_be_given_can_be_nothing_and_no_other(command, action, capsys) -> None:
    parser, arguments = PARSERS[command]
    for word in (*NOTHING, "None", "OFF"):
        if action.default is None and action.type is not verbatim:
            found = getattr(parser.parse_args([*arguments, action.option_strings[0], word]), action.dest)
            assert found == ([] if action.nargs == "+" else None)
        elif action.default is None:  # what it would be without the option is something else than nothing
            assert getattr(parser.parse_args([*arguments, action.option_strings[0], word]), action.dest) == word
        else:
            with pytest.raises(SystemExit):
                parser.parse_args([*arguments, action.option_strings[0], word])
            assert f"argument {action.option_strings[0]}: " in capsys.readouterr().err


def test_a_folder_of_such_a_name_can_be_meant() -> None:
    assert parse_cache_options(["--cache", "none", "--unused-days", "off"]).cache is None
    options = parse_search_options(["f.yaml", "--runs", "./none", "--cache", "./off", "--storage", "none"])
    assert (options.runs_dir, options.cache_dir, options.storage) == (Path("none"), Path("off"), None)


def test_to_learn_from_no_study_overrides_those_of_the_file() -> None:
    for options in (
        parse_search_options(["f", "--warm-start", "none"]),
        parse_submit_options(["f", "--warm-start", "off"]),
    ):
        assert options.overrides == ("search.warm_start=[]",)
