"""A file that names a training function of one's own: what it may say, and what is refused before a search."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.own_loop import softmax_regression
from tuner.common.errors import InputError
from tuner.models.parameters import Parameter
from tuner.session._own_code import refuse_code_of_program
from tuner.session._plan import print_plan
from tuner.session._resolved import ResolvedSearch, resolve
from tuner.session._resume import refuse_other_search
from tuner.session.checks import check_names
from tuner.spec.space import Choice
from tuner.spec.spec import dump_spec, read_spec, require
from tuner.training.trainable import TRAINABLES, meaning_of_nothing

FILE = """
study: own
data: {source: digits}
trainable: softmax_regression
space: {learning_rate: {log_float: [0.001, 3]}, momentum: {float: [0, 0.95]}, batch_size: {choice: [16, 32]}}
"""


def problems(text: str, *overrides: str) -> list[str]:
    reading = read_spec(text, "f", overrides, meaning_of_nothing)
    return [problem.describe("f") for problem in [*reading.problems, *check_names(reading, {})]]


def search(*overrides: str) -> ResolvedSearch:
    reading = read_spec(FILE, "f", overrides, meaning_of_nothing)
    return resolve(require(reading, check_names(reading, {})))


def test_a_file_with_a_trainable_is_a_search() -> None:
    assert problems(FILE) == []
    found = search()
    assert found.study.trainable == "softmax_regression" and found.study.network_space == {}
    assert found.study.changeable == ("learning_rate", "batch_size")
    assert found.training.activations_in(Path()) is None and found.policy.grace_epochs == 1


def test_what_is_recorded_is_the_same_search_again() -> None:
    found = search()
    text = dump_spec(found.specification)
    again = read_spec(text, "f")
    assert "activations" not in text and "head_epochs" not in text
    assert resolve(require(again, check_names(again, {}))) == found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("space.units=3", "space.units: unknown hyperparameter 'units'"),
        ("space.momentun=0.5", "did you mean 'momentum'? (trainable softmax_regression (own_loop.py) has: "),
        ("space.dropout=0.5", "space.dropout: unknown hyperparameter 'dropout'"),
        ("space.augment=standard", "space.augment: unknown hyperparameter 'augment'"),
        ("space.momentum={float: [0, 2]}", "space.momentum must be between 0 and 0.99"),
        ("space.batch_size={choice: [16, 1.5]}", "space.batch_size.choice[1] must be a whole number"),
        ("space.batch_size={float: [16, 32]}", "space.batch_size must be a whole number between 1 and 512"),
        ("space.learning_rate=none", "space.learning_rate must be a number between 0.0001 and 10 and cannot be none"),
        ("space.momentum={choose: {a: {}, b: {}}}", "space.momentum must not branch"),
        ("space.architecture=cnn", "trainable must be left out beside space.architecture"),
        ("trainable=softmax_regresion", "unknown trainable 'softmax_regresion'; did you mean 'softmax_regression'?"),
        ("trainable=3", "trainable must be text, or none; got 3"),
        ("trainable=none", "space must have an architecture"),
        ("metrics=[val_accuracy, parameters]", "metrics[1] must be measured in every epoch with a trainable"),
        ("activations={views: 3}", "activations must be left out with a trainable"),
        ("training.head_epochs=3", "training.head_epochs must be left out with a trainable"),
    ],
)  # fmt: skip
def test_what_means_nothing_to_a_trainable_is_refused_by_name(change: str, words: str) -> None:
    found = problems(FILE, change)
    assert len(found) == 1, found
    assert any(words in problem for problem in found), found


@pytest.mark.parametrize("change", ["activations=none", "training.early_stopping=none", "space.momentum=none"])
def test_what_says_that_there_is_nothing_is_understood(change: str) -> None:
    assert problems(FILE, change) == []


def test_neither_an_architecture_nor_a_trainable_is_told_both_ways() -> None:
    (found,) = problems(FILE.replace("trainable: softmax_regression\n", ""))
    assert "must have an architecture" in found and "or the file a trainable (softmax_regression" in found


def test_without_any_trainable_the_option_that_brings_it_is_named() -> None:
    known = {name: TRAINABLES[name] for name in TRAINABLES}
    for name in known:
        TRAINABLES.remove(name)
    try:
        (found,) = problems(FILE)
    finally:
        for name, trainable in known.items():
            TRAINABLES.add_own(name, trainable)
    assert "unknown trainable 'softmax_regression': " in found and "@tuner.trainable" in found


@pytest.mark.parametrize("scheduler", ["none", "asha", "asha_stopping", "hyperband", "median", "pbt", "pb2"])
def test_every_scheduler_goes_with_a_trainable(scheduler: str) -> None:
    assert problems(FILE, f"search.scheduler={scheduler}") == []


def test_a_population_needs_something_that_may_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax_regression, "changeable", ())
    (found,) = problems(FILE, "search.scheduler=pbt")
    assert "must not be pbt" in found and "@tuner.trainable(changeable=[...])" in found


def test_names_that_networks_have_mean_nothing_of_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {
        "preprocess": Parameter("choice", values=("whiten", "edges"), default="edges"),
        "augment": Parameter("choice", values=("jitter",), default="jitter"),
        "unfreeze_depth": Parameter("int", low=0, high=5, default=0),
    }
    monkeypatch.setattr(softmax_regression, "parameters", own)
    file = FILE[: FILE.index("space")] + (
        "space: {preprocess: {choice: [whiten, edges]}, augment: jitter, unfreeze_depth: {int: [0, 5]}}\n"
        "search: {grace_epochs: 1}\n"
    )
    reading = read_spec(file, "f", (), meaning_of_nothing)
    found = resolve(require(reading, check_names(reading, {})))
    assert found.study.data.asked is None and not found.training.depths


@pytest.mark.parametrize(
    ("parameter", "written", "values"),
    [
        (Parameter("bool", default=True), "{choice: [true, false]}", (True, False)),
        (Parameter("bool", default=True), "off", (False,)),
        (Parameter("int", low=0, high=5, default=1), "none", (0,)),
        (Parameter("choice", values=("none", "some"), default="some"), "{choice: [no, some]}", ("none", "some")),
    ],
)
@pytest.mark.parametrize("name", ["augment", "weights", "dropout", "momentum"])
def test_nothing_is_what_it_is_for_the_function_whatever_networks_call_so(
    parameter: Parameter, written: str, values: tuple[Any, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(softmax_regression, "parameters", {name: parameter})
    file = FILE[: FILE.index("space")] + f"space: {{{name}: {written}}}\nbaseline: {{{name}: no}}\n"
    reading = read_spec(file, "f", (), meaning_of_nothing)
    spec = require(reading, check_names(reading, {}))
    assert spec.space[name] == Choice(values)
    assert spec.baseline == {name: {"bool": False, "int": 0, "choice": "none"}[parameter.kind]}


def test_the_plan_names_the_function_and_says_what_is_not_tested(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    print_plan(search(), Console(width=200))
    assert "softmax_regression, own_loop.py: Softmax regression" in (told := capsys.readouterr().out)
    assert "then the test split" in told
    monkeypatch.setattr(softmax_regression, "predicts", None)
    print_plan(search(), Console(width=200))
    assert "not the test split: trainable softmax_regression (own_loop.py) has no predict" in capsys.readouterr().out


def test_a_function_that_only_this_program_has_is_refused() -> None:
    with pytest.raises(InputError, match=r"trainable softmax_regression was registered by this program"):
        refuse_code_of_program(search().study)


def test_a_run_of_networks_does_not_go_on_with_a_trainable() -> None:
    before: dict[str, Any] = dict(search().specification)
    del before["trainable"]
    study, run = SimpleNamespace(specification=before), SimpleNamespace(path="runs/own")
    with pytest.raises(Exception, match=r"trainable \(was not there; is .softmax_regression.\)"):
        refuse_other_search(study, require(read_spec(FILE, "f")), run)
