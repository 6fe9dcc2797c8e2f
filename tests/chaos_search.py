"""tuner.search with checkpoints and reports so frequent that kills fall into them, for test_chaos."""

from __future__ import annotations

from functools import partial
from typing import Any

from tuner import finalist_worker, launch, live_report, worker
from tuner.search import main

EVERY_S = 0.5


class OftenSaving(worker.TrialActor):
    def setup(self, config: dict[str, Any], **more: Any) -> None:
        worker.CHECKPOINT_EVERY_S = EVERY_S
        super().setup(config, **more)


class OftenSavingFinalist(finalist_worker.FinalistActor):
    def step(self) -> finalist_worker.Step:
        finalist_worker.CHECKPOINT_EVERY_S = EVERY_S
        return super().step()


if __name__ == "__main__":
    from tests import chaos_search  # under the name by which workers know it

    launch.TrialActor = chaos_search.OftenSaving
    finalist_worker.FinalistActor = chaos_search.OftenSavingFinalist
    live_report.reporting = partial(live_report.reporting, every_s=1.0)
    live_report.SHARE = 1.0
    raise SystemExit(main())
