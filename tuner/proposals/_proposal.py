"""A proposal: the settings of a search-space file that follow from facts of the data and of the machine, with reasons.

Pure: the same facts give the same proposal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tuner.proposals._data_section import data_settings
from tuner.proposals._facts import DataFacts, Machine, Wish
from tuner.proposals._networks import propose_networks
from tuner.proposals._remarks import Remark, remarks_on
from tuner.proposals._search_sections import finalists_setting, metric_setting, search_settings, training_settings
from tuner.proposals._settings import Setting, plain_values
from tuner.proposals._space_section import SpaceSection


@dataclass(frozen=True)
class Proposal:
    """A search-space file that is proposed, and what is to be said of it."""

    settings: tuple[Setting, ...]
    remarks: tuple[Remark, ...]

    def values(self) -> dict[str, Any]:
        """Return plain values by name, as the file has them."""
        return plain_values(self.settings)


def propose(data: DataFacts, machine: Machine, wish: Wish) -> Proposal:
    """Return what to search with these data, on this machine, in this time."""
    data = as_given(data, dict(wish.given))
    networks = propose_networks(data, machine, wish)
    of_data, space = data_settings(data, machine, wish, networks), SpaceSection(data, machine, wish, networks)
    settings = (
        Setting("study", wish.study),
        Setting("data", of_data),
        metric_setting(data),
        Setting("space", space.settings()),
        space.baseline(),
        Setting("training", training_settings(data, wish, networks)),
        Setting("search", search_settings(wish, networks)),
        *space.activations(),
        *finalists_setting(wish, has_folds=any(one.name == "validation" for one in of_data)),
    )
    return Proposal(settings, tuple(remarks_on(settings, data, machine, wish, networks)))


def as_given(data: DataFacts, given: Mapping[str, Any]) -> DataFacts:
    """Return the facts of the data as the settings that are given make them."""
    if "image_px" in given:
        data = replace(data, side_px=int(given["image_px"]), is_one_size=True)
    is_grey = {"grey": True, "rgb": False}.get(given.get("colour", ""), data.is_grey)
    return replace(data, is_grey=is_grey)
