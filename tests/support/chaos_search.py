"""tuner.search with checkpoints and reports so frequent that kills fall into them, for test_chaos."""

from __future__ import annotations

from functools import partial

from tests.support.make_search import search_here
from tuner.execution.worker_process import TrialKind
from tuner.reports import writer

if __name__ == "__main__":
    writer.reporting = partial(writer.reporting, every_s=1.0)
    writer.SHARE = 0.3  # of a processor: more would slow down what is killed
    raise SystemExit(search_here(None, TrialKind(checkpoint_every_s=0.5)))
