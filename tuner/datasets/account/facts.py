"""The facts of an account of a data set, and their form on disk; `reports.data_section` tells them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tuner.common.files import write_text
from tuner.datasets.account.copies import CopyAccount

VERSION = 1
"""Of the form of an account as JSON."""
FEW_IMAGES = 10
"""A class of fewer is told by its name."""
EXAMPLES = 20
"""So many copies, conflicts and blank images are told by name."""
THUMBNAIL_PX = 96


@dataclass(frozen=True)
class ClassFacts:
    """A class, and its images in all and by split."""

    name: str
    images: int
    splits: Mapping[str, int]


@dataclass(frozen=True)
class SplitFacts:
    """A split of a search: given by the source, made by tuner, or what is left of the images it was made of."""

    name: str
    images: int
    origin: Literal["given", "made", "left"]
    share: float | None = None
    """Of the images it was made of, as asked for."""
    seed: int | None = None
    """The seed of the study; None: it is the same for all studies."""
    folds: int | None = None
    """It is the first of so many folds; None: the share was held out."""
    groups: int | None = None
    used: int | None = None
    """So many of its images a search uses; None: all."""


@dataclass(frozen=True)
class Size:
    """A size in pixels, and how many images have it."""

    width: int
    height: int
    images: int


@dataclass(frozen=True)
class SizeFacts:
    """The sizes of the images as they are in the source."""

    different: int
    smallest: Size
    largest: Size
    median_width: int
    median_height: int
    oblong_share: float
    """Share of the images that are no squares."""
    commonest: tuple[Size, ...]


@dataclass(frozen=True)
class ColourFacts:
    """The colours of the images as they are in the source."""

    grey: int
    coloured: int
    transparent: int
    bits: Mapping[str, int]
    """Images by the bits of a channel."""
    formats: Mapping[str, int]
    brightness: tuple[float, float, float] | None
    """Means of images, 0 to 255: 5% of the images are below the first, half below the second, 95% below the last."""
    measured: int
    """Images of which brightness and blankness were measured: all, or so many drawn by chance."""
    blank: int
    """Images that are of one colour."""
    blank_examples: tuple[str, ...]


@dataclass(frozen=True)
class BrokenImage:
    """An image that cannot be read, and why."""

    name: str
    split: str
    reason: str


@dataclass(frozen=True)
class Imbalance:
    """The difference in size between the classes."""

    largest: str
    largest_share: float
    smallest: str
    ratio: float
    """Images of the largest class for one of the smallest."""
    few: tuple[str, ...]
    """Classes with fewer than `FEW_IMAGES` images."""


@dataclass(frozen=True)
class GroupFacts:
    """The groups whose images stay in one split."""

    given_by: str
    number: int
    smallest: int
    median: float
    largest: int
    lone_classes: tuple[str, ...]
    """Classes that live in one group: they cannot be on two sides of a split."""


@dataclass(frozen=True)
class GroupGuess:
    """Parts of the names of images that may say which belong together: a question to the user, no more."""

    pattern: str
    """A regular expression that finds the part, or the name itself, in the path of every image: for `data.group`."""
    parts: int
    images: int
    """Of the example, which has most."""
    example: str


@dataclass(frozen=True)
class Conflict:
    """One picture under several labels: the names of its images, and the class of each."""

    names: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Account:
    """All that is known of a data set."""

    source: str
    images: int
    """Those that can be read."""
    classes: tuple[ClassFacts, ...]
    splits: tuple[SplitFacts, ...]
    sizes: SizeFacts | None
    colours: ColourFacts | None
    broken: tuple[BrokenImage, ...]
    is_decoded: bool
    """Whether all images were decoded; else only headers were read, and more may be broken."""
    copies: CopyAccount | None
    """None where copies were not looked for."""
    conflicts: tuple[Conflict, ...]
    """The first of the pictures under several labels."""
    imbalance: Imbalance
    groups: GroupFacts | None
    weights: tuple[float, float] | None
    """The smallest and the largest weight of a training image; None: all weigh 1."""
    notices: tuple[str, ...]
    """What is left out of the source, and other things that may not be expected."""
    refusals: tuple[str, ...]
    """Why a search would refuse the data as they are."""
    advice: tuple[str, ...]
    """What to do next."""
    group_guess: GroupGuess | None = None
    """What the paths of images say of groups; None: nothing, or groups are given."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values by the names of the fields."""
        return {"version": VERSION, **asdict(self)}


def save_account(path: Path, account: Account) -> None:
    """Write an account for the report."""
    write_text(path, json.dumps(account.as_json(), indent=1))


def load_account(path: Path) -> Account | None:
    """Return the account in a file; None when there is none, none that can be read, or one of another version."""
    from pydantic import TypeAdapter

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        is_right = isinstance(values, dict) and values.pop("version", None) == VERSION
        return TypeAdapter(Account).validate_python(values) if is_right else None
    except (OSError, ValueError, RecursionError):  # pydantic's are ValueErrors
        return None
