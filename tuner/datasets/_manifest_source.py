"""Tables that name images and their labels: CSV, and JSON lines. What their columns mean is shared with Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import shown, user_path
from tuner.common.registry import unknown_name
from tuner.datasets.file_sources import existing, file_identity, not_hidden, walk
from tuner.datasets.images import SUFFIXES
from tuner.datasets.sources import PREFIXED, SPLITS, Columns, Listed, Listing, Source, first_names, split_of
from tuner.datasets.splits import OWN_UNIT

_USUAL = {
    "path": (
        "path paths file files filename filepath imagepath imagefile imagefilename imagefilepath imagename imgpath "
        "imgfile imgname fname relpath relativepath picturepath photopath",
        "image images img picture photo imageindex",
        "imageid imgid pictureid photoid idcode isicid id uid uuid",
    ),
    "label": (
        "label labels",
        "class classes classname classlabel category categoryname target y diagnosis dx species breed labelname "
        "finelabel groundtruth gt cls",
        "classid labelid categoryid targetid",
    ),
    "split": ("split splits set subset partition phase usage",),
    "group": (
        "group groups groupid groupname",
        "patient patientid subject subjectid person personid participant participantid student studentid user userid "
        "individual individualid animal animalid video videoid clip clipid product productid lesion lesionid case "
        "caseid specimen specimenid scene sceneid sequence sequenceid session sessionid",
    ),
    "weight": ("weight weights sampleweight imageweight sampleweights",),
}
"""Names of columns without what stands between their words, the surest first."""
ROLES = tuple(_USUAL)
"""What columns may mean: fields of `Columns`."""
_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DELIMITERS = ",;\t|"
_WRITTEN_NAN = ("nan", "NaN")
"""An empty cell as Python and R, pandas and JSON write it; `Nan` and `NAN` are names."""
_MANIFESTS = re.compile(r"(labels?|metadata|annotations?|manifest|train)\.(csv|jsonl)", re.IGNORECASE)


# --- columns ---


def plain_name(name: str) -> str:
    """Return a name without case, accents' spelling and what stands between its words."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFC", name).casefold())


def find_columns(names: Sequence[str], given: Columns, where: str, roles: Collection[str] = ROLES) -> Columns:
    """Return the columns that mean something: those that are `given`, others by their usual names.

    No others are looked for than those of `roles`.

    Raises:
        DataError: a given column is not there, or several columns may be meant.
    """
    found: dict[str, str | None] = {}
    for role, tiers in _USUAL.items():
        wanted = getattr(given, role)
        if role not in roles or wanted == "":
            continue
        if wanted is not None:
            found[role] = _given_column(names, wanted, role, where)
            continue
        taken = {name for name in asdict(given).values() if name} | {name for name in found.values() if name}
        known = [[name for name in names if plain_name(name) in tier.split() and name not in taken] for tier in tiers]
        usual = next((tier for tier in known if tier), [])
        if len(usual) > 1 and len(set(usual)) == 1:
            raise DataError(f"{where}: must have one column {usual[0]}; got {len(usual)}")
        if len(usual) > 1:
            raise DataError(
                f"{where}: the {role} may be in {first_names(usual)}: set data.columns to {{{role}: {usual[0]}}}"
            )
        found[role] = usual[0] if usual else None
    return Columns(**found)


def _given_column(names: Sequence[str], wanted: str, role: str, where: str) -> str:
    alike = [wanted] if wanted in names else [name for name in names if plain_name(name) == plain_name(wanted)]
    if len(alike) != 1:
        raise DataError(f"{where}: data.columns.{role}: {unknown_name('column', wanted, names)}")
    return alike[0]


def text_of(value: Any) -> str | None:
    """Return a cell as text, numbers alike however they are written (3, 3.0); empty: nothing; None: it is no cell."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if not isinstance(value, str | int | float):
        return None
    text = unicodedata.normalize("NFC", str(value)).strip()
    return "" if text in _WRITTEN_NAN else text


def alike_numbers(texts: Sequence[str]) -> list[str]:
    """Return texts, those of whole numbers as `3` where all are numbers: a table may have 3, 3.0 and 03."""
    if any(text and not re.fullmatch(r"[+-]?\d+(\.0*)?", text) for text in texts):
        return list(texts)
    return [str(int(float(text))) if "." in text else str(int(text)) if text else "" for text in texts]


class Rows:
    """The rows of a table, to be read column by column; what is wrong is told with the place of its row."""

    def __init__(self, columns: Mapping[str, Sequence[Any]], where: str, place: Callable[[int], str]) -> None:
        self.columns = columns
        self.where = where
        self.place = place
        """What an error calls a row: `line 3`."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def texts(self, column: str) -> list[str]:
        """Return the cells of a column as texts; raises DataError where one holds more than a text or a number."""
        found = [text_of(value) for value in self.columns[column]]
        wrong = [row for row, text in enumerate(found) if text is None]
        self.refuse(column, wrong, "must be a text or a number")
        return [text or "" for text in found]

    def refuse(self, column: str, rows: Sequence[int], rule: str) -> None:
        """Raise DataError with the first of some rows in which a column is wrong, if there are any."""
        if rows:
            value = "" if self.columns[column][rows[0]] is None else str(self.columns[column][rows[0]])
            got = repr(value if len(value) <= 60 else f"{value[:60]} ...") if value else "nothing"
            got += ", which stands for an empty cell" if value.strip() in _WRITTEN_NAN else ""
            more = f" (and {len(rows) - 1:,} more)" if len(rows) > 1 else ""
            raise DataError(f"{self.where} {self.place(rows[0])}: {column} {rule}; got {got}{more}")

    def places(self, rows: Sequence[int]) -> str:
        """Return the places of some rows, and how many more there are."""
        return first_names(self.place(row) for row in rows)

    def split_rows(self, column: str) -> dict[str, np.ndarray]:
        """Return the rows of each split by the words of a column; raises DataError where one is none."""
        texts = self.texts(column)
        words = {text: split_of(text) for text in set(texts)}
        wrong = [row for row, text in enumerate(texts) if words[text] is None]
        self.refuse(column, wrong, f"must be one of {', '.join(SPLITS)}, or a word for it")
        found = {split: [row for row, text in enumerate(texts) if words[text] == split] for split in SPLITS}
        if not found["train"]:
            raise DataError(f"{self.where}: {column} must name rows to train on; got {first_names(sorted(words))}")
        return {split: np.array(rows) for split, rows in found.items() if rows}

    def group_numbers(self, column: str) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
        """Return the group of each row `[N] int64`, the names of groups, and a notice of rows without one."""
        texts = alike_numbers(self.texts(column))
        names = sorted(set(texts) - {""})
        numbers = {name: number for number, name in enumerate(names)} | {"": OWN_UNIT}
        without = [row for row, text in enumerate(texts) if not text]
        notice = f"{self.where}: {len(without):,} rows without {column} are groups of their own: {self.places(without)}"
        return np.array([numbers[text] for text in texts], np.int64), tuple(names), (notice,) if without else ()

    def weights(self, column: str) -> np.ndarray:
        """Return the weights `[N] float32`; raises DataError where one is not 0 or above, or none is above."""
        found = [_number(text) for text in self.texts(column)]
        wrong = [row for row, weight in enumerate(found) if weight is None or not 0 <= weight < 1e30]
        self.refuse(column, wrong, "must be a number, 0 or above")
        weights = np.array(found, np.float32)
        if not weights.any():
            raise DataError(f"{self.where}: {column} must be above 0 in some row")
        return weights


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def said_columns(where: str, columns: Columns) -> str:
    """Return a notice of what is read from which column."""
    words = [f"{role} from {name}" for role, name in asdict(columns).items() if name]
    return f"{where}: read {', '.join(words)}"


# --- the files of tables ---


def _text(path: Path) -> str:
    content = path.read_bytes()
    encoding = next((name for mark, name in _ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{shown(path)} line {line}: must be UTF-8 text; save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from None
    if "\0" in text:
        raise DataError(f"{shown(path)}: must be UTF-8 text; it holds bytes of 0: save it as UTF-8")
    return text


def _read_csv(path: Path, given: Columns) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the names of the columns, the cells of each row, and the line that each begins at."""
    text = _text(path)
    first_line, rest = 1, text
    if named := re.match(r"sep=(.)\r?\n", text):  # Excel's own line
        first_line, rest = 2, text[named.end() :]
    delimiters = [named[1]] if named else sorted(_DELIMITERS, key=lambda each: -_understood(rest, each, given))
    reader = csv.reader(io.StringIO(rest, newline=""), delimiter=delimiters[0], strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        while True:
            line = reader.line_num + first_line
            row = next(reader, None)
            if row is None:
                break
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(line)
    except csv.Error as error:
        raise DataError(
            f"{shown(path)} line {reader.line_num + first_line - 1}: cannot be read as CSV: {error}"
        ) from None
    if len(rows) < 2:
        raise DataError(f"{shown(path)}: must hold a line with the names of the columns, and rows; it has {len(rows)}")
    header = [unicodedata.normalize("NFC", name).strip() for name in rows[0]]
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if (len(row) != len(header) and any(cell.strip() for cell in row[len(header) :])) or len(row) < len(header):
            raise DataError(
                f"{shown(path)} line {line}: must have {len(header)} cells as the first line; got {len(row)}"
            )
    return header, [row[: len(header)] for row in rows[1:]], lines[1:]


def _understood(text: str, delimiter: str, given: Columns) -> int:
    """Return how well a first line is understood with a delimiter: by known columns, then by all."""
    try:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        names = next((row for row in rows if any(cell.strip() for cell in row)), [])
    except csv.Error:
        names = []
    usual = {name for tiers in _USUAL.values() for tier in tiers for name in tier.split()}
    wanted = {plain_name(name) for name in asdict(given).values() if name} | usual
    return sum(plain_name(name) in wanted for name in names) * 1000 + len(names)


def _each_name_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]!r} stands in it {names.count(twice[0])} times")
    return dict(pairs)


def _read_jsonl(path: Path, _given: Columns) -> tuple[list[str], list[list[Any]], list[int]]:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_each_name_once)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{shown(path)} line {number}: must be a JSON object: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{shown(path)} line {number}: must be a JSON object, one a line; got {type(row).__name__}")
        rows.append(row)
        lines.append(number)
    if not rows:
        raise DataError(f"{shown(path)}: must hold rows; it has none")
    header = list(dict.fromkeys(name for row in rows for name in row))
    return header, [[row.get(name) for name in header] for row in rows], lines


_READERS: Mapping[str, Callable[[Path, Columns], tuple[list[str], list[list[Any]], list[int]]]] = {
    "csv": _read_csv,
    "jsonl": _read_jsonl,
}


@dataclass(frozen=True)
class _Table:
    """A table: its file, which columns mean something, its rows, and the image of each."""

    path: Path
    columns: Columns
    rows: Rows
    images: list[Path]
    notices: tuple[str, ...]


def _table(kind: str, reference: str, given: Columns, *, is_labelled: bool = True) -> _Table:
    path = existing(reference, kind)
    if path.is_dir():
        raise _folder_refused(kind, reference, path)
    header, cells, lines = _READERS[kind](path, given)
    columns = find_columns(header, given, shown(path), ROLES if is_labelled else ("path",))
    needed = ("path", "label") if is_labelled else ("path",)
    if missing := [role for role in needed if getattr(columns, role) is None]:
        raise _not_understood(path, header, cells, columns, " and ".join(missing))
    used = [name for name in asdict(columns).values() if name]
    if twice := [name for name in used if header.count(name) > 1]:
        raise DataError(f"{shown(path)}: must have one column {twice[0]}; got {header.count(twice[0])}")
    by_name = {name: [row[header.index(name)] for row in cells] for name in used}
    rows = Rows(by_name, shown(path), lambda row: f"line {lines[row]}")
    images, notices = _find_images(path, rows, str(columns.path))
    return _Table(path, columns, rows, images, (said_columns(shown(path), columns), *notices))


def _folder_refused(kind: str, reference: str, path: Path) -> DataError:
    """Return the refusal of a folder, with the tables that lie in it, or below it where there is none."""
    words, ways = f"{kind}:{reference} must be a file; {path.absolute()} is a folder", ("*", "**/*")
    for way in ways:
        for other in (kind, *(each for each in (*_READERS, "parquet") if each != kind)):
            files = (file for file in path.glob(way) if file.suffix.lower() == f".{other}" and _is_file(file))
            if tables := sorted(f"{other}:{shown(user_path(reference) / file.relative_to(path))}" for file in files):
                return DataError(f"{words}, which holds {first_names(tables)}")
    return DataError(f"{words} without tables; for images in folders of classes write folder:{reference}")


def _not_understood(
    path: Path, header: Sequence[str], cells: Sequence[Sequence[Any]], columns: Columns, missing: str
) -> DataError:
    words = f"{shown(path)}: must have a column for the {missing} of each image"
    if any(PurePosixPath(name.replace("\\", "/")).suffix.lower() in SUFFIXES for name in header):
        return DataError(
            f"{words}: its first line must be names of columns, for example path,label; got {', '.join(header)}"
        )
    known = asdict(columns).values()
    cells_of = {name: alike_numbers([text_of(row[place]) or "" for row in cells]) for place, name in enumerate(header)}
    flags = {name: texts for name, texts in cells_of.items() if name not in known and set(texts) <= {"0", "1"}}
    if "label" in missing and len(flags) > 1 and all(row.count("1") == 1 for row in zip(*flags.values(), strict=True)):
        names = first_names(flags)
        return DataError(
            f"{words}; it has one column for each class ({names}): write their names into one column label"
        )
    return DataError(f"{words}; got {first_names(header)}: set data.columns, for example {{path: {header[0]}}}")


# --- the images that a table names ---


def _find_images(path: Path, rows: Rows, column: str) -> tuple[list[Path], tuple[str, ...]]:
    """Return the image of each row, and notices of what is missing, or was found elsewhere than it is written.

    Only what lies in the folder of the table or below it is read: data that come from elsewhere must not choose files.
    """
    root, folder = path.parent.resolve(), shown(path.parent.absolute())
    texts = [text if "/" in text else text.replace("\\", "/") for text in rows.texts(column)]
    rows.refuse(column, [row for row, text in enumerate(texts) if not text], "must name an image")
    rows.refuse(column, [row for row, text in enumerate(texts) if "://" in text], "must be a path, not a URL")
    names = [_below(root, text) for text in texts]
    rule = f"must be a path below {folder}: put the table into a folder above its images"
    rows.refuse(column, [row for row, name in enumerate(names) if name is None], rule)
    lying = cache(lambda: _images_below(root))  # a walk of a large folder takes long
    images = _as_spelled_there(root, [name or "" for name in names], lying)
    there = [_is_file(image) for image in images]
    notices: tuple[str, ...] = ()
    if not any(there):
        images, notices = _find_elsewhere(root, [name or "" for name in names], lying(), rows, column, folder)
        there = [_is_file(image) for image in images]
    real = lru_cache(maxsize=4096)(lambda above: above.resolve().is_relative_to(root))
    outside = [row for row, image in enumerate(images) if there[row] and not _stays(image, root, real)]
    rows.refuse(column, outside, f"must not lead out of {folder} by a link")
    missing = [row for row, is_there in enumerate(there) if not is_there]
    if missing:
        words = first_names(f"{rows.place(row)} ({texts[row]})" for row in missing)
        are = "image is" if len(missing) == 1 else "images are"
        notices += (f"{rows.where}: {len(missing):,} {are} not there: {words}",)
    return images, notices


def _as_spelled_there(root: Path, names: Sequence[str], lying: Callable[[], Mapping[str, Path]]) -> list[Path]:
    """Return the paths of images, their accents as they are on the disk: composed (Linux), not (macOS), or both.

    `lying` returns what `_images_below` does, and is asked only where some are neither.
    """
    images = [root / name for name in names]
    lacking = [row for row, name in enumerate(names) if not name.isascii() and not _is_file(images[row])]
    for row in lacking:
        apart = root / unicodedata.normalize("NFD", names[row])
        images[row] = apart if _is_file(apart) else images[row]
    if lacking := [row for row in lacking if not _is_file(images[row])]:
        for row in lacking:
            images[row] = lying().get(names[row], images[row])
    return images


def _images_below(root: Path) -> dict[str, Path]:
    """Return the images in a folder and below by their paths from there, with composed accents."""
    every = walk(root, SUFFIXES).all_files()
    return {unicodedata.normalize("NFC", file.relative_to(root).as_posix()): file for file in every}


def _is_file(image: Path) -> bool:
    try:
        return image.is_file()
    except OSError:  # a name that is too long, or a folder that may not be looked into
        return False


def _stays(image: Path, root: Path, real: Callable[[Path], bool]) -> bool:
    return real(image.parent) and (not image.is_symlink() or image.resolve().is_relative_to(root))


def _below(root: Path, text: str) -> str | None:
    """Return a path from the folder of a table, without detours; None: it leads out of it.

    An absolute one may name that folder by a link to it.
    """
    if "\0" in text:
        return None
    names = [os.path.normpath(text)]
    if Path(text).is_absolute():
        by_link = Path(os.path.realpath(Path(text).parent), Path(text).name)
        names = [os.path.relpath(one, root) for one in (text, by_link)]
    return next((name for name in names if name != ".." and not name.startswith("../")), None)


def _find_elsewhere(
    root: Path, names: Sequence[str], there: Mapping[str, Path], rows: Rows, column: str, folder: str
) -> tuple[list[Path], tuple[str, ...]]:
    """Return images that are written without their folder or suffix, where no other of `there` can be meant.

    Either all lie in one folder with one suffix, or each name is there once. `folder` is what errors call `root`.
    """
    by_stem: dict[str, list[str]] = {}
    by_case: dict[str, str] = {}
    for relative in there:
        by_case.setdefault(PurePosixPath(relative).name.casefold(), relative)
        for key in {PurePosixPath(relative).stem, PurePosixPath(relative).name}:
            by_stem.setdefault(key, []).append(relative)
    found = [_as_written(name, by_stem.get(PurePosixPath(name).name, ())) for name in names]
    present = [each for each in found if each]
    if not present:
        alike = by_case.get(PurePosixPath(names[0]).name.casefold())
        hint = "" if alike is None else f"; {alike} does: small and capital letters differ"
        raise DataError(
            f"{rows.where}: none of its {len(names):,} images is there: {rows.place(0)} has {names[0]!r} in {column}, "
            f"and no such image lies in {folder} or below{hint}"
        )
    common = set.intersection(*(set(each) for each in present))
    if len(common) != 1 and any(len(each) > 1 for each in present):
        row = next(row for row, each in enumerate(found) if len(each) > 1)
        either = " or ".join(sorted(found[row].values())[:2])
        raise DataError(
            f"{rows.where} {rows.place(row)}: {column} {names[row]!r} may be {either}: write paths from {folder}"
        )
    place = next(iter(common)) if len(common) == 1 else ("", "")
    files = [
        each.get(place) or next(iter(each.values())) if each else name for each, name in zip(found, names, strict=True)
    ]
    first = next(row for row, each in enumerate(found) if each)
    notice = f"{rows.where}: images are found by their names: {names[first]} is {files[first]}"
    return [there.get(file, root / file) for file in files], (notice,)


def _as_written(name: str, files: Iterable[str]) -> dict[tuple[str, str], str]:
    """Return the files that a name may mean, by what stands before it and after it."""
    found = {}
    for file in files:
        for suffix in {"", PurePosixPath(file).suffix}:
            whole = f"{name}{suffix}"
            if file == whole or file.endswith(f"/{whole}"):
                found[file[: -len(whole)], suffix] = file
    return found


# --- the listing ---


def _read(kind: str, reference: str, given: Columns) -> Listing:
    table = _table(kind, reference, given)
    rows, columns = table.rows, table.columns
    labels = alike_numbers(rows.texts(str(columns.label)))
    splits = rows.split_rows(columns.split) if columns.split else {"train": np.arange(len(rows))}
    trained = {labels[row] for row in splits["train"]}
    if "-1" not in trained:  # it is no class: other sources write so a label that is withheld
        labels = ["" if label == "-1" else label for label in labels]
    groups, group_names, without = rows.group_numbers(columns.group) if columns.group else (None, (), ())
    weights = rows.weights(columns.weight) if columns.weight else None
    for split, there in splits.items():
        empty = [int(row) for row in there if not labels[row]]
        if empty and (split == "train" or len(empty) < len(there)):
            rows.refuse(str(columns.label), empty, "must name a class")
    kept, double = _without_doubles(table)
    is_number = all(re.fullmatch(r"-?\d+", label) for label in labels if label)
    names = sorted(set(labels) - {""}, key=int if is_number else str)
    numbers = {name: number for number, name in enumerate(names)} | {"": -1}
    whole = Listed(
        np.array([numbers[label] for label in labels], np.int64),
        None,
        table.images,
        lambda row: f"{rows.where} {rows.place(row)} ({shown(table.images[row])})",
        groups,
        weights,
    )
    chosen = {split: np.intersect1d(there, kept) for split, there in splits.items()}
    listed = {split: whole.take(there) for split, there in chosen.items() if len(there)}
    return Listing(tuple(names), listed, (*table.notices, *double, *without), group_names)


def _unlabelled(kind: str, reference: str, given: Columns) -> list[Listed]:
    images = list(dict.fromkeys(_table(kind, reference, given, is_labelled=False).images))
    return [Listed(np.full(len(images), -1), None, images, lambda row: shown(images[row]))]


def _without_doubles(table: _Table) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the rows that name an image first, and a notice of the others, which say the same.

    Raises:
        DataError: two rows of an image say different things.
    """
    rows = table.rows
    columns = [name for name in asdict(table.columns).values() if name and name != table.columns.path]
    said = {name: alike_numbers(rows.texts(name)) for name in columns}
    first: dict[Path, int] = {}
    double: list[int] = []
    for row, image in enumerate(table.images):
        other = first.setdefault(image, row)
        if other == row:
            continue
        double.append(row)
        for name, texts in said.items():
            if texts[row] != texts[other]:
                raise DataError(
                    f"{rows.where} {rows.place(row)}: {shown(image)} has {name} {texts[row]!r}, and "
                    f"{texts[other]!r} on {rows.place(other)}: an image must have one"
                )
    words = f"{rows.where}: {len(double):,} rows name an image once more, and are used once: {rows.places(double)}"
    return np.array(list(first.values())), (words,) if double else ()


def _files(kind: str, reference: str, given: Columns) -> tuple[Path, list[Path]]:
    """Return the folder of a table, and all files that belong to it."""
    table = _table(kind, reference, given)
    return table.path.parent.resolve(), [table.path.resolve(), *dict.fromkeys(table.images)]


def _named(kind: str, reference: str, given: Columns) -> list[str]:
    """Return the path of each image as its row has it."""
    table = _table(kind, reference, given)
    return table.rows.texts(str(table.columns.path))


def _identity(kind: str, reference: str, given: Columns) -> Any:
    root, files = _files(kind, reference, given)
    return [file_identity(files, root), asdict(given)]


def _staged(kind: str, path: Path) -> Path | None:
    """Return a table that can be understood: the file itself, or the only one of its kind in a folder of images."""
    found = [path] if path.is_file() else [child for child in not_hidden(path) if _MANIFESTS.fullmatch(child.name)]
    if len(found) != 1 or found[0].suffix.lower() != f".{kind}":
        return None
    try:
        header, _, _ = _READERS[kind](found[0], Columns())
        columns = find_columns(header, Columns(), "")
    except DataError:
        return None
    return found[0] if columns.path and columns.label else None


def _manifest_source(kind: str, given: Columns) -> Source:
    return Source(
        lambda reference: _identity(kind, reference, given),
        lambda reference: _read(kind, reference, given),
        is_path=True,
        suffixes=(f".{kind}",),
        staged_as=f"a table (.{kind})",
        find_staged=lambda path: _staged(kind, path),
        with_columns=lambda columns: _manifest_source(kind, columns),
        files=lambda reference: _files(kind, reference, given),
        named=lambda reference: _named(kind, reference, given),
        unlabelled=lambda reference: _unlabelled(kind, reference, given),
    )


for _kind in _READERS:
    PREFIXED.add(_kind, _manifest_source(_kind, Columns()))
