"""What the benchmark of long searches says of what it has seen."""

from __future__ import annotations

import pytest

from benchmarks.long_run.__main__ import Sample
from benchmarks.long_run.report import draw, growth, tell


def samples(trials: int) -> list[Sample]:
    return [Sample(5.0 * n, n, 300.0 + (n if n < 50 else 50), 800.0, 40, 3, 0.5 * n) for n in range(1, trials + 1)]


def test_growth_is_counted_from_when_the_search_has_settled() -> None:
    assert growth(samples(300), 50, "driver_mb") == (350.0, 350.0)
    before, after = growth(samples(300), 50, "run_mb")
    assert (before, after) == (0.5 * 54.5, 0.5 * 295.5)
    assert "| driver, MB | 350 | 350 | +0.0% |" in tell(samples(300), 50)


def test_a_search_that_ended_before_it_settled_tells_nothing() -> None:
    with pytest.raises(ValueError, match="samples must reach 50 trials; they end at 20"):
        growth(samples(20), 50, "driver_mb")


def test_a_picture_is_drawn(tmp_path) -> None:
    draw(samples(60), tmp_path / "long_run.png")
    assert (tmp_path / "long_run.png").stat().st_size > 10_000
