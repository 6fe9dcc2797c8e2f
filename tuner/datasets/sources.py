"""Registry of data sources, one entry for each kind. A source lists its images; nothing is decoded yet.

Here is what all kinds share; `library_sources` has those that come with libraries, `file_sources` and `parquet_source`
those that are files.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, overload

import numpy as np

from tuner.common.errors import DataError, InputError
from tuner.common.files import shown, user_path
from tuner.common.registry import Registry, unknown_name
from tuner.datasets.images import EncodedImage
from tuner.datasets.splits import OWN_UNIT, join_units, single_unit_classes

SPLITS = {
    "train": ("train", "training", "trainval"),
    "test": ("test", "testing", "eval", "evaluation", "holdout"),
    "validation": ("validation", "val", "valid", "validate", "dev"),
}
MOST_NAMED = 10
"""So many names are written out, of classes and all else."""
_SPLIT_WORD = re.compile(
    rf"[xy]?({'|'.join(word for words in SPLITS.values() for word in words)})"
    r"(set|sets|data|dataset|images?|imgs?|pics?|photos?|folder|split|samples?)?"
)


def split_of(name: str) -> str | None:
    """Return the split that the words of a name speak of; None where they speak of none, or of two.

    >>> split_of("seg_train"), split_of("TestSet"), split_of("val2017"), split_of("valley"), split_of("train_test")
    ('train', 'test', 'validation', None, None)
    """
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    found = {match[1] for word in words if (match := _SPLIT_WORD.fullmatch(word))}
    splits = {split for split, aliases in SPLITS.items() if found & set(aliases)}
    return splits.pop() if len(splits) == 1 else None


def first_names(names: Iterable[str], most: int = MOST_NAMED) -> str:
    """Return the first of some names, and how many more there are.

    >>> first_names("abc", most=2)
    'a, b and 1 more'
    """
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


def alike_names(names: Sequence[str]) -> list[str]:
    """Return the names that differ from others in case, spaces and what stands between words alone.

    A letter of either case is a class of its own, as in data sets of handwriting.

    >>> alike_names(["Cat", "cat ", "dog", "A", "a"])
    ['Cat', 'cat ']
    """
    plain = [re.sub(r"[\W_]+", "", name.casefold()) for name in names]
    number = Counter(plain)
    return [name for name, each in zip(names, plain, strict=True) if number[each] > 1 and len(each) > 1]


class Selection(Sequence[EncodedImage]):
    """Some elements of a sequence, by their indices: nothing is read before it is asked for."""

    def __init__(self, whole: Sequence[EncodedImage], rows: np.ndarray) -> None:
        self._whole = whole
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> EncodedImage: ...
    @overload
    def __getitem__(self, place: slice) -> Selection: ...
    def __getitem__(self, place: int | slice) -> EncodedImage | Selection:
        if isinstance(place, slice):
            return Selection(self._whole, self._rows[place])
        return self._whole[int(self._rows[place])]


def _by_number(row: int) -> str:
    return f"image {row}"


@dataclass(frozen=True)
class Listed:
    """The images of one split, with labels `[N] int64`: pixels `[N, H, W(, 1 or 3)] uint8`, or encoded images.

    `name(row)` is what an error calls an image.
    """

    labels: np.ndarray
    pixels: np.ndarray | None = None
    encoded: Sequence[EncodedImage] = ()
    name: Callable[[int], str] = _by_number
    groups: np.ndarray | None = None
    """`[N] int64`: images of one number stay together, in all splits; -1 belongs to none. None: no groups are given."""
    weights: np.ndarray | None = None
    """`[N] float32`; None: all images weigh 1."""

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The values that are given for each image, by their name in a prepared copy."""
        given = {"labels": self.labels, "groups": self.groups, "weights": self.weights}
        return {name: values for name, values in given.items() if values is not None}

    def take(self, rows: np.ndarray) -> Listed:
        """Return some of the images, with the names they had."""
        pixels = None if self.pixels is None else self.pixels[rows]
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Listed(
            **columns,
            pixels=pixels,
            encoded=Selection(self.encoded, rows),
            name=lambda place: self.name(int(rows[place])),
        )


def describe_classes(names: Sequence[str], labels: Iterable[np.ndarray]) -> str:
    """Return the number of classes, and the images of each where they are few; `labels` are those of all splits.

    >>> describe_classes(("cat", "dog"), [np.array([0, 0, 1])])
    '2 classes: cat 2, dog 1'
    """
    numbers = np.bincount(np.concatenate(list(labels)), minlength=len(names)).tolist()
    if len(names) > MOST_NAMED:
        return f"{len(names)} classes of {min(numbers):,} to {max(numbers):,} images"
    counts = ", ".join(f"{name} {number:,}" for name, number in zip(names, numbers, strict=True))
    return f"{len(names)} classes: {counts}"


@dataclass(frozen=True)
class Listing:
    """The splits of a source: `train`, possibly `test` and `validation`; `notices` tell which files are left out."""

    class_names: tuple[str, ...]
    splits: Mapping[str, Listed]
    notices: tuple[str, ...] = ()
    group_names: tuple[str, ...] = ()
    """By the numbers of groups."""


@dataclass(frozen=True)
class Columns:
    """The names of the columns of a table by what they mean; None: a usual name; empty: none is looked for."""

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    weight: str | None = None


@dataclass(frozen=True)
class Source:
    """A kind of data source: `identity(reference)`, JSON, changes when the data change; `read(reference)` lists them.

    Both raise DataError when there is nothing that can be read.
    """

    identity: Callable[[str], Any]
    read: Callable[[str], Listing]
    is_path: bool = False
    """Whether a path follows the colon: made absolute, looked for before a search, sent with it if it is here."""
    suffixes: tuple[str, ...] = ()
    """Suffixes of the files that a source of files reads; empty: any. No others are sent with a search."""
    staged_as: str = ""
    """The content of a staged copy of this kind, in words."""
    find_staged: Callable[[Path], Path | None] = lambda _path: None
    """Return what to read of a staged copy at a path that exists, or None where none of this kind is."""
    with_layout: Callable[[str], Source] | None = None
    """Return the source that reads folders as they are said to be arranged (`data.layout`); None: it has none."""
    with_columns: Callable[[Columns], Source] | None = None
    """Return the source that reads columns of these names (`data.columns`); None: it has no columns."""
    files: Callable[[str], tuple[Path, list[Path]]] | None = None
    """Return the folder of a table and the files in it that belong to the data; None: all below its path do."""
    named: Callable[[str], Iterable[str]] | None = None
    """Return the paths of images as the rows of a table have them; None: no rows name images."""
    unlabelled: Callable[[str], Sequence[Listed]] | None = None
    """Return the images, whether they have labels or not, to be labelled by a model; None: those that `read` lists."""


def as_described(source: Source, layout: str, columns: Mapping[str, str | None] | None, group: str | None) -> Source:
    """Return the source that reads folders or tables as the settings of a search describe them."""
    if source.with_layout:
        source = source.with_layout(layout)
    named = dict(columns or {})
    if group is not None:
        named["group"] = "" if is_pattern(group) else group
    return source.with_columns(Columns(**named)) if named and source.with_columns else source


# --- groups: images that stay on one side of every split ---


def is_pattern(group: str) -> bool:
    """Return whether `data.group` is a pattern over paths, which has parentheses, or else the name of a column."""
    return "(" in group


def compile_group(pattern: str) -> re.Pattern[str]:
    """Return a pattern over paths; raises DataError when it is none, or has not one group in parentheses."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"must be a regular expression; got {pattern!r}: {error}") from None
    if compiled.groups != 1:
        raise DataError(f"must have one group in parentheses, (?:...) does not count; got {pattern!r}")
    return compiled


def group_by_path(listing: Listing, pattern: str, root: Path) -> Listing:
    """Return the listing with groups named by what a pattern finds in the path of each image below `root`.

    Raises:
        DataError: images have no paths, or the pattern does not fit one.
    """
    compiled, above = compile_group(pattern), root if root.is_dir() else root.parent
    texts: dict[str, list[str]] = {}
    for split, listed in listing.splits.items():
        files = [listed.encoded[row] for row in range(len(listed.encoded))]
        if not files or not all(isinstance(file, Path) for file in files):
            raise DataError("data.group: these images are no files with paths: name a column, or leave it out")
        paths = [_path_from(above, Path(str(file))) for file in files]
        found = [match[1] if (match := compiled.search(path)) else None for path in paths]
        if wrong := [path for path, name in zip(paths, found, strict=True) if not name]:
            raise DataError(
                f"data.group: the pattern {pattern!r} must find a name in the path of every image; it finds none in "
                f"{shown(Path(wrong[0]))}" + (f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else "")
            )
        texts[split] = [str(name) for name in found]
    names = sorted({name for found in texts.values() for name in found})
    numbers = {name: number for number, name in enumerate(names)}
    splits = {
        split: replace(listed, groups=np.array([numbers[name] for name in texts[split]], np.int64))
        for split, listed in listing.splits.items()
    }
    return replace(listing, splits=splits, group_names=tuple(names))


def _path_from(root: Path, file: Path) -> str:
    """Return a path from a folder as people write it, the same whether its accents are composed or not."""
    for base in (root, root.resolve()):
        if file.is_relative_to(base):
            return unicodedata.normalize("NFC", file.relative_to(base).as_posix())
    return unicodedata.normalize("NFC", file.as_posix())


def group_notices(listing: Listing, where: str) -> tuple[str, ...]:
    """Return what is to be said of groups: those that given splits share, and classes that live in one alone."""
    groups = {split: listed.groups for split, listed in listing.splits.items() if listed.groups is not None}
    if not groups:
        return ()
    labels, own = listing.splits["train"].labels, groups.get("train", np.full(0, OWN_UNIT))
    present = np.unique(own[own != OWN_UNIT])
    notices = [f"{where}: {len(own):,} training images in {len(present) + int((own == OWN_UNIT).sum()):,} groups"]
    if len(own) and join_units(own) is None:
        notices.append(f"{where}: every image is a group of its own: groups change nothing")
    for (split, ours), (other, theirs) in combinations(groups.items(), 2):
        shared = np.setdiff1d(np.intersect1d(ours, theirs), [OWN_UNIT])
        if len(shared):
            names = first_names(shown(Path(_group_name(listing, number))) for number in shared)
            notices.append(
                f"{where}: {split} and {other} share {len(shared):,} groups, so that {other} flatters: {names}"
            )
    if len(own) and not {"test", "validation"} <= set(listing.splits):
        alone = [int(label) for label in single_unit_classes(labels, own)]
        homes = [_group_name(listing, int(own[labels == label][0])) for label in alone]
        words = [f"{listing.class_names[label]} ({home})" for label, home in zip(alone, homes, strict=True)]
        if words:
            notices.append(
                f"{where}: classes of one group alone are trained on, and cannot be judged: {first_names(words)}"
            )
    return tuple(notices)


def _group_name(listing: Listing, number: int) -> str:
    return listing.group_names[number] if 0 <= number < len(listing.group_names) else "an image"


def path_of(source: str) -> str | None:
    """Return the path in a source as it is written, None where it has none."""
    kind, _, reference = source.partition(":")
    return reference if kind in PREFIXED and PREFIXED[kind].is_path and reference else None


NAMED: Registry[Source] = Registry("data source")
"""Sources that are written as their name."""
PREFIXED: Registry[Source] = Registry("data source", "tuner.sources")
"""Sources that are written `kind:reference`."""


def find_source(text: str) -> tuple[Source, str]:
    """Return the source written as `text`, and the text after its colon.

    Raises:
        DataError: there is no such source; the message has the nearest.
    """
    kind, colon, reference = text.partition(":")
    if colon and kind in PREFIXED:
        if not reference.strip():
            raise DataError(f"must name what to read after {kind}:, for example {kind}:data/images; got {text!r}")
        return PREFIXED[kind], reference
    if not colon and text in NAMED:
        return NAMED[text], text
    if meant := _meant(text):
        raise DataError(f"unknown data source {text!r}; did you mean {meant!r}?")
    known = [*NAMED, *(f"{name}:" for name in PREFIXED)]
    message = unknown_name("data source", f"{kind}:" if colon else text, known)
    raise DataError(f"{message}; a name of your own must be staged with --data NAME=SOURCE")


def _meant(path: str) -> str:
    """Return the source that reads what lies at a path; empty if nothing does, or nothing lies there."""
    try:
        place = user_path(path).resolve(strict=True)
        kind = next((kind for kind in list(PREFIXED)[::-1] if PREFIXED[kind].find_staged(place)), None)
    except (OSError, ValueError, InputError):
        return ""
    return f"{kind}:{path}" if kind else ""


def is_whole(numbers: np.ndarray) -> bool:
    """Return whether all numbers, of whatever type, are whole: labels may be kept as floats or truth values.

    >>> [is_whole(np.array(values)) for values in ([0.0, 2.0], [True, False], [0.5], [np.nan])]
    [True, True, False, False]
    """
    return numbers.dtype.kind in "iufb" and bool(np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all())


def number_labels(
    labels: Mapping[str, np.ndarray], names: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return the names of the classes, and the labels `[N] int64` of each split, which were numbers or texts.

    Texts are names of classes. Without `names`, texts are in order, and numbers are "0", "1", ...; -1 has no name: the
    labels of a test split may be withheld.

    Raises:
        DataError: there are gaps between numbers without names: they are not classes, or some were lost; or a text is
            empty, or none of the names. Where all of a split other than train are empty, they are withheld: -1.
    """
    names = tuple(unicodedata.normalize("NFC", name) for name in names)
    if any(found.dtype.kind == "U" for found in labels.values()):
        return _number_texts(labels, names, where)
    known = [found if split == "train" else found[found != -1] for split, found in labels.items()]
    present = np.unique(np.concatenate(known))
    if not names and len(present) and (present[0] != 0 or present[-1] != len(present) - 1):
        raise DataError(
            f"{where}: labels without class names must be 0 to the number of classes - 1, without gaps; "
            f"got {len(present)} different ones from {present[0]} to {present[-1]}"
        )
    return names or tuple(map(str, present)), {split: found.astype(np.int64) for split, found in labels.items()}


def _number_texts(
    labels: Mapping[str, np.ndarray], names: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    texts = {
        split: [unicodedata.normalize("NFC", str(label)) for label in found.tolist()] for split, found in labels.items()
    }
    is_withheld = {
        split
        for split, found in labels.items()
        if split != "train" and (found.dtype.kind in "iu" or not any(map(str.strip, texts[split])))
    }
    for split, found in texts.items():
        empty = [row for row, text in enumerate(found) if not text.strip()]
        if empty and split not in is_withheld:
            more = f" (and {len(empty) - 1:,} more)" if len(empty) > 1 else ""
            raise DataError(f"{where}: labels must name a class; that of image {empty[0]} of {split} is empty{more}")
    present = {text for split, found in texts.items() if split not in is_withheld for text in found}
    known = {name: number for number, name in enumerate(names or sorted(present))}
    if unknown := sorted(present - set(known)):
        raise DataError(f"{where}: labels must be names of classes ({first_names(known)}); got {first_names(unknown)}")
    return tuple(known), {
        split: np.array([known.get(text, -1) for text in found], dtype=np.int64) for split, found in texts.items()
    }
