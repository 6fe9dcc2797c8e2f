"""Architectures of own code in a proposal: at which size, with how many blocks, in which ranges."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, NamedTuple

from tuner.common.errors import InputError, cause_of
from tuner.common.plugins import as_given, loaded_plugins
from tuner.models.architectures import ARCHITECTURES, Architecture
from tuner.models.parameters import Parameter
from tuner.proposals._settings import choice

_WIDE_INT, _WIDE_FLOAT = 16, 100
"""Ratios of the ends of a range from which on it is searched by factors."""


class OwnNetwork(NamedTuple):
    """An architecture of a plugin, at the size that its images are given."""

    architecture: Architecture
    plugin: str
    px: int
    blocks: int
    """Those that can be unfrozen; 0: it is no backbone."""


def own_networks(px: int, channels: int) -> tuple[list[OwnNetwork], list[str]]:
    """Return the architectures of loaded plugins, for images of about `px`, and why others are left out."""
    found: list[OwnNetwork] = []
    left_out: list[str] = []
    for plugin in loaded_plugins():
        for name in (name for kind, name in plugin.registered if kind == ARCHITECTURES.kind):
            architecture = ARCHITECTURES[name]
            own_px = max(px, architecture.minimum_px)
            try:
                blocks = _blocks_of(name, own_px, channels)
            except Exception as error:  # noqa: BLE001  whatever own code makes Keras raise: a search would refuse it
                told = str(error) if isinstance(error, InputError) else cause_of(error)
                left_out.append(f"{name} of {plugin.name} is left out: {told}")
            else:
                found.append(OwnNetwork(architecture, plugin.name, own_px, blocks))
    return found, left_out


def _blocks_of(name: str, px: int, channels: int) -> int:
    """Return the number of blocks of a network with its defaults."""
    from tuner.models.network import build_model

    return len(build_model({"architecture": name}, (px, px, channels), 2, 0).blocks)


def ranges_of(architecture: Architecture) -> Iterator[tuple[str, Any]]:
    """Yield the author's own parameters of an architecture, as a space has them."""
    of_author = architecture.backbone_parameters
    for name, parameter in architecture.parameters.items():
        if of_author is None or name in of_author:
            yield name, dimension_of(parameter)


def dimension_of(parameter: Parameter) -> Any:
    """Return the whole range of a parameter as a space has it; the value itself, where there is one.

    >>> dimension_of(Parameter("int", low=16, high=256)), dimension_of(Parameter("float", low=0, high=0.5))
    ({'log_int': [16, 256]}, {'float': [0.0, 0.5]})
    >>> dimension_of(Parameter("bool")), dimension_of(Parameter("choice", values=("relu",)))
    ({'choice': [True, False]}, 'relu')
    """
    if parameter.kind == "bool":
        return choice(True, False)
    if parameter.kind == "choice":
        return choice(*parameter.values)
    kind: type = int if parameter.kind == "int" else float
    low, high = kind(parameter.low), kind(parameter.high)
    if low == high:
        return low
    is_wide = low > 0 and high / low >= (_WIDE_INT if kind is int else _WIDE_FLOAT)
    return {f"{'log_' if is_wide else ''}{parameter.kind}": [low, high]}


def plugin_words() -> str:
    """Return the options of the plugins that are loaded, as they follow a command."""
    return "".join(f" --plugin {shlex.quote(as_given(one.reference))}" for one in loaded_plugins())
