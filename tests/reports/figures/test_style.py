"""What all figures share."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D

from tuner.reports.figures.style import MARKS, build_figure, set_legend, time_unit
from tuner.reports.results import STATUSES


def test_every_status_has_a_mark_of_its_own_shape_and_colour():
    assert set(MARKS) == set(STATUSES)
    assert (
        len({marker for marker, _, _ in MARKS.values()}) == len({edge for _, _, edge in MARKS.values()}) == len(MARKS)
    )


def test_time_is_told_in_the_unit_that_reads_best():
    assert [time_unit(seconds)[0] for seconds in (0, 179, 180, 10_799, 10_800)] == ["s", "s", "min", "min", "h"]


@pytest.mark.parametrize(
    "labels",
    [
        ["best so far", "failed (no value)"],
        [f"mobilenet_search_{number}" for number in range(10)],
        ["best at that cost or below", *MARKS, "baseline"],
        [f"RUN-{number}-WITH-A-LONG-NAME-IN-CAPITAL-LETTERS" for number in range(30)],
    ],
)
def test_a_legend_below_the_panels_is_not_cut_off_however_many_entries_it_has(labels):
    figure, _ = build_figure(10.5, 4.8, 2)
    set_legend(figure, [Line2D([], [], label=label) for label in labels], below=True)
    FigureCanvasAgg(figure).draw()
    legend = figure.legends[0].get_window_extent()
    assert legend.x0 >= figure.bbox.x0 and legend.x1 <= figure.bbox.x1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels
