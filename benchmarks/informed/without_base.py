"""`python -m benchmarks.informed.without_base BASE ARGUMENT...`: tuner.search, whose prior knows no task of a base set.

What is judged on a data set must not have been learnt from it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tuner.algorithms import prior
from tuner.search import main as search


def main(arguments: Sequence[str]) -> int:
    base, *others = arguments
    everything = prior.shipped_prior()
    bases = sorted({one.base for one in everything.studies})
    if base not in bases:
        raise SystemExit(f"BASE must be one of {', '.join(bases)}; got {base}")
    left = prior.Prior(studies=[one for one in everything.studies if one.base != base])
    prior.shipped_prior = lambda: left  # type: ignore[assignment]  # the product has no setting for another prior
    return search(others)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
