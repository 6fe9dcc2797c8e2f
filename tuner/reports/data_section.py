"""The account of a data set in words and pictures: lines for a console, a section of the report, a page of its own."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tuner.common.arrays import DAMAGED_ARCHIVE
from tuner.common.errors import printable
from tuner.common.files import replacing
from tuner.common.metrics import short_number
from tuner.common.process import usable_cpus
from tuner.common.words import counted
from tuner.datasets.account.copies import CopyAccount
from tuner.datasets.account.facts import FEW_IMAGES, THUMBNAIL_PX, Account, ClassFacts, Size, SplitFacts
from tuner.datasets.account.taking import Gallery
from tuner.reports.formatting import capital, escaped, shortened, table

MOST_CLASSES = 40
"""A table of more has the largest and the smallest."""
MOST_NAMES = 10
MOST_SHEETS = 60
PER_SHEET = 12
SEED = 0
_LONGEST = 300
_QUALITY = 80
_GAP_PX = 4
_GREY = 128


class Line(NamedTuple):
    """A fact: what it is about, and what is so, as plain text."""

    about: str
    text: str


class Bar(NamedTuple):
    """A row of the table of classes."""

    name: str
    cells: Sequence[str]
    width: float
    """Of its bar, in percent of the longest."""


class PageSheet(NamedTuple):
    """A contact sheet inside the page."""

    name: str
    """Of the class."""
    number: str
    source: str
    """A `data:` address."""
    alt: str
    width: int
    height: int


class DataView(NamedTuple):
    """The section of a page about the data."""

    columns: Sequence[str]
    bars: Sequence[Bar]
    left_out: str
    """Of the table, in words."""
    lines: Sequence[tuple[str, Sequence[str]]]
    """What each is about, and its sentences."""
    advice: Sequence[str]
    sheets: Sequence[PageSheet]
    sheets_words: str
    conflicts: Sequence[PageSheet]
    copies: Sequence[PageSheet]
    suspects: Sequence[PageSheet] = ()
    """Images whose labels look wrong, one each."""


# --- words ---


def account_lines(account: Account) -> list[Line]:
    """Return all facts but the table of classes, a line or more for each."""
    return [
        *_lines("images", [_images(account)]),
        *_lines("splits", [_split(split, _kept_together(account)) for split in account.splits]),
        *_lines("refused", account.refusals),
        *_lines("sizes", _sizes(account)),
        *_lines("colours", _colours(account)),
        *_lines("broken", _broken(account)),
        *_lines("copies", _copies(account.copies)),
        *_lines("two labels", _conflicts(account)),
        *_lines("balance", _balance(account)),
        *_lines("groups", _groups(account)),
        *_lines("weights", _weights(account)),
        *_lines("noted", account.notices),
    ]


def _lines(about: str, texts: Iterable[str]) -> list[Line]:
    return [Line(about, printable(text)) for text in texts if text]


def _images(account: Account) -> str:
    broken = f", and {counted(len(account.broken), 'broken one')}" if account.broken else ""
    return f"{counted(account.images, 'image')} of {counted(len(account.classes), 'class')}{broken}"


def _split(split: SplitFacts, keeps_together: str = "") -> str:
    groups = "" if split.groups is None else f" in {counted(split.groups, 'group')}"
    used = "" if split.used is None else f"; a search uses {split.used:,} of them"
    words = f"{split.name}: {counted(split.images, 'image')}{groups}"
    if split.origin == "given":
        return f"{words}, given by the source{used}"
    if split.origin == "left":
        return f"{words}, what is left of the training images of the source{used}"
    whose = "the same for all studies" if split.seed is None else f"seed {split.seed}"
    together = f", {keeps_together} on one side" if keeps_together else ""
    if split.folds is not None:
        return f"{words}, the first of {split.folds} folds of the training images left{together}, {whose}{used}"
    return (
        f"{words}, made by tuner: {100 * (split.share or 0):.3g}% of the training images left, classes in proportion"
        f"{together}, {whose}{used}"
    )


def _kept_together(account: Account) -> str:
    """Name the images that stay on one side of a split."""
    has_copies = account.copies is not None and account.copies.copies > 0
    return " and ".join([*(["groups"] if account.groups else []), *(["copies"] if has_copies else [])])


def _sizes(account: Account) -> list[str]:
    sizes = account.sizes
    if sizes is None:
        return []
    if sizes.different == 1:
        return [f"all {_size(sizes.smallest)} (width x height)"]
    common = ", ".join(f"{_size(size)} ({size.images:,})" for size in sizes.commonest)
    more = f" and {sizes.different - len(sizes.commonest):,} more" * (sizes.different > len(sizes.commonest))
    return [
        f"{sizes.different:,} different ones from {_size(sizes.smallest)} to {_size(sizes.largest)} (width x height), "
        f"median {sizes.median_width} x {sizes.median_height}; {_share(sizes.oblong_share)} are no squares",
        f"the commonest: {common}{more}",
    ]


def _size(size: Size) -> str:
    return f"{size.width}x{size.height}"


def _share(share: float) -> str:
    """Return a share in percent, none that is not 0 or 1 as such.

    >>> _share(0.5), _share(0.9999), _share(0.0001), _share(0), _share(1)
    ('50%', '99.99%', '0.01%', '0%', '100%')
    """
    rounded = round(share, 2)
    return f"{share:.2%}" if rounded in (0.0, 1.0) and share != rounded else f"{share:.0%}"


def _colours(account: Account) -> list[str]:
    colours = account.colours
    if colours is None:
        return []
    kinds = {
        "in colour": colours.coloured,
        "grey": colours.grey,
        "with transparency, laid over white": colours.transparent,
        **{f"of {bits} bits": number for bits, number in colours.bits.items() if bits != "8"},
    }
    words = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items() if number)
    formats = ", ".join(f"{name} {number:,}" for name, number in colours.formats.items())
    lines = [f"{words}; {formats}"]
    if colours.brightness is not None:
        low, median, high = colours.brightness
        of = f", of {colours.measured:,} images" + " drawn by chance" * (colours.measured < account.images)
        lines.append(f"brightness (0 to 255) {median:.0f} in the median; nine of ten {low:.0f} to {high:.0f}{of}")
    if colours.blank:
        lines.append(f"{counted(colours.blank, 'image')} of one colour: {named(colours.blank_examples, colours.blank)}")
    return lines


def _broken(account: Account) -> list[str]:
    unread = "" if account.is_decoded else "only headers were read: more may be broken"
    if not account.broken:
        return [unread or "none"]
    return [*(f"{image.name} ({image.split}) {image.reason}" for image in account.broken), unread]


def _copies(copies: CopyAccount | None) -> list[str]:
    if copies is None:
        return ["not looked for"]
    if not copies.copies:
        return ["none"]
    near = copies.copies - copies.exact_copies
    examples = (*copies.examples, *(names for each in copies.across for names in each.examples))
    pairs = {frozenset(names): names for names in examples}
    across = [f"{each.images:,} of {each.split} in {each.earlier}" for each in copies.across]
    chains = f"; {copies.in_cut_chains:,} images hang together in chains that were cut" if copies.in_cut_chains else ""
    return [
        f"{counted(copies.exact_copies, 'image')} equal to another, pixel by pixel; {near:,} nearly{chains}",
        f"across the splits that the source gives: {'; '.join(across)}" if across else "",
        *(f"for example {' = '.join(sorted(names))}" for names in pairs.values()),
    ]


def _conflicts(account: Account) -> list[str]:
    number = account.copies.conflicts if account.copies is not None else 0
    if not number:
        return []
    told = [" = ".join(map(_labelled, one.names, one.classes)) for one in account.conflicts]
    more = number - len(told)
    return [
        f"{counted(number, 'picture')} under several labels: at least one of them is wrong",
        *told,
        f"and {more:,} more" if more else "",
    ]


def _labelled(name: str, class_name: str) -> str:
    return f"{name} ({class_name})"


def _balance(account: Account) -> list[str]:
    balance = account.imbalance
    if balance.ratio == 1 and account.classes:
        lines = [f"each class has {counted(account.classes[0].images, 'image')}"]
    else:
        lines = [
            f"the largest class, {balance.largest}, has {balance.largest_share:.1%} of the images: to name it each "
            f"time is right so often; it is {short_number(balance.ratio)} times as large as the smallest, "
            f"{balance.smallest}"
        ]
    if balance.few:
        few = counted(len(balance.few), "class")
        lines.append(f"{few} of fewer than {FEW_IMAGES} images: {named(balance.few)}")
    return lines


def _groups(account: Account) -> list[str]:
    groups = account.groups
    if groups is None:
        return []
    lone = groups.lone_classes
    return [
        f"{counted(groups.number, 'group')} by {groups.given_by}, of {groups.smallest:,} to {groups.largest:,} images, "
        f"{short_number(groups.median)} in the median",
        f"classes of one group, which cannot be on both sides of a split: {named(lone)}" if lone else "",
    ]


def _weights(account: Account) -> list[str]:
    if account.weights is None:
        return []
    least, most = account.weights
    return [f"training images weigh {short_number(least)} to {short_number(most)} in the loss, as the source says"]


def named(names: Sequence[str], number: int | None = None) -> str:
    """Return the first of some names, and how many more there are.

    >>> named(["a", "b"], 5)
    'a, b and 3 more'
    """
    shown = names[:MOST_NAMES]
    more = (len(names) if number is None else number) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


# --- classes ---


def class_table(account: Account, most: int = MOST_CLASSES) -> tuple[list[str], list[ClassFacts], str]:
    """Return the heads of the table of classes, its rows, and in words which classes it leaves out.

    The columns are those of the splits that the source gives; of many classes the largest and the smallest are shown.
    """
    splits = list(dict.fromkeys(split for one in account.classes for split in one.splits))
    heads = ["class", *(splits if len(splits) > 1 else []), "images", "share"]
    if len(account.classes) <= most:
        return heads, list(account.classes), ""
    ordered = sorted(account.classes, key=lambda one: -one.images)
    shown = [*ordered[: most // 2], *ordered[-(most - most // 2) :]]
    left = ordered[most // 2 : -(most - most // 2)]
    between = (
        f"{left[-1].images:,} to {left[0].images:,} images"
        if left[-1].images < left[0].images
        else (f"{left[0].images:,} images each")
    )
    return heads, shown, f"{len(left):,} classes between them, of {between}, are not shown"


def class_cells(one: ClassFacts, heads: Sequence[str], total: int) -> list[str]:
    """Return the cells of a row of the table of classes."""
    cells = {
        "class": printable(one.name),
        **{split: f"{number:,}" for split, number in one.splits.items()},
        "images": f"{one.images:,}",
        "share": f"{one.images / max(1, total):.1%}",
    }
    return [cells.get(head, "0") for head in heads]


# --- contact sheets ---


@dataclass(frozen=True)
class Sheet:
    """Some images side by side, as a JPEG: of a class, or copies of one picture."""

    class_name: str
    """Or what is said of copies."""
    names: tuple[str, ...]
    of: int
    """So many images the class has among those it was drawn from."""
    width: int
    height: int
    jpeg: bytes
    kind: Literal["class", "two labels", "copies"] = "class"


def draw_sheets(gallery: Gallery, most_sheets: int = MOST_SHEETS, per_sheet: int = PER_SHEET) -> tuple[Sheet, ...]:
    """Return contact sheets of classes, of images drawn by a fixed seed; where there are many classes, of some."""
    present = np.unique(gallery.labels)
    generator = np.random.default_rng(SEED)
    chosen = present if len(present) <= most_sheets else np.sort(generator.permutation(present)[:most_sheets])
    found = []
    with ThreadPoolExecutor(max_workers=min(8, usable_cpus())) as pool:
        for label in chosen.tolist():
            of_class = np.flatnonzero(gallery.labels == label)
            rows = np.sort(np.random.default_rng([SEED, label]).permutation(of_class)[:per_sheet]).tolist()
            width, height, jpeg = picture_jpeg(list(pool.map(gallery.picture, rows)))
            names = tuple(gallery.name(row) for row in rows)
            found.append(Sheet(gallery.class_names[label], names, len(of_class), width, height, jpeg))
        for alike in gallery.alike:
            width, height, jpeg = picture_jpeg(list(pool.map(lambda picture: picture(), alike.pictures)))
            kind: Literal["two labels", "copies"] = "two labels" if alike.is_conflict else "copies"
            found.append(Sheet(alike.about, alike.names, len(alike.names), width, height, jpeg, kind))
    return tuple(found)


def save_sheets(path: Path, sheets: Sequence[Sheet]) -> None:
    """Write contact sheets for the report."""
    about = [{**asdict(sheet), "jpeg": ""} for sheet in sheets]
    arrays = {f"jpeg_{index}": np.frombuffer(sheet.jpeg, np.uint8) for index, sheet in enumerate(sheets)}
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, about=np.array(json.dumps(about)), **arrays)


def load_sheets(path: Path) -> tuple[Sheet, ...]:
    """Return the contact sheets in a file; empty when there is none, or none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            jpegs = [stored[f"jpeg_{index}"].tobytes() for index in range(len(about))]
        return tuple(
            Sheet(**{**one, "names": tuple(one["names"]), "jpeg": jpeg}) for one, jpeg in zip(about, jpegs, strict=True)
        )
    except (*DAMAGED_ARCHIVE, TypeError, ValueError):
        return ()


def picture_jpeg(pictures: Sequence[np.ndarray]) -> tuple[int, int, bytes]:
    """Return width, height and content of a row of pictures, each in the middle of its square."""
    from PIL import Image

    step = THUMBNAIL_PX + _GAP_PX
    whole = np.full((THUMBNAIL_PX, step * len(pictures) - _GAP_PX, 3), _GREY, dtype=np.uint8)
    for place, picture in enumerate(pictures):
        small = _enlarged(picture)
        top, left = ((THUMBNAIL_PX - size) // 2 for size in small.shape[:2])
        left += step * place
        whole[top : top + small.shape[0], left : left + small.shape[1]] = small
    content = io.BytesIO()
    Image.fromarray(whole).save(content, "JPEG", quality=_QUALITY)
    return whole.shape[1], whole.shape[0], content.getvalue()


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Return a picture `[H, W, 3] uint8` as large as a thumbnail: small ones show their pixels as squares."""
    from PIL import Image

    grey = picture.shape[2] == 1
    image = Image.fromarray(picture[:, :, 0] if grey else picture).convert("RGB")
    factor = THUMBNAIL_PX // max(image.size)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BILINEAR)
    return np.asarray(image)


# --- the page ---


def data_view(account: Account, sheets: Sequence[Sheet]) -> DataView:
    """Return what a page shows of a data set."""
    heads, rows, left_out = class_table(account)
    longest = max((one.images for one in account.classes), default=1) or 1
    lines: dict[str, list[str]] = {}
    for about, text in account_lines(account):
        lines.setdefault(capital(about), []).append(shortened(text, _LONGEST))
    return DataView(
        heads,
        [Bar(printable(one.name), class_cells(one, heads, account.images), 100 * one.images / longest) for one in rows],
        left_out,
        list(lines.items()),
        [printable(text) for text in account.advice],
        [_page_sheet(sheet) for sheet in sheets if sheet.kind == "class"],
        sheets_words(account, [sheet for sheet in sheets if sheet.kind == "class"]),
        [_page_alike(sheet) for sheet in sheets if sheet.kind == "two labels"],
        [_page_alike(sheet) for sheet in sheets if sheet.kind == "copies"],
    )


def data_verdict(account: Account) -> str:
    """Return in one paragraph of Markdown what matters most."""
    copies = account.copies
    wrong = {"copies of others": copies.copies, "under several labels": copies.conflicts} if copies is not None else {}
    found = ", ".join(f"{number:,} {what}" for what, number in wrong.items() if number)
    refused = " **A search would refuse them as they are.**" if account.refusals else ""
    return f"{escaped(_images(account))}{f'; {found}' if found else ''}.{refused}"


def _page_sheet(sheet: Sheet) -> PageSheet:
    number = f"{len(sheet.names):,} of {sheet.of:,}"
    alt = f"{len(sheet.names)} images of the class {printable(sheet.class_name)}: {printable(named(sheet.names))}"
    source = f"data:image/jpeg;base64,{base64.b64encode(sheet.jpeg).decode()}"
    return PageSheet(printable(sheet.class_name), number, source, alt, sheet.width, sheet.height)


def _page_alike(sheet: Sheet) -> PageSheet:
    """Return copies of one picture side by side, with all their names."""
    names = printable(" = ".join(sheet.names))
    source = f"data:image/jpeg;base64,{base64.b64encode(sheet.jpeg).decode()}"
    return PageSheet(printable(sheet.class_name), names, source, f"one picture: {names}", sheet.width, sheet.height)


def sheets_words(account: Account, sheets: Sequence[Sheet]) -> str:
    """Say what contact sheets show."""
    if not sheets:
        return ""
    of = f"{len(sheets)} of {len(account.classes):,} classes, " if len(sheets) < len(account.classes) else ""
    return f"{of}{'t' if of else 'T'}raining images drawn by chance, the same each time."


def data_markdown(account: Account) -> list[str]:
    """Return the section of a leaderboard about the data, as Markdown."""
    heads, rows, left_out = class_table(account)
    cells = [[escaped(cell) for cell in class_cells(one, heads, account.images)] for one in rows]
    facts = [f"- **{capital(about)}**: {escaped(shortened(text, _LONGEST))}" for about, text in account_lines(account)]
    advice = [f"- {escaped(text)}" for text in account.advice]
    return [
        "## The data",
        "",
        *facts,
        *(["", "What to do next:", "", *advice] if advice else []),
        "",
        *table(heads, cells, frozenset(heads[1:])),
        *(["", f"{capital(left_out)}."] if left_out else []),
    ]
