"""The benchmark of searches in simulated time: its clock, its problems, its figures."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.search_quality import warm
from benchmarks.search_quality.peers import SYNE_TUNE
from benchmarks.search_quality.plot import draw
from benchmarks.search_quality.policies import OF_SUITE, POLICIES, SERIES, quiet
from benchmarks.search_quality.problems import LCBENCH, LCBENCH_SPACE, Curve, Table, lcbench, place_of
from benchmarks.search_quality.report import Group, budget_factor, by_group, mean_ranks, tables
from benchmarks.search_quality.rows import Row
from benchmarks.search_quality.searches import Wanted, search, suite
from benchmarks.search_quality.simulator import Clock, simulate
from benchmarks.search_quality.synthetic import SPACE, Synthetic
from tuner.spec.space import Real, sample


@pytest.fixture(autouse=True)
def without_words() -> None:
    quiet()


def table(configurations: int = 30, epochs: int = 9, noise: float = 0.0) -> Table:
    """One hyperparameter; a value is its place, reached over the epochs; an epoch takes two seconds."""
    unit = np.linspace(0, 1, configurations)[:, None]
    values = unit * (1 - 0.5 ** np.arange(1, epochs + 1))[None, :]
    return Table("toy-1", {"x": Real(0.0, 1.0)}, unit, values, np.full((configurations, epochs), 2.0), noise)


class Scripted:
    """Two trials, the first of which is paused after its first epoch and goes on when the second has ended."""

    def __init__(self) -> None:
        self.jobs: list[tuple[int, dict[str, float]] | str | None] = [(0, {"x": 0.2}), (1, {"x": 0.9}), (0, {"x": 0.2})]
        self.reports: list[tuple[int, int, float]] = []

    def next_job(self):
        return self.jobs.pop(0) if self.jobs else "no more"

    def report(self, number, epoch, value, best, seconds, is_last):
        self.reports.append((number, epoch, value))
        return (number, epoch) != (0, 1)


def test_one_slot_trains_one_epoch_after_the_other_and_a_paused_trial_goes_on_where_it_was() -> None:
    policy = Scripted()
    found = simulate(table(epochs=3), policy, slots=1, budget_s=1e9, seed=0)
    assert [(number, epoch) for number, epoch, _ in policy.reports] == [(0, 1), (1, 1), (1, 2), (1, 3), (0, 2), (0, 3)]
    assert (found.trials, found.epochs) == (2, 6)
    assert [step.seconds for step in found.steps] == [2.0, 4.0, 6.0, 8.0], "better at each of the second trial's epochs"


def test_nothing_counts_after_the_budget() -> None:
    found = simulate(table(epochs=3), Scripted(), slots=2, budget_s=4.5, seed=0)
    assert found.epochs == 4, "two slots, two seconds an epoch"
    assert np.isnan(found.best_at(1.9)) and found.best_at(2.0) == found.steps[1].best


def test_a_policy_that_knows_the_budget_is_told_how_much_of_it_is_over() -> None:
    policy, shares = Scripted(), []
    policy.clock = Clock()
    policy.report = lambda *one: shares.append(policy.clock.share) or one[1] < 3
    simulate(table(epochs=3), policy, slots=1, budget_s=8.0, seed=0)
    assert shares == [0.0, 0.25, 0.5, 0.75], "as it was when the epoch began"


def test_what_was_found_counts_without_the_noise_that_it_was_chosen_by() -> None:
    noisy, exact = table(epochs=3, noise=0.5), table(epochs=3)
    found = simulate(noisy, Scripted(), slots=1, budget_s=1e9, seed=0)
    known = {float(value) for value in exact.values.flat}
    assert found.steps and all(step.best in known for step in found.steps)


def test_a_configuration_is_answered_by_the_nearest_that_the_search_has_not_had() -> None:
    curves = table().opened(0)
    first, second, third = (curves.curve({"x": 0.5}).values[-1] for _ in range(3))
    assert len({first, second, third}) == 3
    assert max(abs(value / (1 - 0.5**9) - 0.5) for value in (first, second, third)) < 0.06


def test_noise_belongs_to_the_search_and_is_of_the_size_that_is_asked_for() -> None:
    noisy = table(configurations=200, noise=0.03)
    curves = [noisy.opened(seed).curve({"x": 0.5}).values for seed in (0, 0, 1)]
    assert np.array_equal(curves[0], curves[1]) and not np.array_equal(curves[0], curves[2])
    opened, exact = noisy.opened(0), table(configurations=200).opened(0)
    differences = [
        opened.curve({"x": place}).values - exact.curve({"x": place}).values for place in np.linspace(0, 1, 200)
    ]
    assert np.std(differences) == pytest.approx(0.03 * (noisy.best - noisy.reference), rel=0.1)


@pytest.fixture(scope="module")
def problem() -> Synthetic:
    """One whose best value is known already."""
    made = Synthetic(0)
    assert made.reference < made.best
    return made


@pytest.mark.parametrize(  # Syne Tune's are tested as peers
    "name", [name for name in POLICIES if name not in SYNE_TUNE and OF_SUITE.get(name, "synthetic") == "synthetic"]
)
def test_every_policy_searches_a_conditional_space(name, problem, monkeypatch) -> None:
    monkeypatch.setattr(warm, "EARLIER_BUDGET", 1)
    found = simulate(problem, POLICIES[name](problem, 4, 0), 4, problem.full_training_s, 0)
    assert found.trials > 3 and found.steps and found.steps[-1].best <= problem.best * 1.1


def test_a_series_learns_from_so_many_studies_of_so_many_configurations(problem, monkeypatch) -> None:
    def begun(earlier, *_others, **_more):
        return earlier

    monkeypatch.setattr(warm, "EARLIER_BUDGET", 1)
    monkeypatch.setattr(warm, "begun_with", begun)
    few, many = (warm.warm_started_by(problem, 4, 0, studies=one, configurations=4) for one in (3, 8))
    assert [len(one.trials) for one in few] == [4, 4, 4]
    assert len({one.name for one in few}) == 3 and problem.name not in {one.name for one in many}
    again = [one for one in many if one.name == many[0].name]
    assert len(again) == 2 and again[0] != again[1], "five others: the sixth study is another search of the first"
    assert "gp per second + asha, warm start by 30 studies of 60" in SERIES


@pytest.mark.parametrize("name", ["gp + asha(1,2)", "tpe + asha(1,3)", "random + asha(1,3)"])
def test_the_same_seed_gives_the_same_search(name, problem) -> None:
    searches = [
        simulate(problem, POLICIES[name](problem, 2, 3), 2, 2 * problem.full_training_s, 3).steps for _ in range(2)
    ]
    assert searches[0] == searches[1]


def test_synthetic_curves_cross_and_differ_from_problem_to_problem() -> None:
    generator = np.random.default_rng(0)
    configurations = [sample(SPACE, generator) for _ in range(300)]
    bests = []
    for number in range(3):
        curves: list[Curve] = [Synthetic(number).exact(configuration) for configuration in configurations]
        first, last = (np.array([curve.values[epoch] for curve in curves]) for epoch in (0, -1))
        assert 0.2 < np.corrcoef(np.argsort(np.argsort(first)), np.argsort(np.argsort(last)))[0, 1] < 0.95
        bests.append(int(np.argmax(last)))
    assert len(set(bests)) == 3


def test_what_is_held_out_is_a_suite_of_its_own() -> None:
    held_out, shown = (suite(name, 0.0) for name in ("held_out", "synthetic"))
    assert not {one.number for one in held_out} & {one.number for one in shown}
    found = search(Wanted(0, held_out[0].name, 4, "random", 0.0, (1.0,))).rows
    assert by_group(found).keys() == {Group("held_out", 0.0, 4, 1.0)}


def row(policy: str, regret: float, problem: str = "toy-1", seed: int = 0, share: float = 1.0) -> Row:
    return Row(policy, problem, 4, 20.0, seed, share, regret, 10)


def test_ranks_are_means_over_searches_and_equals_share_theirs() -> None:
    rows = [
        row("a", 0.1),
        row("b", 0.1),
        row("c", 0.3),
        row("a", 0.2, seed=1),
        row("b", 0.1, seed=1),
        row("c", 0.3, seed=1),
    ]
    assert mean_ranks(rows) == {"a": 1.75, "b": 1.25, "c": 3.0}


def test_the_budget_factor_says_how_much_sooner_a_regret_is_reached() -> None:
    assert budget_factor({0.25: 0.2, 1.0: 0.1}, 0.2) == 4
    assert budget_factor({0.5: 0.4, 1.0: 0.2}, 0.3) == pytest.approx(1 / 0.75)
    assert budget_factor({1.0: 0.4}, 0.3) is None


def test_the_table_has_the_best_policy_first_and_the_picture_is_drawn(tmp_path) -> None:
    rows = [
        row(policy, regret * (2 - share), share=share)
        for policy, regret in (("random", 0.3), ("ours", 0.1))
        for share in (0.1, 0.25, 0.5, 1.0)
    ]
    draw(rows, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000
    text = tables(rows)
    assert text.startswith("## toy, 4 slots: 1 problems x 1 seeds, 20 full trainings")
    assert text.index("| ours |") < text.index("| random |")
    assert "| ours | 0.190 | 0.175 | 0.150 | 0.100 | 0.100 | 0.100 | 1.0 | 10.0 |  | 10 | nan |" in text


def test_without_the_tables_the_reason_is_told(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv(LCBENCH, raising=False)
    assert "it is not set" in str(lcbench())
    monkeypatch.setenv(LCBENCH, str(tmp_path))
    assert "is not there" in str(lcbench())


def test_the_tables_are_read_in_the_space_that_they_were_made_in(monkeypatch, tmp_path) -> None:
    generator = np.random.default_rng(0)
    np.savez(
        tmp_path / "lcbench_tables.npz",
        unit=generator.random((1, 5, 7), dtype=np.float32),
        validation_accuracy=100 * generator.random((1, 5, 3), dtype=np.float32),
        epoch_seconds=generator.random((1, 5, 3), dtype=np.float32),
        tasks=np.array(["1"]),
    )
    monkeypatch.setenv(LCBENCH, str(tmp_path))
    found = lcbench()
    assert not isinstance(found, str)
    (only,) = found
    assert only.name == "lcbench-1" and only.max_epochs == 3 and only.best <= 1
    middle = {"batch_size": 90, "learning_rate": 10**-2.5, "momentum": 0.545, "weight_decay": 0.050005,
              "num_layers": 3, "max_units": 256, "max_dropout": 0.5}  # fmt: skip
    branch, place = place_of(only.space, middle)
    assert branch == () and place.tolist() == pytest.approx([0.5] * 7, abs=0.01) and set(middle) == set(LCBENCH_SPACE)
