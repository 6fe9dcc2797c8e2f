"""The content of a cache: prepared data sets, cached activations, what programs have brought; whole or not.

Only folders that have a name which the cache gives, and nothing in them but its files, are looked at. So whoever names
a wrong folder loses nothing, and links are never followed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tuner.common.errors import InputError, first_line
from tuner.common.files import format_size, is_held, is_written
from tuner.common.words import counted
from tuner.datasets.prepared import BROUGHT, VERSION, cut_short, find_damage
from tuner.training import activation_store
from tuner.training.activation_store import META, REFUSED, Key, folder_bytes, last_use, read_object

DATASETS, ACTIVATIONS = "datasets", "activations"
"""The kinds of items, beside `BROUGHT`, and the folders that they lie in."""
MOVING_S = 60.0
"""An entry is moved to its place within milliseconds; one that has been on the way for longer was left by a crash."""
NAMES = {DATASETS: r"[0-9a-f]{24}(\.partial)?", ACTIVATIONS: r"[0-9a-f]{24}(\.\d+\.partial)?|build-[0-9a-f]{20}"}
FILES = (
    r"meta\.json|(train|validation|test)_(images|index|labels|groups|weights|copies)\.npy|"
    r"(train|validation|test)(_images\.bin|\.sketches)|(activations|checksums)\.npy|refused\.json|used|"
    r"verified\.json|users|claims|begin\.lock|"
    r"\d+\.npy|ready|done|finish\.lock"  # what builds of an earlier version have left
)
_ACCOUNT, _OF_ACCOUNT = "account-[0-9a-f]{24}", r"data\.json|contact_sheets\.npz"
"""An account of a prepared data set, a folder in it, and the files of an account."""
_BROUGHT_NAMES = r"(arrays-[0-9a-f]{16}\.npz|table-[0-9a-f]{16}\.parquet|space-[0-9a-f]{16}\.yaml)"
CLASSES_SHOWN = 3


@dataclass(frozen=True)
class Item:
    """One folder of the cache, or one file that a program has brought."""

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
        if self.kind == BROUGHT:
            return ": ".join(filter(None, [str(self.details["what"]), self.reason]))
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
    items = [item for item in (*activations, *datasets, *_brought_items(cache)) if item is not None]
    return sorted(items, key=lambda item: (-item.used, str(item.folder)))


def build_lock(folder: Path) -> FileLock:
    """Return the lock of the process that makes this data set; it is taken at once or not at all."""
    return FileLock(folder.parent / f"{folder.name.lstrip('.')[:24]}.lock", timeout=0)


def damage(item: Item) -> str | None:
    """Return what is wrong with the values of a whole item, after reading all; None if nothing is, or if it is gone."""
    if item.kind == BROUGHT:
        return _brought_damage(item.folder) if item.folder.exists() else None
    problem = activation_store.damage(item.folder) if item.kind == ACTIVATIONS else find_damage(item.folder)
    return problem if (item.folder / META).exists() else None


# --- what programs have brought ---


def _brought_items(cache: Path) -> Iterator[Item | None]:
    for path in sorted(_root(cache, BROUGHT).glob("*")):
        is_named = re.fullmatch(rf"{_BROUGHT_NAMES}|\.{_BROUGHT_NAMES}\.\d+\.partial", path.name)
        if is_named and path.is_file() and not path.is_symlink():
            yield _brought_item(path)


def _brought_item(path: Path) -> Item | None:
    """Return a file that a program has brought as an item; its last use is when it was written or read last."""
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile by another process
        about = path.stat()
        used, size = max(about.st_atime, about.st_ctime), about.st_blocks * 512
        facts = {"name": path.name.lstrip(".").partition(".")[0], "what": "brought by a program"}
        if path.name.startswith("."):
            return Item(BROUGHT, path, "unfinished", "", None, size, used, is_written(path), facts)
        try:
            what, images = _READERS[path.suffix](path)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001  numpy, zip and Parquet have errors of their own each; it is told
            return Item(BROUGHT, path, "damaged", first_line(error), None, size, used, False, facts)
        return Item(BROUGHT, path, "whole", "", images, size, used, False, {**facts, "what": what})
    return None


def _of_arrays(path: Path) -> tuple[str, int | None]:
    """Return what arrays are, from their headers."""
    from numpy.lib import format as npy

    shapes: dict[str, tuple[int, ...]] = {}
    with zipfile.ZipFile(path) as archive:
        for name in (name for name in archive.namelist() if name.startswith("x_")):
            with archive.open(name) as file:
                npy.read_magic(file)
                shapes[name[2:].removesuffix(".npy")] = npy.read_array_header_1_0(file)[0]
    sizes = "x".join(map(str, next(iter(shapes.values()))[1:]))
    return f"arrays of a program, {sizes}, {'/'.join(shapes)}", sum(shape[0] for shape in shapes.values())


def _of_table(path: Path) -> tuple[str, int | None]:
    from pyarrow import parquet

    about = parquet.read_metadata(path)
    return f"table of a program, {', '.join(about.schema.to_arrow_schema().names)}", int(about.num_rows)


def _of_space(path: Path) -> tuple[str, int | None]:
    with path.open("rb") as file:
        file.read(1)
    return "search-space file of a dictionary", None


_READERS = {".npz": _of_arrays, ".parquet": _of_table, ".yaml": _of_space}


def _brought_damage(path: Path) -> str | None:
    """Return what is wrong with a file that a program has brought, after reading all of it; None if nothing is."""
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
            return None if broken is None else f"{broken} is not as it was written"
        if path.suffix == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path, page_checksum_verification=True) as table:
                for _ in table.iter_batches(256):
                    pass
            return None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return None if path.stem.endswith(digest) else "it is not as it was written"
    except Exception as error:  # noqa: BLE001  as above: a damaged file is what is looked for
        return first_line(error)


# --- looking at folders ---


def _root(cache: Path, kind: str) -> Path:
    root = cache / kind
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        raise InputError(f"{root} must be a folder; got a link or a file")
    return root


def _own_folders(cache: Path, kind: str) -> Iterator[Path]:
    """Yield folders that the cache itself has made, also those being removed (`activation_store.remove`)."""
    for folder in sorted(_root(cache, kind).glob("*")):
        is_named = re.fullmatch(rf"\.*({NAMES[kind]})(\.[0-9a-f]{{8}}\.removed)*", folder.name)
        if is_named and not folder.is_symlink() and folder.is_dir() and all(map(_is_own, folder.glob("*"))):
            yield folder


def _is_own(path: Path, files: str = FILES) -> bool:
    if path.is_symlink():
        return False
    if re.fullmatch(_ACCOUNT, path.name):
        return path.is_dir() and all(_is_own(each, _OF_ACCOUNT) for each in path.glob("*"))
    return bool(re.fullmatch(rf"({files})|\.({files})\.\d+\.partial|\.nfs[0-9a-f]+", path.name))


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
    except OSError:  # another user has made it
        return is_held(Path(lock.lock_file))
    return False


# --- in words ---


def total_words(items: Sequence[Item]) -> str:
    """Return in words how many items of each kind there are, and their size together."""
    datasets, entries, brought = (sum(item.kind == kind for item in items) for kind in (DATASETS, ACTIVATIONS, BROUGHT))
    words = [counted(datasets, "prepared data set")] if datasets else []
    words += [f"{counted(entries, 'entry')} of activations"] if entries else []
    words += [f"{counted(brought, 'file')} of programs"] if brought else []
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
