"""Short texts by key that all processes of a cluster share, in the key-value store that Ray keeps for itself.

It is gone with the cluster's head. Ray's functions for it are not public: they are named here alone.
"""

from __future__ import annotations

from typing import Any

_NAMESPACE = b"tuner"


def _call(function: str, *arguments: str) -> Any:
    from ray.experimental import internal_kv

    return getattr(internal_kv, f"_internal_kv_{function}")(*(one.encode() for one in arguments), namespace=_NAMESPACE)


def put(key: str, text: str) -> None:
    """Set the text of `key`."""
    _call("put", key, text)


def get(key: str) -> str | None:
    """Return the text of `key`; None where there is none."""
    found = _call("get", key)
    return None if found is None else str(found.decode())


def delete(key: str) -> None:
    """Remove `key` and its text."""
    _call("del", key)


def keys(prefix: str) -> list[str]:
    """Return the keys that begin with `prefix`."""
    return [key.decode() for key in _call("list", prefix)]
