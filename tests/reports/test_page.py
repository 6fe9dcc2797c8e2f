"""The HTML report as text: complete, self-contained, escaped. test_browser looks at it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.support.make_record import epoch, make_state, small_state, trial_ended, trial_started
from tuner.reports._leaderboard import page_texts
from tuner.reports._page import LARGEST_VECTOR_BYTES, leaderboard_rows, page_figure, render_page
from tuner.reports.figures.registry import DrawnFigure
from tuner.reports.results import build_results
from tuner.reports.writer import write_report
from tuner.runs.state import RunState

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&amp;"


class Parsed(HTMLParser):
    """Elements with their attributes, and what stands in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(state: RunState, tmp_path: Path) -> str:
    return write_report(state, tmp_path / "report", formats=["png"]).page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "state",
    [
        make_state(30),
        make_state(12, end=None, metric="val_loss"),
        small_state(trial_started(0), epoch(0, 1, 0.3), trial_ended(0)),
        small_state(trial_started(0), epoch(0, 1, 0.3), trial_ended(0, "failed", "x")),
        small_state(),
        RunState(),
    ],
    ids=["finished", "running", "one trial", "all failed", "no trial", "empty"],
)
def test_the_page_of_every_kind_of_search_is_whole_and_fetches_nothing(state, tmp_path) -> None:
    text = page_of(state, tmp_path)
    parsed = Parsed(text)
    assert not parsed.open, "every element is closed"
    for tag, attributes in parsed.elements:
        for name in ("src", "href"):
            address = attributes.get(name) or ""
            assert not re.match(r"(https?:)?//", address), (tag, address)
    assert all((image["src"] or "").startswith("data:image/") and image["alt"] for image in parsed.all("img"))
    data = json.loads(parsed.scripts[0])
    assert len(data["rows"]) == len(state.trials)
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(link["href"])[1:] for link in parsed.all("a") if str(link["href"]).startswith("#")]
    assert set(links) <= set(ids)


def test_only_the_script_of_the_page_itself_may_run(tmp_path) -> None:
    parsed = Parsed(page_of(make_state(5), tmp_path))
    policy = next(meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert len(parsed.scripts) == 2
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[1].encode()).digest()).decode()
    assert policy is not None and f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_names_and_reasons_are_text_wherever_they_stand(tmp_path) -> None:
    state = small_state(
        *(
            event
            for number in range(3)
            for event in (
                trial_started(number, {"architecture": EVIL, "preprocess": f"{EVIL}{number}"}),
                epoch(number, 1, 0.1 * number),
            )
        ),
        trial_started(3, {"architecture": EVIL, "preprocess": EVIL}),
        trial_ended(3, "failed", EVIL),
        study=EVIL,
    )
    text = page_of(state, tmp_path)
    parsed = Parsed(text)
    assert "onerror" not in {name for _, attributes in parsed.elements for name in attributes}
    assert len(parsed.all("script")) == 2
    rows = json.loads(parsed.scripts[0])["rows"]
    assert any(EVIL in cell for row in rows for cell in row[0])


def test_a_running_search_reloads_its_page_and_a_finished_one_does_not(tmp_path) -> None:
    assert 'id="reload"' in page_of(make_state(6, end=None), tmp_path)
    assert 'id="reload"' not in page_of(make_state(6), tmp_path)


def test_rows_are_ranked_then_without_result_then_failed_and_sort_by_values_not_words() -> None:
    results = build_results(make_state(40, end="interrupted"))
    columns, rows = leaderboard_rows(results)
    assert [row[1][0] for row in rows if row[1][0] is not None] == list(range(1, len(results.ranked) + 1))
    assert len(rows) == 40 and all(len(row[0]) == len(row[1]) == len(columns) for row in rows)
    status = [column.title for column in columns].index("status")
    assert [row[0][status] for row in rows][-len(results.failed) :] == ["failed"] * len(results.failed)
    time = [column.title for column in columns].index("time")
    assert all(
        row[1][time] == pytest.approx(trial.seconds, rel=1e-5) for row, trial in zip(rows, results.ranked, strict=False)
    )


def test_a_name_with_several_spaces_is_chosen_as_it_is_in_the_table(tmp_path) -> None:
    names = ["my  net", " cnn "]
    events = [trial_started(number, {"architecture": name}) for number, name in enumerate(names)]
    text = page_of(small_state(*events), tmp_path)
    cells = {row[0][4] for row in json.loads(Parsed(text).scripts[0])["rows"]}
    assert {option.get("value") for option in Parsed(text).all("option")} >= cells == set(names)


def test_a_page_of_ten_thousand_trials_is_below_five_megabytes() -> None:
    results = build_results(make_state(10_000, slots=64, max_epochs=3))
    text = render_page(results, page_texts(results), [])
    assert len(text.encode()) < 3_500_000  # and 1.5 MB for the figures, which do not grow with the trials


def test_the_texts_of_the_page_are_those_of_the_leaderboard(tmp_path) -> None:
    state = make_state(20)
    text = page_of(state, tmp_path)
    assert "How far to trust this" not in text  # the part has a heading of its own
    assert "Can I trust it?" in text and "Bonferroni" in text and "The best configuration" in text


def test_a_large_drawing_that_is_there_as_a_drawing_alone_is_shown_as_it_is(tmp_path) -> None:
    path = tmp_path / "learning_curves.svg"
    path.write_text(f'<svg viewBox="0 0 720 360"><!--{"x" * LARGEST_VECTOR_BYTES}--></svg>', encoding="utf-8")
    figure = page_figure(DrawnFigure("learning_curves", (path,), "curves"))
    content = base64.b64decode(figure.source.removeprefix("data:image/svg+xml;base64,"))
    assert content == path.read_bytes() and (figure.width, figure.height) == (1000, 500)


def test_a_drawing_that_another_report_has_removed_meanwhile_is_shown_as_pixels(tmp_path) -> None:
    png, svg = tmp_path / "cost.png", tmp_path / "cost.svg"
    Image.new("RGB", (144, 72), "red").save(png)
    figure = page_figure(DrawnFigure("cost", (png, svg), "costs"))
    assert figure.source.startswith("data:image/png;base64,") and figure.file == "cost.png"
    assert (figure.width, figure.height) == (100, 50)
