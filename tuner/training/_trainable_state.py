"""The state that a trainable yields, as a checkpoint holds it: arrays, and a structure in JSON; never a pickle.

What comes back is what was given, to the type: a tuple is a tuple again, and a number of numpy's one of numpy's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tuner.common.errors import RunError

DEEPEST = 100
"""Levels of nesting."""
State = Any
"""Nested dicts, lists and tuples of arrays, numbers, texts and None."""
_RULE = "must be of arrays of numpy, numbers, texts, None, and dicts, lists and tuples of these"


class StateError(RunError):
    """A state that a checkpoint cannot hold; the message says which part of it, and why."""


def pack(state: State) -> tuple[Any, list[np.ndarray]]:
    """Return a state as its structure, which JSON can hold, and copies of its arrays.

    Raises:
        StateError: a part of it is none that can be kept.
    """
    arrays: list[np.ndarray] = []
    return _pack(state, "state", arrays, ()), arrays


def _pack(value: Any, path: str, arrays: list[np.ndarray], around: tuple[int, ...]) -> Any:
    if id(value) in around:
        raise StateError(f"{path} must not hold itself")
    if len(around) > DEEPEST:
        raise StateError(f"{path[:200]}... must not be nested deeper than {DEEPEST} levels")
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if kind in (np.ndarray, np.memmap):
        _check_array(value, path)
        arrays.append(np.array(value, subok=False))
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        _check_array(np.asarray(value), path)
        arrays.append(np.array(value))
        return {"scalar": len(arrays) - 1}
    inner = (*around, id(value))
    if kind is dict:
        return {"dict": [_pack_item(key, one, path, arrays, inner) for key, one in value.items()]}
    if kind in (list, tuple):
        return {kind.__name__: [_pack(one, f"{path}[{place}]", arrays, inner) for place, one in enumerate(value)]}
    raise StateError(f"{path} {_RULE}; got {_words(value)}{_hint(value)}")


def _pack_item(key: Any, value: Any, path: str, arrays: list[np.ndarray], around: tuple[int, ...]) -> list[Any]:
    if type(key) not in (str, int):
        raise StateError(f"the keys of {path} must be texts or whole numbers; got {_words(key)}")
    return [key, _pack(value, f"{path}[{key!r}]", arrays, around)]


def _check_array(array: np.ndarray, path: str) -> None:
    """Refuse an array whose values are objects, or of a type that a file would give back as another one."""
    if array.dtype.hasobject:
        raise StateError(f"{path} must be an array of numbers or texts; got one of Python objects (dtype object)")
    descr = np.lib.format.dtype_to_descr(array.dtype)
    if np.lib.format.descr_to_dtype(descr) != array.dtype:
        raise StateError(
            f"{path} must be an array of a type of numpy's own; got {array.dtype}: give it .astype('float32')"
        )


def _words(value: Any) -> str:
    kind = type(value)
    where = "" if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}'s "
    return f"{where}{kind.__name__}"


def _hint(value: Any) -> str:
    """Return how to make of a value something that can be kept, where that is known."""
    if isinstance(value, bytes | bytearray):
        return ": give np.frombuffer(value, dtype=np.uint8)"
    if isinstance(value, set | frozenset):
        return ": give sorted(value)"
    if isinstance(value, dict):
        return ": give dict(value)"
    if isinstance(value, tuple | list):
        return f": give {'tuple' if isinstance(value, tuple) else 'list'}(value)"
    if isinstance(value, np.ma.MaskedArray):
        return ": give its data and its mask"
    if hasattr(value, "get_weights"):
        return ": give value.get_weights(), and value.set_weights(...) when the training goes on"
    if isinstance(value, np.ndarray) or hasattr(value, "__array__") or hasattr(value, "detach"):
        return ": give np.asarray(value)"
    if hasattr(value, "bit_generator"):
        return ": give value.bit_generator.state"
    if hasattr(value, "state_dict"):
        return ": give the arrays of value.state_dict()"
    if callable(getattr(value, "get_params", None)):
        return ": give the arrays that it has learned, such as value.coef_"
    return ""


def unpack(structure: Any, arrays: Sequence[np.ndarray]) -> State:
    """Return the state of a structure, with copies of the arrays: what is done to it reaches no other.

    Raises:
        RunError: the structure is none of `pack`.
    """
    if not isinstance(structure, dict):
        return structure
    if len(structure) != 1:
        raise RunError(f"the state of a trainable cannot be read: {str(structure)[:80]}")
    (kind, inner), *_ = structure.items()
    match kind:
        case "float":
            return float(inner)
        case "array":
            return np.array(arrays[inner])
        case "scalar":
            return np.array(arrays[inner])[()]
        case "dict":
            return {key: unpack(one, arrays) for key, one in inner}
        case "list":
            return [unpack(one, arrays) for one in inner]
        case "tuple":
            return tuple(unpack(one, arrays) for one in inner)
    raise RunError(f"the state of a trainable cannot be read: {kind[:80]}")
