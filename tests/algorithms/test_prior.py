"""The prior that comes with tuner: studies of other data whose trials move to architectures of the same kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tuner.algorithms._transfer import LEAST_TRIALS
from tuner.algorithms.prior import FILE, PriorStudy, prior_studies, save_prior, shipped_prior
from tuner.algorithms.study_file import DataFacts, ShownTrial, StudyFile
from tuner.algorithms.warm_start import EarlierStudy, warm_start
from tuner.common.errors import RunError
from tuner.session._resolved import pretrained_in
from tuner.spec.space import Choice, Choose, Integer, Real, Space

RATE = Real(1e-4, 1e-1, log=True)
BACKBONE: Space = {"unfreeze_depth": Integer(0, 3)}


def space_of(*names: str, **more: Space) -> Space:
    branches = {name: dict(BACKBONE) if name != "cnn" else {} for name in names}
    return {"learning_rate": RATE, "architecture": Choose({**branches, **more})}


def study(*architectures: str, base: str = "pets") -> PriorStudy:
    """A trial of each; those of other names than `cnn` are pretrained."""
    trials = [
        ShownTrial(
            configuration={"architecture": name, "learning_rate": 0.01, "unfreeze_depth": 9},
            status="completed",
            epochs=[1, 4],
            seconds=[1.0, 1.0],
            best={"val_accuracy": [0.1, 0.5 + 0.01 * number], "val_loss": [2.0, 1.0]},
        )
        for number, name in enumerate(architectures)
    ]
    file = StudyFile(
        tuner="1", data=DataFacts(classes=3), metrics={"val_accuracy": "max", "val_loss": "min"}, trials=trials
    )
    pretrained = {name: name != "cnn" for name in architectures}
    return PriorStudy.model_validate({"base": base, "pretrained": pretrained, "study": file})


def architectures(studies: list[PriorStudy], space: Space) -> list[str]:
    found = prior_studies(studies, pretrained_in(space), "val_accuracy", "max")
    return [str(trial.configuration["architecture"]) for one in found for trial in one.trials]


def test_a_backbone_is_pretrained_only_where_its_weights_are() -> None:
    untrained: Space = {"weights": Choice(("none",)), **BACKBONE}
    space = space_of("mobilenet_v2", "cnn", "of_own_code", resnet50=untrained)
    assert pretrained_in(space) == {
        "mobilenet_v2": True,
        "cnn": False,
        "of_own_code": None,
    }
    assert pretrained_in({"learning_rate": RATE}) == {}


@pytest.mark.parametrize(
    ("weights", "is_there"),
    [(None, True), (("pretrained",), True), (("none",), False), (("none", "pretrained"), False)],
)
def test_a_backbone_of_kerashub_is_pretrained_where_its_weights_are_called_so(weights, is_there) -> None:
    of_weights: Space = {} if weights is None else {"weights": Choice(weights)}
    space: Space = {"architecture": Choice(("keras_hub:dinov2_small",)), **of_weights}
    assert pretrained_in(space) == ({"keras_hub:dinov2_small": True} if is_there else {})


def test_a_trial_stays_with_its_architecture_and_goes_to_those_of_its_kind_in_turn_where_there_is_none() -> None:
    one = study("mobilenet_v2", "strange", "strange", "strange", "cnn")
    assert architectures([one], space_of("mobilenet_v2", "vgg16", "dense")) == [
        "mobilenet_v2",
        *("mobilenet_v2", "vgg16", "mobilenet_v2"),
        "dense",
    ]


def test_what_trained_weights_have_shown_says_nothing_of_a_network_of_that_name_without_them() -> None:
    untrained: Space = {"weights": Choice(("none",)), **BACKBONE}
    one = study("mobilenet_v2", "cnn", "mobilenet_v2")
    assert architectures([one], space_of("cnn", mobilenet_v2=untrained)) == ["cnn"]
    assert architectures([one], space_of("vgg16", mobilenet_v2=untrained)) == ["vgg16", "vgg16"]


def test_turns_are_taken_by_trials_of_one_architecture_whatever_stands_between_them() -> None:
    one = study(*["mobilenet_v2", "cnn"] * 4)
    found = architectures([one], space_of("mobilenet_v2", "dense", "inception"))
    assert found[1::2] == ["dense", "inception"] * 2


def test_trials_of_another_kind_than_the_space_are_left_out_and_studies_without_any_too() -> None:
    studies = [study("mobilenet_v2", "cnn"), study("cnn", base="digits")]
    assert architectures(studies, space_of("vgg16")) == ["vgg16"]
    assert len(prior_studies(studies, pretrained_in(space_of("vgg16")), "val_accuracy", "max")) == 1


def test_numbers_move_to_the_nearest_that_the_space_has() -> None:
    space = space_of("vgg16")
    warm = warm_start(taken_by(space, study(*["mobilenet_v2"] * LEAST_TRIALS)), space, None, "max")
    assert warm.prior == [{"learning_rate": 0.01, "architecture": "vgg16", "unfreeze_depth": 3}]


def varied(best: float, seed: int) -> PriorStudy:
    """Random learning rates, `best` for both architectures; the one from scratch is always behind."""
    rates = 10.0 ** np.random.default_rng(seed).uniform(-4, -1, 40)
    trials = [
        ShownTrial(
            configuration={"architecture": name, "learning_rate": float(rate), "unfreeze_depth": 2},
            status="completed",
            epochs=[1],
            seconds=[1.0],
            best={"val_accuracy": [0.9 - 0.2 * (name == "cnn") - 0.1 * abs(float(np.log10(rate / best)))]},
        )
        for rate, name in zip(rates, ["mobilenet_v2", "cnn"] * 20, strict=True)
    ]
    file = StudyFile(tuner="1", data=DataFacts(classes=3), metrics={"val_accuracy": "max"}, trials=trials)
    return PriorStudy.model_validate(
        {"base": "pets", "pretrained": {"mobilenet_v2": True, "cnn": False}, "study": file}
    )


def taken_by(space: Space, *studies: PriorStudy) -> list[EarlierStudy]:
    return prior_studies(studies, pretrained_in(space), "val_accuracy", "max")


def test_a_recipe_of_each_architecture_is_taken_even_of_one_that_is_behind_in_all_studies() -> None:
    space = space_of("mobilenet_v2", "cnn")
    warm = warm_start(taken_by(space, varied(2e-3, 0), varied(5e-3, 1)), space, None, "max")
    assert [one["architecture"] for one in warm.prior] == ["mobilenet_v2", "cnn"]
    assert all(5e-4 < float(one["learning_rate"]) < 2e-2 for one in warm.prior)
    assert (warm.trials, warm.portfolio) == ([], []), "nothing is modelled by it"


def test_an_architecture_that_the_users_own_studies_propose_needs_no_recipe() -> None:
    space = space_of("mobilenet_v2", "cnn")
    prior = taken_by(space, varied(2e-3, 0), varied(5e-3, 1))
    own = [
        one.model_copy(
            update={"is_prior": False, "trials": [of for of in one.trials if of.configuration["architecture"] == "cnn"]}
        )
        for one in prior
    ]
    warm = warm_start([*own, *prior], space, None, "max")
    assert {one["architecture"] for one in warm.portfolio} == {"cnn"}
    assert [one["architecture"] for one in warm.prior] == ["mobilenet_v2"]
    assert [len(trials) for trials in warm.trials] == [20, 20]


def test_the_shipped_prior_has_a_recipe_for_each_architecture_of_a_space() -> None:
    space = space_of("mobilenet_v2", "efficientnet_v2_b0", "cnn")
    warm = warm_start(taken_by(space, *shipped_prior().studies), space, None, "max")
    assert sorted(str(one["architecture"]) for one in warm.prior) == ["cnn", "efficientnet_v2_b0", "mobilenet_v2"]


@pytest.mark.parametrize(
    ("metric", "mode", "values"),
    [
        ("val_accuracy", "max", {1: 0.1, 4: 0.5}),
        ("val_macro_f1", "max", {1: 0.1, 4: 0.5}),
        ("val_loss", "min", {1: 2.0, 4: 1.0}),
    ],
)
def test_a_metric_that_was_not_measured_is_stood_in_for_by_accuracy_or_loss(metric, mode, values) -> None:
    (found,) = prior_studies([study("cnn")], {"cnn": False}, metric, mode)
    assert found.trials[0].best_by_epoch == values


def test_a_prior_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = [study("mobilenet_v2", "cnn"), study("cnn", base="digits")]
    found = shipped_prior(save_prior(written, tmp_path / "prior.json"))
    assert found.studies == written


def test_a_damaged_prior_is_an_error_that_says_how_to_do_without(tmp_path: Path) -> None:
    (tmp_path / "prior.json").write_text('{"kind": "tuner prior", "version": 1, "studies": []}')
    for path in (tmp_path / "prior.json", tmp_path / "none.json"):
        with pytest.raises(RunError, match=r"search\.prior=none does without"):
            shipped_prior(path)


def test_the_shipped_prior_is_small_and_all_of_it_has_a_place_in_a_space_of_both_kinds() -> None:
    assert FILE.stat().st_size < 2**20
    studies = shipped_prior().studies
    found = prior_studies(studies, {"vgg16": True, "cnn": False}, "val_accuracy", "max")
    assert [len(one.trials) for one in found] == [len(one.study.trials) for one in studies]
    assert all(one.study.name is None and one.study.data.name is None for one in studies)
    assert all("completed" in {trial.status for trial in one.study.trials} for one in studies)
