"""Parquet in the layout of the Hugging Face hub: columns `image` (a struct of bytes and path) and `label`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, overload

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import shown
from tuner.datasets.file_sources import existing, file_identity
from tuner.datasets.sources import PREFIXED, SPLITS, Listed, Listing, Source, numbered_class_names

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")


class ParquetImages(Sequence[bytes]):
    """The encoded images of several files, one after the other; two row groups are in memory, never a whole file.

    Safe to use from several threads. Reading raises DataError when a file is damaged; an image that is null is empty.
    """

    def __init__(self, files: Sequence[tuple[Path, str, Sequence[int]]]) -> None:
        """Take for each of `files` its path, the name of its image column, and the rows of each row group."""
        self._groups = [(path, column, group) for path, column, sizes in files for group in range(len(sizes))]
        self._ends = np.cumsum([size for _, _, sizes in files for size in sizes], dtype=np.int64)
        self._lock = Lock()
        self._load = lru_cache(maxsize=2)(self._read_group)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, row: int) -> bytes: ...
    @overload
    def __getitem__(self, row: slice) -> list[bytes]: ...
    def __getitem__(self, row: int | slice) -> bytes | list[bytes]:
        if isinstance(row, slice):
            return [self[inner] for inner in range(*row.indices(len(self)))]
        group, inside = self._place(row)
        with self._lock:  # one thread reads a group, the others find it read
            values = self._load(group)
        return values[inside].as_py() or b""

    def name(self, row: int) -> str:
        """Return the name of an image in error messages: its file and its row there."""
        path = self._groups[self._place(row)[0]][0]
        first = next(group for group, (other, _, _) in enumerate(self._groups) if other == path)
        return f"{shown(path)} row {row - self._start(first)}"

    def _start(self, group: int) -> int:
        return int(self._ends[group - 1]) if group else 0

    def _place(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row must be 0 to {len(self) - 1}; got {row}")
        group = int(np.searchsorted(self._ends, row, side="right"))
        return group, row - self._start(group)

    def _read_group(self, group: int) -> Any:
        import pyarrow
        from pyarrow import compute, parquet

        path, column, number = self._groups[group]
        try:
            with parquet.ParquetFile(path) as file:
                table = file.read_row_group(number, columns=[f"{column}.bytes"])
            return compute.struct_field(table.column(column), "bytes")
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{shown(path)}: cannot be read as Parquet: {error}") from None


def _files(reference: str) -> dict[str, list[Path]]:
    """Return the files of each split, told apart by the beginning of their names."""
    root = existing(reference, "parquet")
    if root.is_file():
        return {"train": [root]}
    files = sorted(root.rglob("*.parquet"))
    found = {
        split: [path for path in files if path.name.lower().startswith(aliases)] for split, aliases in SPLITS.items()
    }
    if not found["train"]:
        names = ", ".join(shown(path.relative_to(root)) for path in files[:10])
        raise DataError(f"parquet:{reference} must hold train*.parquet; got {names or 'none'}")
    return {split: paths for split, paths in found.items() if paths}


def _read(reference: str) -> Listing:
    splits: dict[str, Listed] = {}
    names: tuple[str, ...] = ()
    for split, paths in _files(reference).items():
        files = [_read_file(path) for path in paths]
        images = ParquetImages(
            [(path, column, sizes) for path, (column, sizes, _, _) in zip(paths, files, strict=True)]
        )
        splits[split] = Listed(np.concatenate([labels for _, _, labels, _ in files]), None, images, images.name)
        for path, (_, _, _, named) in zip(paths, files, strict=True):
            if names and named and named != names:
                raise DataError(f"{shown(path)}: must have the classes of the other files; got {', '.join(named[:10])}")
            names = names or named
    return Listing(names or numbered_class_names(splits, f"parquet:{reference}"), splits)


def _read_file(path: Path) -> tuple[str, list[int], np.ndarray, tuple[str, ...]]:
    """Return image column, rows of each row group, labels and class names of a file; its images are not read."""
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():  # a pipe would be waited for without end
        raise DataError(f"{shown(path)}: cannot be read as Parquet: it is a folder, a pipe or a link to nothing")
    try:
        with parquet.ParquetFile(path) as file:
            image, label = _columns(path, file.schema_arrow)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            labels = file.read(columns=[label]).column(label)
            names = _class_names(file.schema_arrow.metadata or {}, label)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{shown(path)}: cannot be read as Parquet: {error}") from None
    if not pyarrow.types.is_integer(labels.type) or labels.null_count:
        raise DataError(
            f"{shown(path)}: {label} must be a whole number in every row; "
            f"got {labels.type} with {labels.null_count} missing"
        )
    return image, sizes, labels.to_numpy().astype(np.int64), names


def _columns(path: Path, schema: Any) -> tuple[str, str]:
    """Return the names of the image and the label column."""
    from pyarrow import types

    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if image is not None and label is not None:
        kind = schema.field(image).type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return image, label
    raise DataError(
        f"{shown(path)}: must have the columns image (a struct of bytes and path) and label; "
        f"got {', '.join(f'{field.name}: {field.type}' for field in schema)}"
    )


def _class_names(metadata: Mapping[bytes, bytes], label: str) -> tuple[str, ...]:
    """Return the names that the datasets library writes into the schema, or none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _identity(reference: str) -> Any:
    paths = [path for paths in _files(reference).values() for path in paths]
    return file_identity(paths, existing(reference, "parquet"))


def _staged(path: Path) -> Path | None:
    """Return the path where it holds Parquet files: the hub keeps them in data/, or beside the card of the data set."""
    if path.is_file():
        return path if path.suffix == ".parquet" else None
    return path if any(any(place.glob("*.parquet")) for place in (path, path / "data")) else None


PREFIXED.add("parquet", Source(_identity, _read, True, (".parquet",), "Parquet files", _staged))
