"""The browser tests' own means: each kind of trouble that must fail a test is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser_support import VARIABLE, NoBrowserError, find_browser
from playwright.sync_api import Page, expect

OpenPage = Callable[..., Page]
ServePage = Callable[[str], str]
STRICT = "default-src 'none'; script-src 'self' 'unsafe-inline'; img-src *; connect-src *"


@pytest.fixture
def serve_page() -> Iterator[ServePage]:
    """Serves a body under a strict policy, and nothing else; gives the address."""
    running: list[ThreadingHTTPServer] = []

    def serve(body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path in ("/", "/favicon.ico")
                content = f"<!doctype html><html lang=en><body>{body}".encode() if self.path == "/" else b""
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Security-Policy", STRICT)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in running:
        server.shutdown()
        server.server_close()


def test_a_page_without_faults_causes_no_trouble(
    serve_page: ServePage, open_page: OpenPage, troubles: list[str]
) -> None:
    address = serve_page("<p id=shown>before</p><script>shown.textContent = navigator.language</script>")
    expect(open_page(address, locale="es-MX").locator("#shown")).to_have_text("es-MX")
    expect(open_page(address, java_script_enabled=False).locator("#shown")).to_have_text("before")
    dark = open_page(address, viewport={"width": 375, "height": 700}, color_scheme="dark")
    assert dark.evaluate("[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]") == [375, True]
    assert troubles == []


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ("<script>console.error('it broke')</script>", "console: it broke"),
        ("<script>throw new Error('thrown')</script>", "script: thrown"),
        ("<p style='color: red'>styled</p>", "Content Security Policy"),
        ("<img src=/missing.png alt=missing>", "404"),
        ("<script>fetch('http://127.0.0.1:9/').catch(() => 0)</script>", "ERR_"),
        ("<img src=http://elsewhere.invalid/x.png alt=elsewhere>", "asked for http://elsewhere.invalid/x.png"),
    ],
    ids=["console", "script", "policy", "status", "connection", "elsewhere"],
)
def test_each_kind_of_trouble_is_noticed(
    serve_page: ServePage, open_page: OpenPage, troubles: list[str], body: str, trouble: str
) -> None:
    page = open_page(serve_page(body))
    for _ in range(100):
        if any(trouble in one for one in troubles):
            break
        page.wait_for_timeout(20)
    assert any(trouble in one for one in troubles), troubles
    troubles.clear()


def test_an_expected_message_is_no_trouble(serve_page: ServePage, open_page: OpenPage, troubles: list[str]) -> None:
    page = open_page(serve_page("<img src=/missing.png alt=missing>"), expected="404")
    page.wait_for_load_state("networkidle")
    assert troubles == []


def test_a_missing_browser_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/nowhere/chromium")
    with pytest.raises(NoBrowserError, match=r"need Chromium, and WALLIE_TEST_BROWSER=/nowhere/chromium is no program"):
        find_browser()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoBrowserError, match=r"none is installed here: .* set WALLIE_TEST_BROWSER="):
        find_browser()
