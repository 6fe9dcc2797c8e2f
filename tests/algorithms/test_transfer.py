"""Earlier studies as a prior and as a portfolio."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.algorithms._encoding import Encoding
from tuner.algorithms._gp_sampler import RANDOM_TRIALS, GaussianProcessSampler
from tuner.algorithms._observations import Observations
from tuner.algorithms._transfer import (
    LEAST_TRIALS,
    TransferPrior,
    best_of_each,
    earlier_models,
    fitted_with_prior,
    guided,
    judged,
    portfolio,
)
from tuner.algorithms.tpe import FAILED

LOWEST = np.zeros(1, int)
AXES = {"x": FloatDistribution(0.0, 1.0), "y": FloatDistribution(0.0, 1.0)}


def value(x: float, y: float, best: tuple[float, float]) -> float:
    return 1 - (x - best[0]) ** 2 - (y - best[1]) ** 2


def study_with(best: tuple[float, float], trials: int = 40, seed: int = 0) -> list[FrozenTrial]:
    """Random trials of a bump at `best`."""
    places = np.random.default_rng(seed).random((trials, 2))
    return [
        create_trial(
            state=TrialState.COMPLETE,
            value=value(x, y, best),
            params={"x": float(x), "y": float(y)},
            distributions=AXES,
        )
        for x, y in places
    ]


def points(*places: tuple[float, float]) -> np.ndarray:
    return Encoding(AXES).points(np.array(places))


def test_a_model_of_an_earlier_study_knows_where_it_was_good():
    (model,) = earlier_models([study_with((0.2, 0.8))], Encoding(AXES), mode="max")
    near, far = model(points((0.2, 0.8), (0.9, 0.1)))
    assert near > 1 > 0 > far
    (opposite,) = earlier_models([study_with((0.2, 0.8))], Encoding(AXES), mode="min")
    assert opposite(points((0.2, 0.8))) < opposite(points((0.9, 0.1)))


def test_a_study_of_too_few_trials_has_no_model_and_nothing_to_propose():
    few = study_with((0.2, 0.8), LEAST_TRIALS - 1)
    assert earlier_models([few], Encoding(AXES), mode="max") == []
    assert portfolio(judged([few], Encoding(AXES), 5, mode="max"), 5) == []
    assert TransferPrior([], points((0.5, 0.5)), LOWEST, np.ones(1))(points((0.1, 0.1)), LOWEST) == pytest.approx([0.0])


def test_the_study_that_agrees_gets_the_weight_and_nothing_is_believed_before_there_is_evidence():
    encoding = Encoding(AXES)
    models = earlier_models([study_with((0.1, 0.1)), study_with((0.9, 0.9))], encoding, mode="max")
    ends = points((0.1, 0.1), (0.9, 0.9))
    begun = TransferPrior(models, points((0.5, 0.5)), LOWEST, np.zeros(1))
    assert begun.used == 0 and begun(ends, LOWEST) == pytest.approx([0, 0])
    seen = np.random.default_rng(1).random((30, 2))
    targets = np.array([value(x, y, (0.9, 0.9)) for x, y in seen])
    standard = (targets - targets.mean()) / targets.std()
    informed = TransferPrior(models, encoding.points(seen), np.zeros(30, int), standard)
    assert informed.used == 1 and np.diff(informed(ends, LOWEST)) > 1


@pytest.mark.parametrize(("best", "is_used"), [((0.25, 0.75), True), ((0.9, 0.1), False)])
def test_a_prior_is_used_when_it_makes_the_trials_more_probable(best, is_used):
    encoding = Encoding(AXES)
    models = earlier_models([study_with((0.2, 0.8))], encoding, mode="max")
    seen = np.random.default_rng(1).random((12, 2))
    targets = np.array([value(x, y, best) for x, y in seen])
    standard = (targets - targets.mean()) / targets.std()
    observations = Observations(np.arange(12), np.zeros(12, int), standard)
    _, prior = fitted_with_prior(models, encoding.points(seen), observations, encoding.groups)
    assert (prior is not None) == is_used


def test_a_portfolio_is_good_for_every_study_before_it_is_better_for_one():
    bests = [(0.1, 0.5), (0.9, 0.5), (0.5, 0.5), (0.3, 0.5), (0.7, 0.5)]
    studies = [study_with(best, seed=seed) for seed, best in enumerate(bests)]
    chosen = [trial.params for trial in portfolio(judged(studies, Encoding(AXES), 5, mode="max"), 5)]
    assert len(chosen) == 5
    for best in bests:
        assert max(value(one["x"], one["y"], best) for one in chosen) > 0.9


def test_the_portfolio_of_one_study_is_among_its_best_trials():
    study = study_with((0.2, 0.8))
    chosen = [trial.values[0] for trial in portfolio(judged([study], Encoding(AXES), 5, mode="max"), 5)]
    assert min(chosen) >= sorted(trial.values[0] for trial in study)[-8]


def test_studies_with_nothing_in_common_propose_nothing():
    corners = [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)]
    apart = [study_with(best, seed=seed) for seed, best in enumerate(corners)]
    alike = [study_with((0.2 + seed / 50, 0.8), seed=seed) for seed in range(4)]
    assert portfolio(judged(apart, Encoding(AXES), 3, mode="max"), 3) == []
    assert len(portfolio(judged(alike, Encoding(AXES), 3, mode="max"), 3)) == 3


def test_the_sampler_goes_where_earlier_studies_were_good_and_leaves_it_when_it_is_wrong():
    def values_of(earlier: list[list[FrozenTrial]], best: tuple[float, float], trials: int) -> np.ndarray:
        found = []
        for seed in range(6):
            study = optuna.create_study(direction="maximize", sampler=GaussianProcessSampler(seed, earlier=earlier))
            study.optimize(
                lambda trial: value(trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1), best), trials
            )
            found.append([trial.value for trial in study.trials])
        return np.array(found)

    right, wrong, place = [study_with((0.2, 0.8))], [study_with((0.9, 0.1))], (0.25, 0.75)
    first_modelled = slice(RANDOM_TRIALS, RANDOM_TRIALS + 2)
    assert values_of(right, place, 10)[:, first_modelled].mean() > values_of([], place, 10)[:, first_modelled].mean()
    assert values_of(wrong, place, 30).max(axis=1).mean() > 0.98


def first_trials(
    earlier: list[list[FrozenTrial]], direction: str = "maximize", trials: int = RANDOM_TRIALS
) -> np.ndarray:
    """Where a search begins that never sees anything good: [trials, 2]."""
    study = optuna.create_study(direction=direction, sampler=GaussianProcessSampler(0, earlier=earlier))
    for _ in range(trials):
        study.ask(AXES)
    return np.array([[trial.params["x"], trial.params["y"]] for trial in study.trials])


def test_a_search_begins_where_alike_studies_were_good_but_not_only_there():
    alike = [study_with((0.2 + seed / 50, 0.8), seed=seed) for seed in range(4)]
    guided_places, at_random = first_trials(alike, trials=60), first_trials([], trials=60)
    far = np.linalg.norm(guided_places - [0.23, 0.8], axis=1)
    assert far.mean() < 0.75 * np.linalg.norm(at_random - [0.23, 0.8], axis=1).mean()
    assert far.max() > 0.5
    assert np.linalg.norm(first_trials(alike, "minimize", 60) - [0.23, 0.8], axis=1).mean() > 1.5 * far.mean()


KIND = CategoricalDistribution(("quick", "slow"))
BRANCHES = {"kind": KIND, "quick.x": AXES["x"], "slow.x": AXES["x"]}


def study_with_branches(seed: int) -> list[FrozenTrial]:
    """Random trials in two branches, of which one is always ahead; in both, large values are best."""
    drawn = np.random.default_rng(seed).random(40)
    return [
        create_trial(
            state=TrialState.COMPLETE,
            value=float(x) + 10.0 * (kind == "quick"),
            params={"kind": kind, f"{kind}.x": float(x)},
            distributions={"kind": KIND, f"{kind}.x": AXES["x"]},
        )
        for x, kind in zip(drawn, ["quick", "slow"] * 20, strict=True)
    ]


def encoding_of(studies: list[list[FrozenTrial]]) -> Encoding:
    """The branches, and what these studies show of the conditions under which parameters exist."""
    encoding = Encoding(BRANCHES)
    encoding.learn(np.array([encoding.row(trial.params) for one in studies for trial in one]))
    return encoding


@pytest.mark.parametrize("first", range(0, 10, 2))
def test_of_a_branch_that_is_behind_everywhere_the_best_is_taken_and_not_the_first(first):
    studies = [study_with_branches(seed) for seed in range(first, first + 2)]
    best = best_of_each(judged(studies, encoding_of(studies), mode="max"), lambda trial: trial.params["kind"])
    assert [trial.params["kind"] for trial in best] == ["quick", "slow"]
    assert best[1].params["slow.x"] > 0.9


def test_what_fills_a_portfolio_when_nothing_is_left_to_gain_is_the_best_of_the_rest():
    study = study_with((0.2, 0.8), LEAST_TRIALS)
    chosen = [trial.values[0] for trial in portfolio(judged([study], Encoding(AXES), 6, mode="max"), 6)]
    assert sorted(chosen) == sorted(trial.values[0] for trial in study)[-6:]


def failed(trial: FrozenTrial) -> FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED, params=trial.params, distributions=trial.distributions, user_attrs={FAILED: True}
    )


def test_what_failed_is_never_what_is_tried_first():
    whole = study_with_branches(0)
    quick_alone = [failed(trial) if trial.params["kind"] == "slow" else trial for trial in whole]
    best = best_of_each(judged([quick_alone], encoding_of([whole]), mode="max"), lambda trial: trial.params["kind"])
    assert [trial.params["kind"] for trial in best] == ["quick"]
    few = [failed(trial) if number > 2 else trial for number, trial in enumerate(study_with((0.2, 0.8), LEAST_TRIALS))]
    chosen = portfolio(judged([few], Encoding(AXES), 5, mode="max"), 5)
    assert {trial.state for trial in chosen} == {TrialState.COMPLETE}
    nothing = [failed(trial) for trial in whole]
    assert portfolio(judged([nothing], encoding_of([whole]), 5, mode="max"), 5) == []


def test_guided_draws_keep_to_a_branch_that_is_drawn_evenly_and_go_where_it_was_good():
    studies = [study_with_branches(seed) for seed in range(2)]
    encoding = encoding_of(studies)
    models, generator = earlier_models(studies, encoding, mode="max"), np.random.default_rng(0)
    rows = [encoding.parameters(guided(models, encoding, generator)) for _ in range(200)]
    assert 80 < sum(one["kind"] == "slow" for one in rows) < 120
    assert all(np.mean([one[f"{kind}.x"] for one in rows if one["kind"] == kind]) > 0.7 for kind in ("quick", "slow"))


def test_guided_draws_take_architectures_evenly_also_where_none_has_parameters_of_its_own():
    axes = {"x": AXES["x"], "architecture": CategoricalDistribution(("cnn", "dense"))}
    study = [
        create_trial(
            state=TrialState.COMPLETE,
            value=float(x) + 10.0 * (name == "cnn"),
            params={"x": float(x), "architecture": name},
            distributions=axes,
        )
        for x, name in zip(np.random.default_rng(0).random(40), ["cnn", "dense"] * 20, strict=True)
    ]
    encoding, generator = Encoding(axes), np.random.default_rng(0)
    models = earlier_models([study], encoding, mode="max")
    rows = [encoding.parameters(guided(models, encoding, generator)) for _ in range(200)]
    assert 80 < sum(one["architecture"] == "dense" for one in rows) < 120
    assert all(np.mean([one["x"] for one in rows if one["architecture"] == name]) > 0.7 for name in ("cnn", "dense"))


def test_studies_with_nothing_in_common_leave_the_first_trials_as_they_were():
    apart = [study_with(best, seed=seed) for seed, best in enumerate([(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)])]
    assert first_trials(apart).tolist() == first_trials([]).tolist()


def test_suggestions_after_a_warm_start_follow_from_seed_and_study_alone():
    def suggestions(number: int) -> list[dict[str, float]]:
        sampler = GaussianProcessSampler(3, earlier=[study_with((0.2, 0.8))])
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.optimize(
            lambda trial: value(trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1), (0, 0)), number
        )
        return [trial.params for trial in study.trials]

    assert suggestions(11) == suggestions(11)
