"""The address of an MLflow: what it may be, and how it is told apart from the name and password in it. Pure."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tuner.common.errors import InputError, printable, without_passwords

_RULE = "--mlflow must be the address of an MLflow, such as http://HOST:5000 or sqlite:///mlflow.db"
_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SQLITE = "sqlite:///"


class Address(NamedTuple):
    """Address of an MLflow."""

    uri: str
    """For MLflow: of a server without name and password."""
    shown: str
    """For people, and to be remembered: of a database, too."""
    user: str | None = None
    password: str | None = None
    """Of a server."""
    file: Path | None = None
    """The database, where it is a file of this machine."""

    @property
    def is_database(self) -> bool:
        """Whether MLflow itself opens a database here, without a server."""
        return self.uri.partition(":")[0].partition("+")[0] in _DATABASES


def read_address(text: str, beside: Path) -> Address:
    """Return the address that a text stands for; nothing stands for a file in the folder `beside`.

    Raises InputError when it is none that MLflow can use.
    """
    if not text:
        return _of_file((beside / "mlflow.db").absolute())
    if not text.isprintable() or (" " in text and not text.startswith(_SQLITE)):
        raise _wrong(text, "it has blanks or control characters in it")
    scheme, colon, rest = text.partition("://")
    if text == "databricks" or (colon and scheme == "databricks"):
        return Address(text, text)
    if not colon:
        raise _wrong(text, _hint(text))
    kind = scheme.lower().partition("+")[0]
    if kind in _SERVERS:
        return _of_server(text)
    if kind == "sqlite":
        if not text.startswith(_SQLITE) or not text.removeprefix(_SQLITE):
            raise _wrong(text, f"a file is written {_SQLITE}FOLDER/NAME.db")
        return _of_file(Path(text.removeprefix(_SQLITE)).absolute())
    if kind in _DATABASES:
        server = rest.partition("?")[0].rpartition("@")[2]
        return Address(text, f"{scheme}://{server}")
    if kind == "file":
        raise _wrong(
            text, f"MLflow keeps runs in folders no longer: {_SQLITE}{rest.rstrip('/')}/mlflow.db is a file there"
        )
    nearest = difflib.get_close_matches(kind, (*_SERVERS, *_DATABASES), n=1)
    raise _wrong(
        text, f"did you mean {nearest[0]}://?" if nearest else f"{printable(scheme)} is nothing that MLflow knows"
    )


def _of_file(path: Path) -> Address:
    uri = f"{_SQLITE}{path}"
    return Address(uri, uri, file=path)


def _of_server(text: str) -> Address:
    parts = urlsplit(text)
    try:
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        raise _wrong(text, "the port must be a number up to 65535; a password's signs are written as %XX") from None
    if not parts.hostname:
        raise _wrong(text, "it names no host")
    if parts.query or parts.fragment:
        raise _wrong(text, "it must end with the host or a path of it; ? and # do not belong to it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    uri = f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    if bool(user) != bool(password):
        raise _wrong(text, "a name needs a password, and a password a name: https://NAME:PASSWORD@HOST")
    return Address(uri, uri, user, password)


def _hint(text: str) -> str:
    if re.fullmatch(r"[\w.\-]+(:[0-9]+)?(/.*)?", text) and (":" in text or text == "localhost"):
        return f"did you mean http://{text}?"
    if text.endswith((".yaml", ".yml")):
        return "the search-space file stands before --mlflow"
    if "@" in text:
        return "it must begin with http:// or https://"
    return _instead_of(text)


def _instead_of(folder: str) -> str:
    return f"MLflow keeps runs in folders no longer: {_SQLITE}{folder.rstrip('/')}/mlflow.db is a file there"


def _wrong(text: str, why: str) -> InputError:
    whole = re.sub(r"(?s)^((?:.*?://)?).*@", r"\1***@", text)  # with blanks in it, too
    shown = printable(without_passwords(whole))
    return InputError(f"{_RULE}; got {shown[:200]!r}: {why}")
