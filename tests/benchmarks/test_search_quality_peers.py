"""Peers in the benchmark of searches: a process that speaks JSON, and KerasTuner's oracle."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from benchmarks.search_quality import peer_keras_tuner, peers
from benchmarks.search_quality.peer_process import PEERS_PYTHON, PeerPolicy, as_parameters
from benchmarks.search_quality.problems import Table
from benchmarks.search_quality.simulator import simulate
from benchmarks.search_quality.synthetic import SPACE, Synthetic
from tests.support import needs
from tuner.common.errors import TunerError
from tuner.spec.space import Choose, Integer, Real, Space, misfits

FAKE = """
import json, sys

jobs = [0, 1, 0]  # the first trial is paused after its first epoch, and goes on when the second has ended
for line in sys.stdin:
    asked = json.loads(line)
    if asked["do"] == "open":
        names, answer = [one["name"] for one in asked["parameters"]], {}
    elif asked["do"] == "next":
        number = jobs.pop(0) if jobs else None
        answer = {"number": number, "values": {name: 0.25 * (1 + (number or 0)) for name in names}}
    else:
        answer = {"goes_on": not asked["is_last"] and (asked["number"], asked["epoch"]) != (0, 1)}
    print(json.dumps({**answer, "cpu_s": 0.5}), flush=True)
"""


def table(space: Space | None = None, configurations: int = 30, epochs: int = 3) -> Table:
    """A value is the place of the first hyperparameter, reached over the epochs; an epoch takes two seconds."""
    space = space or {"x": Real(0.0, 1.0)}
    unit = np.repeat(np.linspace(0, 1, configurations)[:, None], len(space), axis=1)
    values = unit[:, :1] * (1 - 0.5 ** np.arange(1, epochs + 1))[None, :]
    return Table("toy-1", space, unit, values, np.full((configurations, epochs), 2.0))


@pytest.fixture
def fake(tmp_path):
    path = tmp_path / "fake.py"
    path.write_text(FAKE)
    return [sys.executable, str(path)]


def test_a_process_decides_and_a_paused_trial_goes_on_where_it_was(fake) -> None:
    policy = PeerPolicy(fake, "any", table(), 0)
    found = simulate(table(), policy, slots=1, budget_s=1e9, seed=0, cpu_s=policy.cpu_s)
    policy.close()
    assert (found.trials, found.epochs) == (2, 6)
    assert [(asked.seconds, asked.trials) for asked in found.asked] == [(0.0, 1), (2.0, 2), (8.0, 2)]
    assert found.steps[-1].best == pytest.approx(0.5 * 0.875, abs=0.02), "the second trial is at 0.5"


def test_a_process_that_ends_is_told_with_its_last_words() -> None:
    program = "import sys; sys.stdin.readline(); sys.exit('no such scheduler')"
    with pytest.raises(TunerError, match="a peer's process must answer with JSON; got '' and no such scheduler"):
        PeerPolicy([sys.executable, "-c", program], "any", table(), 0)


def test_a_process_that_says_something_else_is_told() -> None:
    program = "input(); print('hello')"
    with pytest.raises(TunerError, match=r"got 'hello\\n' and no words"):
        PeerPolicy([sys.executable, "-c", program], "any", table(), 0)


def test_a_peer_without_conditions_gets_every_parameter_under_its_qualified_name() -> None:
    space: Space = {"model": Choose({"a": {"depth": Integer(2, 6, step=2)}, "b": {"rate": Real(0.1, 1.0, log=True)}})}
    assert as_parameters(space) == [
        {"name": "model", "kind": "choice", "values": ["a", "b"]},
        {"name": "model.a.depth", "kind": "choice", "values": [2, 4, 6]},
        {"name": "model.b.rate", "kind": "real", "low": 0.1, "high": 1.0, "log": True},
    ]


def test_what_is_not_at_hand_is_left_out_with_a_reason(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv(PEERS_PYTHON, raising=False)
    assert str(peers.left_out("Syne Tune: DyHPO")).endswith("it is not set")
    monkeypatch.setenv(PEERS_PYTHON, str(tmp_path / "python"))
    assert str(peers.left_out("Syne Tune: DyHPO")).endswith("python is not there")
    monkeypatch.setenv(PEERS_PYTHON, sys.executable)
    assert peers.left_out("Syne Tune: DyHPO") is None and peers.left_out("random") is None
    monkeypatch.setattr(peer_keras_tuner.importlib.util, "find_spec", lambda name: None)
    assert "keras_tuner must be installed" in str(peers.left_out(peers.KERAS_TUNER))


class Watched(peer_keras_tuner.KerasTunerPolicy):
    """Keeps what it was told."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.reports: list[tuple[int, int, float]] = []

    def report(self, number, epoch, value, best, seconds, is_last):
        self.reports.append((number, epoch, value))
        return super().report(number, epoch, value, best, seconds, is_last)


def test_keras_tuners_first_bracket_halves_and_its_winners_train_on() -> None:
    problem = table(epochs=9)
    policy = Watched(problem, 1, 0)
    simulate(problem, policy, slots=1, budget_s=2.0 * 21, seed=0)
    policy.close()
    first, second, third = policy.reports[:9], policy.reports[9:15], policy.reports[15:21]
    assert [(number, epoch) for number, epoch, _ in first] == [(number, 1) for number in range(9)]
    best = sorted(range(9), key=lambda number: -first[number][2])
    assert [(number, epoch) for number, epoch, _ in second] == [(one, epoch) for one in best[:3] for epoch in (2, 3)]
    assert [(number, epoch) for number, epoch, _ in third] == [(best[0], epoch) for epoch in range(4, 10)]


def test_keras_tuner_searches_conditional_spaces_on_several_workers_and_repeats_itself() -> None:
    searches = []
    for _ in range(2):
        policy = peer_keras_tuner.KerasTunerPolicy(Synthetic(0), 4, 3)
        jobs = [policy.next_job() for _ in range(4)]
        assert all(isinstance(job, tuple) and not misfits(SPACE, job[1]) for job in jobs)
        assert [job[0] for job in jobs] == [0, 1, 2, 3]
        searches.append(jobs)
        policy.close()
    assert searches[0] == searches[1]


@pytest.mark.parametrize("name", peers.SYNE_TUNE)
def test_syne_tune_pauses_promotes_and_repeats_itself(name) -> None:
    needs.at_hand(peers.left_out(name))  # its libraries do not go with ours: it has an environment of its own
    searches = []
    for _ in range(2):
        problem = table(epochs=9)
        policy = peers.PEERS[name](problem, 2, 1)
        searches.append(simulate(problem, policy, slots=2, budget_s=2.0 * 15, seed=1))
        assert isinstance(policy, PeerPolicy)
        policy.close()
    assert searches[0].steps == searches[1].steps
    assert len(searches[0].asked) > searches[0].trials or name.endswith("CQR"), "all but CQR go on with paused trials"
