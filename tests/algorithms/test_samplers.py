"""What every sampler must do, whichever it is."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState

from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.study import Queued, SearchStudy
from tuner.spec.space import Choice, Choose, Configuration, Integer, Real, misfits

SPACE = {
    "learning_rate": Real(1e-4, 1e-1, log=True),
    "dropout": Real(0.0, 0.6),
    "batch_size": Choice((32, 64, 128)),
    "warm_up": Integer(0, 10, 5),
    "width": Integer(8, 512, log=True),
    "flip": Choice((True, False)),
    "constant": Choice((None,)),
    "architecture": Choose(
        {
            "cnn": {"blocks": Integer(1, 4), "norm": Choose({"batch": {"momentum": Real(0.5, 0.9)}, "none": {}})},
            "dense": {"units": Choice((64, 128))},
            "linear": {},
        }
    ),
}


def value(configuration: Configuration, epoch: int) -> float:
    return float(configuration["dropout"]) * (1 - 0.5**epoch)


def search(name: str, seed: int, number: int = 30) -> list[Configuration]:
    """The configurations that a sampler suggests when some trials end by themselves, some are stopped, some fail."""
    study = SearchStudy(SPACE, SAMPLERS[name].build(SamplerContext(seed)), "max")
    configurations = []
    for _ in range(number):
        suggestion = study.suggest()
        configurations.append(suggestion.configuration)
        status = ("completed", "stopped", "completed", "failed")[suggestion.number % 4]
        for epoch in range(1, {"completed": 5, "stopped": 3, "failed": 2}[status]):
            study.observe(suggestion.number, epoch, value(suggestion.configuration, epoch))
        study.finish(suggestion.number, status)
    return configurations


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_suggests_configurations_of_a_mixed_conditional_space(name):
    configurations = search(name, seed=0)
    assert [misfits(SPACE, configuration) for configuration in configurations] == [[]] * 30
    assert len({repr(configuration) for configuration in configurations}) > 25, "it does not repeat itself"
    assert {configuration["architecture"] for configuration in configurations} == {"cnn", "dense", "linear"}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_a_function_of_its_seed(name):
    assert search(name, seed=3, number=15) == search(name, seed=3, number=15)
    assert search(name, seed=3, number=15) != search(name, seed=4, number=15)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_suggests_while_trials_run_and_after_a_given_configuration(name):
    given = {"learning_rate": 1e-3, "dropout": 0, "batch_size": 32, "warm_up": 0, "width": 8, "flip": True,
             "constant": None, "architecture": "linear"}  # fmt: skip
    study = SearchStudy(SPACE, SAMPLERS[name].build(SamplerContext(0)), "min", [Queued(given, "baseline")])
    suggestions = [study.suggest() for _ in range(8)]
    assert suggestions[0].configuration == given
    assert all(misfits(SPACE, suggestion.configuration) == [] for suggestion in suggestions)
    assert {trial.state for trial in study.optuna_study.trials} - {TrialState.FAIL} == {TrialState.RUNNING}


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_goes_on_when_all_trials_fail(name):
    study = SearchStudy(SPACE, SAMPLERS[name].build(SamplerContext(0)), "max")
    for _ in range(20):
        suggestion = study.suggest()
        study.finish(suggestion.number, "failed")
    assert misfits(SPACE, study.suggest().configuration) == []
