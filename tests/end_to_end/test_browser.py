"""The HTML report in a real browser: sorting, filtering, keyboard, narrow screens, the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import needs
from tests.support.make_data import make_folder
from tests.support.make_record import make_state
from tuner.data import main as look_at_data
from tuner.reports.writer import write_report

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    chromium = needs.program("chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=QUIET, timeout=180_000)
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_state(250, slots=8), tmp_path_factory.mktemp("report")).page


@pytest.fixture
def page(browser, report) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert not errors


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"#leaderboard-table tbody tr td:nth-child({number + 1})").all_inner_texts()


def test_the_table_sorts_by_values_and_turns_round_at_the_second_click(page) -> None:
    heads = page.locator("#leaderboard-table th button").all_inner_texts()
    epochs = heads.index("epochs")
    page.get_by_role("button", name="epochs", exact=True).click()
    rising = [int(text) for text in column(page, epochs)]
    assert rising == sorted(rising) and rising[0] < 5
    page.get_by_role("button", name="epochs", exact=True).click()
    falling = [int(text) for text in column(page, epochs)]
    assert falling == sorted(falling, reverse=True) and falling[0] == 20
    assert page.locator("th[aria-sort]").count() == 1


def test_words_and_lists_filter_the_table_and_the_number_is_told(page) -> None:
    assert page.locator("#count").inner_text() == "250 of 250 trials"
    page.get_by_label("status").select_option("failed")
    heads = page.locator("#leaderboard-table th button").all_inner_texts()
    assert set(column(page, heads.index("status"))) == {"failed"}
    page.get_by_label("status").select_option("")
    page.get_by_label("Search").fill("cnn filters 64")
    assert set(column(page, heads.index("architecture"))) == {"cnn"}
    page.get_by_label("Search").fill("no such word")
    assert page.locator("#count").inner_text() == "0 of 250 trials"


def test_a_hundred_rows_are_shown_at_first_and_more_when_asked(page) -> None:
    assert page.locator("#leaderboard-table tbody tr").count() == 100
    page.get_by_role("button", name="Show more (150 left)").click()
    assert page.locator("#leaderboard-table tbody tr").count() == 200


def test_everything_can_be_reached_and_sorted_with_the_keyboard(page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.locator("#leaderboard-table th button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("th").first.get_attribute("aria-sort") == "descending"


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_out_of_the_page_at_any_width_in_light_and_dark(browser, report, width, scheme) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    colors = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert (colors[0] == "rgb(20, 23, 26)") == (scheme == "dark")
    page.close()


def test_without_scripts_the_first_trials_are_there(browser, report) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#leaderboard-table tbody tr").count() == 100
    assert page.get_by_text("Without JavaScript, the first 100 of 250 trials are shown").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_problem(browser, report, scheme) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(color_scheme=scheme, bypass_csp=True)  # axe is a script of its own
    page = context.new_page()
    page.goto(report.as_uri())
    violations = Axe().run(page).response["violations"]
    serious = [f"{one['id']}: {one['help']}" for one in violations if one["impact"] in ("serious", "critical")]
    assert not serious
    context.close()


# --- the page of a data set ---


@pytest.fixture(scope="module")
def data_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a folder with odd names and a broken image."""
    folder = tmp_path_factory.mktemp("data")
    make_folder(folder / "pets", {"cat": 30, "<script>alert(1)<": 9, "שלום": 4})
    (folder / "pets" / "cat" / f"{'long' * 50}.png").touch()
    assert look_at_data([f"folder:{folder / 'pets'}", "--page", str(folder / "page.html")]) == 0
    return folder / "page.html"


@pytest.mark.full
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_data_page_shows_its_pictures_at_any_width_in_light_and_dark_without_a_script(
    browser, data_page, width, scheme
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page, told = context.new_page(), []
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("console", lambda message: told.append(message.text))
    page.on(
        "request", lambda request: told.append(request.url) if not request.url.startswith(("file:", "data:")) else 0
    )
    page.goto(data_page.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img.sheet").count() == 3 and page.locator("script").count() == 0
    assert page.get_by_text("<script>alert(1)<").first.is_visible()
    for index in range(3):
        sheet = page.locator("img.sheet").nth(index)
        sheet.scroll_into_view_if_needed()
        assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 90
    violations = Axe().run(page).response["violations"]
    assert not [f"{one['id']}: {one['help']}" for one in violations if one["impact"] in ("serious", "critical")]
    assert not told
    context.close()
