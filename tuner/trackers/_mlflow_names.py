"""Names and values as MLflow takes them. Pure."""

from __future__ import annotations

import hashlib
import re

from tuner.common.words import as_written

LONGEST_NAME = 250
LONGEST_VALUE = 6000
LONGEST_VALUE_BEFORE = 500
"""Of servers before MLflow 2.8."""
LONGEST_TAG = 5000
_DIGEST = 8
_OTHER_SIGNS = re.compile(r"[^\w.\- :/]")


def safe_name(name: str) -> str:
    """Return a name of a parameter, value or tag that MLflow takes: itself, if it is one; else with a digest of it.

    >>> safe_name("augment.rotate"), safe_name("Größe 3"), safe_name("a[0]")
    ('augment.rotate', 'Größe 3', 'a_0__a2b5a4b9')
    """
    parts = [part for part in _OTHER_SIGNS.sub("_", name).split("/") if part]
    safe = "/".join("_" + part.lstrip(".") if part.startswith(".") else part for part in parts)
    if safe == name and name.strip() and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{safe[: LONGEST_NAME - _DIGEST - 1]}_{digest}"


def safe_value(value: object, longest: int = LONGEST_VALUE) -> str:
    """Return the text of a value, cut where it is too long, with a digest of the whole.

    >>> safe_value(None), safe_value(True), safe_value("x" * 30, longest=25)
    ('none', 'true', 'xxxxxxxxxxx... (666a596d)')
    """
    text = "none" if value is None else as_written(value)
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
    return f"{text[: longest - _DIGEST - len('... ()')]}... ({digest})"
