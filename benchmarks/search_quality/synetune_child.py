"""A scheduler of Syne Tune 0.14 in the environment of its own, asked and told by lines of JSON: see peer_process.

Run by that environment's Python: this file imports nothing of the project, and the project nothing of Syne Tune. The
calls are those of `syne_tune.Tuner`, in its order. A value is reported as a loss (its negative), which is Syne Tune's
default direction.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.legacy_baselines import ASHACQR, MOBSTER, DyHPO, HyperTune
from syne_tune.optimizer.scheduler import SchedulerDecision

EPOCH, LOSS = "epoch", "loss"
SELDOM = {"opt_skip_period": 10}
"""Gaussian processes are fitted anew at every tenth suggestion once there are 150 values. By default at every one: then
MOBSTER did not end a search of ten full trainings with many cheap trials in six minutes of processor time. (In its
authors' own benchmark: at every 25th, after 500.)"""
PEERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "mobster": (MOBSTER, {"type": "promotion", "search_options": SELDOM}),
    "dyhpo": (DyHPO, {"search_options": SELDOM}),  # rungs after 1, 3, 5, ... epochs
    # with one bracket Hyper-Tune's idea would be idle
    "hypertune": (HyperTune, {"type": "promotion", "brackets": 4, "search_options": SELDOM}),
    "cqr": (ASHACQR, {}),
}
"""By name: the baseline, and what is not its default. MOBSTER and Hyper-Tune pause and promote, as Syne Tune's own
benchmark of them does; DyHPO always does; CQR stops, as in its authors' benchmark."""


def domain(parameter: dict[str, Any]) -> Any:
    """A parameter as Syne Tune's own domain."""
    if parameter["kind"] == "choice":
        return choice(parameter["values"])
    if parameter["kind"] == "integer":
        return (lograndint if parameter["log"] else randint)(parameter["low"], parameter["high"])
    return (loguniform if parameter["log"] else uniform)(parameter["low"], parameter["high"])


class Session:
    """One search."""

    def __init__(self, peer: str, parameters: list[dict[str, Any]], max_epochs: int, seed: int) -> None:
        np.random.seed(seed)  # noqa: NPY002  # Syne Tune draws some numbers from the global generator
        build, options = PEERS[peer]
        space = {parameter["name"]: domain(parameter) for parameter in parameters}
        self.scheduler = build(
            space,
            metric=LOSS,
            mode="min",
            resource_attr=EPOCH,
            max_t=max_epochs,
            random_seed=seed,
            **copy.deepcopy(options),
        )
        self.trials: dict[int, Trial] = {}

    def next(self) -> dict[str, Any]:
        """The number and the values of the trial that trains next, new or paused; a null number: none any more."""
        suggestion = self.scheduler.suggest(len(self.trials))
        if suggestion is None:
            return {"number": None}
        if not suggestion.spawn_new_trial_id:
            number = int(suggestion.checkpoint_trial_id)
            return {"number": number, "values": self.trials[number].config}
        number = len(self.trials)
        self.trials[number] = Trial(number, dict(suggestion.config), datetime.now(UTC))
        self.scheduler.on_trial_add(self.trials[number])
        return {"number": number, "values": self.trials[number].config}

    def report(self, number: int, epoch: int, value: float, is_last: bool) -> dict[str, Any]:
        """Whether the trial goes on."""
        trial, result = self.trials[number], {LOSS: -value, EPOCH: epoch}
        decision = self.scheduler.on_trial_result(trial, result)
        if decision != SchedulerDecision.CONTINUE:
            self.scheduler.on_trial_remove(trial)
        elif is_last:
            self.scheduler.on_trial_complete(trial, result)
        return {"goes_on": decision == SchedulerDecision.CONTINUE and not is_last}


def main() -> None:
    logging.disable(logging.WARNING)
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    session: Session | None = None
    for line in sys.stdin:
        request = json.loads(line)
        verb = request.pop("do")
        if verb == "open":
            session, answer = Session(**request), {}
        else:
            answer = getattr(session, verb)(**request)
        answers.write(json.dumps({**answer, "cpu_s": time.process_time()}, default=_plain) + "\n")
        answers.flush()


def _plain(value: Any) -> Any:
    """A number of numpy's as Python's."""
    return value.item()


if __name__ == "__main__":
    main()
