"""The benchmark of searches: rows that grow, runs that go on, one search for all budgets, tables of what compares."""

from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from benchmarks.search_quality import __main__ as command
from benchmarks.search_quality import lead, searches
from benchmarks.search_quality.plot import curve, draw, styles
from benchmarks.search_quality.policies import POLICIES
from benchmarks.search_quality.problems import Table
from benchmarks.search_quality.report import REFERENCES, Group, by_group, shared, tables
from benchmarks.search_quality.rows import SHARES, Found, Row, append_rows, found, once, read_rows, write_rows
from benchmarks.search_quality.searches import Progress, Wanted, search, wanted
from benchmarks.search_quality.simulator import Search, Step
from tuner.common.errors import InputError
from tuner.spec.space import Real


def rows(policy: str = "random", seed: int = 0, regret: float = 0.5, budget: float = 20.0, problem: str = "toy-1"):
    return [Row(policy, problem, 4, budget, seed, share, regret * (2 - share), 7, 0.0, 1.5) for share in SHARES]


@pytest.fixture
def toy(monkeypatch) -> Table:
    unit = np.linspace(0, 1, 200)[:, None]
    values = unit * (1 - 0.5 ** np.arange(1, 10))[None, :]
    made = Table("toy-1", {"x": Real(0.0, 1.0)}, unit, values, np.full((200, 9), 2.0))
    monkeypatch.setitem(searches._PROBLEMS, ("toy-1", 0.0), made)
    return made


def test_rows_come_back_as_they_were_written(tmp_path) -> None:
    path = tmp_path / "rows.csv"
    write_rows(rows(), path)
    append_rows(rows(seed=1), path)
    assert read_rows(path) == rows() + rows(seed=1)
    assert read_rows(tmp_path / "none.csv") == []


@pytest.mark.parametrize("torn", [5, 40, 90])
def test_a_search_whose_last_line_was_torn_counts_as_never_made(tmp_path, torn) -> None:
    path = tmp_path / "rows.csv"
    write_rows(rows() + rows(seed=1), path)
    path.write_text(path.read_text()[:-torn])
    assert read_rows(path) == rows()


def test_other_columns_are_refused(tmp_path) -> None:
    (tmp_path / "rows.csv").write_text("policy,regret\nrandom,0.1\n")
    with pytest.raises(InputError, match=r"must have the columns policy, problem, .*; got policy, regret"):
        read_rows(tmp_path / "rows.csv")


def test_of_what_was_searched_twice_the_first_counts() -> None:
    assert once(rows() + rows(regret=0.1)) == rows()


def test_only_the_budgets_that_are_missing_are_searched() -> None:
    done = {found(row) for row in rows("a", budget=10.0) + rows("a", seed=1, budget=10.0) + rows("a", budget=20.0)}
    assert wanted(["a", "b"], ["toy-1"], [4], [10.0, 20.0], 2, 0.0, done) == [
        Wanted(0, "toy-1", 4, "b", 0.0, (10.0, 20.0)),
        Wanted(1, "toy-1", 4, "a", 0.0, (20.0,)),
        Wanted(1, "toy-1", 4, "b", 0.0, (10.0, 20.0)),
    ]


@pytest.mark.parametrize(
    "policy",
    [
        "random + asha(1,3)",
        "tpe + asha(1,3)",
        "gp + asha(1,2)",
        "gp per second + asha(1,2), budget known",
        *list(REFERENCES)[1:],
    ],
)
def test_a_search_to_a_large_budget_has_the_one_to_a_small_budget_inside(toy, policy) -> None:
    one = Wanted(3, "toy-1", 4, policy, 0.0, (2.0, 5.0))
    both = search(one).rows
    alone = search(one._replace(budgets=(2.0,))).rows
    assert [row._replace(suggestion_ms=0) for row in both if row.budget == 2.0] == [
        row._replace(suggestion_ms=0) for row in alone
    ]
    assert len(both) == 2 * len(SHARES) and both[-1].trials > both[0].trials and both[-1].regret < 0.3
    assert both[0].suggestion_ms > 0


def test_a_problem_is_searched_by_all_policies_before_the_next_one() -> None:
    ahead = wanted(["a", "b"], ["toy-1", "toy-2"], [4], [10.0], 2, 0.0, set())
    places = [(one.seed, one.problem, one.policy) for one in ahead]
    assert places == sorted(places) and len(places) == 8


def test_the_time_left_is_what_each_policy_took() -> None:
    ahead = [Wanted(seed, "toy-1", 4, policy, 0.0, (20.0,)) for seed in range(2) for policy in ("fast", "slow", "new")]
    progress = Progress(ahead, processes=2)
    progress.finished(ahead[0], 60)
    assert progress.finished(ahead[1], 600) == "2 of 6 searches, about 11 min left", "(1 + 10 + 2 * 5.5) / 2"


def test_a_run_that_was_ended_goes_on_where_it_was(toy, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(command, "suite", lambda name, noise: [toy])
    options = ["--policies", "random", "random + asha(1,3)", "--suites", "synthetic", "--processes", "1"]
    arguments = [*options, "--seeds", "2", "--budgets", "1", "2", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["search_quality", *arguments])
    command.main()
    first = capsys.readouterr()
    assert "4 of 4 searches, about 0 min left" in first.err
    assert "## toy, 4 slots: 1 problems x 2 seeds, 1 full trainings" in first.out
    file = tmp_path / "rows.csv"
    everything = read_rows(file)
    file.write_text(file.read_text()[:-30])
    command.main()
    again = capsys.readouterr()
    assert "1 of 1 searches" in again.err, "the torn one"
    assert {row._replace(suggestion_ms=0) for row in read_rows(file)} == {
        row._replace(suggestion_ms=0) for row in everything
    }
    assert (tmp_path / "search_quality.md").read_text() == again.out[:-1]
    monkeypatch.setattr(command, "search", lambda one: pytest.fail("all is there"))
    command.main()


def test_rows_of_other_runs_are_shown_too_and_a_wrong_file_ends_with_status_2(toy, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "suite", lambda name, noise: [toy])
    write_rows(rows("another"), tmp_path / "rows.csv")
    options = ["--policies", "random", "--suites", "synthetic", "--processes", "1", "--seeds", "1", "--also"]
    monkeypatch.setattr("sys.argv", ["search_quality", *options, str(tmp_path / "rows.csv")])
    command.main()
    assert "| another |" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*sys.argv[:-4], "--seeds", "0", *sys.argv[-2:]])
    command.main()
    shown = capsys.readouterr().out
    assert "| another |" in shown and "| random |" not in shown
    (tmp_path / "rows.csv").write_text("x\n")
    with pytest.raises(SystemExit, match="2"):
        command.main()
    monkeypatch.setattr("sys.argv", sys.argv[:-2])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "nothing is left" in capsys.readouterr().err


def test_budget_factors_are_counted_against_random_search_and_against_ray() -> None:
    random, ray = REFERENCES
    assert {random, ray} <= set(POLICIES)
    text = tables(rows(random, regret=0.4) + rows(ray, regret=0.2) + rows("ours", regret=0.1))
    assert "| rank | vs random | vs Ray | trials | ms |" in text
    assert "| ours | 0.190 | 0.175 | 0.150 | 0.100 | 0.100 | 0.100 | 1.0 | 20.0 | 20.0 | 7 | 1.5 |" in text
    assert "| random | 0.760 | 0.700 | 0.600 | 0.400 | 0.400 | 0.400 | 3.0 | 1.0 | < 1 | 7 | 1.5 |" in text


def test_policies_are_compared_on_what_all_of_them_have_searched() -> None:
    some = rows("a") + rows("a", seed=1, regret=0.9) + rows("b")
    assert {row.seed for row in shared(some)} == {0}
    assert "1 problems x 1 seeds" in tables(some)
    assert "Not counted: 1 searches of problems and seeds that not all policies have." in tables(some)
    assert "cannot be compared" in tables(rows("a") + rows("b", seed=1))
    assert "cannot be compared" not in tables(some) and "Not counted" not in tables(rows("a") + rows("b"))


def test_groups_are_told_apart_by_noise_too() -> None:
    noisy = [row._replace(noise=0.03) for row in rows()]
    assert [group.title() for group in by_group(rows() + noisy)] == ["toy, 4 slots", "toy with 3% noise, 4 slots"]


def test_all_budgets_of_a_policy_make_one_curve() -> None:
    groups = {Group("toy", 0.0, 4, budget): rows(budget=budget) for budget in (10.0, 20.0)}
    points = curve(groups, "random")
    assert list(points) == sorted({share * budget for share in SHARES for budget in (10.0, 20.0)})
    assert points[20.0] == 0.5


def test_every_policy_is_drawn_in_a_way_that_is_told_apart_without_colours(tmp_path) -> None:
    looks = styles(list(POLICIES))
    assert len({(look["marker"], str(look["linestyle"])) for look in looks.values()}) == len(POLICIES)
    assert len({look["marker"] for look in looks.values()}) >= 13
    both = [row for slot in (4, 16) for name in POLICIES for row in (one._replace(slots=slot) for one in rows(name))]
    draw(both, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 20_000


def test_a_search_is_known_by_its_policy_problem_slots_budget_seed_and_noise() -> None:
    assert found(rows()[0]) == Found("random", "toy-1", 4, 20.0, 0, 0.0)


def test_the_lead_is_the_share_of_the_others_time_to_its_best():
    slow = Search([Step(10.0, 1, 0.5), Step(40.0, 4, 0.8), Step(50.0, 5, 0.75)])
    assert lead.share_of_time(Search([Step(10.0, 1, 0.9)]), slow) == 0.25
    assert lead.share_of_time(slow, slow) == 1.0
    assert lead.share_of_time(Search([Step(5.0, 1, 0.7)]), slow) == math.inf
    assert list(lead.table([("a-b-1", 0.5), ("a-b-2", math.inf), ("c", 0.1)]))[2:] == [
        "| all | 3 | 0.50 | 1 |",
        "| a-b | 2 | inf | 1 |",
        "| c | 1 | 0.10 | 0 |",
    ]


def test_a_policy_leads_itself_by_nothing(toy, monkeypatch, capsys):
    monkeypatch.setattr(lead, "suite", lambda *_: [toy])
    monkeypatch.setattr(lead, "ProcessPoolExecutor", ThreadPoolExecutor)
    words = ["--policy", "random", "--than", "random", "--suites", "lcbench", "--seeds", "2", "--budgets", "2"]
    lead.main(words)
    assert "| all | 2 | 1.00 | 0 |" in capsys.readouterr().out
