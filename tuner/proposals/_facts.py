"""The facts that a proposal follows from: of the data, of the machine, and what is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tuner.datasets.account.facts import Account, Conflict, GroupGuess
from tuner.datasets.account.taking import UNEVEN
from tuner.proposals._own import OwnNetwork
from tuner.proposals._pretrained import Pretrained

DEFAULT_SIDE_PX = 224
"""Taken of images whose size is not known."""
_LEFT = 0.8
"""The share of training images that is left after a test split was made."""
_FEW_IMAGES = 400
SHORT_S = 600.0
"""Searches of less time try less."""


@dataclass(frozen=True)
class DataFacts:
    """A data set, as far as it matters to what is proposed."""

    class_names: tuple[str, ...]
    images: int
    """All that can be read."""
    training: int
    """Images to train on, with those of a validation split that is made."""
    smallest: int
    """Of these, images of the smallest class."""
    has_validation: bool
    has_test: bool
    side_px: int
    """The shorter side of an image in the middle of all."""
    proportion: float
    """The longer side of such an image for one of the shorter."""
    is_one_size: bool
    """Whether all images are squares of one size."""
    is_grey: bool
    imbalance: float
    """Images of the largest class for one of the smallest."""
    largest_class: str
    smallest_class: str
    broken: int
    is_decoded: bool
    """Whether all images were decoded; else more may be broken."""
    copies: int | None
    """Images that are equal or nearly equal to another; None: not looked for."""
    conflicts: int
    """Pictures under several labels."""
    conflict: Conflict | None
    """The first of these."""
    group_guess: GroupGuess | None
    """What file names say of groups."""

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def is_few(self) -> bool:
        """Whether there are so few images to train on that folds judge better than a fraction."""
        return self.training < _FEW_IMAGES

    @property
    def is_uneven(self) -> bool:
        """Whether classes differ so much in size that each must count alike."""
        return self.imbalance >= UNEVEN


@dataclass(frozen=True)
class Machine:
    """The machine that will train."""

    cpus: int
    gpus: int
    gpu_gb: float | None
    """Memory of the smallest GPU; None: there is none, or it is not known."""
    weights: frozenset[str]
    """Names of the files of weights that are here."""
    weights_folder: str
    """Where Keras looks for them."""
    can_fetch: bool
    """Whether others can be fetched."""

    @property
    def multiplications_s(self) -> float:
        """Multiplications a second of networks that are run, as cautious as benchmarks/LOG.md allows."""
        return 1e12 * self.gpus if self.gpus else 3e9 * self.cpus

    def has(self, one: Pretrained, px: int) -> bool:
        """Return whether weights for images of `px` are here, or can be fetched."""
        return self.can_fetch or one.is_here(px, self.weights)


@dataclass(frozen=True)
class Wish:
    """The wishes of the user."""

    study: str
    source: str
    """As it is to stand in the file."""
    time_s: float | None
    """All that the search may spend; None: as long as it takes."""
    given: tuple[tuple[str, Any], ...] = ()
    """Settings of `data` that the user gives."""
    without_folds: bool = False
    """Whether the data cannot be parted into folds."""
    fraction: float | None = None
    """The share to hold out for validation; None: it follows from the data."""
    own: tuple[OwnNetwork, ...] = ()
    """Architectures of own code, to be tried beside the others."""

    @property
    def counted_s(self) -> float:
        """The seconds that costs are compared with; without a limit those of a day."""
        return 86_400.0 if self.time_s is None else self.time_s

    @property
    def is_short(self) -> bool:
        """Whether there is little time."""
        return self.counted_s < SHORT_S


def data_facts(account: Account) -> DataFacts:
    """Return the facts of an account."""
    given = {split.name for split in account.splits if split.origin == "given"}
    kept = 1.0 if "test" in given else _LEFT
    own = [one.splits.get("train", 0) for one in account.classes]
    sizes, colours = account.sizes, account.colours
    width, height = (sizes.median_width, sizes.median_height) if sizes else (DEFAULT_SIDE_PX, DEFAULT_SIDE_PX)
    short, long = max(1, min(width, height)), max(1, width, height)
    return DataFacts(
        class_names=tuple(one.name for one in account.classes),
        images=account.images,
        training=int(kept * sum(own)),
        smallest=int(kept * min(own, default=0)),
        has_validation="validation" in given,
        has_test="test" in given,
        side_px=short,
        proportion=long / short,
        is_one_size=sizes is not None and sizes.different == 1 and width == height,
        is_grey=colours is not None and not colours.coloured,
        imbalance=account.imbalance.ratio,
        largest_class=account.imbalance.largest,
        smallest_class=account.imbalance.smallest,
        broken=len(account.broken),
        is_decoded=account.is_decoded,
        copies=None if account.copies is None else account.copies.copies,
        conflicts=0 if account.copies is None else account.copies.conflicts,
        conflict=next(iter(account.conflicts), None),
        group_guess=account.group_guess,
    )
