"""Locations that several machines read and write: a folder that all of them see, or a bucket of an object store.

Spoken to through pyarrow's file systems, as by Ray Tune. Credentials are those of the machine (its role, its files,
its environment), never a part of an address: an address stands in records and reports.
"""

from __future__ import annotations

import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from tuner.common.errors import InputError, first_line, printable
from tuner.common.files import check_folder, replacing, user_path
from tuner.common.registry import unknown_name

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("s3", "gs", "gcs", "abfs", "abfss")
"""Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Data Lake."""
ANONYMOUS = "anonymous"
"""In place of a user, where a bucket of Google's is open to everyone (or an emulator serves it)."""
_S3 = ("region", "scheme", "endpoint_override", "allow_bucket_creation", "allow_bucket_deletion", "allow_delayed_open")
_GS = ("scheme", "endpoint_override", "retry_limit_seconds", "project_id")
_ABFS = ("blob_storage_authority", "dfs_storage_authority", "enable_tls", "tenant_id", "client_id", "credential_kind")
SETTINGS = {
    "s3": (*_S3, "tls_ca_file_path", "tls_verify_certificates", "smart_defaults"),
    "gs": _GS,
    "gcs": _GS,
    "abfs": (*_ABFS, "background_writes"),
    "abfss": (*_ABFS, "background_writes"),
}
"""Settings that may follow the `?` of an address: those of pyarrow's FileSystem.from_uri that are no secret."""
_SECRET = ("access_key", "secret_key", "session_token", "token", "password", "sas", "client_secret", "sig")
_REMEDIES = {
    "s3": "credentials come from the role of the machine, ~/.aws or AWS_ACCESS_KEY_ID, another server from "
    "AWS_ENDPOINT_URL, the region from AWS_REGION",
    "gs": "credentials come from the service account of the machine or GOOGLE_APPLICATION_CREDENTIALS",
    "abfs": "credentials come from the identity of the machine; the address is abfss://CONTAINER@ACCOUNT/FOLDER",
}


def is_remote(text: str) -> bool:
    """Return whether a text is meant as an address of an object store rather than as a folder."""
    return "://" in text


@dataclass(frozen=True)
class Location:
    """A folder by its path, or by its address in an object store."""

    address: str

    @property
    def is_remote(self) -> bool:
        """Whether files must be copied from here before they can be opened."""
        return is_remote(self.address)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(urlsplit(self.address).path if self.is_remote else self.address).name

    @property
    def parent(self) -> Location:
        """The folder that this one is in."""
        if not self.is_remote:
            return Location(str(Path(self.address).parent))
        parts = urlsplit(self.address)
        return Location(urlunsplit(parts._replace(path=str(PurePosixPath(parts.path).parent))))

    def child(self, *names: str) -> Location:
        """Return the folder or file of these names within.

        >>> Location("s3://bucket/tuner?region=eu-west-1").child("digits", "ray").address
        's3://bucket/tuner/digits/ray?region=eu-west-1'
        """
        if not self.is_remote:
            return Location(str(Path(self.address, *names)))
        parts = urlsplit(self.address)
        return Location(urlunsplit(parts._replace(path=str(PurePosixPath("/", parts.path.strip("/"), *names)))))

    def open(self) -> tuple[FileSystem, str]:
        """Return pyarrow's file system and the path in it; raises OSError when the address cannot be one."""
        from pyarrow.fs import FileSystem, LocalFileSystem

        if not self.is_remote:
            return LocalFileSystem(), self.address
        with _plain_errors():
            file_system, path = FileSystem.from_uri(self.address)
        return file_system, path


def parse_location(text: str, option: str) -> Location:
    """Return the location that a user has named; a folder becomes absolute: workers run in folders of their own.

    Raises InputError when it is no folder that can be written to, of an unknown kind of store, or holds a secret or a
    setting that is not known.
    """
    if not is_remote(text):
        path = user_path(text).absolute()
        check_folder(path, option)
        return Location(str(path))
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES:
        raise InputError(f"{option}: {unknown_name('kind of storage', parts.scheme, SCHEMES)}")
    settings = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    in_query = {name.lower() for name in settings} & set(_SECRET)
    nobody = (None, "") if parts.scheme == "s3" else (None, "", ANONYMOUS)
    names_user = parts.scheme in ("s3", "gs", "gcs") and parts.username not in nobody
    if parts.password is not None or names_user or in_query:
        shown = urlunsplit(parts._replace(netloc=f"...@{parts.hostname}", query=""))
        raise InputError(
            f"{option} must not hold a secret, for it is kept in records; got {shown}; {remedy(Location(text))}"
        )
    for name in settings:  # a list of what is a secret would never be whole
        if name not in (known := SETTINGS[parts.scheme]):
            raise InputError(f"{option}: {unknown_name(f'setting of {parts.scheme} addresses', name, known)}")
    if not parts.netloc:
        raise InputError(f"{option} must name a bucket, as in {parts.scheme}://BUCKET/FOLDER; got {printable(text)}")
    return Location(text.rstrip("/"))


def check_location(location: Location, within_s: float = 20.0) -> None:
    """Check that files can be written, read and removed at `--storage`, in time: some stores retry for minutes.

    Raises InputError when they cannot; the message says why and where credentials come from.
    """
    outcome: list[Exception | None] = []

    def try_it() -> None:
        try:
            probe(location, f".probe-{uuid.uuid4().hex}")
            outcome.append(None)
        except Exception as error:  # noqa: BLE001  told or raised below: in this thread, it would be lost
            outcome.append(error)

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(within_s)
    error = outcome[0] if outcome else OSError(f"no answer in {within_s:g} s")
    if isinstance(error, OSError):
        why = f"{first_line(error)}; {remedy(location)}"
        raise InputError(f"--storage {location.address} cannot be used: {why}") from None
    if error is not None:
        raise error


def probe(location: Location, name: str) -> None:
    """Write a file, read it again and remove it; raises OSError, whatever the store is."""
    file = location.child(name)
    touch(file)
    try:
        with _plain_errors():
            file_system, path = file.open()
            with file_system.open_input_stream(path) as stream:
                stream.read()
    finally:
        remove(file)


def touch(file: Location) -> None:
    """Create an empty file, and its folder; raises OSError."""
    if not file.is_remote:
        Path(file.address).parent.mkdir(parents=True, exist_ok=True)
    with _plain_errors():
        file_system, path = file.open()
        with file_system.open_output_stream(path):
            pass


def remove(file: Location) -> None:
    """Remove a file; raises OSError."""
    with _plain_errors():
        file_system, path = file.open()
        file_system.delete_file(path)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Raise OSError in place of pyarrow's own exceptions, as for a name that no store would take."""
    from pyarrow.lib import ArrowException

    try:
        yield
    except ArrowException as error:
        raise OSError(str(error)) from None


def remedy(location: Location) -> str:
    """Return advice on a location that cannot be used: where its credentials come from."""
    scheme = urlsplit(location.address).scheme if location.is_remote else ""
    for start, remedy in _REMEDIES.items():
        if scheme.startswith((start, "gcs" if start == "gs" else start)):
            return remedy
    return "it must be a folder that the user who runs Ray may write to"


def exists(location: Location) -> bool:
    """Return whether there is a file here."""
    file_system, path = location.open()
    return bool(file_system.get_file_info(path).is_file)


def size_bytes(location: Location) -> int:
    """Return the size of a file; 0 where there is none. Raises OSError."""
    file_system, path = location.open()
    return int(file_system.get_file_info(path).size or 0)


@contextmanager
def fetched(location: Location) -> Iterator[Path]:
    """Yield a local folder with the files of `location`, itself or a copy for the time of the block; raises OSError."""
    if not location.is_remote:
        yield Path(location.address)
        return
    from pyarrow.fs import copy_files

    with tempfile.TemporaryDirectory(prefix="tuner-") as folder:
        file_system, path = location.open()
        copy_files(path, folder, source_filesystem=file_system)
        yield Path(folder)


@contextmanager
def filled(location: Location) -> Iterator[Path]:
    """Yield a local folder to write files into, which are in `location` after the block; raises OSError."""
    if not location.is_remote:
        Path(location.address).mkdir(parents=True, exist_ok=True)
        yield Path(location.address)
        return
    with tempfile.TemporaryDirectory(prefix="tuner-") as folder:
        yield Path(folder)
        for file in Path(folder).iterdir():
            upload(file, location.child(file.name))


def upload(file: Path, location: Location) -> None:
    """Copy a file; a reader sees the old or the new one, never half. Raises OSError."""
    file_system, path = location.open()
    if location.is_remote:  # an object is there when it is whole
        with file.open("rb") as source, file_system.open_output_stream(path) as stream:
            while block := source.read(2**23):
                stream.write(block)
        return
    with replacing(Path(location.address)) as aside:
        file_system.copy_file(os.fspath(file), os.fspath(aside))


def files_in(location: Location) -> list[str]:
    """Return the names of the files in a folder, without those in its subfolders. Raises OSError."""
    return [info.base_name for info in _listed(location) if info.is_file]


def folders_in(location: Location) -> list[Location]:
    """Return the folders in a folder, by name; none where there is no such folder. Raises OSError."""
    return [location.child(info.base_name) for info in _listed(location) if info.type.name == "Directory"]


def _listed(location: Location) -> list[Any]:
    from pyarrow.fs import FileSelector

    file_system, path = location.open()
    found: list[Any] = file_system.get_file_info(FileSelector(path, allow_not_found=True))
    return sorted(found, key=lambda info: info.base_name)


def remove_folder(location: Location) -> None:
    """Remove a folder with everything in it. Raises OSError."""
    file_system, path = location.open()
    file_system.delete_dir(path)


def download(location: Location, file: Path) -> None:
    """Copy a file from `location`, aside and then renamed. Raises OSError."""
    file_system, path = location.open()
    with replacing(file) as aside, file_system.open_input_stream(path) as stream, aside.open("wb") as copy:
        while block := stream.read(2**23):
            copy.write(block)
