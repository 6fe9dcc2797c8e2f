"""Earlier runs as the start of a new search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.make_record import epoch, study_created, trial_ended, trial_started
from tuner.algorithms._transfer import PORTFOLIO
from tuner.algorithms.warm_start import (
    EarlierStudy,
    EarlierTrial,
    describe,
    earlier_study,
    fit_into,
    load_earlier,
    read_earlier,
    save_earlier,
    warm_start,
)
from tuner.common.errors import RunError
from tuner.runs.events import Event
from tuner.runs.record import Record, replay
from tuner.spec.space import Choice, Choose, Integer, Real, Space, misfits, sample

OLD: Space = {
    "batch_size": Choice((32, 64, 128)),
    "learning_rate": Real(1e-5, 1e-1, log=True),
    "preprocess": Choice(("resize(32)", "resize(96)")),
    "architecture": Choose({"cnn": {"filters": Integer(8, 64, log=True)}, "vgg16": {"unfreeze_depth": Integer(0, 6)}}),
}
NEW: Space = {
    "batch_size": Choice((64, 256)),
    "learning_rate": Real(1e-4, 1e-2, log=True),
    "preprocess": Choice(("none", "resize(64)")),
    "dropout": Real(0.0, 0.6),
    "architecture": Choose(
        {"cnn": {"filters": Integer(16, 48, step=16), "blocks": Integer(1, 3)}, "dense": {"units": Integer(8, 16)}}
    ),
}
BASELINE = {
    "batch_size": 64,
    "learning_rate": 1e-3,
    "preprocess": "resize(64)",
    "dropout": 0.5,
    "architecture": "dense",
    "units": 8,
}


def test_a_configuration_moves_to_the_nearest_one_of_another_space():
    old = {"batch_size": 128, "learning_rate": 0.09, "preprocess": "resize(96)", "architecture": "cnn", "filters": 50}
    assert fit_into(NEW, old, BASELINE) == {
        "batch_size": 64,  # 64 away, and 256 is 128 away
        "learning_rate": 1e-2,
        "preprocess": "resize(64)",  # no word is nearer than another: the baseline's
        "dropout": 0.5,  # the old space had none
        "architecture": "cnn",
        "filters": 48,
        "blocks": 2,  # neither had the old space, nor has the baseline in this branch
    }


def test_a_configuration_of_a_branch_that_is_not_there_has_no_place():
    old = {
        "batch_size": 64,
        "learning_rate": 0.01,
        "preprocess": "resize(32)",
        "architecture": "vgg16",
        "unfreeze_depth": 2,
    }
    assert fit_into(NEW, old, BASELINE) is None


STRENGTHS = {
    "augment": Choose(
        {
            "none": {},
            "weak": {"augment.flip": Choice((True,)), "augment.shift": Choice((2,))},
            "strong": {
                "augment.flip": Choice(("none", "both")),
                "augment.rotate": Real(0, 30),
                "augment.shift": Integer(0, 4),
            },
            "mixed": {"augment.mixup": Real(0.1, 0.5), "augment.flip": Choice((True,))},
        }
    )
}  # fmt: skip
WEAK = {"augment": "weak", "augment.flip": True, "augment.shift": 2}
STRONG = {"augment": "strong", "augment.flip": "none", "augment.rotate": 0, "augment.shift": 0}
TEXTS = {"augment": Choice(("none", "flip|shift(2)", "flip(both)|rotate(15)"))}


@pytest.mark.parametrize(
    ("space", "old", "new"),
    [
        (STRENGTHS, {"augment": "none"}, {"augment": "none"}),
        (STRENGTHS, {"augment": "flip|shift(2)"}, WEAK),
        (STRENGTHS, {"augment": "flip(both)|rotate(40)"}, {**STRONG, "augment.flip": "both", "augment.rotate": 30.0}),
        (STRENGTHS, {"augment": "shift(3)"}, {**STRONG, "augment.shift": 3}),
        (STRENGTHS, {"augment": "mixup(0.9)|flip"}, {"augment": "mixed", "augment.mixup": 0.5, "augment.flip": True}),
        (STRENGTHS, {"augment": "shift(3)|rotate(5)"}, None),  # in another order
        (STRENGTHS, {"augment": "zoom(0.1)"}, None),
        (STRENGTHS, {"augment": "gone_with_its_plugin"}, None),
        (
            STRENGTHS,
            {"augment": "hard", "augment.rotate": 5, "augment.shift": 9},
            {**STRONG, "augment.rotate": 5, "augment.shift": 4},
        ),

        (TEXTS, WEAK, {"augment": "flip|shift(2)"}),
        (TEXTS, {**STRONG, "augment.flip": "both", "augment.rotate": 15}, {"augment": "flip(both)|rotate(15)"}),
        (TEXTS, STRONG, {"augment": "none"}),
    ],
)  # fmt: skip
def test_augmentation_keeps_its_meaning_whether_a_space_says_it_as_texts_or_as_strengths(space, old, new):
    assert fit_into(space, old, {}) == new


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), backwards=st.booleans())
def test_what_has_a_place_is_a_configuration_of_the_space(seed, backwards):
    before, after = (NEW, OLD) if backwards else (OLD, NEW)
    old = sample(before, np.random.default_rng(seed))
    fitted = fit_into(after, old, {})
    assert fitted is None or misfits(after, fitted) == []
    assert fit_into(before, old, {}) == old


def events() -> list[Event]:
    configuration = {
        "batch_size": 64,
        "learning_rate": 0.01,
        "preprocess": "none",
        "architecture": "cnn",
        "filters": 16,
    }
    return [
        study_created(),
        trial_started(0, configuration),
        epoch(0, 1, 0.2),
        epoch(0, 2, 0.1, best=0.2),
        trial_ended(0, "stopped", "scheduler"),
        trial_started(1, configuration),
        trial_ended(1, "failed", "out_of_memory"),
        trial_started(2, {**configuration, "architecture": "vgg16"}),
        epoch(2, 1, 0.3),
    ]


def test_an_earlier_study_is_read_in_terms_of_the_new_metric():
    state = replay(events())
    study = earlier_study("old", state, "val_accuracy", "max")
    assert [trial.best_by_epoch for trial in study.trials] == [{1: 0.2, 2: 0.2}, {}, {1: 0.3}]
    assert [trial.status for trial in study.trials] == ["stopped", "failed", "running"]
    losses = earlier_study("old", state, "val_loss", "min").trials[0].best_by_epoch
    assert losses == {1: 1.1 - 0.2 / 2, 2: 1.1 - 0.2 / 2}


def write_run(folder: Path, made: list[Event]) -> None:
    folder.mkdir(parents=True)
    record = Record(folder / "record.jsonl")
    for event in made:
        record.append(event)
    record.close()


def test_runs_are_named_by_their_folder_or_by_their_study(tmp_path):
    write_run(tmp_path / "cifar100", events())
    for name in ("cifar100", str(tmp_path / "cifar100")):
        (study,) = read_earlier([name], tmp_path, "val_accuracy", "max")
        assert (study.name, study.data, len(study.trials)) == ("cifar100", "cifar100", 3)


def test_a_run_that_is_not_there_is_refused_with_the_nearest_name(tmp_path):
    write_run(tmp_path / "cifar100", events())
    with pytest.raises(RunError, match=r"search\.warm_start: unknown run .*'cifar10'; did you mean 'cifar100'\?"):
        read_earlier(["cifar10"], tmp_path, "val_accuracy", "max")
    with pytest.raises(RunError, match="unknown run"):
        read_earlier(["../*"], tmp_path, "val_accuracy", "max")


def test_a_run_in_which_nothing_was_trained_is_refused(tmp_path):
    write_run(tmp_path / "cifar100", events()[:2])
    with pytest.raises(RunError, match="holds no trial with an epoch: there is nothing to learn"):
        read_earlier(["cifar100"], tmp_path, "val_accuracy", "max")


def test_what_was_taken_over_is_kept_and_read_again(tmp_path):
    studies = [earlier_study("old", replay(events()), "val_accuracy", "max")]
    save_earlier(studies, tmp_path / "warm_start.json")
    assert load_earlier(tmp_path / "warm_start.json") == studies
    assert load_earlier(tmp_path / "other.json") == []
    (tmp_path / "warm_start.json").write_text('[{"name": "old"}]')
    with pytest.raises(RunError, match=r"warm_start\.json: cannot be read"):
        load_earlier(tmp_path / "warm_start.json")


def study_of(trials: int, seed: int = 0) -> EarlierStudy:
    """Trials in the old space of which small learning rates are best."""
    generator = np.random.default_rng(seed)
    configurations = [sample(OLD, generator) for _ in range(trials)]
    return EarlierStudy(
        name="old",
        data="shapes",
        trials=[
            EarlierTrial(configuration=one, status="completed", best_by_epoch={1: -float(np.log(one["learning_rate"]))})
            for one in configurations
        ],
    )


def test_the_portfolio_is_made_of_trials_that_have_a_place_and_were_good():
    studies = [study_of(60), study_of(60, seed=1)]
    warm = warm_start(studies, NEW, BASELINE, "max")
    assert len(warm.portfolio) == PORTFOLIO
    assert all(misfits(NEW, one) == [] for one in warm.portfolio)
    assert max(one["learning_rate"] for one in warm.portfolio) < 1e-3
    cnns = [sum(trial.configuration["architecture"] == "cnn" for trial in study.trials) for study in studies]
    assert [len(trials) for trials in warm.trials] == cnns
    assert describe(studies, NEW, BASELINE, "max") == (
        f"warm start: old on shapes, {cnns[0]} of 60 trials; old on shapes, {cnns[1]} of 60 trials have a place in "
        "this space; 5 of them are tried first"
    )


def test_the_best_of_each_architecture_comes_first_even_of_one_that_is_behind_everywhere():
    studies = [with_vgg16_behind(study_of(60, seed)) for seed in range(2)]
    warm = warm_start(studies, OLD, None, "max")
    assert [one["architecture"] for one in warm.recipes] == ["cnn", "vgg16"], "the better one first"
    assert max(one["learning_rate"] for one in warm.recipes) < 1e-3
    assert {one["architecture"] for one in warm.portfolio} == {"cnn"} and len(warm.portfolio) == PORTFOLIO
    assert warm_start(studies, NEW, None, "max").recipes == (), "of one architecture the portfolio has the best"


def with_vgg16_behind(study: EarlierStudy) -> EarlierStudy:
    trials = [
        one.model_copy(update={"best_by_epoch": {1: one.best_by_epoch[1] - 20}})
        if one.configuration["architecture"] == "vgg16"
        else one
        for one in study.trials
    ]
    return study.model_copy(update={"trials": trials})


def test_studies_without_a_place_leave_a_cold_start():
    elsewhere: Space = {**NEW, "architecture": Choose({"dense": {"units": Integer(8, 16)}})}
    warm = warm_start([study_of(20)], elsewhere, None, "max")
    assert (list(warm.portfolio), [len(trials) for trials in warm.trials]) == ([], [0])
