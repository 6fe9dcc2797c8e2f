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
