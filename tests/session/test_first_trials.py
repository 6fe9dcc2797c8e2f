"""When a search is given up because its first trials fail alike, and when it goes on."""

from __future__ import annotations

from tests.support.make_record import epoch, trial_ended, trial_started
from tuner.runs.events import TrialResumed
from tuner.session._stopping import FirstTrials

OUT = "out of memory: its process took {} MB, the limit of a trial is 1,024 MB"


def judged(*reasons: str | None) -> str | None:
    """What is said of trials that failed for these reasons, or (None) showed an epoch and run on."""
    first = FirstTrials()
    for number, reason in enumerate(reasons):
        first(trial_started(number))
        first(epoch(number, 1, 0.5) if reason is None else trial_ended(number, "failed", reason))
    return first.reason


def test_more_than_half_of_the_first_ten_is_enough_whatever_the_numbers_in_their_reasons():
    assert judged(*(OUT.format(1000 + number) for number in range(5))) is None
    assert judged(*(OUT.format(1000 + number) for number in range(6))) == (
        f"6 of the first 10 trials failed for the same reason, the latest with: {OUT.format(1005)}"
    )
    assert judged(None, *[OUT] * 3, None, None, *[OUT] * 2, None) is None
    assert judged(None, *[OUT] * 3, None, None, *[OUT] * 3) is not None


def test_different_reasons_and_later_trials_do_not_end_a_search():
    assert judged(*[OUT, "crashed: Aborted", "not a number: loss is nan at epoch 1", "loss exploded: x"] * 3) is None
    assert judged(*[f"ValueError: must be {name}" for name in ("one", "two", "three", "four")] * 3) is None
    assert judged(*[None] * 5, *[OUT] * 50) is None, "configurations that a sampler came to later"
    assert judged(*["ValueError: 3 is not 4", "ValueError: 5 is not 6"] * 3) is not None


def test_a_trial_that_goes_on_counts_once_and_stopped_ones_not_at_all():
    first = FirstTrials()
    for number in range(9):
        first(trial_started(number))
        first(trial_ended(number, "stopped", OUT))
    for _ in range(20):
        first(TrialResumed(trial=9, epoch=1))
        first(trial_ended(9, "failed", OUT))
    assert first.reason is None


def told_of(*trials: tuple[str, str | None]) -> FirstTrials:
    """Return what is told of trials of these architectures that failed for these reasons, or (None) show an epoch."""
    first = FirstTrials()
    for number, (architecture, _) in enumerate(trials):
        first(trial_started(number, configuration={"architecture": architecture}))
    for number, (_, reason) in enumerate(trials):
        first(epoch(number, 1, 0.5) if reason is None else trial_ended(number, "failed", reason))
    return first


def test_an_architecture_that_always_fails_does_not_end_a_search_in_which_others_work() -> None:
    first = told_of(*[("dense", OUT)] * 6, *[("cnn", None)] * 3, ("cnn", OUT))
    assert first.reason is None
    assert first.notices == [
        "6 of the first 6 trials with architecture dense failed for the same reason; the search goes on for what else "
        f"it tries; the latest with: {OUT}"
    ]
    assert told_of(*[("dense", OUT)] * 5, *[("cnn", None)] * 5).notices == []


def test_a_search_ends_when_all_architectures_that_were_tried_fail_alike() -> None:
    assert told_of(*[("dense", OUT)] * 6, *[("cnn", OUT)] * 4).reason is not None
    assert told_of(*[("dense", OUT)] * 4, *[("cnn", OUT)] * 2, ("cnn", None)).reason is not None
    assert told_of(*[("dense", OUT)] * 6, *[("cnn", "crashed: Aborted")] * 4).reason is None, "another reason"


def test_branches_of_any_choose_are_counted_by_themselves_also_when_trials_go_on() -> None:
    first = FirstTrials(["architecture", "head"])
    for number in range(10):
        first.know(number, {"architecture": "cnn", "head": "wide" if number < 7 else "small"})
    for number in range(10):
        first(TrialResumed(trial=number, epoch=1))
    for number in range(7):
        first(trial_ended(number, "failed", OUT))
    assert first.reason is None
    assert [text[:67] for text in first.notices] == [
        "6 of the first 7 trials with architecture cnn, head wide failed for"
    ]
