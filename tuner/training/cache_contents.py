"""The content of a cache: prepared data sets and cached activations, whole or not.

Only folders that have a name which the cache gives, and nothing in them but its files, are looked at. So whoever names
a wrong folder loses nothing, and links are never followed.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tuner.common.errors import InputError
from tuner.common.files import format_size
from tuner.datasets.prepared import VERSION, cut_short, find_damage
from tuner.training import activation_store
from tuner.training.activation_store import META, REFUSED, Key, folder_bytes, last_use, read_object

DATASETS, ACTIVATIONS = "datasets", "activations"
"""The kinds of items, and the folders that they lie in."""
MOVING_S = 60.0
"""An entry is moved to its place within milliseconds; one that has been on the way for longer was left by a crash."""
NAMES = {DATASETS: r"[0-9a-f]{24}(\.partial)?", ACTIVATIONS: r"[0-9a-f]{24}(\.\d+\.partial)?|build-[0-9a-f]{20}"}
FILES = (
    r"meta\.json|(train|validation|test)_(images|index|labels|groups|weights|copies)\.npy|"
    r"(train|validation|test)(_images\.bin|\.sketches)|(activations|checksums)\.npy|refused\.json|used|"
    r"verified\.json|users|claims|begin\.lock|"
    r"\d+\.npy|ready|done|finish\.lock"  # what builds of an earlier version have left
)
CLASSES_SHOWN = 3


@dataclass(frozen=True)
class Item:
    """One folder of the cache."""

    kind: str
    folder: Path
    status: str
    """`whole`, `unfinished`, `refused`, `damaged` or `outdated` (made by another version of tuner)."""
    reason: str
    """Why it is not whole, where there is more to say than the status."""
    images: int | None
    size_bytes: int
    used: float
    """Unix time of the last use. Of a data set: when it was made, or when activations of it were used last."""
    in_use: bool
    details: Mapping[str, Any]
    """The facts that determine its values; for a data set also its name, if there are activations of it."""

    @property
    def name(self) -> str:
        """The name of the data set, `-` if it is not known."""
        return str(self.details.get("name", "-"))

    def describe(self) -> str:
        """Return in a few words what it is, and why it is not whole."""
        words = ["prepared images" if self.kind == DATASETS else "activations"]
        if self.details:
            words = _dataset_words(self.details) if self.kind == DATASETS else _activation_words(self.details)
        what = ", ".join(word for word in words if word)
        return f"{what}: {self.reason}" if self.reason else what


def list_items(cache: Path) -> list[Item]:
    """Return everything that the cache holds, the last used first; empty if there is no such folder.

    Raises InputError when what should be a folder of the cache is a link or a file.
    """
    activations = [_activation_item(folder) for folder in _own_folders(cache, ACTIVATIONS)]
    datasets = [_dataset_item(folder, activations) for folder in _own_folders(cache, DATASETS)]
    items = [item for item in (*activations, *datasets) if item is not None]
    return sorted(items, key=lambda item: (-item.used, str(item.folder)))


def build_lock(folder: Path) -> FileLock:
    """Return the lock of the process that makes this data set; it is taken at once or not at all."""
    return FileLock(folder.parent / f"{folder.name.lstrip('.')[:24]}.lock", timeout=0)


def damage(item: Item) -> str | None:
    """Return what is wrong with the values of a whole item, after reading all; None if nothing is, or if it is gone."""
    problem = activation_store.damage(item.folder) if item.kind == ACTIVATIONS else find_damage(item.folder)
    return problem if (item.folder / META).exists() else None


# --- looking at folders ---


def _own_folders(cache: Path, kind: str) -> Iterator[Path]:
    """Yield folders that the cache itself has made, also those being removed (`activation_store.remove`)."""
    root = cache / kind
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        raise InputError(f"{root} must be a folder; got a link or a file")
    for folder in sorted(root.glob("*")):
        is_named = re.fullmatch(rf"\.*({NAMES[kind]})(\.[0-9a-f]{{8}}\.removed)*", folder.name)
        if is_named and not folder.is_symlink() and folder.is_dir() and all(map(_is_own, folder.glob("*"))):
            yield folder


def _is_own(path: Path) -> bool:
    is_named = re.fullmatch(rf"({FILES})|\.({FILES})\.\d+\.partial|\.nfs[0-9a-f]+", path.name)
    return bool(is_named) and not path.is_symlink()


def _activation_item(folder: Path) -> Item | None:
    refused, meta = read_object(folder / REFUSED), read_object(folder / META)
    images = activation_store.images_there(folder)
    status, reason = _activation_status(folder, meta, refused, images)
    about = meta or refused
    details = dict(about["identity"]) if isinstance(about.get("identity"), dict) else {}
    details |= {name: about[name] for name in ("name", "dtype") if about.get(name)}
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile by another process
        used = last_use(folder)
        is_moving = folder.name.endswith(".partial") and time.time() - used < MOVING_S
        in_use = is_moving or activation_store.is_in_use(folder)
        there = images if status == "whole" else None
        return Item(ACTIVATIONS, folder, status, reason, there, folder_bytes(folder), used, in_use, details)
    return None


def _activation_status(
    folder: Path, meta: Mapping[str, Any], refused: Mapping[str, Any], images: int
) -> tuple[str, str]:
    if folder.name.startswith("."):
        return "unfinished", ""
    if not (folder / META).exists():
        return ("refused", str(refused["refused"])) if "refused" in refused else ("unfinished", "")
    try:
        key = Key(meta["identity"], tuple(meta["shape"]), meta["dtype"])
    except (KeyError, TypeError, ValueError):
        return "damaged", "its description cannot be read"
    if key.digest != folder.name:
        return "outdated", "made by another version of tuner"
    if (problem := activation_store.form_damage(folder, key)) is not None:
        return "damaged", problem
    return "whole" if images else "unfinished", ""


def _dataset_item(folder: Path, activations: Sequence[Item | None]) -> Item | None:
    """Return a prepared data set as an item; its name is known only from activations made of it."""
    details = _dataset_details(read_object(folder / META))
    status, reason = _dataset_status(folder, details)
    own = [
        item for item in activations if item and item.details.get("images") in details.get("image_hashes", {}).values()
    ]
    details |= {"name": own[0].name} if own else {}
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile by another process
        used = max([folder.stat().st_mtime, *(item.used for item in own)])
        in_use = _is_being_made(folder) or any(item.in_use for item in own)
        images = sum(details["counts"].values()) if status == "whole" else None
        return Item(DATASETS, folder, status, reason, images, folder_bytes(folder), used, in_use, details)
    return None


def _dataset_details(meta: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {
            "fingerprint": str(meta["fingerprint"]),
            "version": int(meta["version"]),
            "class_names": [str(name) for name in meta["class_names"]],
            "image_shape": [int(size) for size in meta["image_shape"]],
            "counts": {str(split): int(count) for split, count in meta["counts"].items()},
            "image_hashes": {str(split): str(digest) for split, digest in meta.get("image_hashes", {}).items()},
            "storage": str(meta.get("storage", "arrays")),
            "columns": {split: list(map(str, names)) for split, names in meta.get("columns", {}).items()},
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _dataset_status(folder: Path, details: Mapping[str, Any]) -> tuple[str, str]:
    if folder.suffix:  # on its way here or away
        return "unfinished", ""
    if not details:
        return "damaged", "its description cannot be read"
    if details["version"] != VERSION:
        return "outdated", "made by another version of tuner"
    split = cut_short(folder, details)
    return ("whole", "") if split is None else ("damaged", f"{split} is cut short")


def _is_being_made(folder: Path) -> bool:
    lock = build_lock(folder)
    try:
        if Path(lock.lock_file).exists():
            with lock:
                return False
    except Timeout:
        return True
    return False


# --- in words ---


def total_words(items: Sequence[Item]) -> str:
    """Return in words how many items of each kind there are, and their size together."""
    datasets = sum(item.kind == DATASETS for item in items)
    entries = len(items) - datasets
    words = [f"{datasets} prepared data set{'' if datasets == 1 else 's'}"] if datasets else []
    words += [f"{entries} {'entry' if entries == 1 else 'entries'} of activations"] if entries else []
    size = format_size(sum(item.size_bytes for item in items))
    return f"{' and '.join(words)}, {size}" if words else "nothing"


def _dataset_words(details: Mapping[str, Any]) -> list[str]:
    names = list(details.get("class_names", ()))
    shown = ", ".join(map(str, names[:CLASSES_SHOWN])) + (", ..." if len(names) > CLASSES_SHOWN else "")
    splits = "/".join(details.get("counts", {}))
    kind = "encoded images " if details.get("storage") == "encoded" else "images "
    return [kind + "x".join(map(str, details.get("image_shape", ()))), f"{len(names)} classes ({shown})", splits]


def _activation_words(details: Mapping[str, Any]) -> list[str]:
    view = details.get("view")
    return [
        f"{details.get('architecture', '?')} at {details.get('place', '?')}",
        str(details.get("preprocess", "")),
        str(details.get("array", "")),
        "" if view is None else f"view {view} of {details.get('augment')}",
        str(details.get("dtype", "")),
    ]
