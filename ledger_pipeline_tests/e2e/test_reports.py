"""Reports in a real browser: the charts are drawn, light, dark and on paper, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import ledger_pipeline as lp
from ledger_pipeline_tests.e2e.test_ui import CHROMIUM, FLAGS
from ledger_pipeline_tests.sweeps.markets import crossover, market


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("reports")
    run = lp.run(crossover(), market(root))
    return {"tear": run.report(root / "tear.html"), "comparison": lp.compare([run]).save(root / "comparison.html")}


def drawn(browser: Browser, path: Path, **context: object) -> tuple[Page, list[str], list[str]]:
    page = browser.new_context(**context).new_page()
    wrong: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.evaluate("drawn.then(() => true)")
    return page, wrong, asked


@pytest.mark.parametrize("name", ["tear", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_chart_is_drawn_and_nothing_is_loaded(browser, reports, name, scheme) -> None:
    page, wrong, asked = drawn(browser, reports[name], color_scheme=scheme)
    places = page.locator(".chart")
    assert places.count() >= 2 and wrong == [] and asked == [reports[name].as_uri()]
    for i in range(places.count()):
        marks = places.nth(i).locator("svg .mark-line path, svg .mark-area path, svg .mark-rect path")
        assert marks.count() > 0, places.nth(i).get_attribute("aria-label")
    page.context.close()


def test_a_phone_shows_it_without_scrolling_sideways(browser, reports) -> None:
    page, wrong, _ = drawn(browser, reports["tear"], viewport={"width": 375, "height": 800})
    assert wrong == [] and page.evaluate("document.documentElement.scrollWidth") <= 375
    page.context.close()


def test_it_prints(browser, reports) -> None:
    page, _, _ = drawn(browser, reports["tear"])
    assert len(page.pdf()) > 50_000
    page.context.close()


def test_the_pointer_is_told_the_value_under_it(browser, reports) -> None:
    page, _, _ = drawn(browser, reports["tear"], viewport={"width": 1000, "height": 900})
    page.locator("#chart-growth svg").hover(position={"x": 400, "y": 150})
    page.locator("#vg-tooltip-element.visible").wait_for(timeout=10_000)
    assert "growth of 1" in page.locator("#vg-tooltip-element").inner_text()
    page.context.close()
