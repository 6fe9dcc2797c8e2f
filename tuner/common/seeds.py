"""Seeds for every random number, derived from the study's seed by name: no global generator, no dependence on order."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Return a seed below 2**31 for the use called `names`, independent (SHA-256) of every other use.

    >>> derive_seed(0, "trial", 3) == derive_seed(0, "trial", 3) != derive_seed(0, "trial", 4)
    True
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def trial_seed(study_seed: int, number: int) -> int:
    """Return the seed of a trial of a study, so that it can be trained again by itself."""
    return derive_seed(study_seed, "trial", number)
