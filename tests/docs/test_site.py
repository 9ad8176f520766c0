"""The documentation site: built without a warning and without a network, readable by machines, and accessible."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser_support import open_browser
from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
OFFLINE = """
import os, sys
from sphinx.cmd.build import main

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print("the build asks the network:", event, arguments, file=sys.stderr, flush=True)
        os._exit(3)

sys.addaudithook(refuse)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-c", OFFLINE, "-q", "-W", "--keep-going", "-b", "html", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as running:
        yield running


def test_every_page_has_a_twin_in_markdown_and_is_in_the_index_for_machines(site: Path) -> None:
    index = (site / "llms.txt").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / "_sources" / f"{page.name}.txt").read_text() == page.read_text()
        assert f"/_sources/{page.name}.txt" in index


def test_nothing_is_loaded_from_another_server(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text()
        assert 'src="http' not in text
        assert '<link rel="stylesheet" type="text/css" href="http' not in text


@pytest.mark.parametrize("page", ["index", "tutorial", "api", "configuration-reference"])
def test_a_page_has_no_violation_that_axe_finds(site: Path, browser: Browser, page: str) -> None:
    opened = browser.new_page()
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        opened.goto(f"file://{site}/{page}.html")
        found = Axe().run(opened)
        assert not found.violations_count, found.generate_report()
    opened.close()
