"""The package that is sent with a search: its file, data that lie here, and the studies it learns from; no more."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tuner.algorithms.study_file import read_study, studies_beside
from tuner.common.errors import DataError, InputError
from tuner.common.files import shown, user_path
from tuner.common.plugins import PACKED, Plugin, is_file
from tuner.common.registry import unknown_name
from tuner.datasets.file_sources import existing, is_litter
from tuner.datasets.sources import NAMED, PREFIXED, as_described, path_of
from tuner.datasets.staging import resolve
from tuner.runs.directory import RunDirectory
from tuner.spec.schema import DataSection

MAX_MB = 95
"""Limit of a package: Ray's dashboard takes requests of 100 MiB (ray_constants.DASHBOARD_CLIENT_MAX_SIZE)."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class LocalData:
    """Data of a search that lie on this machine."""

    kind: str
    path: Path
    layout: str = "auto"
    files: tuple[Path, list[Path]] | None = None
    """The folder of a table, and the files in it that belong to the data; None: all below the path do."""


@dataclass(frozen=True)
class Package:
    """The places on the cluster of what was packed."""

    data_folder: PurePosixPath | None
    """Folder of the data on the cluster; None when none are sent."""
    data_source: str | None
    """The source of the data, then."""
    warm_start: tuple[str, ...]
    """Earlier studies to learn from, by names that hold on the cluster."""
    plugins: tuple[str, ...] = ()
    """Own code, by references that hold on the cluster."""
    notices: tuple[str, ...] = ()
    """What of the data is not sent, for a search here would not use it either."""


def local_data(
    section: DataSection, staged: Mapping[str, str], named: Sequence[str], shared: PurePosixPath
) -> LocalData | None:
    """Return the data of a search if they lie here; None when the cluster has or downloads them.

    A name that every tuner knows is the cluster's, unless `named` (`--data`) says otherwise. So is a path below the
    folder that the cluster's nodes share, and an absolute one where nothing is here.

    Raises DataError when it is a relative path, and nothing is there, or a table has paths that hold here alone.
    """
    source = section.source
    is_own_name = source in NAMED and source not in named
    resolved = source if is_own_name else resolve(source, staged)
    reference = path_of(resolved)
    if reference is None:
        return None
    kind, path = resolved.partition(":")[0], user_path(reference)
    is_clusters = PurePosixPath(path).is_relative_to(shared) or (path.is_absolute() and not path.exists())
    if is_clusters:
        return None
    columns = None if section.columns is None else section.columns.model_dump()
    there, described = existing(reference, kind), as_described(PREFIXED[kind], section.layout, columns, section.group)
    _refuse_whole_paths(there, described.named(reference) if described.named else ())
    return LocalData(kind, there, section.layout, described.files(reference) if described.files else None)


def _refuse_whole_paths(table: Path, named: Iterable[str]) -> None:
    """Refuse a table that names an image by its whole path on this machine: the cluster has the image elsewhere."""
    whole = next((path for path in map(Path, named) if path.is_absolute()), None)
    if whole is not None:
        folder = shown(table if table.is_dir() else table.parent)
        raise DataError(
            f"{shown(table)}: must name its images by paths from {folder}, for it is sent; got {shown(whole)}"
        )


def local_studies(names: Sequence[str]) -> dict[str, Path]:
    """Return those earlier studies to learn from that lie here, run directories and files, by their names in the file.

    Raises InputError when one is written as a path of this machine, and nothing is there, or a file is no study.
    """
    found: dict[str, Path] = {}
    for name in names:
        place = user_path(name)
        if RunDirectory(place).record.is_file():
            found[name] = place
        elif place.is_file():
            read_study(place)
            found[name] = place
        elif "/" in name and not place.is_absolute():
            raise InputError(f"search.warm_start: {unknown_name('run of this machine', name, _studies_beside(place))}")
    return found


def _studies_beside(path: Path) -> list[str]:
    return [str(record.parent) for record in path.parent.glob("*/record.jsonl")] + studies_beside(path)


def write_package(
    target: Path,
    file: Path,
    data: LocalData | None,
    warm_start: Sequence[str],
    earlier: Mapping[str, Path],
    shared: PurePosixPath,
    plugins: Sequence[Plugin] = (),
) -> Package:
    """Write the zip file that is sent: the search-space file, the data, `earlier` studies, and own code.

    The same files make the same bytes, so that Ray does not ask for them twice.

    Raises InputError when it is larger than what Ray takes, or a file cannot be read.
    """
    names: list[str] = []
    folder = source = None
    notices: tuple[str, ...] = ()
    try:
        with zipfile.ZipFile(target, "w") as archive:
            _add(archive, file.name, file)
            for index, name in enumerate(warm_start):
                place = earlier.get(name)
                names.append(name if place is None else f"earlier/{index}/{RunDirectory(place).name}")
                if place is not None and place.is_file():
                    _add(archive, names[-1], place)
                elif place is not None:
                    record = RunDirectory(place).record
                    _add(archive, f"{names[-1]}/{record.name}", record)
            references = tuple(_add_plugin(archive, plugin) for plugin in plugins)
            if data is not None:
                files, notices = _files(data)
                name = _name_of(data.path, _add_data(archive, data.path, files, shared))
                folder = shared / "data" / name
                inner = folder / data.path.name if data.path.is_file() else folder
                source = f"{data.kind}:{inner}"
    except OSError as error:
        raise InputError(f"{shown(Path(error.filename or file))}: cannot be read: {error.strerror}") from None
    if target.stat().st_size > MAX_MB * 2**20:
        raise InputError(_too_large(file, target.stat().st_size, shared))
    return Package(folder, source, tuple(names), references, notices)


def _add_plugin(archive: zipfile.ZipFile, plugin: Plugin) -> str:
    """Add the text of a plugin to the package, and return by what it is loaded from there."""
    folder = f"{PACKED}/{plugin.sha256[:12]}" if is_file(plugin.reference) else PACKED
    for name, text in plugin.texts.items():
        if f"{folder}/{name}" not in archive.namelist():  # two modules of one package
            archive.writestr(zipfile.ZipInfo(f"{folder}/{name}", _EPOCH), text, zipfile.ZIP_DEFLATED)
    return f"{folder}/{Path(plugin.reference).name}" if is_file(plugin.reference) else plugin.reference


def _add_data(archive: zipfile.ZipFile, place: Path, files: Sequence[tuple[str, Path]], shared: PurePosixPath) -> str:
    """Add the data at a place to the package, and return a digest of their names and contents."""
    digest = hashlib.sha256()
    size = sum(path.stat().st_size for _, path in files if path.is_file())
    if size > MAX_MB * 2**20:
        raise InputError(_too_large(place, size, shared))
    for name, path in files:
        content = _add(archive, f"data/{name}", path)
        digest.update(json.dumps([name, hashlib.sha256(content).hexdigest()]).encode())
    return digest.hexdigest()


def _files(data: LocalData) -> tuple[list[tuple[str, Path]], tuple[str, ...]]:
    """Return what is sent of a source, by names below it, and notices of what is not.

    Of images in folders it is what a search here would read: the cluster then reads all of it.
    """
    if data.files is not None:
        root, files = data.files
        return list({_name_below(root, file, data.path): file for file in files if file.is_file()}.items()), ()
    with_layout = PREFIXED[data.kind].with_layout
    if data.path.is_file():
        return [(data.path.name, data.path)], ()
    if with_layout is None:
        return list(_all_files(data)), ()
    listing = with_layout(data.layout).read(str(data.path))
    images = {path for listed in listing.splits.values() for path in listed.encoded if isinstance(path, Path)}
    return [(path.relative_to(data.path).as_posix(), path) for path in sorted(images)], listing.notices


def _name_below(root: Path, file: Path, table: Path) -> str:
    """Return the name of a file in the folder of a table: the one by which it is found there."""
    if file == table.resolve():
        return table.name  # a link to it may be called otherwise, or lie elsewhere
    return Path(os.path.normpath(file.relative_to(root))).as_posix()


def _all_files(data: LocalData) -> Iterator[tuple[str, Path]]:
    """Yield the files and folders of a source, by their names below it; nothing hidden, nothing of another kind."""
    seen: set[Path] = set()
    needed = PREFIXED[data.kind].suffixes
    for where, folders, names in os.walk(data.path, followlinks=True):
        real = Path(where).resolve()
        if real in seen:
            raise DataError(f"{shown(Path(where))}: a folder of a data set must not be a link to one that holds it")
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_litter(name))
        place = Path(where).relative_to(data.path)
        yield from ((f"{(place / name).as_posix()}/", Path(where, name)) for name in folders)
        for name in sorted(names):
            if not is_litter(name) and (not needed or Path(name).suffix.lower() in needed):
                yield (place / name).as_posix(), Path(where, name)


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Add a file (or a folder, by its name alone) to the package, and return its content."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"{shown(path)}: must have a name that is text in UTF-8 to be sent: rename it") from None
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = (0o755 if name.endswith("/") else 0o644) << 16
    content = b"" if name.endswith("/") else path.read_bytes()
    is_data = name.startswith("data/")  # images and tables are compressed already
    archive.writestr(entry, content, zipfile.ZIP_STORED if is_data else zipfile.ZIP_DEFLATED)
    return content


def _name_of(path: Path, digest: str) -> str:
    """Return a folder's name that stands for exactly this content."""
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", path.resolve().stem).strip("-") or "data"
    return f"{word[:40]}-{digest[:16]}"


def _too_large(path: Path, size: int, shared: PurePosixPath) -> str:
    place = shared / "data" / path.resolve().name
    return (
        f"what is sent with a search must be at most {MAX_MB} MB; {shown(path)} has {size / 2**20:,.0f} MB: copy it to "
        f"{place} on the cluster, and write that path into the file"
    )
