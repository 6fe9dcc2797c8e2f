"""The leaderboard: its answer, its honesty, and names that would break Markdown."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.make_record import DATA, epoch, make_events, make_state, small_state, trial_ended, trial_started
from tuner.common.intervals import wilson_interval
from tuner.reports._leaderboard import FigureLink, leaderboard_markdown
from tuner.reports._leaderboard_sections import ROWS
from tuner.reports.formatting import escaped, fenced, format_gain, format_value, table
from tuner.reports.results import build_results
from tuner.runs.events import (
    ConfigurationChanged,
    FinalistsStarted,
    FinalistTrained,
    Notice,
    SessionEnded,
    SessionStarted,
)
from tuner.runs.record import replay
from tuner.runs.state import RunState


def page(state: RunState, **options) -> str:
    return leaderboard_markdown(build_results(state), **options)


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading, its header first."""
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [cells[0], *cells[2:]]


def finished(*events, **study) -> RunState:
    return small_state(*events, SessionEnded(reason="finished", elapsed_s=100), **study)


TWO = (
    trial_started(0, {"architecture": "cnn", "filters": 32}),
    epoch(0, 1, 0.5),
    trial_ended(0, parameters=1_234_567),
    trial_started(1, {"architecture": "cnn", "filters": 64}),
    epoch(1, 1, 0.625),
    epoch(1, 2, 0.6, 0.625),
    trial_ended(1, "stopped", "scheduler"),
)


def test_the_head_says_what_won_and_by_how_much():
    text = page(finished(*TWO))
    assert (
        "**Trial 1 (cnn) won with val_accuracy 62.50%**, after epoch 2, 12.50 percentage points better than the "
        "baseline's 50.00% (trial 0), in one training each: no verdict, as another seed may turn it round."
    ) in text
    assert "- **Trials**: 2 (1 completed, 1 stopped)\n" in text
    assert "- **Time**: 1 min 40 s, 3 epochs in trials\n" in text
    assert "- **Data**: cifar100, 45,000 training images, 5,000 validation images, 32x32x3, 100 classes" in text
    assert "- **Seed**: 7\n" in text
    assert "keras 3.15.1, 8 CPUs, commit f4fe498" in text
    assert "Trial 1 (stopped, scheduler) was best at epoch 1 of 2" in text


def test_trials_are_listed_by_rank_with_their_gain():
    header, first, second = rows_of(page(finished(*TWO)), "Trials")
    assert header == [
        "rank", "trial", "val_accuracy", "gain", "architecture", "configuration", "epochs", "time", "parameters",
        "status",
    ]  # fmt: skip
    assert first == [
        "1",
        "1",
        "62.50%",
        "+12.50 after epoch 2",
        "cnn",
        "filters 64",
        "2",
        "4.0 s",
        "-",
        "stopped, scheduler",
    ]
    assert second == [
        "2", "0 (baseline)", "50.00%", "-", "cnn", "filters 32", "1", "2.0 s", "1,234,567", "completed, max epochs",
    ]  # fmt: skip


def test_settings_that_trials_share_are_said_once():
    configurations = [
        {"batch_size": 64, "rate": 0.1, "architecture": "cnn", "blocks": 2},
        {"batch_size": 64, "rate": 0.2, "architecture": "dense", "layers": 3},
        {"batch_size": 64, "rate": 0.3, "architecture": "dense", "layers": 3},
    ]
    text = page(finished(*(e for n, c in enumerate(configurations) for e in (trial_started(n, c), epoch(n, 1, 0.1)))))
    assert "In all trials: batch_size 64.\nIn all trials of cnn: blocks 2.\nIn all trials of dense: layers 3.\n" in text
    assert [row[5] for row in rows_of(text, "Trials")[1:]] == ["rate 0.1", "rate 0.2", "rate 0.3"]
    assert "In all trials" not in page(finished(*TWO))


def test_a_search_by_loss_states_its_gain_in_units_of_the_loss():
    state = finished(
        trial_started(0), epoch(0, 1, 0.5, best=0.85), trial_ended(0), trial_started(1), epoch(1, 1, 0.6, best=0.8),
        trial_ended(1), metric="val_loss",
    )  # fmt: skip
    text = page(state)
    assert "won with val_loss 0.8000**, 0.0500 of val_loss better than the baseline's 0.8500 (trial 0), in one" in text
    assert "The lowest value, 0.8000 of trial 1, is the best of 2 trials and 2 epochs" in text
    assert "somewhat more on new images" in text and "Bonferroni" not in text


def test_it_says_how_far_the_numbers_can_be_trusted():
    text = page(finished(*TWO))
    assert "one training each, with one seed each, at its best epoch; the search itself reads no test image" in text
    assert "The highest value, 62.50% of trial 1, is the best of 2 trials and 3 epochs, so it is optimistic" in text
    assert "Chosen among so many on 5,000 validation images, that training's accuracy on new images is between" in text
    assert "is between 60.8% and 64.1% (at least 95%;" in text
    assert "Stopped trials were ended early" in text


@pytest.mark.parametrize(
    ("study", "has_interval"),
    [
        ({"data": {**DATA, "validation_groups": 40}}, False),
        ({"data": {**DATA, "validation_groups": None}, "specification": {"data": {"group": "(.*)_"}}}, True),
        ({"specification": {"data": {"group": "(.*)_"}}}, False),
        ({"specification": {"data": {"group": None}}}, True),
    ],
)
def test_the_best_of_many_has_no_interval_by_a_formula_where_images_hang_together(study, has_interval):
    text = page(finished(*TWO, **study))
    assert ("Bonferroni" in text) == has_interval
    assert ("No interval is given for it, as the 5,000 validation images" in text) == (not has_interval)


@pytest.mark.parametrize(
    ("first", "words"),
    [(0.6, "10.00 percentage points better"), (0.4, "10.00 percentage points worse"), (0.5, "no better")],
)
def test_a_baseline_that_was_not_trained_to_its_end_is_compared_at_its_last_epoch(first, words):
    state = finished(
        trial_started(0), epoch(0, 1, 0.5), trial_ended(0, "stopped", "scheduler"), trial_started(1),
        epoch(1, 1, first), epoch(1, 2, 0.9), trial_ended(1),
    )  # fmt: skip
    assert f"with val_accuracy 90.00%**, after epoch 1, {words} than the baseline's 50.00% (trial 0), in" in page(state)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (
            (trial_started(0), epoch(0, 1, 0.5), trial_ended(0)),
            "(cnn), the baseline, won with val_accuracy 50.00%**, the only one with a value.",
        ),
        (
            (*TWO[:3], trial_started(1), epoch(1, 1, 0.4), trial_ended(1)),
            "the baseline, won with val_accuracy 50.00%**, the search found nothing better.",
        ),
        ((trial_started(1), epoch(1, 1, 0.4), trial_ended(1)), "it had no baseline to compare with."),
        (
            (trial_started(0), trial_ended(0, "failed", "MemoryError: a_b"), *TWO[3:]),
            "but the baseline (trial 0) failed, so no gain can be stated: MemoryError: a_b.",
        ),
        ((trial_started(0), *TWO[3:]), "but the baseline (trial 0) has no value yet to compare with."),
    ],
)
def test_every_fate_of_the_baseline_is_told(events, words):
    assert words in page(finished(*events))


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ([], "the record does not say that it ended: it is running, or was killed"),
        ([SessionEnded(reason="finished")], "; finished"),
        ([SessionEnded(reason="time_budget")], "; time budget spent"),
        ([SessionEnded(reason="expected_gain")], "; ended, as little more was expected to be gained"),
        ([SessionEnded(reason="interrupted")], "; interrupted"),
        ([SessionEnded(reason="error", message="OSError: a|b\nc")], r"; it ended with an error: OSError: a\|b c"),
    ],
)
def test_it_says_how_the_search_ended(end, words):
    started = SessionStarted(resumed=False, max_concurrent=1, sampler="tpe", scheduler="asha")
    text = page(small_state(started, *TWO, *end))
    assert (
        f"- **Search**: sampler tpe, scheduler asha, 1 trial at a time{words if words[0] == ';' else '; ' + words}"
        in text
    )
    assert ("is ahead with" in text) == (not end or end[0].reason in ("interrupted", "error"))


def test_the_time_of_finalists_is_that_of_all_sessions_and_no_other():
    started = SessionStarted(resumed=False, max_concurrent=1, sampler="random", scheduler="none")
    trained = {"number": 0, "status": "completed", "reason": "max_epochs", "epochs": 2, "best": 0.5, "seconds": 40.0}
    events = [started, *TWO, FinalistsStarted(trials=[1], trainings=1, elapsed_s=20.0)]
    events += [FinalistTrained(trial=1, **trained, elapsed_s=60.0), SessionEnded(reason="finished", elapsed_s=62.0)]
    assert "1 min 02 s, of these 42 s for the finalists" in page(small_state(*events))
    again = started.model_copy(update={"resumed": True, "elapsed_s": 100.0})
    events += [again, trial_started(2, elapsed_s=101.0), epoch(2, 1, 0.1, elapsed_s=150.0)]
    assert "2 min 30 s in 2 sessions, of these 42 s for the finalists" in page(small_state(*events))
    events += [FinalistTrained(trial=0, **trained, elapsed_s=180.0), SessionEnded(reason="finished", elapsed_s=182.0)]
    assert "3 min 02 s in 2 sessions, of these 1 min 14 s for the finalists" in page(small_state(*events))


@pytest.mark.parametrize(
    ("gpus", "words"), [(0, ""), (0.5, ", each on 0.5 GPU"), (1, ", each on 1 GPU"), (2, ", each on 2 GPUs at once")]
)
def test_it_says_on_how_many_gpus_a_trial_was_trained(gpus, words):
    started = SessionStarted(resumed=False, max_concurrent=1, sampler="tpe", scheduler="asha", gpus_per_trial=gpus)
    text = page(small_state(started, *TWO, SessionEnded(reason="finished")))
    assert f"1 trial at a time{words}; finished" in text


def test_it_says_what_the_search_began_with():
    recipes = (*TWO, trial_started(2, {"architecture": "dense"}, origin="prior"))
    assert "Warm start" not in page(finished(*TWO))
    assert "**Warm start**: 1 trial of the prior that comes with tuner" in page(finished(*recipes))
    specification = {"search": {"warm_start": ["runs/old", "pets.json"]}}
    told = "**Warm start**: old, pets.json, 1 trial of the prior that comes with tuner\n"
    assert told in page(finished(*recipes, specification=specification))


def test_unfinished_trials_make_the_winner_provisional():
    state = small_state(*TWO, trial_started(2), SessionEnded(reason="interrupted"))
    text = page(state)
    assert "**Trial 1 (cnn) is ahead with val_accuracy 62.50%**" in text
    assert "have not reported an epoch: 2 (unfinished)." in text


def test_failed_trials_are_apart_with_their_reasons():
    state = finished(*TWO, trial_started(2, {"architecture": "cnn", "filters": 9}), trial_ended(2, "failed", "boom: x"))
    text = page(state)
    assert rows_of(text, "Failed trials")[1:] == [["2", "boom: x", "0", "cnn", "filters 9"]]
    assert all(row[1] != "2" for row in rows_of(text, "Trials"))


def test_records_without_a_winner_say_so():
    assert page(RunState()) == "# Leaderboard\n\nThe record is empty: no search has begun.\n"
    assert "**No trial has a result yet.**" in page(small_state())
    assert "**No trial has a result yet.**" in page(small_state(trial_started(0)))
    assert "**No trial has a result: all have failed.**" in page(
        finished(trial_started(0), trial_ended(0, "failed", "x"))
    )
    for state in (small_state(), small_state(trial_started(0))):
        assert "How far to trust" not in page(state) and "best configuration" not in page(state)


def test_the_winner_can_be_trained_again_from_what_is_shown():
    text = page(finished(*TWO), retrain_command="python -m tuner.search --retrain runs/x 1")
    assert "```sh\npython -m tuner.search --retrain runs/x 1\n```" in text
    shown = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    assert yaml.safe_load(shown.group(1)) == {"architecture": "cnn", "filters": 64}
    assert "```sh" not in page(finished(*TWO))


def test_a_population_is_said_to_change_its_configurations():
    started = SessionStarted(resumed=False, max_concurrent=1, sampler="random", scheduler="pbt")
    assert "this is the latest one" in page(finished(started, *TWO))
    assert "this is the latest one" not in page(finished(*TWO))


def test_the_best_epoch_of_a_member_that_went_on_from_a_later_one_is_among_its_epochs():
    text = page(finished(trial_started(0), epoch(0, 1, 0.5), epoch(0, 5, 0.9)))
    assert "was best at epoch 5 of 5: " in text


def test_what_a_population_has_made_of_the_baseline_is_no_baseline():
    changed = ConfigurationChanged(trial=0, epoch=1, configuration={"architecture": "cnn", "filters": 64})
    text = page(finished(*TWO[:2], changed, *TWO[2:]))
    assert "the best of the search; its population has changed the baseline, so no gain can be stated." in text
    assert "(baseline)" not in text and "gain" not in rows_of(text, "Trials")[0]


def test_figures_are_shown_with_their_words():
    text = page(finished(*TWO), figures=[FigureLink("figures/a.png", "by a|b [x]")])
    assert text.endswith("## Figures\n\n![by a\\|b \\[x\\]](figures/a.png)\n")


def test_a_long_search_shows_its_best_trials_and_the_baseline():
    text = page(make_state(400, seed=1, max_epochs=4))
    rows = rows_of(text, "Trials")[1:]
    assert [row[0] for row in rows[:ROWS]] == [str(rank) for rank in range(1, ROWS + 1)]
    assert len(rows) == ROWS or (len(rows) == ROWS + 1 and rows[-1][1] == "0 (baseline)")
    assert f"The best {ROWS} of " in text


def test_many_failures_are_counted_by_kind():
    reasons = ["out of memory: a", "out of memory: b", "not a number: loss"] * 50
    events = [
        event
        for number, reason in enumerate(reasons)
        for event in (trial_started(number), trial_ended(number, "failed", reason))
    ]
    text = page(finished(*events))
    assert "| out of memory | 100 |\n| not a number | 50 |" in text
    assert f"The first {ROWS} of 150" in text


NASTY = "a|b`c`\n# d <script> [x](y) *z* _u_ $m$ \\| ![i](j) &amp; ~~s~~ \u2028 é 猫"


def test_names_that_would_break_markdown_are_escaped_everywhere():
    state = finished(
        trial_started(0, {"architecture": NASTY, NASTY: NASTY}), epoch(0, 1, 0.5), trial_ended(0, "stopped", NASTY),
        trial_started(1, {"architecture": "b", NASTY: "x"}), trial_ended(1, "failed", NASTY),
        data={**DATA, "name": NASTY, "source": NASTY + "2", "class_names": [NASTY]}, environment={"commit": NASTY},
    )  # fmt: skip
    text = page(state, retrain_command="echo ```")
    for heading, width in (("Trials", 10), ("Failed trials", 5)):
        assert {len(row) for row in rows_of(text, heading)} == {width}
    prose = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in prose.replace(r"\<script\>", "")
    assert [line for line in prose.splitlines() if line.startswith("# ")] == ["# Leaderboard: cifar100"]
    assert "````sh\necho ```\n````" in text


MARKUP = st.text(alphabet="\\|`*_<>[]!&~$# \nab", max_size=20) | st.text(max_size=40)


@settings(max_examples=300)
@given(MARKUP)
def test_an_escaped_text_is_one_line_without_open_markup(text):
    result = escaped(text)
    assert len(result.splitlines()) <= 1
    assert not re.search(r"(?<!\\)(?:\\\\)*[|`*<>\[\]]", result)
    assert re.sub(r"\\([\\`*\[\]<>|~&$#!{}_])", r"\1", result) == re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()


@given(st.lists(st.lists(MARKUP, min_size=2, max_size=2), max_size=4))
def test_a_table_of_any_texts_keeps_its_columns(cells):
    lines = table(["a", "b"], [[escaped(cell) for cell in row] for row in cells])
    assert len(lines) == 2 + len(cells)
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {3}


@given(st.text(alphabet="`a\n", max_size=30))
def test_a_fence_is_longer_than_what_it_holds(text):
    lines = fenced(text)
    assert all(lines[0] not in line for line in lines[1:-1])


def test_the_interval_is_wilsons():
    low, high = wilson_interval(0.5, 100)  # as in Wilson (1927): 0.404 to 0.596
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)
    assert wilson_interval(1.0, 10)[1] == pytest.approx(1.0)
    assert wilson_interval(1.0, 10)[0] == pytest.approx(0.7225, abs=1e-4)
    assert wilson_interval(0.0, 10)[0] == pytest.approx(0.0)


def test_a_gain_of_nothing_has_no_sign():
    assert [format_gain("val_accuracy", gain) for gain in (-1e-9, 0.0, -0.0001)] == ["0.00", "0.00", "-0.01"]
    assert format_gain("val_loss", -1e-9) == "0.0000"
    assert format_value("val_accuracy", None) == "-"


def test_what_was_said_on_the_way_is_in_the_leaderboard():
    said = Notice(text="cached activations are not used: the disk | is full")
    state = small_state(trial_started(0), epoch(0, 1, 0.4), said, said)
    text = leaderboard_markdown(build_results(state))
    assert text.count("cached activations are not used: the disk") == 1
    assert "## Said on the way" not in leaderboard_markdown(build_results(small_state(trial_started(0))))


@pytest.mark.parametrize(
    ("name", "dimension", "value", "architecture", "wider"),
    [
        ("learning_rate", {"log_float": [1e-4, 1e-2]}, 0.01, "cnn", "{log_float: [0.0001, 0.1]}"),
        ("unfreeze_depth", {"int": [0, 16]}, 16, "mobilenet_v2", "{int: [0, 18]}"),
        ("unfreeze_depth", {"int": [0, 5]}, 5, "vgg16", None),
        ("unfreeze_depth", {"choice": [0, 8, 16]}, 16, "mobilenet_v2", "{choice: [0, 8, 16, 18]}"),
        ("kernel_px", {"int": [3, 15]}, 15, "cnn", None),
        ("head_layers", {"int": [2, 6]}, 2, "vgg16", "{int: [1, 6]}"),
        ("dropout", {"float": [0.0, 0.5]}, 0.5, "dense", "{float: [0, 0.9]}"),
        ("width_of_mine", {"int": [2, 6]}, 6, "of_someone_else", "{int: [2, 10]}"),
        ("dropout_of_mine", {"float": [0.0, 0.5]}, 0.0, "of_someone_else", None),
    ],
)
def test_what_to_try_next_is_possible_and_can_be_copied(name, dimension, value, architecture, wider) -> None:
    space = {"architecture": {"choose": {architecture: {name: dimension}}}}
    configuration = {"architecture": architecture, name: value}
    trials = [event for number in range(2) for event in (
        trial_started(number, configuration), epoch(number, 1, 0.5 - number / 10), trial_ended(number)
    )]  # fmt: skip
    text = leaderboard_markdown(build_results(small_state(*trials, specification={"space": space})))
    assert ("## What to try next" in text) == (wider is not None)
    assert wider is None or f"better ones may lie beyond it; try `{name}: {wider}`." in text


def test_it_says_what_going_on_is_expected_to_gain_beside_what_a_seed_changes() -> None:
    events = make_events(12)
    after_s = events[-1].elapsed_s
    values: dict[str, Any] = {"trial": 1, "status": "completed", "reason": "max_epochs", "epochs": 20, "seconds": 9.0}
    trained = [
        FinalistTrained(number=number, best=best, elapsed_s=after_s + number, **values)
        for number, best in enumerate((0.60, 0.61))
    ]
    text = page(replay([*events, FinalistsStarted(trials=[1], trainings=2, elapsed_s=after_s), *trained]))
    assert "the best value of the search is expected to gain: another 10 min " in text
    assert " points (80% interval 0.00 to " in text
    assert "from seed to seed the finalists' values differ by 0.71 points (the largest of" in text
    assert "expected to gain" not in page(replay(make_events(4)))
