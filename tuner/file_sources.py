"""Sources that are files: folders of images, Parquet in the layout of the Hugging Face hub, numpy archives."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuner.errors import DataError
from tuner.images import SUFFIXES, EncodedImage
from tuner.sources import PREFIXED, SPLITS, Listed, Listing, Source


def _file_identity(paths: Sequence[Path], root: Path) -> list[Any]:
    described = []
    for path in paths:
        status = path.stat()
        described.append([os.path.relpath(path, root), status.st_size, status.st_mtime_ns])
    return [str(root.resolve()), described]


def _existing(reference: str, kind: str) -> Path:
    path = Path(reference).expanduser()
    if not path.exists():
        raise DataError(f"{kind}:{reference} must name a folder or file that exists; {path.absolute()} does not")
    return path


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images_below(folder: Path) -> list[Path]:
    """Image files at any depth; links to folders are not followed, so that a loop of them ends."""
    found = [
        Path(where) / name
        for where, _, names in os.walk(folder, followlinks=False)
        for name in names
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    return sorted(found)


def _split_folders(root: Path) -> dict[str, Path]:
    """The folder of each split: those with a split's name, or the folder itself for training."""
    by_name = {path.name.lower(): path for path in _subfolders(root)}
    found = {split: by_name[alias] for split, aliases in SPLITS.items() for alias in aliases[::-1] if alias in by_name}
    return found if "train" in found else {"train": root}


def _read_folder(reference: str) -> Listing:
    """Class subfolders, below `train`, `test`, `validation` if there are such."""
    root = _existing(reference, "folder")
    if not root.is_dir():
        raise DataError(f"folder:{reference} must be a folder of class folders; {root.absolute()} is a file")
    folders = _split_folders(root)
    names = tuple(path.name for path in _subfolders(folders["train"]))
    splits: dict[str, Listed] = {}
    for split, folder in folders.items():
        files: list[Path] = []
        labels: list[int] = []
        for path in _subfolders(folder):
            if path.name not in names:
                raise DataError(f"{path}: must be one of the classes of the training images: {', '.join(names)}")
            images = _images_below(path)
            if not images:
                raise DataError(f"{path}: a class folder must hold images ({', '.join(SUFFIXES)}); it holds none")
            files += images
            labels += [names.index(path.name)] * len(images)
        splits[split] = Listed(np.array(labels, dtype=np.int64), None, files, [str(path) for path in files])
    return Listing(names, splits)


def _folder_identity(reference: str) -> Any:
    root = _existing(reference, "folder")
    return _file_identity(_images_below(root), root)


PREFIXED.add("folder", Source(_folder_identity, _read_folder))


# --- Parquet in the layout of the Hugging Face hub ---


def _parquet_files(reference: str) -> dict[str, list[Path]]:
    root = _existing(reference, "parquet")
    if root.is_file():
        return {"train": [root]}
    files = sorted(root.rglob("*.parquet"))
    found = {
        split: [path for path in files if path.name.lower().startswith(aliases)] for split, aliases in SPLITS.items()
    }
    found = {split: paths for split, paths in found.items() if paths}
    if "train" not in found:
        raise DataError(
            f"parquet:{reference} must hold train*.parquet; got {', '.join(p.name for p in files) or 'none'}"
        )
    return found


def _read_parquet(reference: str) -> Listing:
    """Columns `image` (or `img`), a struct of bytes and path, and `label` (or `fine_label`)."""
    splits: dict[str, Listed] = {}
    names: tuple[str, ...] = ()
    for split, paths in _parquet_files(reference).items():
        encoded: list[EncodedImage] = []
        shown: list[str] = []
        labels: list[int] = []
        for path in paths:
            images, found, names_here = _read_parquet_file(path)
            names = names or names_here
            shown += [f"{path.name} row {row}" for row in range(len(images))]
            encoded += images
            labels += found
        splits[split] = Listed(np.array(labels, dtype=np.int64), None, encoded, shown)
    highest = max(int(listed.labels.max(initial=0)) for listed in splits.values())
    return Listing(names or tuple(str(label) for label in range(highest + 1)), splits)


def _read_parquet_file(path: Path) -> tuple[list[bytes], list[int], tuple[str, ...]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from None
    image = next((name for name in ("image", "img") if name in table.column_names), None)
    label = next((name for name in ("label", "fine_label", "labels") if name in table.column_names), None)
    if image is None or label is None or not pyarrow.types.is_struct(table.schema.field(image).type):
        raise DataError(
            f"{path}: must have the columns image (a struct of bytes and path) and label; "
            f"got {', '.join(f'{field.name}: {field.type}' for field in table.schema)}"
        )
    values: list[Any] = table.column(image).to_pylist()
    content = [(value or {}).get("bytes") or b"" for value in values]
    labels: list[Any] = table.column(label).to_pylist()
    return content, labels, _parquet_class_names(table.schema.metadata or {}, label)


def _parquet_class_names(metadata: Mapping[bytes, bytes], label: str) -> tuple[str, ...]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _parquet_identity(reference: str) -> Any:
    files = _parquet_files(reference)
    return _file_identity([path for paths in files.values() for path in paths], Path(reference).expanduser())


PREFIXED.add("parquet", Source(_parquet_identity, _read_parquet))


# --- numpy archives ---


def _read_npz(reference: str) -> Listing:
    """Arrays x_train, y_train and, if they are there, x_test, y_test, x_validation, y_validation, class_names."""
    path = _existing(reference, "npz")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a numpy archive of plain arrays: {error}") from None
    splits: dict[str, Listed] = {}
    for split in SPLITS:
        if f"x_{split}" in arrays and f"y_{split}" in arrays:
            pixels, labels = arrays[f"x_{split}"], arrays[f"y_{split}"].reshape(-1)
            if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or len(pixels) != len(labels):
                raise DataError(
                    f"{path}: x_{split} must be uint8 [N, H, W] or [N, H, W, C] with a label each; "
                    f"got {pixels.dtype} {list(pixels.shape)} and {len(labels)} labels"
                )
            splits[split] = Listed(labels.astype(np.int64), pixels)
    if "train" not in splits:
        raise DataError(f"{path}: must hold x_train and y_train; got {', '.join(arrays) or 'nothing'}")
    highest = max(int(listed.labels.max(initial=0)) for listed in splits.values())
    names = tuple(str(name) for name in arrays.get("class_names", range(highest + 1)))
    return Listing(names, splits)


PREFIXED.add(
    "npz", Source(lambda reference: _file_identity([_existing(reference, "npz")], Path(reference).parent), _read_npz)
)
