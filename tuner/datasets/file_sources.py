"""Sources that are files: folders of images, and numpy archives. (`_parquet_source` has Parquet.)"""

from __future__ import annotations

import os
import stat
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil

from tuner.common.arrays import DAMAGED_ARCHIVE
from tuner.common.errors import DataError
from tuner.common.files import shown, user_path
from tuner.datasets.images import SUFFIXES
from tuner.datasets.sources import PREFIXED, SPLITS, Listed, Listing, Source, numbered_class_names

ImagesByClass = dict[str, list[Path]]


def existing(reference: str, kind: str) -> Path:
    """Return the path that a source names; raises DataError when nothing is there."""
    path = user_path(reference)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = "does not" if isinstance(error, FileNotFoundError) else f"cannot be looked at: {error}"
        raise DataError(
            f"{kind}:{reference} must name a folder or file that exists; {path.absolute()} {reason}"
        ) from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):  # it would be waited for without end
        raise DataError(f"{kind}:{reference} must name a folder or file; {path.absolute()} is a pipe or a device")
    return path


def file_identity(paths: Iterable[Path], root: Path) -> list[Any]:
    """Return JSON values that differ when a file has changed: names, sizes and times of change."""
    described: list[list[Any]] = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # a link to nothing: a broken image, which is reported by its name when it is decoded
            described.append([os.path.relpath(path, root)])
        else:
            described.append([os.path.relpath(path, root), status.st_size, status.st_mtime_ns])
    return [str(root.resolve()), described]


# --- folders of images ---


def _refuse_unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        _refuse_unreadable(error)


def _files_below(folder: Path) -> list[Path]:
    """Return the visible files at any depth; links to folders are not followed, or a loop of them would not end."""
    found = [
        f"{where}/{name}"  # a million times: joining paths takes five times as long
        for where, _, names in os.walk(folder, onerror=_refuse_unreadable, followlinks=False)
        for name in names
        if not name.startswith(".")
    ]
    return [Path(text) for text in sorted(found)]


def _split_folders(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Return the folder of each split, and notices of unused ones; without split folders all is for training.

    A folder named after a split is one if it holds folders: `train` can be a class beside `bus` and `tram`.
    """
    inner = _subfolders(root)
    words = {alias for aliases in SPLITS.values() for alias in aliases}
    named = {path.name.lower(): path for path in inner if path.name.lower() in words}
    candidates = {name: path for name, path in named.items() if _subfolders(path)}
    found: dict[str, Path] = {}
    for split, aliases in SPLITS.items():
        alias = next((alias for alias in aliases if alias in candidates), None)
        if alias is not None:
            found[split] = candidates[alias]
    if not found:
        return {"train": root}, []
    if "train" not in found:
        raise DataError(f"{shown(root)}: must hold a folder train beside {', '.join(p.name for p in found.values())}")
    unused = [shown(Path(path.name)) for path in inner if path not in found.values()]
    return found, [f"not used, for they are no splits with class folders: {', '.join(unused)}"] if unused else []


def _images_by_class(folder: Path, root: Path) -> tuple[ImagesByClass, Counter[str]]:
    """Return the images of each class folder, and the number of files of every other kind."""
    found: ImagesByClass = {}
    others: Counter[str] = Counter()
    for path in _subfolders(folder):
        if root.resolve().is_relative_to(path.resolve()):
            raise DataError(f"{shown(path)}: a class folder must not be a link to a folder that holds it")
        images = []
        for file in _files_below(path):
            if file.suffix.lower() in SUFFIXES:
                images.append(file)
            else:
                others[file.suffix.lower() or "no suffix"] += 1
        if not images:
            raise DataError(f"{shown(path)}: a class folder must hold images ({', '.join(SUFFIXES)}); it holds none")
        found[shown(Path(path.name))] = images
    loose = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    others.update({"beside the class folders": len(loose)} if loose else {})
    return found, others


def _find_images(reference: str) -> tuple[Path, dict[str, ImagesByClass], tuple[str, ...]]:
    """Return the folder, the images of each split by class, and notices of unused files."""
    root = existing(reference, "folder")
    if not root.is_dir():
        raise DataError(f"folder:{reference} must be a folder of class folders; {root.absolute()} is a file")
    folders, notices = _split_folders(root)
    splits: dict[str, ImagesByClass] = {}
    for split, folder in folders.items():
        splits[split], others = _images_by_class(folder, root)
        notices += [f"{shown(folder)}: {number:,} files not used: {kind}" for kind, number in sorted(others.items())]
    return root, splits, tuple(notices)


def _read_folder(reference: str) -> Listing:
    """Return the images of class folders, which may lie below `train`, `test` and `validation`."""
    root, found, notices = _find_images(reference)
    names = tuple(found["train"])
    splits: dict[str, Listed] = {}
    for split, classes in found.items():
        unknown = [name for name in classes if name not in names]
        if unknown:
            raise DataError(
                f"{shown(root)}: the classes of {split} must be among those of the training images "
                f"({', '.join(names[:20])}); got {', '.join(unknown[:10])}"
            )
        splits[split] = _listed(classes, names)
    return Listing(names, splits, notices)


def _listed(classes: ImagesByClass, names: tuple[str, ...]) -> Listed:
    files = [file for images in classes.values() for file in images]
    numbers = [names.index(name) for name in classes]
    labels = np.repeat(np.array(numbers, dtype=np.int64), [len(images) for images in classes.values()])
    return Listed(labels, None, files, lambda row: shown(files[row]))


def _folder_identity(reference: str) -> Any:
    root, found, notices = _find_images(reference)
    files = [file for classes in found.values() for images in classes.values() for file in images]
    return [file_identity(files, root), notices]


def not_hidden(folder: Path) -> list[Path]:
    """Return what lies in a folder, but for what is hidden; nothing for a file."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []


def _staged_folder(path: Path) -> Path | None:
    return path if any(child.is_dir() for child in not_hidden(path)) else None


PREFIXED.add("folder", Source(_folder_identity, _read_folder, True, SUFFIXES, "class folders", _staged_folder))


# --- numpy archives ---


def _read_npz(reference: str) -> Listing:
    """Return the arrays x_train, y_train and, where present, those of test and validation, and class_names."""
    path = existing(reference, "npz")
    arrays = _npz_arrays(path)
    splits: dict[str, Listed] = {}
    for split in SPLITS:
        pixels, labels = arrays.get(f"x_{split}"), arrays.get(f"y_{split}")
        if pixels is not None and labels is not None:
            splits[split] = _npz_split(path, split, pixels, labels)
        elif pixels is not None or labels is not None or split == "train":
            raise DataError(f"{shown(path)}: must hold x_{split} and y_{split}; got {', '.join(arrays) or 'nothing'}")
    if "class_names" in arrays:
        return Listing(tuple(str(name) for name in arrays["class_names"].reshape(-1)), splits)
    return Listing(numbered_class_names(splits, shown(path)), splits)


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    known = {"class_names", *(f"{letter}_{split}" for letter in "xy" for split in SPLITS)}
    try:
        # Without pickle: an archive from elsewhere cannot run anything.
        with np.load(path, allow_pickle=False) as stored:
            _refuse_too_large(path, stored.zip, known)
            arrays = {name: stored[name] for name in stored.files if name in known}
    except DAMAGED_ARCHIVE as error:
        raise DataError(f"{shown(path)}: cannot be read as a numpy archive of plain arrays: {error}") from None
    texts = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]  # numpy hands on what is none
    if texts:
        raise DataError(f"{shown(path)}: cannot be read as a numpy archive of plain arrays: {', '.join(texts)} is none")
    return arrays


def _refuse_too_large(path: Path, archive: zipfile.ZipFile, known: set[str]) -> None:
    """Refuse an archive that unpacks to more than fits into memory, which a small file can do."""
    needed = sum(entry.file_size for entry in archive.infolist() if entry.filename.removesuffix(".npy") in known)
    free = psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"{shown(path)}: must fit into memory; it unpacks to {needed / 2**20:,.0f} MiB, "
            f"{free / 2**20:,.0f} MiB are free"
        )


def _npz_split(path: Path, split: str, pixels: np.ndarray, labels: np.ndarray) -> Listed:
    channels = pixels.shape[3] if pixels.ndim == 4 else 1
    flat = labels.reshape(-1)
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or channels not in (1, 3) or len(pixels) != len(flat):
        raise DataError(
            f"{shown(path)}: x_{split} must be uint8 [N, H, W] or [N, H, W, 1 or 3] with a label each; "
            f"got {pixels.dtype} {list(pixels.shape)} and {len(flat)} labels"
        )
    if 0 in pixels.shape[1:]:
        raise DataError(f"{shown(path)}: x_{split} must hold images of at least one pixel; got {list(pixels.shape)}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{shown(path)}: y_{split} must be whole numbers; got {labels.dtype}")
    return Listed(flat.astype(np.int64), pixels, (), lambda row: f"{shown(path)} x_{split}[{row}]")


def _npz_identity(reference: str) -> Any:
    path = existing(reference, "npz")
    return file_identity([path], path.parent)


def _staged_npz(path: Path) -> Path | None:
    archives = [child for child in (not_hidden(path) or [path]) if child.suffix == ".npz"]
    return archives[0] if len(archives) == 1 else None


PREFIXED.add("npz", Source(_npz_identity, _read_npz, True, (".npz",), "one .npz", _staged_npz))
