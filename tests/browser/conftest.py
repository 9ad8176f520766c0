"""Pages in Chromium. What the console complains of, or what leaves this machine, fails the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser_support import NONE, VARIABLE, open_browser
from playwright.sync_api import Browser, Page

OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")  # Playwright occupies the thread's event loop while it runs
def browser() -> Iterator[Browser]:
    if os.environ.get(VARIABLE) == NONE:
        pytest.skip(f"{VARIABLE}={NONE}: no browser is wanted")
    with open_browser() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens an address as a person would, with options of Playwright's contexts: ``locale``, ``color_scheme``, ..."""
    contexts = []
    troubles: list[str] = []

    def note_request(address: str) -> None:
        if urlsplit(address).hostname not in ("127.0.0.1", "localhost", None):
            troubles.append(f"asked for {address}")

    def open_one(address: str, *, expected: str = "", **options: Any) -> Page:
        """``expected`` is part of what the console may say."""
        context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": 1400, "height": 1000}, **options})
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
