"""tuner.search with checkpoints and reports so frequent that kills fall into them, for test_chaos."""

from __future__ import annotations

from functools import partial
from typing import Any

from tuner.execution import finalist_actor, trial_actor, tune_run
from tuner.reports import live_report
from tuner.search import main

EVERY_S = 0.5


class OftenSaving(trial_actor.TrialActor):
    def setup(self, config: dict[str, Any], **more: Any) -> None:
        trial_actor.CHECKPOINT_EVERY_S = EVERY_S
        super().setup(config, **more)


class OftenSavingFinalist(finalist_actor.FinalistActor):
    def step(self) -> finalist_actor.Step:
        finalist_actor.CHECKPOINT_EVERY_S = EVERY_S
        return super().step()


if __name__ == "__main__":
    from tests.support import chaos_search  # under the name by which workers know it

    tune_run.TrialActor = chaos_search.OftenSaving
    finalist_actor.FinalistActor = chaos_search.OftenSavingFinalist
    live_report.reporting = partial(live_report.reporting, every_s=1.0)
    live_report.SHARE = 1.0
    raise SystemExit(main())
