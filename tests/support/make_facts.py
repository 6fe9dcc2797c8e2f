"""Made-up facts of data and machines, for proposals."""

from __future__ import annotations

import dataclasses
from typing import Any

from tuner.proposals._facts import DataFacts, Machine, Wish

MOBILENET = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
DATA = DataFacts(
    class_names=("daisy", "rose", "tulip"),
    images=1500,
    training=1200,
    smallest=350,
    has_validation=False,
    has_test=False,
    side_px=240,
    proportion=1.3,
    is_one_size=False,
    is_grey=False,
    imbalance=1.2,
    largest_class="rose",
    smallest_class="daisy",
    broken=0,
    is_decoded=True,
    copies=0,
    conflicts=0,
    conflict=None,
    group_guess=None,
)
MACHINE = Machine(2, 0, None, frozenset({MOBILENET}), "/keras/models", can_fetch=False)
BARE = dataclasses.replace(MACHINE, weights=frozenset())
WISH = Wish("photos", "folder:photos", 1800.0)


def data(**changes: Any) -> DataFacts:
    return dataclasses.replace(DATA, **changes)


def machine(**changes: Any) -> Machine:
    return dataclasses.replace(MACHINE, **changes)


def wish(**changes: Any) -> Wish:
    return dataclasses.replace(WISH, **changes)
