"""What --plan says: figures, warnings, and the text that people see."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from tests.support.wrong_files import BACKBONE, NO_BASELINE, RIGHT, wrong
from tuner.algorithms.halving import Rung
from tuner.session._plan import most_epochs, plan_warnings, planned_rungs, print_plan
from tuner.session._resolved import ResolvedSearch, has_unfreezing, resolve
from tuner.session.checks import check_names
from tuner.spec.space import Choice, Choose, Integer, Real
from tuner.spec.spec import Spec, dump_spec, read_spec, require


def spec_of(text: str, *overrides: str) -> Spec:
    return require(read_spec(text, "f", overrides))


def resolved(text: str, *overrides: str) -> ResolvedSearch:
    return resolve(spec_of(text, *overrides))


def printed(spec: Spec, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, highlight=False)
    print_plan(resolve(spec), console)
    return console.file.getvalue()


FINITE = {8: "  learning_rate: 0.001", 11: "      dense: {dense_units: {choice: [32, 64]}}", **NO_BASELINE}
"""2 x 2 x 2 general, times 2 dense + 3 cnn: 40 configurations."""


# --- figures ---


def test_the_figures_of_a_search_without_halving():
    search = resolved(RIGHT)
    assert (search.policy.sampler.value, search.policy.scheduler.value, search.budget.trials) == ("tpe", "none", 8)
    assert planned_rungs(search) == (Rung(16, 8, 128),) and most_epochs(search) == 128


FOLDS = wrong({2: "data: {source: digits, validation: {folds: 4}}"})


def test_the_plan_says_folds():
    text = " ".join(printed(spec_of(FOLDS)).split())
    assert "digits, parted into 4 folds; the search validates on the first" in text
    assert "the best 3 and the baseline again, on each of 4 folds; then the test split" in text
    assert "seed" not in text.partition("finalists")[2].partition("space")[0]


def test_folds_of_which_one_alone_is_used_are_warned_of():
    assert any("only the first of 4 folds is used" in one for one in plan_warnings(resolved(FOLDS, "finalists=none")))


def test_a_search_with_folds_resolves_to_what_they_come_to_and_is_a_file_again():
    search = resolved(FOLDS)
    assert (search.budget.trainings_each, search.budget.folds, search.study.data.folds) == (4, 4, 4)
    written = search.specification
    assert "validation_fraction" not in written["data"] and "seeds" not in written["finalists"]
    reading = read_spec(dump_spec(written), "again")
    assert check_names(reading, {}) == [] and resolve(require(reading)) == search


@pytest.mark.parametrize("folds", range(2, 21))
def test_what_a_run_keeps_of_its_folds_contradicts_nothing(folds: int):
    reading = read_spec(dump_spec(resolved(FOLDS, f"data.validation.folds={folds}").specification))
    assert check_names(reading, {}) == [] and reading.problems == ()


def test_the_figures_of_a_search_that_halves():
    search = resolved(RIGHT, "search.scheduler=asha_stopping", "search.trials=16")
    # 16 trials for 1 epoch, 4 of them for 3 more, 1 for 12 more
    assert planned_rungs(search) == (Rung(1, 16, 16), Rung(4, 4, 28), Rung(16, 1, 40))
    assert most_epochs(search) == 256 and search.policy.grace_epochs == 1


@pytest.mark.parametrize(
    "overrides", [["search.scheduler=hyperband", "search.sampler=random"], ["search.scheduler=bohb"]]
)
def test_the_figures_of_brackets_are_theirs_whatever_the_first_rung_is_said_to_be(overrides: list[str]):
    more = [*overrides, "search.trials=8", "search.grace_epochs=3", "training.max_epochs=30"]
    search = resolved(RIGHT, *more)
    assert search.policy.rungs == (1, 4, 7, 16, 28) and search.policy.grace_epochs == 1
    # a bracket of 16 places: at epoch 1 it keeps 4 trials, at epoch 4 one, which ends at epoch 16
    assert [(rung.epoch, rung.trials) for rung in planned_rungs(search)][:4] == [(1, 8), (4, 4), (7, 1), (16, 1)]
    assert any("search.grace_epochs has no effect: the brackets of" in warning for warning in plan_warnings(search))


def test_auto_is_resolved_and_a_population_draws_at_random():
    policy = resolved(RIGHT, "search.sampler=auto", "search.scheduler=auto").policy
    assert (policy.sampler.value, policy.scheduler.value) == ("gp", "asha")
    for scheduler, sampler in {"bohb": "tpe", "pbt": "random"}.items():
        policy = resolved(RIGHT, "search.sampler=auto", f"search.scheduler={scheduler}").policy
        assert policy.sampler == (sampler, f"it goes with {scheduler}")


def test_seconds_are_weighed_where_they_are_what_is_spent_and_the_sampler_can():
    timed, untimed = "search.time_budget=1h", "search.time_budget=none"
    assert resolved(RIGHT, "search.sampler=gp", timed).policy.weighs_seconds
    assert not resolved(RIGHT, "search.sampler=gp", untimed).policy.weighs_seconds
    assert not resolved(RIGHT, "search.sampler=tpe", timed).policy.weighs_seconds
    told = "search.improvement_per_second"
    assert not resolved(RIGHT, "search.sampler=gp", timed, f"{told}=false").policy.weighs_seconds
    assert resolved(RIGHT, "search.sampler=gp", untimed, f"{told}=true").policy.weighs_seconds
    grid = resolved(wrong(FINITE), "search.sampler=auto", "search.trials=40", untimed, f"{told}=true").policy
    assert grid.sampler.value == "grid" and not grid.weighs_seconds
    words = " ".join(printed(spec_of(RIGHT, "search.sampler=gp", timed)).split())
    assert "expected improvement per second" in words


def test_auto_tries_all_of_a_small_space_unless_time_may_end_it_before():
    auto = (wrong(FINITE), "search.sampler=auto", "search.trials=40", "search.time_budget=none")
    small = resolved(*auto)
    assert small.policy.sampler == ("grid", "40 trials are enough for all 40 configurations")
    assert small.budget.trials == 40
    for override in ("search.trials=39", "search.time_budget=1h"):
        assert resolved(*auto, override).policy.sampler.value == "gp"
    assert resolved(wrong(FINITE), "search.sampler=random", "search.trials=40").policy.sampler == ("random", "")


@pytest.mark.parametrize(("trials", "expected"), [(8, 8), (40, 40), (1000, 40)])
def test_a_search_ends_when_its_space_is_used_up(trials, expected):
    for override in ("search.sampler=grid", "search.sampler=tpe", "search.time_budget=1h", "search.scheduler=pbt"):
        assert resolved(wrong(FINITE), override, f"search.trials={trials}").budget.trials == expected
    assert resolved(RIGHT, f"search.trials={trials}").budget.trials == trials


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({}, False),
        ({"unfreeze_depth": Integer(0, 0)}, False),
        ({"unfreeze_depth": Integer(0, 3)}, True),
        ({"unfreeze_depth": Choice((0,))}, False),
        ({"unfreeze_depth": Choice((0, 2))}, True),
        ({"architecture": Choose({"a": {}, "b": {"unfreeze_depth": Choice((1,))}})}, True),
        ({"depth": Integer(1, 3), "rate": Real(0.0, 1.0)}, False),
    ],
)
def test_unfreezing_is_found_wherever_it_stands(space, expected):
    assert has_unfreezing(space) is expected


ONE_BRANCH = wrong({11: "      dense: {dense_units: {choice: [32, 64]}}", 12: "", **NO_BASELINE})


@pytest.mark.parametrize(
    ("scheduler", "space", "expected"), [("asha", RIGHT, 2), ("asha", ONE_BRANCH, 3), ("asha_stopping", RIGHT, 4)]
)
def test_fewer_are_left_behind_at_a_rung_where_branches_learn_at_different_paces(scheduler, space, expected):
    spec = spec_of(space, f"search.scheduler={scheduler}")
    assert resolve(spec).policy.reduction_factor.value == expected
    words = " ".join(printed(spec).split())
    assert f"rungs at each, the best 1 of {expected} go on" in words
    assert ("auto: branches of a space learn at different paces" in words) == (expected == 2)
    given = resolved(space, f"search.scheduler={scheduler}", "search.reduction_factor=5")
    assert given.policy.reduction_factor == (5, "")


def test_grace_is_what_the_file_says_or_after_the_head_phase_where_blocks_are_unfrozen():
    assert resolved(RIGHT).policy.grace_epochs == 1
    assert resolved(wrong(BACKBONE)).policy.grace_epochs == 4
    assert resolved(RIGHT, "search.grace_epochs=7").policy.grace_epochs == 7


# --- warnings ---

GRADUAL = ["space.unfreeze=gradual"]


def warnings(text: str, *overrides: str) -> list[str]:
    return plan_warnings(resolved(text, *overrides))


def test_the_plan_names_no_baseline_where_none_is_given():
    several = "metrics: [val_accuracy, parameters]"
    for metric, best in (("metric: val_accuracy", "the best 3"), (several, "2 more of the Pareto front")):
        text = " ".join(printed(spec_of(wrong({3: metric, **NO_BASELINE}))).split())
        assert f"{best} again, with 3 seeds each; then the test split" in text


def test_the_plan_says_the_metrics_and_which_of_them_the_scheduler_compares():
    spec = spec_of(wrong({3: "metrics: [val_accuracy, parameters]", 15: "search: {trials: 8}"}))
    text = " ".join(printed(spec).split())
    assert "metrics val_accuracy (max), parameters (min): the report has their Pareto front; the scheduler" in text
    assert "the best by val_accuracy, 2 more of the Pareto front and the baseline again, with 3 seeds each" in text
    assert "warning: the scheduler stops trials by val_accuracy alone" in text
    alone = " ".join(printed(spec_of(wrong({3: "metrics: [val_accuracy]"}))).split())
    assert alone == " ".join(printed(spec_of(RIGHT)).split())


def test_a_sound_plan_has_no_warnings():
    assert warnings(RIGHT) == []


@pytest.mark.parametrize(
    ("lines", "overrides", "words"),
    [
        (NO_BASELINE, [], "no baseline is given"),
        (FINITE, ["search.trials=41"], "the space has fewer configurations (40) than search.trials (41): the"),
        ({}, ["search.trials=101"], "no time budget is given, and many trials: consider search.time_budget"),
        ({}, ["training.early_stopping=null"], "neither early stopping nor a scheduler that halves"),
        ({}, ["training.max_epochs=1", "search.scheduler=asha_stopping"], "no rung lies below max_epochs"),
        (BACKBONE, ["search.scheduler=bohb"], "compare trials at epochs 1, 4: before the head phase ends, shallow"),
        (BACKBONE, ["training.max_epochs=3"], "the head phase lasts to the end: no block will be unfrozen"),
        (BACKBONE, [*GRADUAL, "training.max_epochs=4"], "no trial unfreezes more than 1 of its blocks"),
        (
            {6: "  augment: {choose: {a: {rotate: {float: [0, 5]}}}}", **NO_BASELINE},
            ["activations.views=2"],
            "activations.views keeps views of each strength of augment; those of a range are not shared",
        ),
        (
            {9: "  architecture: {choice: [dense, cnn]}", 10: "  filters: 8", 11: "", 12: "", **NO_BASELINE},
            [],
            "filters means nothing to dense and is ignored there",
        ),
    ],
)  # fmt: skip
def test_what_is_probably_not_meant_is_a_warning(lines: dict[int, str], overrides: list[str], words: str):
    assert any(words in warning for warning in warnings(wrong(lines), *overrides))


@pytest.mark.parametrize(
    ("lines", "overrides", "words"),
    [
        (FINITE, ["search.trials=40"], "fewer configurations"),
        ({}, ["search.trials=101", "search.time_budget=1h"], "time budget"),
        ({}, ["training.early_stopping=null", "search.scheduler=asha_stopping"], "early stopping"),
        (BACKBONE, ["training.max_epochs=4"], "phase"),
        (BACKBONE, [*GRADUAL, "training.max_epochs=7"], "phase"),
        ({6: "  augment: {choose: {a: {rotate: 5}}}", **NO_BASELINE}, ["activations.views=2"], "views"),
        ({6: "  augment: {choose: {a: {rotate: {float: [0, 5]}}}}", **NO_BASELINE}, [], "views"),
    ],
)
def test_what_is_in_order_is_not(lines: dict[int, str], overrides: list[str], words: str):
    assert not any(words in warning for warning in warnings(wrong(lines), *overrides))


# --- the text ---

PRINTED = """\
study           small
data            digits, 20% for validation unless it has its own
metric          val_accuracy (max)
configurations  infinitely many
sampler         tpe: tree-structured Parzen estimator, compared at equal epochs
prior           none: only what this search sees (auto: only measured with gp and asha)
scheduler       asha_stopping: Ray's asynchronous successive halving: stops at each rung, never goes
                back
trials          8, time budget 1 h 30 min, each with 1 CPU and auto GPUs
rungs           at each, the best 1 of 4 go on
epochs          about 26, at most 128
finalists       the best 3 and the baseline again, with 3 seeds each; then the test split
time            at least 53 min 05 s for preparation and trials, at most 35 min 23 s for finalists,
                about 1 min 32 s for export and report; what does not fit is left out: seeds, then
                finalists

space
├── preprocess: choice of scale(0,1), standardise
├── augment: choice of none, shift(1)
├── batch_size: choice of 32, 64
├── learning_rate: log float 0.0001 to 0.01
└── architecture: choose one of dense, cnn
    ├── dense (a continuum of its own)
    │   ├── dense_units: choice of 32, 64
    │   └── dropout: float 0 to 0.5
    └── cnn (3 of its own)
        └── blocks: int 1 to 3

rungs (expected)
epoch  trials that train so far  epochs spent by then
    1                         8                     8
    4                         2                    14
   16                         1                    26
baseline (trial 0): preprocess standardise, augment none, batch_size 32, learning_rate 0.001, architecture cnn, blocks 2
"""


def test_the_plan_as_people_see_it():
    text = printed(spec_of(RIGHT, "search.scheduler=asha_stopping", "search.time_budget=1h30m"))
    assert [line.rstrip() for line in text.splitlines()] == PRINTED.splitlines()


@pytest.mark.parametrize("width", [40, 60, 100])
def test_nothing_is_cut_off_at_the_width(width):
    long = "resize(64)|scale(-1,1)|noise(0.1)|smooth(3)|invert|grayscale"
    text = printed(spec_of(wrong({5: f'  preprocess: {{choice: ["{long}", standardise]}}', **NO_BASELINE})), width)
    joined = "".join(line.strip(" │├└─") for line in text.splitlines())
    assert long.replace(" ", "") in joined.replace(" ", "") and "no baseline is given" in text


def test_brackets_in_a_file_are_shown_as_they_are():
    text = printed(spec_of(wrong({5: '  preprocess: {choice: ["[red]x[/red]"]}', **NO_BASELINE})))
    assert "[red]x[/red]" in text


def test_a_product_without_end_of_digits_is_told_as_a_power():
    rows = "".join(f"  p{number}: {{int: [1, 1000]}}\n" for number in range(150))
    text = printed(spec_of(f"study: s\ndata: {{source: digits}}\nspace:\n  architecture: cnn\n{rows}"))
    assert "configurations  about 10^450" in text


def test_warnings_and_auto_are_told():
    text = printed(spec_of(wrong(NO_BASELINE), "search.sampler=auto", "search.scheduler=auto"))
    words = " ".join(text.split())
    assert "(auto: best of those measured on LCBench, see benchmarks/LOG.md)" in words
    assert "(auto: best with gp on LCBench, see benchmarks/LOG.md)" in words
    assert "warning: no baseline is given" in text and "baseline (trial 0)" not in text


def figures(**changes: Any) -> str:
    return printed(spec_of(RIGHT, *(f"{name.replace('__', '.')}={value}" for name, value in changes.items())))


def test_shares_of_a_gpu_and_several_processors_are_told():
    assert "each with 4 CPUs and 0.5 GPU" in figures(resources__cpus_per_trial=4, resources__gpus_per_trial=0.5)
    assert "each with 1 CPU and 1 GPU" in figures(resources__gpus_per_trial=1)
    assert "devices" not in figures(resources__gpus_per_trial=1)


@pytest.mark.parametrize(
    ("size", "gpus", "told"),
    [
        ("{choice: [32, 64]}", 2, "2 GPUs train each trial together; of a batch, each takes: 16 of 32, 32 of 64"),
        ("33", 2, "of a batch, each takes: 16 or 17 of 33"),
        ("{int: [8, 100]}", 4, "4 GPUs train each trial together; of a batch, each takes: 2 of 8 up to 25 of 100"),
        (None, 8, "of a batch, each takes: 8 of 64"),
    ],
)
def test_a_plan_tells_how_many_gpus_train_a_trial_and_what_each_has_of_a_batch(size, gpus, told):
    text = wrong({7: f"  batch_size: {size}" if size else "", **NO_BASELINE})
    words = " ".join(printed(spec_of(text, f"resources.gpus_per_trial={gpus}")).split())
    assert told in words and f"each with 1 CPU and {gpus} GPUs" in words


def test_the_plan_says_what_little_gain_ends_the_search():
    text = " ".join(printed(spec_of(RIGHT, "search.stop_when={expected_gain_below: 0.002, within: 10m}")).split())
    assert (
        "stop when another 10 min 00 s are expected to gain less than 0.002 of val_accuracy; not in the first" in text
    )
    assert "stop when" not in printed(spec_of(RIGHT))
