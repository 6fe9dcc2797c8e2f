"""Settings of a file that is proposed, each with its reason, and how their values are written."""

from __future__ import annotations

from typing import Any, NamedTuple


class Setting(NamedTuple):
    """A setting of the file: a plain value, or settings below it; and why it is so."""

    name: str
    value: Any
    why: str = ""


def plain_values(settings: tuple[Setting, ...]) -> dict[str, Any]:
    """Return plain values by name, as the file has them."""
    return {one.name: plain_values(one.value) if is_section(one.value) else one.value for one in settings}


def is_section(value: Any) -> bool:
    """Return whether the value of a setting is settings below it."""
    return isinstance(value, tuple) and all(isinstance(each, Setting) for each in value)


def choice(*values: Any) -> Any:
    """Return a choice of values; of one, the value itself."""
    return values[0] if len(values) == 1 else {"choice": list(values)}


def time_text(seconds: float) -> str:
    """Return a time as a file has it.

    >>> time_text(1800), time_text(5400), time_text(90), time_text(0.5)
    ('30m', '1h30m', '1m30s', '0.5s')
    """
    whole = round(seconds) if seconds >= 1 else 0
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{number}{unit}" for number, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if number]
    return "".join(parts) or f"{max(seconds, 0.001):g}s"
