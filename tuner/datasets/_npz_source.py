"""Numpy archives: arrays of images and labels, by the names that people give them."""

from __future__ import annotations

import re
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.arrays import DAMAGED_ARCHIVE
from tuner.common.errors import DataError
from tuner.common.files import shown
from tuner.common.process import free_memory
from tuner.datasets.file_sources import existing, file_identity, not_hidden
from tuner.datasets.sources import PREFIXED, SPLITS, Listed, Listing, Source, first_names, is_whole, number_labels

_SHORT = {"train": ("tr", "trn"), "test": ("te", "tst", "t10k"), "validation": ("va", "vl")}
_ROLES = {
    name: (kind, split)
    for kind, words in (("x", "x image images img imgs pixels data"), ("y", "y label labels target targets"))
    for word in words.split()
    for split, aliases in SPLITS.items()
    for alias in (*aliases, *_SHORT[split], *[""] * (split == "train"))
    for name in (word + alias, alias + word)
}
"""What an array is by its name in small letters, without what stands between its words: `x_val`, `train_images`."""
_CLASS_NAMES = ("classnames", "classes", "labelnames", "targetnames", "names", "categories")


def _read_npz(reference: str) -> Listing:
    """Return images and labels of training and, where present, test and validation, and the names of the classes."""
    path = existing(reference, "npz")
    names, arrays, notices = _npz_arrays(path)
    classes = arrays.pop(("names", ""), np.array([]))
    labels: dict[str, np.ndarray] = {}
    for split in SPLITS:
        pixels, flat = arrays.get(("x", split)), arrays.get(("y", split))
        if pixels is not None and flat is not None:
            x, y = names["x", split], names["y", split]
            labels[split] = _npz_labels(path, y, flat)
            _check_pixels(path, x, pixels, len(labels[split]))
        elif pixels is not None and split != "train":
            notices += (f"{shown(path)}: {len(pixels):,} images of {names['x', split]} not used: without labels",)
        elif pixels is not None or flat is not None or split == "train":
            raise DataError(
                f"{shown(path)}: must hold x_{split} and y_{split}; got {first_names(names.values()) or 'nothing'}"
            )
    class_names, numbers = number_labels(labels, tuple(map(_text, classes.reshape(-1))), shown(path))
    splits = {
        split: Listed(numbers[split], arrays["x", split], (), partial(_npz_name, path, names["x", split]))
        for split in labels
    }
    return Listing(class_names, splits, notices)


def _unlabelled(reference: str) -> list[Listed]:
    path = existing(reference, "npz")
    names, arrays, _ = _npz_arrays(path)
    found = []
    for split in SPLITS:
        if (pixels := arrays.get(("x", split))) is not None:
            name = names["x", split]
            _check_pixels(path, name, pixels, len(pixels))
            found.append(Listed(np.full(len(pixels), -1), pixels, (), partial(_npz_name, path, name)))
    return found


def _npz_name(path: Path, array: str, row: int) -> str:
    return f"{shown(path)} {array}[{row}]"


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _role(name: str) -> tuple[str, str] | None:
    plain = re.sub(r"[\W_]", "", name.lower())
    return ("names", "") if plain in _CLASS_NAMES else _ROLES.get(plain)


def _npz_arrays(path: Path) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], np.ndarray], tuple[str, ...]]:
    """Return the names of the arrays by what they are, the arrays, and a notice of those that are not understood."""
    names: dict[tuple[str, str], str] = {}
    try:
        # Without pickle: an archive from elsewhere cannot run anything.
        with np.load(path, allow_pickle=False) as stored:
            unknown = [name for name in stored.files if _role(name) is None]
            for name in stored.files:
                if role := _role(name):
                    if role in names:
                        raise DataError(
                            f"{shown(path)}: must hold one of {names[role]} and {name}, which mean the same"
                        )
                    names[role] = name
            _refuse_too_large(path, stored.zip, set(names.values()))
            arrays = {role: stored[name] for role, name in names.items()}
    except DAMAGED_ARCHIVE as error:
        hint = "; save it without objects: texts as np.array(texts, dtype=str), images of one size"
        raise DataError(
            f"{shown(path)}: cannot be read as a numpy archive of plain arrays: {error}"
            f"{hint if 'allow_pickle' in str(error) else ''}"
        ) from None
    for role, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy hands on what is none
            raise DataError(f"{shown(path)}: cannot be read as a numpy archive of plain arrays: {names[role]} is none")
    if not arrays and unknown:
        raise DataError(f"{shown(path)}: must hold x_train and y_train; got {first_names(unknown)}")
    notices = (f"{shown(path)}: arrays not used: {first_names(unknown)}",) if unknown else ()
    return names, arrays, notices


def _refuse_too_large(path: Path, archive: zipfile.ZipFile, wanted: set[str]) -> None:
    """Refuse an archive that unpacks to more than fits into memory, which a small file can do."""
    needed = sum(entry.file_size for entry in archive.infolist() if entry.filename.removesuffix(".npy") in wanted)
    free = free_memory()
    if needed > free:
        raise DataError(
            f"{shown(path)}: must fit into memory; it unpacks to {needed / 2**20:,.0f} MiB, "
            f"{free / 2**20:,.0f} MiB are free"
        )


def _npz_labels(path: Path, name: str, labels: np.ndarray) -> np.ndarray:
    """Return labels `[N]`, numbers (whole, of whatever type) or texts; of one-hot rows, the places of the ones."""
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "iufb":
        if not (((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()):
            raise DataError(
                f"{shown(path)}: {name} must have one label for each image, or rows with one 1 and zeros else"
            )
        return np.asarray(labels.argmax(axis=1), dtype=np.int64)
    flat = labels.reshape(-1)
    if labels.dtype.kind in "SU":
        return np.array([_text(label) for label in flat])
    if not np.issubdtype(labels.dtype, np.integer) and not is_whole(flat):
        raise DataError(f"{shown(path)}: {name} must be whole numbers or texts; got {labels.dtype}")
    return flat.astype(np.int64)


def _check_pixels(path: Path, name: str, pixels: np.ndarray, labels: int) -> None:
    channels = pixels.shape[3] if pixels.ndim == 4 else 1
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or channels not in (1, 3) or len(pixels) != labels:
        raise DataError(
            f"{shown(path)}: {name} must be uint8 [N, H, W] or [N, H, W, 1 or 3] with a label each; "
            f"got {pixels.dtype} {list(pixels.shape)} and {labels} labels"
        )
    if 0 in pixels.shape[1:]:
        raise DataError(f"{shown(path)}: {name} must hold images of at least one pixel; got {list(pixels.shape)}")


def _npz_identity(reference: str) -> Any:
    path = existing(reference, "npz")
    return file_identity([path], path.parent)


def _staged_npz(path: Path) -> Path | None:
    archives = [child for child in (not_hidden(path) or [path]) if child.suffix == ".npz"]
    return archives[0] if len(archives) == 1 else None


PREFIXED.add("npz", Source(_npz_identity, _read_npz, True, (".npz",), "one .npz", _staged_npz, unlabelled=_unlabelled))
