"""The picture of the page in the documentation shows what the page shows."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

import png
import pytest
from playwright.sync_api import Browser, Page
from screenshot_scene import WIDTH, dashboard_page, outline

PICTURE = Path(__file__).parents[2] / "docs" / "dashboard.png"
CHANGES = (
    ("main h2", "node => node.append('!')"),
    ("nav[aria-label=Use] a", "node => node.remove()"),
    ("th[scope=col]", "node => node.remove()"),
    ("main .panels > .column", "node => node.style.order = -1"),
    (".legend rect", "node => node.style.fill = 'black'"),
    (".plot > .mark", "node => node.remove()"),
)


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with dashboard_page(browser) as opened:
        yield opened


def test_the_picture_shows_the_page_as_it_is(page: Page) -> None:
    pictured, present = png.description(PICTURE).splitlines(), outline(page).splitlines()
    changes = list(unified_diff(pictured, present, "the picture", "the page", n=0, lineterm=""))
    if changes or png.size(PICTURE)[0] != WIDTH:
        first = "\n".join(changes[:20])
        pytest.fail(f"docs/dashboard.png is out of date: run `make screenshot`\n{first}", pytrace=False)


def test_a_changed_page_has_another_outline(page: Page, browser: Browser) -> None:
    still = browser.new_page(java_script_enabled=False)  # no refresh mends what is changed in it
    still.goto(page.url)
    for part, change in CHANGES:
        before = outline(still)
        still.locator(part).last.evaluate(change)
        assert outline(still) != before, part
    still.close()
