"""Numbers of things and values of configurations in words."""

from __future__ import annotations


def counted(number: float, noun: str) -> str:
    """Return a number of things with its noun; a share of one is singular, none is plural.

    >>> counted(1, "trial"), counted(1200, "epoch"), counted(0, "class"), counted(2, "search"), counted(2, "entry")
    ('1 trial', '1,200 epochs', '0 classes', '2 searches', '2 entries')
    >>> counted(0.25, "GPU"), counted(1.5, "CPU")
    ('0.25 GPU', '1.5 CPUs')
    """
    shown = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{shown} {noun_for(number, noun)}"


def noun_for(number: float, noun: str) -> str:
    """Return a noun as it stands with a number of things.

    >>> noun_for(1, "class"), noun_for(2, "class")
    ('class', 'classes')
    """
    if 0 < number <= 1:
        return noun
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    hisses = noun.endswith(("s", "ch")) and not noun.endswith("epoch")
    return f"{noun}es" if hisses else f"{noun}s"


def as_written(value: object) -> str:
    """Return a value of a configuration as a file has it, and not Python.

    >>> as_written(True), as_written(0.5), as_written("cnn")
    ('true', '0.5', 'cnn')
    """
    return str(value).lower() if isinstance(value, bool) else str(value)
