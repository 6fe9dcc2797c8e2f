"""The Gaussian-process sampler in plain Optuna studies and behind our own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest

from tuner.algorithms._gp_sampler import RANDOM_TRIALS, GaussianProcessSampler
from tuner.algorithms.samplers import SAMPLERS, IndependentRandomSampler, SamplerContext
from tuner.algorithms.study import SearchStudy
from tuner.algorithms.tpe import CUT, FAILED, PAUSED
from tuner.spec.space import Choice, Choose, Integer, Real, misfits

optuna.logging.set_verbosity(optuna.logging.ERROR)


SPACE = {
    "learning_rate": Real(1e-4, 1e-1, log=True),
    "batch_size": Choice((32, 64)),
    "architecture": Choose(
        {
            "cnn": {"filters": Integer(8, 64, log=True)},
            "backbone": {"name": Choose({"vgg": {"blocks": Integer(1, 5)}, "resnet": {}}), "dropout": Real(0, 0.6)},
        }
    ),
}


def landscape(trial: optuna.Trial) -> float:
    """A mixed and conditional function with its best value, 1, in one branch."""
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    kind = trial.suggest_categorical("kind", ["cnn", "dense", "backbone"])
    value = 1 - (np.log10(rate) + 2.5) ** 2 / 4
    if kind == "cnn":
        return value - 0.3 - abs(trial.suggest_int("filters", 8, 64) - 40) / 80
    if kind == "backbone":
        return value - abs(trial.suggest_int("depth", 0, 6) - 2) / 10 - trial.suggest_float("dropout", 0, 0.6)
    return value - 0.5


def study_of(sampler: optuna.samplers.BaseSampler, trials: int, direction: str = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction, sampler=sampler)
    sign = 1 if direction == "maximize" else -1
    study.optimize(lambda trial: sign * landscape(trial), n_trials=trials)
    return study


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_it_finds_the_branch_and_its_best_place_in_any_optuna_study(direction) -> None:
    bests = [abs(study_of(GaussianProcessSampler(seed), 40, direction).best_value) for seed in range(3)]
    at_random = [abs(study_of(IndependentRandomSampler(seed), 40, direction).best_value) for seed in range(3)]
    assert min(bests) > 0.9 and np.mean(bests) > np.mean(at_random) + 0.03


def test_the_same_seed_and_study_give_the_same_suggestions() -> None:
    first, second = (study_of(GaussianProcessSampler(3), 20) for _ in range(2))
    assert [trial.params for trial in first.trials] == [trial.params for trial in second.trials]
    assert [trial.params for trial in first.trials] != [
        trial.params for trial in study_of(GaussianProcessSampler(4), 20).trials
    ]


def test_a_study_that_was_copied_goes_on_as_the_one_that_was_lived() -> None:
    lived = study_of(GaussianProcessSampler(0), 15)
    copied = optuna.create_study(direction="maximize", sampler=GaussianProcessSampler(0))
    copied.add_trials(lived.trials)
    for study in (lived, copied):
        study.optimize(landscape, n_trials=5)
    assert [trial.params for trial in lived.trials] == [trial.params for trial in copied.trials]


def test_the_first_trials_are_those_of_random_search() -> None:
    ours, at_random = study_of(GaussianProcessSampler(7), RANDOM_TRIALS), study_of(IndependentRandomSampler(7), 8)
    assert [trial.params for trial in ours.trials] == [trial.params for trial in at_random.trials]


def one_dimension(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    """A study in which 0.8 was good."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for value in np.linspace(0, 1, 12):
        trial = optuna.create_trial(
            state=optuna.trial.TrialState.COMPLETE,
            value=1 - (value - 0.8) ** 2,
            params={"x": value},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
        )
        study.add_trial(trial)
    return study


def test_trials_that_run_keep_others_away() -> None:
    study = one_dimension(GaussianProcessSampler(0))
    asked = sorted(study.ask().suggest_float("x", 0, 1) for _ in range(6))
    assert np.diff(asked).min() >= 0.02, "nothing is asked twice"


def tell(study: optuna.Study, x: float, curve: list[float], **attributes: Any) -> None:
    trial = optuna.create_trial(
        state=optuna.trial.TrialState.PRUNED,
        params={"x": x},
        distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
        intermediate_values=dict(enumerate(curve, start=1)),
        user_attrs=attributes,
    )
    study.add_trial(trial)


def test_where_trials_fail_nothing_more_is_tried() -> None:
    study = optuna.create_study(direction="maximize", sampler=GaussianProcessSampler(0, trials=24))
    for x in np.linspace(0, 1, 15):
        failed = x > 0.6
        tell(study, x, [] if failed else [0.5 + x / 10], **({FAILED: True} if failed else {}))
    asked = [study.ask().suggest_float("x", 0, 1) for _ in range(10)]
    assert np.mean(np.array(asked) < 0.66) >= 0.8


def test_after_a_failure_the_model_is_asked_as_early_as_without_and_later_only_where_a_scheduler_holds_trials() -> None:
    def next_of(sampler: optuna.samplers.BaseSampler, curve: list[float], **attributes: Any) -> float:
        study = one_dimension(sampler)
        tell(study, 0.1, curve, **attributes)
        return study.ask().suggest_float("x", 0, 1)

    at_random = next_of(IndependentRandomSampler(0), [0.5])
    assert next_of(GaussianProcessSampler(0), [0.5]) == at_random, "one was stopped"
    assert next_of(GaussianProcessSampler(0), [], **{FAILED: True}) != at_random
    assert next_of(GaussianProcessSampler(0), [0.5], **{CUT: True}) != at_random, "no scheduler, but the end of time"


def test_a_trial_stopped_early_counts_for_what_it_showed_until_then() -> None:
    """Those near 0.2 showed most at the first epoch, were trained further, and gained like all would."""
    study = optuna.create_study(direction="maximize", sampler=GaussianProcessSampler(0, trials=24))
    generator = np.random.default_rng(0)
    for x in generator.uniform(0, 1, 25):
        start = 0.5 - abs(x - 0.2) / 4
        tell(study, x, [start] if abs(x - 0.2) > 0.12 else [start, start + 0.2, start + 0.3])
    asked = np.array([study.ask().suggest_float("x", 0, 1) for _ in range(6)])
    assert np.mean(abs(asked - 0.2) < 0.1) >= 0.5


def test_suggestions_of_a_conditional_space_are_in_it() -> None:
    study = SearchStudy(SPACE, GaussianProcessSampler(0), "max")
    generator = np.random.default_rng(0)
    for number in range(40):
        suggestion = study.suggest()
        assert suggestion is not None and not misfits(SPACE, suggestion.configuration)
        study.observe(number, 1, float(generator.random()))
        if number % 3:
            study.pause(number)
        else:
            study.finish(number, "completed" if number % 2 else "failed")
    paused = [trial for trial in study.optuna_study.trials if trial.user_attrs.get(PAUSED)]
    assert len(paused) == 26


def test_it_is_a_sampler_of_searches_and_needs_no_torch() -> None:
    assert isinstance(SAMPLERS["gp"].build(SamplerContext(0)), GaussianProcessSampler)
    code = "import sys, tuner.algorithms._gp_sampler; sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def suggested_after(known: int, share: float) -> dict[str, Any]:
    """What is suggested where a scheduler holds so many trials, with such a share of the time over."""
    axis = optuna.distributions.FloatDistribution(0.0, 1.0)
    study = optuna.create_study(direction="maximize", sampler=GaussianProcessSampler(0, share_spent=lambda: share))
    for place in np.random.default_rng(0).random(known):
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.PRUNED,
                params={"x": float(place)},
                distributions={"x": axis},
                intermediate_values={1: -float(place)},
            )
        )
    return study.ask({"x": axis}).params


def test_with_half_of_the_time_over_fewer_trials_are_drawn_at_random() -> None:
    early, late = ([suggested_after(known, share)["x"] for known in range(8, 20)] for share in (0.49, 0.51))
    at_random = [suggested_after(known, 0.0)["x"] for known in range(8, 20)]
    assert early == at_random and sum(one != other for one, other in zip(early, late, strict=True)) > 6
    assert np.median(late) < 0.1 < np.median(early), "the least is best"
    assert suggested_after(7, 0.9) == suggested_after(7, 0.0), "too few for the model"


def test_one_sampler_can_serve_two_studies() -> None:
    shared = GaussianProcessSampler(0)
    study_of(shared, 12)
    assert [trial.params for trial in study_of(shared, 14).trials] == [
        trial.params for trial in study_of(GaussianProcessSampler(0), 14).trials
    ]
