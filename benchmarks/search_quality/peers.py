"""The peers by name, and why one of them is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.search_quality import peer_keras_tuner
from benchmarks.search_quality.peer_process import PeerPolicy, peers_python
from benchmarks.search_quality.problems import Problem
from benchmarks.search_quality.simulator import Policy
from tuner.common.errors import InputError

KERAS_TUNER = "KerasTuner: Hyperband"
SYNE_TUNE: Mapping[str, str] = {
    "Syne Tune: MOBSTER": "mobster",
    "Syne Tune: DyHPO": "dyhpo",
    "Syne Tune: Hyper-Tune": "hypertune",
    "Syne Tune: ASHA + CQR": "cqr",
}
"""Name of the policy -> its name in synetune_child.py."""
CHILD = Path(__file__).parent / "synetune_child.py"


def left_out(policy: str) -> str | None:
    """Why a policy cannot be had here; None: it can."""
    if policy == KERAS_TUNER:
        return peer_keras_tuner.left_out()
    if policy in SYNE_TUNE:
        try:
            peers_python()
        except InputError as error:
            return str(error)
    return None


def _syne_tune(peer: str) -> Callable[[Problem, int, int], Policy]:
    return lambda problem, _slots, seed: PeerPolicy([str(peers_python()), str(CHILD)], peer, problem, seed)


PEERS: Mapping[str, Callable[[Problem, int, int], Policy]] = {
    KERAS_TUNER: peer_keras_tuner.KerasTunerPolicy,
    **{policy: _syne_tune(peer) for policy, peer in SYNE_TUNE.items()},
}
"""Registry: one entry per peer that needs something which the project does not."""
