"""Pages in Chromium. Console errors and requests to other machines fail the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_support import NONE, VARIABLE, NoBrowserError, find_browser, open_browser
from playwright.sync_api import Browser, Page

OpenPage = Callable[..., Page]

_SIZE = {"viewport": {"width": 1400, "height": 1000}}
_LEFT_OUT = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get(VARIABLE) != NONE:
        return
    here = Path(__file__).parent
    left_out = [item for item in items if here in item.path.parents]
    items[:] = [item for item in items if here not in item.path.parents]
    config.hook.pytest_deselected(items=left_out)
    config.stash[_LEFT_OUT] = len(left_out)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if count := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(f"{VARIABLE}={NONE}: {count} browser tests were left out", yellow=True)


@pytest.fixture(scope="module")  # Playwright occupies the thread's event loop while it runs
def browser() -> Iterator[Browser]:
    problem = ""
    try:
        find_browser()
    except NoBrowserError as error:
        problem = str(error)
    if problem:  # outside of the handler, or it would be printed twice
        pytest.fail(problem, pytrace=False)
    with open_browser() as running:
        yield running


@pytest.fixture
def check_accessibility() -> Callable[[Page], None]:
    """Has axe-core look at a page in light and in dark colours; what it finds fails the test."""

    def check(page: Page) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = Axe().run(page)
            assert not found.violations_count, found.generate_report()

    return check


@pytest.fixture
def troubles() -> list[str]:
    """Faults of this test's pages; a test that expects all of them clears the list."""
    return []


@pytest.fixture
def open_page(browser: Browser, troubles: list[str]) -> Iterator[OpenPage]:
    """Opens an address as a person would, with options of Playwright's contexts: ``locale``, ``color_scheme``, ..."""
    contexts = []

    def note_request(address: str) -> None:
        if urlsplit(address).hostname not in ("127.0.0.1", "localhost", None):
            troubles.append(f"asked for {address}")

    def open_one(address: str, *, expected: str = "", **options: Any) -> Page:
        """``expected`` is part of messages that the console may have."""
        context = browser.new_context(**{"locale": "en-GB", "timezone_id": "UTC", **_SIZE, **options})
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("request", lambda request: note_request(request.url))
        page.on("pageerror", lambda error: troubles.append(f"script: {error}"))

        def note(message: Any) -> None:
            if message.type in ("error", "warning") and not (expected and expected in message.text):
                troubles.append(f"console: {message.text}")

        page.on("console", note)
        page.goto(address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not troubles
