"""A real Chromium that looks at pages on this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

VARIABLE = "WALLIE_TEST_BROWSER"
NONE = "none"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Other hosts are a closed port here; with ~NOTFOUND, Chromium would ask a public DNS server.
    "--host-resolver-rules=MAP * 127.0.0.1:9, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class NoBrowserError(RuntimeError):
    """There is no Chromium to be found here."""


def find_browser() -> str:
    """The path of Chromium: ``$WALLIE_TEST_BROWSER``, else the system's. Raises NoBrowserError."""
    stated = os.environ.get(VARIABLE)
    found = next(filter(None, map(shutil.which, (stated,) if stated else _NAMES)), None)
    if found is None:
        here = f"and {VARIABLE}={stated} is no program" if stated else "and none is installed here"
        raise NoBrowserError(
            f"the browser tests need Chromium, {here}: install the system's package, set {VARIABLE}=/path/to/chromium, "
            f"or leave them out with {VARIABLE}={NONE}"
        )
    return found


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser with a profile of its own. Raises NoBrowserError."""
    path = find_browser()
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=[*_FLAGS, *sandbox])
        try:
            yield browser
        finally:
            browser.close()
