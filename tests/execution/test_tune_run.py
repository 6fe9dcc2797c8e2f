"""What goes on around Ray's Tuner; searches themselves are in test_search."""

from __future__ import annotations

import gc

from tests.support.make_record import epoch, study_created, trial_started
from tuner.execution.tune_run import SETTLED_TRIALS, _short_collections
from tuner.runs.record import Record


def test_what_has_lived_through_many_trials_is_not_collected_again_until_the_search_ends(tmp_path) -> None:
    record = Record(tmp_path / "record.jsonl")
    record.append(study_created())
    before = gc.get_freeze_count()
    with _short_collections(record):
        record.append(trial_started(1))
        record.append(epoch(1, 1, 0.5))
        assert gc.get_freeze_count() == before
        record.append(trial_started(SETTLED_TRIALS))
        assert gc.get_freeze_count() > before + 1000
    assert gc.get_freeze_count() == 0
