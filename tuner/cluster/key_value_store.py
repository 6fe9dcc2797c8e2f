"""Short texts by key that all processes of a cluster share, in the key-value store that Ray keeps for itself.

It is gone with the cluster's head. Ray's functions for it are not public: they are named here alone.
"""

from __future__ import annotations

_NAMESPACE = b"tuner"


def put(key: str, text: str) -> None:
    """Set the text of `key`."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(key.encode(), text.encode(), namespace=_NAMESPACE)


def get(key: str) -> str | None:
    """Return the text of `key`; None where there is none."""
    from ray.experimental.internal_kv import _internal_kv_get

    found = _internal_kv_get(key.encode(), namespace=_NAMESPACE)
    return None if found is None else found.decode()


def delete(key: str) -> None:
    """Remove `key` and its text."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(key.encode(), namespace=_NAMESPACE)


def keys(prefix: str) -> list[str]:
    """Return the keys that begin with `prefix`."""
    from ray.experimental.internal_kv import _internal_kv_list

    return [key.decode() for key in _internal_kv_list(prefix.encode(), namespace=_NAMESPACE)]
