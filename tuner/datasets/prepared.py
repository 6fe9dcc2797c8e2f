"""The prepared copy of a data set: plain arrays on disk, or encoded images, memory-mapped, one per machine.

All processes of a machine share the pages that the system holds of them. A copy lies in a folder named by what it was
made from; it is built aside by one process, under a lock, and renamed when it is whole: a killed build leaves nothing
that is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from tuner.common.arrays import is_whole
from tuner.common.errors import DataError
from tuner.common.files import format_size
from tuner.common.process import usable_cpus
from tuner.common.words import counted
from tuner.datasets._decoding import (
    COLUMNS,
    Form,
    Frame,
    Notify,
    Shape,
    Written,
    certain_frame,
    encoded_bytes,
    likely_frame,
    write_column,
    write_split,
)
from tuner.datasets._encoded_storage import ARRAYS, ENCODED, JPEG_QUALITY, EncodedImages, are_whole
from tuner.datasets.account.copies import CopyAccount, describe_copies, take_account
from tuner.datasets.copies import sketch_bytes, take_copies
from tuner.datasets.images import UnexpectedImage
from tuner.datasets.sources import Listed, Listing, describe_classes, first_names
from tuner.datasets.splits import OWN_UNIT

VERSION = 7
"""Version of the form of a copy: a copy of another version is made again."""
NAMES_SHOWN = 10
ROWS_AT_ONCE = 256
SHARE_OF_FREE_DISK = 0.5
"""With `auto`, arrays may take so much of it: activations and checkpoints need room, too."""


@dataclass(frozen=True)
class Skipped:
    """The broken images of a split that are not in a copy: their rows in the listing, ascending, and their columns."""

    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def put_back(self, column: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return a column of the copy with the `values` of the skipped images where these were listed."""
        return np.insert(column, self.rows - np.arange(len(self.rows)), values)

    def without(self, listed_rows: np.ndarray) -> np.ndarray:
        """Return the rows in the copy of those images, by their rows in the listing, that it has."""
        there = np.setdiff1d(listed_rows, self.rows)
        return there - np.searchsorted(self.rows, there)


@dataclass(frozen=True)
class PreparedCopy:
    """A prepared copy on disk, with the splits that its source gives: a part that is made is rows of one of them."""

    path: Path
    class_names: tuple[str, ...]
    image_shape: Shape
    fingerprint: str
    """SHA-256 over all images, columns and class names."""
    image_hashes: Mapping[str, str]
    """SHA-256 over the images of each split alone."""
    counts: Mapping[str, int]
    """Images in each split that the source gives."""
    columns: Mapping[str, tuple[str, ...]]
    """What there is for each image of a split beside its pixels: `labels`, perhaps `groups`, `weights`, `copies`."""
    copies: CopyAccount
    """What is told of copies among the images: the column `copies` has the group of each that is one."""
    storage: str
    """How the images are kept: `arrays` or `encoded`."""
    is_own_size: bool
    """Whether all images have this size as they are."""
    notices: tuple[str, ...]
    """Messages to the user each time the copy is used: images skipped, resized, left out."""
    threads: int | None = None
    """Threads that decode in this process; None: one for each CPU that it may use."""

    def describe_classes(self) -> str:
        """Return the names of the classes, with the images of each in all splits."""
        return describe_classes(self.class_names, [self.labels(split) for split in self.counts])

    def open(self, split: str) -> tuple[np.ndarray | EncodedImages, np.ndarray]:
        """Return images `[N, H, W, C] uint8`, memory-mapped and read-only, and labels `[N] int64` of a split."""
        return _open_images(self.path, split, self.image_shape, self.storage, self.threads), self.labels(split)

    def labels(self, split: str) -> np.ndarray:
        """Return the labels `[N] int64` of a split."""
        return np.asarray(np.load(self.path / f"{split}_labels.npy", allow_pickle=False))

    def column(self, split: str, name: str) -> np.ndarray | None:
        """Return the values `[N]` of another column, such as `groups`; None: there is none."""
        if name not in self.columns[split]:
            return None
        return np.asarray(np.load(self.path / f"{split}_{name}.npy", allow_pickle=False))

    def skipped(self, split: str) -> Skipped:
        """Return the broken images of a split that were listed and are not in the copy."""
        meta = json.loads((self.path / "meta.json").read_text(encoding="utf-8"))
        return Skipped(*(np.array(meta["skipped"][split][key], np.int64) for key in ("rows", "labels", "groups")))


BROUGHT = "brought"
"""The folder of a cache for what a program has brought: files by their content, that a search which goes on reads."""


def default_cache_dir() -> Path:
    """Return the folder for prepared copies: TUNER_CACHE, or the user's cache folder of this system."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("TUNER_CACHE") or user_cache_dir("tuner", appauthor=False))


def prepare(identity: Any, form: Form, read: Callable[[], Listing], cache_dir: Path, notify: Notify) -> PreparedCopy:
    """Return the prepared copy of the listing that `read` returns, made if it is missing.

    Raises:
        DataError: an image is broken and that is not to be skipped, or the disk cannot hold the copy.
    """
    prepared = find_prepared(identity, form, cache_dir)
    if prepared is None:
        own = _folder(identity, _own_form(form).kept_as(ARRAYS), cache_dir)  # locked however images will be kept
        try:
            own.parent.mkdir(parents=True, exist_ok=True)
            with _locked(own, notify):
                # Another process may have made it meanwhile.
                prepared = find_prepared(identity, form, cache_dir) or _build(
                    own, lambda kept: _folder(identity, kept, cache_dir), form, read, notify
                )
        except OSError as error:
            raise DataError(f"{own}: the prepared copy cannot be written: {error}") from error
    for notice in prepared.notices:
        notify(notice)
    return prepared


def find_prepared(identity: Any, form: Form, cache_dir: Path) -> PreparedCopy | None:
    """Return the prepared copy; None if it has not been made. Where both were, `auto` takes that with arrays.

    Images of one size that is no larger than what is asked for keep it: of these there is one copy, whatever is asked.
    """
    kept_as = (ARRAYS, ENCODED) if form.is_storage_open else (form.storage,)
    for kept in (form.kept_as(storage) for storage in kept_as):
        if (prepared := open_copy(_folder(identity, kept, cache_dir))) is not None:
            return prepared
        own = open_copy(_folder(identity, _own_form(kept), cache_dir)) if form.image_px is None else None
        if own is not None and own.is_own_size and form.keeps(own.image_shape):
            return own
    return None


def _own_form(form: Form) -> Form:
    """Return the form that names a copy of images that keep their size: nothing of how others are resized."""
    return replace(form, asked=None, fit="crop")


def _folder(identity: Any, form: Form, cache_dir: Path) -> Path:
    key = hashlib.sha256(json.dumps([VERSION, identity, vars(form)], sort_keys=True).encode()).hexdigest()[:24]
    return cache_dir / "datasets" / key


@contextmanager
def _locked(folder: Path, notify: Notify) -> Iterator[None]:
    """Hold the lock for building a copy, of one process at a time; the system releases it when the process dies."""
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        notify("another process is preparing these data: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def open_copy(folder: Path) -> PreparedCopy | None:
    """Return the copy in `folder`; None if it is missing, cut short, of another form or another version."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        height, width, channels = meta["image_shape"]
        prepared = PreparedCopy(
            folder,
            tuple(meta["class_names"]),
            (height, width, channels),
            meta["fingerprint"],
            dict(meta["image_hashes"]),
            dict(meta["counts"]),
            {split: tuple(names) for split, names in meta["columns"].items()},
            CopyAccount.from_json(meta["copies"]),
            str(meta["storage"]),
            meta["is_own_size"],
            tuple(meta["notices"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    is_right = meta.get("version") == VERSION and cut_short(folder, meta) is None
    return prepared if is_right else None


def cut_short(folder: Path, meta: Mapping[str, Any]) -> str | None:
    """Return the first split of a copy with a file that is not as long as its description says; None: all are whole."""
    for split, count in meta["counts"].items():
        if meta["storage"] == ENCODED:
            images = are_whole(folder, split, count)
        else:
            images = is_whole(folder / f"{split}_images.npy", (count, *meta["image_shape"]), np.uint8)
        names = meta["columns"].get(split, ())
        columns = (
            name in COLUMNS and is_whole(folder / f"{split}_{name}.npy", (count,), COLUMNS[name]) for name in names
        )
        if not images or "labels" not in names or not all(columns):
            return str(split)
    return None


def find_damage(folder: Path) -> str | None:
    """Return what is wrong with the values of a copy, if their fingerprint is not the one in its description."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        hashes = {
            split: {what: _values_sha256(folder, split, what, meta) for what in ("images", *columns)}
            for split, columns in meta["columns"].items()
        }
        is_right = fingerprint_of(meta["class_names"], meta["image_shape"], hashes) == meta["fingerprint"]
    except (FileNotFoundError, KeyError, ValueError, TypeError, AttributeError):
        return "its description cannot be read"
    except DataError as error:
        return str(error)
    return None if is_right else "its values are not those that were written"


def _values_sha256(folder: Path, split: str, what: str, meta: Mapping[str, Any]) -> str:
    """Return the hash of the values of a file; of encoded images, of what they are decoded to."""
    if what != "images" or meta["storage"] != ENCODED:
        with (folder / f"{split}_{what}.npy").open("rb") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            return hashlib.file_digest(file, "sha256").hexdigest()
    images, digest = _open_images(folder, split, tuple(meta["image_shape"]), ENCODED, None), hashlib.sha256()
    for start in range(0, len(images), ROWS_AT_ONCE):
        digest.update(images[np.arange(start, min(start + ROWS_AT_ONCE, len(images)))].data.cast("B"))
    return digest.hexdigest()


def _open_images(
    folder: Path, split: str, shape: Shape, storage: str, threads: int | None
) -> np.ndarray | EncodedImages:
    if storage == ENCODED:
        return EncodedImages(folder, split, shape, threads or usable_cpus())
    array: np.ndarray = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
    return array


def _build(
    locked: Path, folder_of: Callable[[Form], Path], form: Form, read: Callable[[], Listing], notify: Notify
) -> PreparedCopy:
    """Make the copy in the folder of the form that it gets; the lock of the folder `locked` is held."""
    aside = locked.with_suffix(".partial")
    _remove_leftovers(locked.parent, aside)
    listing = _listing(read)
    with warnings.catch_warnings():
        # Pillow's own warnings name no file; what is wrong with an image is reported with its name.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            try:
                frame, form, written = _write(aside, listing, likely_frame(listing, form), form, notify)
            except UnexpectedImage:
                frame, form, written = _write(aside, listing, certain_frame(listing, form), form, notify)
            folder = folder_of(_own_form(form) if frame.is_own_size else form)
            problems = [problem for split in written.values() for problem in split.problems]
            notices = (*listing.notices, *frame.notices, *_judge_broken(problems, form))
            refuse_lost(listing, {split: there.labels for split, there in written.items()})
            copies, written = _find_copies(aside, listing, written, frame.shape[2])
            notices += describe_copies(copies, is_split_here=not {"test", "validation"} <= set(listing.splits))
            notices += _storage_notice(aside, frame.shape, form, written)
            _write_meta(aside, listing, frame, form, written, copies, notices)
            shutil.rmtree(folder, ignore_errors=True)
            aside.replace(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    prepared = open_copy(folder)
    if prepared is None:
        raise DataError(f"{folder}: the prepared copy was changed while it was being written")
    return prepared


def _write(
    aside: Path, listing: Listing, frame: Frame, form: Form, notify: Notify
) -> tuple[Frame, Form, dict[str, Written]]:
    """Write all splits to the folder `aside`, made anew; return the form with the way in which they are kept."""
    form = _settle_storage(aside.parent, listing, frame, form, notify)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    written = {
        split: write_split(aside, split, listed, frame, form, notify) for split, listed in listing.splits.items()
    }
    return frame, form, written


def _listing(read: Callable[[], Listing]) -> Listing:
    try:
        return read()
    except OSError as error:
        raise DataError(f"the data cannot be read: {error}") from error


def _remove_leftovers(parent: Path, own: Path) -> None:
    """Remove the unfinished copies of builds that were killed; a build that still runs holds its lock."""
    for partial in parent.glob("*.partial"):
        if partial != own:
            try:
                with FileLock(partial.with_suffix(".lock"), timeout=0):
                    shutil.rmtree(partial, ignore_errors=True)
            except (Timeout, PermissionError):  # of another user, who removes it himself
                continue


def _settle_storage(parent: Path, listing: Listing, frame: Frame, form: Form, notify: Notify) -> Form:
    """Return the form with the way in which the images are kept: arrays, unless they are asked for otherwise or large.

    Raises:
        DataError: the disk cannot hold them so.
    """
    number = sum(len(listed.labels) for listed in listing.splits.values())
    sketches = number * sketch_bytes(frame.shape[2])  # of copies, until these are found
    arrays = number * (int(np.prod(frame.shape)) + 8) + sketches
    free = shutil.disk_usage(parent).free
    if form.storage != ENCODED and arrays <= free * (SHARE_OF_FREE_DISK if form.is_storage_open else 1):
        return form.kept_as(ARRAYS)
    images = encoded_bytes(listing, frame, form.jpeg_quality)
    encoded = arrays if images is None else images + number * 8 + sketches
    is_smaller = encoded < arrays
    storage = (ENCODED if is_smaller else ARRAYS) if form.is_storage_open else form.storage
    needed = arrays if storage == ARRAYS else encoded
    if needed > free:
        ways = ["make room", "make the images smaller (data.image_px)", "name another folder in TUNER_CACHE"]
        if storage == ARRAYS and is_smaller:
            ways.insert(1, f"set data.storage to encoded, which needs about {_mib(encoded)} MiB")
        about = " with encoded images about" if storage == ENCODED else ""
        raise DataError(
            f"{parent}: the prepared copy needs{about} {_mib(needed)} MiB, {_mib(free)} MiB are free; "
            f"{', '.join(ways[:-1])} or {ways[-1]}"
        )
    if form.is_storage_open and storage == ENCODED:
        notify(
            f"arrays of all images would take {_mib(arrays)} MiB, more than half of the {_mib(free)} MiB that are free "
            f"in {parent}: they are kept encoded, in about {_mib(needed)} MiB (data.storage sets it)"
        )
    return form.kept_as(storage)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f}"


def _storage_notice(folder: Path, shape: Shape, form: Form, written: Mapping[str, Written]) -> tuple[str, ...]:
    """Return what is to be said of images that are kept encoded each time they are used."""
    if form.storage != ENCODED:
        return ()
    if form.jpeg_quality is not None:
        how = f"as JPEG of quality {form.jpeg_quality}"
    else:
        lossy = sum(there.lossy for there in written.values())
        number = sum(len(there.labels) for there in written.values())
        some = (
            f"those that were lossy before ({lossy:,} of {number:,}) as JPEG of quality {JPEG_QUALITY}, others without"
        )
        how = f"{some} loss" if lossy < number else f"as JPEG of quality {JPEG_QUALITY}"
        how = how if lossy else "without loss"
    size = sum(path.stat().st_size for path in folder.iterdir())
    arrays = sum(len(there.labels) for there in written.values()) * int(np.prod(shape))
    return (f"images are kept encoded, {how}: {format_size(size)}, as arrays {format_size(arrays)}",)


def _judge_broken(problems: list[str], form: Form) -> tuple[str, ...]:
    """Return a notice of the broken images that are skipped; raises DataError when skipping is not allowed."""
    if not problems:
        return ()
    shown = "; ".join(problems[:NAMES_SHOWN])
    more = f"; and {len(problems) - NAMES_SHOWN:,} more" if len(problems) > NAMES_SHOWN else ""
    words = f"{counted(len(problems), 'broken image')}: {shown}{more}"
    if form.broken_images == "fail":
        raise DataError(f"{words}; remove or repair them, or set data.broken_images to skip")
    return (f"skipped {words}",)


def refuse_lost(listing: Listing, labels: Mapping[str, np.ndarray]) -> None:
    """Raise DataError where skipping has emptied a split, or a class of the training images.

    `labels` `[N] int64` are those of the images in each split that are not broken.
    """
    for split, there in labels.items():
        if not len(there):
            raise DataError(f"{split} must hold at least one image that is not broken; it holds none")
    lost = np.setdiff1d(listing.splits["train"].labels, labels["train"])
    if len(lost):
        names = ", ".join(listing.class_names[label] for label in lost[:NAMES_SHOWN])
        raise DataError(f"every class must have a training image that is not broken; none is left of {names}")


def refuse_lost_by_test(
    labels: np.ndarray, kept: np.ndarray, held: np.ndarray, class_names: Sequence[str], source: str
) -> None:
    """Raise DataError where a test split, in which broken images took part, leaves a class without training images.

    Of the images that can be read, with `labels` `[N] int64`, some rows are `kept` and others `held` out; or where
    none of these is held out.
    """
    lost = np.setdiff1d(labels, labels[kept])
    if len(lost) or not len(held):
        what = f"train an image of {first_names(class_names[label] for label in lost)}" if len(lost) else "test"
        raise DataError(f"{source}: too many images are broken to split the others: none is left for {what}")


def _find_copies(
    folder: Path, listing: Listing, written: Mapping[str, Written], channels: int
) -> tuple[CopyAccount, dict[str, Written]]:
    """Write the column of copies of each split that has some; return what is known of them, and what is written now."""
    splits = [split for split in ("train", "validation", "test") if split in written]
    labels = {split: written[split].labels for split in splits}
    found = take_copies(folder, {split: len(labels[split]) for split in splits}, channels)
    rows = {split: np.delete(np.arange(len(listing.splits[split].labels)), written[split].broken) for split in splits}
    account = take_account(
        found, labels, lambda split, row: listing.splits[split].name(int(rows[split][row])), listing.class_names
    )
    ends = np.cumsum([len(labels[split]) for split in splits])
    now = dict(written)
    for split, groups in zip(splits, np.split(found.groups, ends[:-1]), strict=True):
        if (groups != OWN_UNIT).any():
            sha256 = write_column(folder, split, "copies", groups)
            now[split] = replace(now[split], hashes={**now[split].hashes, "copies": sha256})
    return account, now


def _write_meta(
    folder: Path,
    listing: Listing,
    frame: Frame,
    form: Form,
    written: Mapping[str, Written],
    copies: CopyAccount,
    notices: tuple[str, ...],
) -> None:
    hashes = {split: there.hashes for split, there in written.items()}
    meta = {
        "version": VERSION,
        "class_names": listing.class_names,
        "image_shape": frame.shape,
        "is_own_size": frame.is_own_size,
        "storage": form.storage,
        "fingerprint": fingerprint_of(listing.class_names, frame.shape, hashes),
        "image_hashes": {split: there["images"] for split, there in hashes.items()},
        "counts": {split: len(there.labels) for split, there in written.items()},
        "columns": {split: [name for name in there.hashes if name != "images"] for split, there in written.items()},
        "skipped": {split: _skipped(listed, written[split].broken) for split, listed in listing.splits.items()},
        "copies": asdict(copies),
        "notices": notices,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")


def fingerprint_of(class_names: Sequence[str], shape: Sequence[int], hashes: Mapping[str, Mapping[str, str]]) -> str:
    """Return the fingerprint of a copy from the hashes of its files, by split and by what they hold."""
    content = json.dumps([list(class_names), list(shape), hashes], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def _skipped(listed: Listed, broken: np.ndarray) -> dict[str, list[int]]:
    groups = np.full(len(listed.labels), OWN_UNIT) if listed.groups is None else listed.groups
    return {"rows": broken.tolist(), "labels": listed.labels[broken].tolist(), "groups": groups[broken].tolist()}
