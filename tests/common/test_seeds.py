"""Seeds by name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuner.common.seeds import derive_seed, trial_seed


def test_seeds_do_not_change_from_version_to_version():
    # A trial of an old run can be trained again only as long as these hold.
    assert derive_seed(0, "trial", 3) == trial_seed(0, 3) == 2138929252
    assert derive_seed(7, "suggestion", 12, "learning_rate") == 2067336572


@given(st.integers(0, 2**31 - 1), st.lists(st.text(max_size=5) | st.integers(), max_size=3))
def test_a_seed_is_one_that_every_library_takes(seed, names):
    assert 0 <= derive_seed(seed, *names) < 2**31
    assert derive_seed(seed, *names) == derive_seed(seed, *names)


def test_uses_studies_and_trials_have_seeds_of_their_own():
    seeds = [
        derive_seed(study, use, number) for study in range(10) for use in ("trial", "split") for number in range(50)
    ]
    assert len(set(seeds)) == len(seeds)
