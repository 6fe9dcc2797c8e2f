"""What all figures share."""

from __future__ import annotations

from tuner.reports.figures.style import MARKS, time_unit
from tuner.reports.results import STATUSES


def test_every_status_has_a_mark_of_its_own_shape_and_colour():
    assert set(MARKS) == set(STATUSES)
    assert (
        len({marker for marker, _, _ in MARKS.values()}) == len({edge for _, _, edge in MARKS.values()}) == len(MARKS)
    )


def test_time_is_told_in_the_unit_that_reads_best():
    assert [time_unit(seconds)[0] for seconds in (0, 179, 180, 10_799, 10_800)] == ["s", "s", "min", "min", "h"]
