"""Files of a search as lines of text, the only form in which a job returns anything; nothing in them is trusted.

A compressed archive, cut into lines of base64, with a digest of the whole. What is unpacked are plain files below the
two folders that are asked for; links, devices and paths that lead elsewhere are refused, not skipped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from tuner.common.errors import LostError, TunerError
from tuner.common.files import replacing

MAX_BYTES = 2**28
"""Compressed; a job's log is sent in one piece."""
MAX_UNPACKED_BYTES = 2**32
_CHUNK = 48_000  # a multiple of 3: base64 without padding, but for the last


def pack(files: Mapping[str, Path]) -> bytes:
    """Return a compressed archive of `files`, each under its name; missing files are left out.

    Raises TunerError when it would be too large to be sent.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=3) as archive:
        for name, path in files.items():
            try:
                content = path.read_bytes()  # at once: a record grows, a report is replaced
            except FileNotFoundError:
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            if buffer.tell() > MAX_BYTES:
                most = f"{MAX_BYTES >> 20} MB"
                raise TunerError(f"what is fetched must be at most {most}; {name} is too much: copy {path}")
    return buffer.getvalue()


def write_lines(data: bytes) -> Iterator[str]:
    """Yield `data` as lines of text."""
    for start in range(0, len(data), _CHUNK):
        chunk = base64.b64encode(data[start : start + _CHUNK]).decode()
        yield json.dumps({"tuner": "chunk", "start": start, "data": chunk}) + "\n"
    yield json.dumps({"tuner": "bundle", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}) + "\n"


def read_lines(log: str) -> bytes:
    """Return the data that `write_lines` wrote into a log; raises LostError when it is not all there, or damaged."""
    pieces: list[bytes] = []
    for line in log.split("\n"):
        if not line.startswith('{"tuner": '):
            continue
        try:
            values = json.loads(line)
            if values["tuner"] == "chunk":
                pieces.append(base64.b64decode(values["data"], validate=True))
            elif values["tuner"] == "bundle":
                data = b"".join(pieces)
                if hashlib.sha256(data).hexdigest() == values["sha256"]:
                    return data
                break
        except (ValueError, KeyError, TypeError, binascii.Error):
            break
    raise LostError("what was sent back is damaged or incomplete: its digest does not fit; fetch it again")


def content_of(data: bytes, name: str) -> bytes:
    """Return a file in an archive; empty when it is not there."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            content = archive.extractfile(name)
            return b"" if content is None else content.read(MAX_UNPACKED_BYTES)
    except (KeyError, tarfile.TarError, zlib.error, EOFError, OSError):
        return b""


def unpack(data: bytes, folders: Mapping[str, Path]) -> list[Path]:
    """Write the files of an archive, `run/x/y` to `folders["run"] / "x/y"`, and return their paths.

    Each is written aside and renamed. Nothing is written when anything in the archive is wrong.

    Raises TunerError when it is no archive, or holds something that is no plain file in one of the folders.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            wanted = [(entry, _target(entry, folders)) for entry in _entries(archive)]
            for entry, path in wanted:
                content = archive.extractfile(entry)
                if content is not None:
                    with replacing(path) as aside:
                        aside.write_bytes(content.read())
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise TunerError(f"what was sent back cannot be unpacked: {error}") from None
    return [path for _, path in wanted]


def _entries(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the entries of an archive, still unread; raises TunerError when they would fill the disk."""
    total = 0
    for entry in archive:
        total += entry.size
        if total > MAX_UNPACKED_BYTES:
            raise TunerError(f"what was sent back must be at most {MAX_UNPACKED_BYTES >> 30} GB when it is unpacked")
        yield entry


def _target(entry: tarfile.TarInfo, folders: Mapping[str, Path]) -> Path:
    """Return the path to write an entry to; raises TunerError for an entry that is not one of ours."""
    parts = PurePosixPath(entry.name).parts
    is_plain = entry.isreg() and entry.name.isprintable() and "\\" not in entry.name
    if not is_plain or len(parts) < 2 or parts[0] not in folders or ".." in parts:
        raise TunerError(
            f"what was sent back must be plain files of a run and its report; got {entry.name[:100]!r}: "
            "nothing was written"
        )
    return folders[parts[0]].joinpath(*parts[1:])
