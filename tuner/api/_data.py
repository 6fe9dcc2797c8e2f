"""Arrays and tables of a program as a source: a file by its content in the cache, which the usual sources read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import replacing, shown
from tuner.datasets.images import as_file
from tuner.datasets.prepared import BROUGHT
from tuner.datasets.sources import SPLITS, first_names, is_whole

_ROWS_AT_ONCE = 256
_CHANGED_S = 315_532_800
"""The time of change of every such file, 1980: one that is written again is the same data."""
_FORMS = (
    "data must be a source such as 'folder:photos', arrays (images, labels), ((images, labels), (images, labels)) for "
    "training and test, or a table with a column of images"
)
_LARGEST_OF_FRACTIONS, _LEAST_OF_BYTES, _LARGEST_OF_BYTES = 1, 128, 255
"""Values up to 1 are shares of white, and values whose largest is 128 to 255 are bytes; between them, nobody knows.
Of several arrays it is the largest of all: some images may be dark. 0 is black in any case."""


def source_of(data: Any, cache: Path) -> str:
    """Return the source that reads `data`; arrays and tables are written into `cache` first, if they are not there.

    Raises:
        DataError: data of another form, or with a wrong shape, type, length or label.
    """
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    if is_table(data):
        return f"parquet:{_keep_table(data, cache / BROUGHT)}"
    if isinstance(data, tuple | list | Mapping):
        return f"npz:{_keep_arrays(_splits_of(data), cache / BROUGHT)}"
    raise DataError(f"{_FORMS}; got {_kind(data)}")


def _kind(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


# --- arrays ---


def _splits_of(data: Any) -> dict[str, tuple[Any, Any]]:
    """Return the images and labels of each split."""
    if isinstance(data, Mapping):
        named = dict(data)
        unknown = [name for name in named if name not in SPLITS]
        if unknown or "train" not in named:
            got = first_names(map(str, named)) or "nothing"
            raise DataError(f"data must map {', '.join(SPLITS)} to (images, labels); got {got}")
    else:
        is_split = len(data) in (1, 2) and all(_is_pair(part) for part in data)
        named = dict(zip(("train", "test"), data, strict=False)) if is_split else {"train": data}
    for name, pair in named.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            got = f"{len(pair)} parts" if isinstance(pair, tuple | list) else _kind(pair)
            raise DataError(f"{_FORMS}; got {got} for {name}")
    return {name: (named[name][0], named[name][1]) for name in SPLITS if name in named}


def _is_pair(part: Any) -> bool:
    """Return whether a part is (images, labels), and not the images of a pair itself."""
    return isinstance(part, tuple | list) and len(part) == 2 and not isinstance(part[1], int | float | str)  # fmt: skip


def _keep_arrays(splits: Mapping[str, tuple[Any, Any]], folder: Path) -> Path:
    images = {name: plain_array(pair[0], f"the images of {name}") for name, pair in splits.items()}
    pixels = as_bytes({f"the images of {name}": array for name, array in images.items()})
    arrays: dict[str, np.ndarray] = {}
    for (name, pair), array in zip(splits.items(), pixels, strict=True):
        labels = _labels(pair[1], name)
        if len(labels) != len(array):
            raise DataError(
                f"data must have a label for each image; {name} has {len(array):,} images, {len(labels):,} labels"
            )
        arrays |= {f"x_{name}": array, f"y_{name}": labels}
    _check_alike(arrays)
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return _kept(folder / f"arrays-{digest.hexdigest()[:16]}.npz", lambda path: _write_arrays(path, arrays))


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with path.open("wb") as file:  # by a path, numpy would add a suffix
        np.savez(file, allow_pickle=False, **arrays)


def _check_alike(arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse labels of two kinds."""
    kinds = {
        name: "texts" if array.dtype.kind == "U" else "numbers" for name, array in arrays.items() if name[0] == "y"
    }
    if len(set(kinds.values())) > 1:
        words = ", ".join(f"{kind} for {name[2:]}" for name, kind in kinds.items())
        raise DataError(f"data must have labels of one kind in all splits; got {words}")


def plain_array(values: Any, what: str) -> np.ndarray:
    """Return values as an array; raises DataError where they are of different sizes, or no numbers."""
    array, why = _as_array(values)
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{what} must be one array of numbers [N, height, width] or [N, height, width, 1 or 3]; got {why}; images "
            "of different sizes can be given as files: a folder, or a table of their paths or bytes"
        )
    return array


def as_bytes(named: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return images `[N, H, W(, 1 or 3)] uint8`, each array by its name in messages: all have values of one range.

    What could be shares of white beside bytes is refused.

    Raises:
        DataError: a shape that images do not have, or values that may be of two ranges.
    """
    for name, array in named.items():
        _check_shape(name, array)
    if all(array.dtype == np.uint8 for array in named.values()):
        return list(named.values())
    lows, highs = zip(*(_range(name, array) for name, array in named.items()), strict=True)
    first, low, high = next(iter(named)), min(lows), max(highs)
    if all(array.dtype == np.bool_ for array in named.values()):
        return [array.astype(np.uint8) * np.uint8(255) for array in named.values()]
    is_float = all(array.dtype.kind == "f" for array in named.values())
    if is_float and low >= 0 and high <= _LARGEST_OF_FRACTIONS:
        return [_rounded(array, 255) for array in named.values()]
    largest = dict(zip(named, highs, strict=True))
    if low >= 0 and (high == 0 or _LEAST_OF_BYTES <= high <= _LARGEST_OF_BYTES):
        shares = [name for name, array in named.items() if array.dtype.kind in "fb"]
        apart = [name for name in shares if 0 < largest[name] <= _LARGEST_OF_FRACTIONS]
    else:
        apart = [name for name in named if not _LEAST_OF_BYTES <= largest[name] <= _LARGEST_OF_BYTES] or [first]
    if apart:
        raise DataError(
            f"{apart[0]} must have values of 0 to 255, or fractions of 0 to 1; "
            f"got {', '.join(sorted({str(array.dtype) for array in named.values()}))} of {low:g} to {high:g}: bring "
            "them to one of these ranges, and where they are 0 to 255 say so with .astype('uint8')"
        )
    return [_rounded(array, 1) for array in named.values()]


def _check_shape(name: str, array: np.ndarray) -> None:
    shape, advice = list(array.shape), ""
    is_one = array.ndim == 3 and shape[2] == 3  # else they were as many grey images, three pixels wide
    if array.ndim in (3, 4) and 0 not in shape and (array.ndim == 3 or shape[3] in (1, 3)) and not is_one:
        return
    if is_one:
        advice = "; one image in colour is images[None]"
    elif array.ndim == 4 and shape[1] in (1, 3):
        advice = "; channels come last: np.moveaxis(images, 1, -1)"
    elif array.ndim == 4 and shape[3] in (2, 4):
        advice = "; transparency is left out by images[..., :3]" if shape[3] == 4 else ""
    elif array.ndim == 2:
        advice = "; flat images get their form by images.reshape(-1, height, width)"
    raise DataError(f"{name} must be [N, height, width] or [N, height, width, 1 or 3]; got {shape}{advice}")


def _range(name: str, array: np.ndarray) -> tuple[float, float]:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{name} must have finite values; {int((~np.isfinite(array)).sum()):,} are not")
    return float(array.min()), float(array.max())


def _rounded(array: np.ndarray, factor: int) -> np.ndarray:
    """Return values times a factor as bytes, some images at a time."""
    found = np.empty(array.shape, np.uint8)
    for start in range(0, len(array), _ROWS_AT_ONCE):
        part = array[start : start + _ROWS_AT_ONCE]
        found[start : start + _ROWS_AT_ONCE] = np.rint(part.astype(np.float32) * factor)
    return found


def _as_array(values: Any) -> tuple[np.ndarray, str]:
    """Return values as an array, and what it is; one that is no array of anything, and why, where they make none."""
    try:
        array = np.asarray(values)
    except Exception as error:  # noqa: BLE001 numpy asks the values' own class (of torch, TensorFlow), which raises its own
        return np.empty((0, 0, 0), object), str(error).partition("\n")[0]
    return array, f"{array.dtype} {list(array.shape)}"


def _labels(values: Any, split: str) -> np.ndarray:
    """Return labels `[N]` as int64 or texts, of one-hot rows the places of the ones."""
    what = f"the labels of {split}"
    array, _ = _as_array(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if (
        array.ndim == 2
        and array.dtype.kind in "biuf"
        and (array.sum(axis=1) == 1).all()
        and np.isin(array, (0, 1)).all()
    ):
        return np.asarray(array.argmax(axis=1), np.int64)
    if array.ndim != 1:
        raise DataError(f"{what} must be one for each image, or rows of zeros with one 1; got {list(array.shape)}")
    if array.dtype.kind in "SU" and isinstance(values, list | tuple):  # numpy makes texts of all, where some are
        return _texts_or_numbers(values, what)
    if array.dtype.kind in "OSUT" or str(array.dtype) == "category":
        return _texts_or_numbers(array.tolist(), what)
    if not is_whole(array):
        wrong = array[~np.isfinite(array)] if array.dtype.kind == "f" else array[:0]
        got = f"{len(wrong):,} that are missing" if len(wrong) else f"{array.dtype}"
        raise DataError(f"{what} must be whole numbers or texts; got {got}")
    return array.astype(np.int64)


def _texts_or_numbers(values: Sequence[Any], what: str) -> np.ndarray:
    plain = [plain_cell(value) for value in values]
    if missing := [place for place, value in enumerate(plain) if value is None or value == ""]:
        raise DataError(
            f"{what} must name a class each; that of image {missing[0]} is missing (and {len(missing) - 1:,} more)"
        )
    texts = [value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value for value in plain]
    if all(isinstance(value, str) for value in texts):
        return np.array(texts, dtype=np.str_)
    if all(isinstance(value, int) for value in texts):
        return np.array(texts, dtype=np.int64)
    kinds = sorted({_kind(value) for value in texts})
    raise DataError(f"{what} must all be whole numbers, or all texts; got {' and '.join(kinds)}")


# --- tables ---


def is_table(data: Any) -> bool:
    """Return whether data are a table of pandas, Polars or Arrow."""
    return _names_of(data) is not None


def table_images(data: Any) -> list[Path | bytes]:
    """Return the images of a table, which needs no labels."""
    cells = _table_cells(data)
    column = image_column(cells)
    return [_image_of(value, column, row) for row, value in enumerate(cells[column])]


def is_pillow(image: Any) -> bool:
    """Return whether this is an image of Pillow."""
    return hasattr(image, "getbands") and hasattr(image, "save")


def encoded(image: Any) -> bytes:
    """Return the encoded bytes of an image: those that it is, or of an image of Pillow, upright and without a loss.

    Raises:
        DataError: an image of Pillow cannot be decoded, with the reason.
    """
    return as_file(image) if is_pillow(image) else bytes(image)


def _names_of(data: Any) -> list[Any] | None:
    """Return the names of the columns of a table of pandas, Polars or Arrow; None: it is no table."""
    for attribute in ("column_names", "columns"):
        names = getattr(data, attribute, None)
        if names is not None and hasattr(data, "__getitem__") and not isinstance(data, Mapping):
            with suppress(TypeError):
                return list(names)
    return None


def _cells(data: Any, name: Any) -> list[Any]:
    column = data[name]
    for attribute in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, attribute):
            return [plain_cell(value) for value in getattr(column, attribute)()]
    return [plain_cell(value) for value in column]


def plain_cell(value: Any) -> Any:
    """Return a cell as Python's own value; None where nothing is there."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value != value:  # not a number
        return None
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return bytes(value) if isinstance(value, bytearray | memoryview) else value


def _table_cells(data: Any) -> dict[str, list[Any]]:
    names = _names_of(data) or []
    if twice := sorted({str(name) for name in names if names.count(name) > 1}):
        raise DataError(f"data must have columns of different names; got {first_names(twice)} more than once")
    return {str(name): _cells(data, name) for name in names}


def _keep_table(data: Any, folder: Path) -> Path:
    cells = _table_cells(data)
    column = image_column(cells)
    images = [_image_of(value, column, row) for row, value in enumerate(cells[column])]
    others = {
        name: values for name, values in cells.items() if name not in (column, "image") and all(map(_is_plain, values))
    }
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(_identity(image) if isinstance(image, Path) else hashlib.sha256(image).digest()).encode())
    digest.update(repr(others).encode())
    path = folder / f"table-{digest.hexdigest()[:16]}.parquet"
    return _kept(path, lambda aside: _write_table(aside, images, others))


def image_column(cells: Mapping[str, Sequence[Any]]) -> str:
    """Return the column of images: the one whose cells are the bytes of images, or name files that are there.

    Raises:
        DataError: there are no rows, no such column, or several.
    """
    if not cells or not next(iter(cells.values())):
        raise DataError("data must have rows with images and labels; the table has none")
    found = [name for name, values in cells.items() if _holds_images(values)]
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(f"data must have one column of images; got {first_names(found)}: leave the others out")
    firsts = [f"{name} ({str(values[0])[:40]!r})" for name, values in cells.items()]
    raise DataError(
        f"data must have a column of images, their bytes or paths of files below {shown(Path.cwd())} or absolute; none "
        f"of its columns has these: {first_names(firsts)}"
    )


def _holds_images(values: Sequence[Any]) -> bool:
    first = next((value for value in values if value is not None), None)
    if isinstance(first, str) and not isinstance(first, os.PathLike):
        return any(isinstance(value, str) and _is_file(value) for value in values[:1000])
    return (
        isinstance(first, bytes | os.PathLike)
        or is_pillow(first)
        or (isinstance(first, Mapping) and {*first} <= {"bytes", "path"})
    )


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):
        return False


def _image_of(value: Any, column: str, row: int) -> Path | bytes:
    if isinstance(value, Mapping):  # as the datasets library has them
        value = value.get("bytes") or value.get("path")
    if is_pillow(value) or (isinstance(value, bytes) and value):
        try:
            return encoded(value)
        except DataError as error:
            raise DataError(f"data row {row}: {column} {error}") from None
    if isinstance(value, str | os.PathLike) and _is_file(os.fspath(value)):
        return Path(value).expanduser()
    got = repr(value)[:60] if value is not None and value != b"" else "nothing"
    raise DataError(
        f"data row {row}: {column} must be the bytes of an image, or the path of a file that is there; got {got}"
    )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _identity(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def _write_table(path: Path, images: Sequence[Path | bytes], others: Mapping[str, Sequence[Any]]) -> None:
    """Write a table with its images, some rows at a time."""
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    columns = {name: _column(values) for name, values in others.items()}
    schema = pyarrow.schema([("image", kind), *((name, column.type) for name, column in columns.items())])
    with parquet.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        for start in range(0, len(images), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            encoded = [{"bytes": content, "path": None} for content in _contents(images[rows])]
            parts = [column.slice(start, _ROWS_AT_ONCE) for column in columns.values()]
            writer.write_table(pyarrow.Table.from_arrays([pyarrow.array(encoded, kind), *parts], schema=schema))


def _column(values: Sequence[Any]) -> Any:
    """Return an Arrow column; values of several kinds become texts."""
    import pyarrow

    kinds = {type(value) for value in values if value is not None}
    mixed = len(kinds) > 1 and kinds != {int, float}
    return pyarrow.array([None if value is None else str(value) for value in values] if mixed else list(values))


def _contents(images: Iterable[Path | bytes]) -> Iterator[bytes]:
    for image in images:
        yield image.read_bytes() if isinstance(image, Path) else image


# --- the file ---


def _kept(path: Path, write: Any) -> Path:
    """Return the file at `path`, written if it is not there; it is named by its content."""
    try:
        if not path.is_file():
            with replacing(path) as aside:
                write(aside)
                os.utime(aside, (_CHANGED_S, _CHANGED_S))
    except PermissionError as error:
        raise DataError(
            f"{shown(path)}: the data cannot be kept there: {error.strerror}; set cache, or TUNER_CACHE"
        ) from None
    return path.absolute()
