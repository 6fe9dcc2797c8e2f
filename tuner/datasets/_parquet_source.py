"""Parquet in the layout of the Hugging Face hub: columns `image` (a struct of bytes and path) and `label`.

The rows may hold paths of images below the folder of the data in place of their bytes.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, overload

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import shown
from tuner.datasets._manifest_source import ROLES, Rows, find_columns, said_columns, text_of
from tuner.datasets.file_sources import existing, file_identity, left_out, walk
from tuner.datasets.images import EncodedImage
from tuner.datasets.sources import (
    PREFIXED,
    SPLITS,
    Columns,
    Listed,
    Listing,
    Source,
    first_names,
    is_whole,
    number_labels,
    split_of,
)

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")
_MOST_LOOKED_FOR = 1000
"""So many images that rows name by their paths are looked for to tell whether any are there."""


@dataclass(frozen=True)
class _File:
    """A Parquet file: its image column, the rows of each row group, labels (numbers or texts) and class names."""

    path: Path
    column: str
    parts: tuple[str, ...]
    """The fields that are read of the image column: `bytes`, `path` or both."""
    sizes: tuple[int, ...]
    labels: np.ndarray
    names: tuple[str, ...]
    columns: Columns
    cells: Mapping[str, Sequence[Any]]
    """What there is for each row by its meaning: split, group, weight."""


class ParquetImages(Sequence[EncodedImage]):
    """The encoded images of several files, one after the other; two row groups are in memory, never a whole file.

    Safe to use from several threads. Reading raises DataError when a file is damaged; an image that is null is empty.
    """

    def __init__(self, files: Sequence[_File], root: Path) -> None:
        self._root, self._real_root = root, root.resolve()
        self._groups = [(file, group) for file in files for group in range(len(file.sizes))]
        self._ends = np.cumsum([size for file in files for size in file.sizes], dtype=np.int64)
        self._lock = Lock()
        self._load = lru_cache(maxsize=2)(self._read_group)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, row: int) -> EncodedImage: ...
    @overload
    def __getitem__(self, row: slice) -> list[EncodedImage]: ...
    def __getitem__(self, row: int | slice) -> EncodedImage | list[EncodedImage]:
        if isinstance(row, slice):
            return [self[inner] for inner in range(*row.indices(len(self)))]
        group, inside = self._place(row)
        with self._lock:  # one thread reads a group, the others find it read
            values = self._load(group)
        held = {part: column[inside].as_py() for part, column in values.items()}
        if held.get("bytes") or not held.get("path"):
            return held.get("bytes") or b""
        file, path = self._groups[group][0].path, held["path"]
        image = image_below(self._root, self._real_root, file, path)
        return image or _missing_below(self._root, file, path) or b""

    def name(self, row: int) -> str:
        """Return the name of an image in error messages: its file and its row there."""
        file = self._groups[self._place(row)[0]][0]
        first = next(group for group, (other, _) in enumerate(self._groups) if other is file)
        return f"{shown(file.path)} row {row - self._start(first)}"

    def _start(self, group: int) -> int:
        return int(self._ends[group - 1]) if group else 0

    def _place(self, row: int) -> tuple[int, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row must be 0 to {len(self) - 1}; got {row}")
        group = int(np.searchsorted(self._ends, row, side="right"))
        return group, row - self._start(group)

    def _read_group(self, group: int) -> dict[str, Any]:
        import pyarrow
        from pyarrow import compute, parquet

        file, number = self._groups[group]
        try:
            with parquet.ParquetFile(file.path) as opened:
                is_struct = pyarrow.types.is_struct(opened.schema_arrow.field(file.column).type)
                columns = [f"{file.column}.{part}" for part in file.parts] if is_struct else [file.column]
                table = opened.read_row_group(number, columns=columns).column(file.column)
            return {part: compute.struct_field(table, part) if is_struct else table for part in file.parts}
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{shown(file.path)}: cannot be read as Parquet: {error}") from None


def image_below(root: Path, real_root: Path, file: Path, path: str) -> Path | None:
    """Return the file that a row names, beside its Parquet file or below the folder of the data; None: it is not there.

    `real_root` is that folder without links: to follow them takes long on a disk in the network.
    Its accents may be composed there (Linux) or not (macOS), however the row has them.
    Files elsewhere are not read: data that come from elsewhere must not choose which.
    """
    for spelled in dict.fromkeys((path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path))):
        for place in (file.parent / spelled, root / spelled):
            try:
                if place.is_file() and place.resolve().is_relative_to(real_root):
                    return place
            except (OSError, ValueError):  # a name that is too long, or no name
                continue
    return None


def _missing_below(root: Path, file: Path, path: str) -> Path | None:
    """Return where the image that a row names should be, below the folder of the data; None: elsewhere, or no file."""
    # no resolve, which follows links: they may lead elsewhere, and what they name be missing there
    place = Path(os.path.normpath(file.parent.absolute() / path))
    is_below = place.is_relative_to(os.path.normpath(root.absolute()))
    return place if is_below and not os.path.lexists(place) else None


def _files(reference: str) -> tuple[Path, dict[str, list[Path]], tuple[str, ...]]:
    """Return the folder, the files of each split, and a notice of what is not used.

    A split is told by the name of a file (`train-00000-of-00002.parquet`) or of a folder
    (`default/train/0000.parquet`); where none is named, all is for training.

    Raises:
        DataError: nothing is for training, or a split lies in several folders, which may be copies of each other.
    """
    root = existing(reference, "parquet")
    if root.is_file():
        return root.parent, {"train": [root]}, ()
    tree = walk(root, (".parquet",))
    found: dict[str, dict[Path, list[Path]]] = {}
    loose: list[str] = []
    for file in tree.all_files():
        split, base = _split_of_file(file.relative_to(root))
        if split is None:
            loose.append(str(file))
        else:
            found.setdefault(split, {}).setdefault(base, []).append(file)
    if not found and loose:
        return root, {"train": [Path(file) for file in loose]}, left_out(tree)
    if "train" not in found:
        names = first_names(shown(file.relative_to(root)) for file in tree.all_files())
        raise DataError(f"parquet:{reference} must hold train*.parquet; got {names or 'none'}")
    bases = sorted({base for places in found.values() for base in places})
    if len(bases) > 1:
        folders = first_names(map(shown, bases))
        raise DataError(f"parquet:{reference} must hold its splits in one folder; got {folders}: name one of them")
    splits = {split: found[split][bases[0]] for split in SPLITS if split in found}
    return root, splits, left_out(tree, loose, "named after no split")


def _split_of_file(name: Path) -> tuple[str | None, Path]:
    """Return the split that a file or the nearest of its folders is named after, and the folder around that name."""
    for part in (name, *name.parents):
        if split := split_of(part.stem if part is name else part.name):
            return split, part.parent
    return None, name.parent


def _read(reference: str, given: Columns) -> Listing:
    root, paths, notices = _files(reference)
    files = {split: [_read_file(path, root, split, given) for path in paths[split]] for split in paths}
    names: tuple[str, ...] = ()
    for split, found in files.items():
        if len({file.labels.dtype.kind for file in found if not _is_withheld(file.labels)}) > 1:
            raise DataError(f"parquet:{reference} must have labels of one kind in all files of {split}")
    for file in (file for found in files.values() for file in found):
        if names and file.names and file.names != names:
            raise DataError(
                f"{shown(file.path)}: must have the classes of the other files; got {first_names(file.names)}"
            )
        names = names or file.names
    images = {split: ParquetImages(found, root) for split, found in files.items()}
    rows = _rows(files, images, f"parquet:{reference}")
    is_parted = list(files) == ["train"]  # else each file is of the split that it is named after
    parts = rows.split_rows("split") if "split" in rows.columns and is_parted else {}
    labels = {split: _together([file.labels for file in found]) for split, found in files.items()}
    names, numbers = _numbered(labels, parts, names, f"parquet:{reference}")
    splits = {split: Listed(numbers[split], None, images[split], images[split].name) for split in files}
    return _with_cells(Listing(names, splits, (*notices, *_said(files, rows, is_parted=is_parted))), rows, parts)


def _said(files: Mapping[str, Sequence[_File]], rows: Rows, *, is_parted: bool) -> Iterator[str]:
    """Yield notices of what is read from which column, and that splits are not where the files are named after them."""
    every = [file.columns for found in files.values() for file in found]
    read = every[0] if is_parted else replace(every[0], split=None)
    if rows.columns.keys() - (() if is_parted else {"split"}):
        yield said_columns(rows.where, read)
    if not is_parted and (unused := next((columns.split for columns in every if columns.split), None)):
        yield f"{rows.where}: column {unused} not used: the files are named after splits"


def _is_withheld(labels: np.ndarray) -> bool:
    """Return whether all labels of a file are withheld, which says nothing of their kind."""
    return labels.dtype.kind != "U" and bool((labels == -1).all())


def _together(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the labels of several files, of which some may be withheld, as one array."""
    is_text = any(labels.dtype.kind == "U" for labels in parts)
    return np.concatenate(
        [np.full(len(labels), "") if is_text and _is_withheld(labels) else labels for labels in parts]
    )


def _numbered(
    labels: Mapping[str, np.ndarray], parts: Mapping[str, np.ndarray], names: tuple[str, ...], where: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Return what `number_labels` does, of rows that a column parts into splits, too: each may withhold its labels."""
    if not parts:
        return number_labels(labels, names, where)
    names, found = number_labels({split: labels["train"][there] for split, there in parts.items()}, names, where)
    numbers = np.empty(len(labels["train"]), np.int64)
    for split, there in parts.items():
        numbers[there] = found[split]
    return names, {"train": numbers}


def _unlabelled(reference: str, given: Columns) -> list[Listed]:
    root, paths, _ = _files(reference)
    files = [_read_file(path, root, "test", given, ("path",)) for found in paths.values() for path in found]
    images = ParquetImages(files, root)
    return [Listed(np.full(len(images), -1), None, images, images.name)]


_WITHOUT: Mapping[str, float] = {"weight": 1.0}
"""What rows of a file without a column have in its place, where that is something."""


def _rows(files: Mapping[str, Sequence[_File]], images: Mapping[str, ParquetImages], where: str) -> Rows:
    """Return what the rows of all files hold beside images and labels, split by split."""
    every = [file for found in files.values() for file in found]
    cells: dict[str, list[Any]] = {
        role: [cell for file in every for cell in file.cells.get(role, [_WITHOUT.get(role)] * len(file.labels))]
        for role in {role for file in every for role in file.cells}
    }
    starts = dict(zip(files, np.cumsum([0, *map(len, images.values())]).tolist(), strict=False))

    def place(row: int) -> str:
        *_, split = (name for name in starts if starts[name] <= row)  # the last: one may be empty
        return images[split].name(row - starts[split])

    return Rows(cells, where, place)


def _with_cells(listing: Listing, rows: Rows, parts: Mapping[str, np.ndarray]) -> Listing:
    """Return the listing with the groups and weights of its rows, and with the `parts` of a column if there are any."""
    groups, group_names, without = rows.group_numbers("group") if "group" in rows.columns else (None, (), ())
    weights = rows.weights("weight") if "weight" in rows.columns else None
    ends = np.cumsum([len(listed.labels) for listed in listing.splits.values()]).tolist()
    splits = {
        split: replace(
            listed,
            groups=None if groups is None else groups[end - len(listed.labels) : end],
            weights=None if weights is None else weights[end - len(listed.labels) : end],
        )
        for (split, listed), end in zip(listing.splits.items(), ends, strict=True)
    }
    if parts:
        splits = {split: splits["train"].take(there) for split, there in parts.items()}
    return Listing(listing.class_names, splits, (*listing.notices, *without), group_names)


def _read_file(path: Path, root: Path, split: str, given: Columns, roles: Collection[str] = ROLES) -> _File:
    """Return what the columns of some roles hold in a file; its images are not read."""
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():  # a pipe would be waited for without end
        raise DataError(f"{shown(path)}: cannot be read as Parquet: it is a folder, a pipe or a link to nothing")
    try:
        with parquet.ParquetFile(path) as file:
            columns, parts = _columns(path, file.schema_arrow, split, given, roles)
            image, label = str(columns.path), columns.label or ""
            cells = {
                role: file.read(columns=[name]).column(name).to_pylist()
                for role, name in asdict(columns).items()
                if name and role not in ("path", "label")
            }
            sizes = tuple(int(file.metadata.row_group(group).num_rows) for group in range(file.metadata.num_row_groups))
            labels = file.read(columns=[label]).column(label) if label else pyarrow.nulls(sum(sizes))
            names = _class_names(file.schema_arrow.metadata or {}, label)
            if "path" in parts and any(sizes) and _has_no_bytes(file, image):
                column = image if parts == ("path",) else f"{image}.path"
                _check_paths(path, root, file.read_row_group(0, columns=[column]).column(image))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{shown(path)}: cannot be read as Parquet: {error}") from None
    may_lack = np.array([split_of(text_of(cell) or "") not in (None, "train") for cell in cells.get("split", ())], bool)
    plain = _plain_labels(path, label, labels, may_lack if len(may_lack) else np.zeros(sum(sizes), bool))
    return _File(path, image, parts, sizes, plain, names, columns, cells)


def _has_no_bytes(file: Any, image: str) -> bool:
    """Return whether no row holds an image, by the counts that stand beside the columns; INT32: all are null."""
    for group in range(file.metadata.num_row_groups):
        columns = [file.metadata.row_group(group).column(each) for each in range(file.metadata.num_columns)]
        counts = [each for each in columns if each.path_in_schema == f"{image}.bytes"]
        if not all(
            each.physical_type == "INT32" or (each.statistics and each.statistics.null_count == each.num_values)
            for each in counts
        ):
            return False
    return True


def _check_paths(path: Path, root: Path, images: Any) -> None:
    """Refuse a file whose rows hold paths at which nothing is; one image that is missing is a broken one."""
    rows = (row["path"] if isinstance(row, dict) else row for row in images.to_pylist() if row)
    firsts = list(islice(filter(None, rows), _MOST_LOOKED_FOR))
    real_root = root.resolve()
    if firsts and not any(image_below(root, real_root, path, each) for each in firsts):
        raise DataError(
            f"{shown(path)}: must hold the images; its rows hold paths such as {firsts[0]!r}, and no such file lies "
            f"below {shown(root)}: put the images there, or write the file anew with embed_external_files=True"
        )


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    return any(check(kind) for check in (types.is_string, types.is_large_string, types.is_string_view))


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    checks = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(check(kind) for check in checks)


def _plain_labels(path: Path, column: str, labels: Any, may_lack: np.ndarray) -> np.ndarray:
    """Return labels as numbers or texts; those that are missing are withheld, which is written -1, or an empty text.

    They may be missing in all rows, or in those of `may_lack`, `[N] bool`.
    """
    from pyarrow import types

    if types.is_dictionary(labels.type):
        labels = labels.cast(labels.type.value_type)
    if labels.null_count == len(labels):
        return np.full(len(labels), -1, dtype=np.int64)
    if _is_binary(labels.type):
        labels = labels.cast("string")
    is_there = ~labels.is_null().to_numpy()
    is_text = _is_text(labels.type)
    is_number = types.is_integer(labels.type) or (
        (types.is_floating(labels.type) or types.is_boolean(labels.type)) and is_whole(labels.drop_null().to_numpy())
    )
    missing = int((~is_there & ~may_lack).sum())
    if missing or not (is_text or is_number):
        raise DataError(
            f"{shown(path)}: {column} must be a whole number or a text in every row; "
            f"got {labels.type} with {missing} missing"
        )
    if is_text:
        return np.array([text or "" for text in labels.to_pylist()])
    numbers = np.full(len(labels), -1, dtype=np.int64)
    numbers[is_there] = labels.drop_null().to_numpy().astype(np.int64)
    return numbers


def _columns(
    path: Path, schema: Any, split: str, given: Columns, roles: Collection[str] = ROLES
) -> tuple[Columns, tuple[str, ...]]:
    """Return the columns, and what is read of that of images; that of labels may lack where they are withheld."""
    from pyarrow import types

    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    wanted = replace(given, path=given.path or image, label=given.label or label)
    columns = find_columns(schema.names, wanted, shown(path), roles)
    if columns.path is not None and (columns.label or split != "train"):
        kind = schema.field(columns.path).type
        if types.is_struct(kind):
            parts = tuple(part for part in ("bytes", "path") if kind.get_field_index(part) >= 0)
        else:
            parts = ("path",) if _is_text(kind) else ("bytes",) if _is_binary(kind) else ()
        if parts:
            return columns, parts
    raise DataError(
        f"{shown(path)}: must have the columns image (a struct of bytes and path, or a path) and label, or those that "
        f"data.columns names; got {', '.join(f'{field.name}: {field.type}' for field in schema)}"
    )


def _class_names(metadata: Mapping[bytes, bytes], label: str) -> tuple[str, ...]:
    """Return the names that the datasets library writes into the schema, or none."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _all_files(reference: str, given: Columns) -> tuple[Path, list[Path]]:
    """Return the folder of the data, the Parquet files, and the images that their rows name by path."""
    root, files, _ = _files(reference)
    images = [image for _, image in _all_named(reference, given)]
    return root, [*(path for found in files.values() for path in found), *dict.fromkeys(images)]


def _all_named(reference: str, given: Columns) -> list[tuple[str, Path]]:
    """Return the images that rows of all files name, each with its path as a row has it."""
    root, files, _ = _files(reference)
    paths = [(path, split) for split, found in files.items() for path in found]
    return [named for path, split in paths for named in _named_images(path, root, split, given)]


def _named_images(path: Path, root: Path, split: str, given: Columns) -> list[tuple[str, Path]]:
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():
        return []
    try:
        with parquet.ParquetFile(path) as file:
            columns, parts = _columns(path, file.schema_arrow, split, given)
            image = str(columns.path)
            if "path" not in parts or ("bytes" in parts and _holds_all(file, image)):
                return []
            column = image if parts == ("path",) else f"{image}.path"
            rows = file.read(columns=[column]).column(image).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{shown(path)}: cannot be read as Parquet: {error}") from None
    texts = dict.fromkeys(row["path"] if isinstance(row, dict) else row for row in rows if row)
    real_root = root.resolve()
    found = ((text, image_below(root, real_root, path, text)) for text in texts if text)
    return [(text, image) for text, image in found if image is not None]


def _holds_all(file: Any, image: str) -> bool:
    """Return whether every row holds an image, by the counts that stand beside the columns."""
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    columns = [group.column(each) for group in groups for each in range(file.metadata.num_columns)]
    counts = [each.statistics for each in columns if each.path_in_schema == f"{image}.bytes"]
    return all(each is not None and each.has_null_count and each.null_count == 0 for each in counts)


def _identity(reference: str, given: Columns) -> Any:
    root, files = _all_files(reference, given)
    return [file_identity(files, root), asdict(given)]


def _staged(path: Path) -> Path | None:
    """Return the path where it holds Parquet files: the hub has them in data/, in default/train/ or beside its card."""
    if path.is_file():
        return path if path.suffix == ".parquet" else None
    places = ("*.parquet", "data/*.parquet", "default/*/*.parquet", "*train*/*.parquet")
    return path if any(any(path.glob(place)) for place in places) else None


def _parquet_source(given: Columns) -> Source:
    return Source(
        lambda reference: _identity(reference, given),
        lambda reference: _read(reference, given),
        True,
        (".parquet",),
        "Parquet files",
        _staged,
        with_columns=_parquet_source,
        files=lambda reference: _all_files(reference, given),
        named=lambda reference: [text for text, _ in _all_named(reference, given)],
        unlabelled=lambda reference: _unlabelled(reference, given),
    )


PREFIXED.add("parquet", _parquet_source(Columns()))
