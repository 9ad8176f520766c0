"""A webhook that behaves as Slack's, on a loopback socket, and sample events for it."""

from __future__ import annotations

import json
import threading
from collections import deque
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from wallie_litellm.events import BreakerChanged, BudgetCrossed, QuotaCrossed, Unpriced

AT = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
PATH = "/services/T000SECRET/B000SECRET/marked-webhook-secret"
Answer = tuple[int, dict[str, str], str]
OK: Answer = (200, {}, "ok")


class Webhook:
    """Records posts; responds with :attr:`always`, else with the next of :attr:`script`, else with ``ok``."""

    def __init__(self, *, listening: bool = True) -> None:
        self.messages: list[dict[str, Any]] = []
        self.posts: list[tuple[dict[str, str], bytes]] = []  # headers, with names in lower case, and bodies of all
        self.requests = 0
        self.script: deque[Answer] = deque()
        self.always: Answer | None = None
        self.go = threading.Event()
        self.go.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.server_bind()
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        if listening:
            self.listen()

    def listen(self) -> None:
        """Accept connections from now on."""
        self._server.server_activate()
        self._thread.start()

    @property
    def texts(self) -> list[str]:
        """The texts that were answered with ``ok``."""
        return [message["text"] for message in self.messages]

    def hang(self) -> None:
        """Answer nothing until :meth:`close` or ``go.set()``."""
        self.go.clear()

    def close(self) -> None:
        """Respond to waiting requests, and stop."""
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _answer(self) -> Answer:
        self.requests += 1
        self.go.wait(30)
        return self.always or (self.script.popleft() if self.script else OK)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
                message = json.loads(body)
                status, headers, text = webhook._answer()
                if self.path != PATH:
                    status, text = 404, "no_service"
                if status == 200:
                    webhook.messages.append(message)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                with suppress(ConnectionError):  # of a sender that does not read it
                    self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler


def quota(provider: str = "openai", at: float = AT, **changed: Any) -> QuotaCrossed:
    fact = QuotaCrossed(f"q-{provider}-{at}", at, provider, "rpm", "critical", 0.95, 475.0, 500, 57.0)
    return fact._replace(**changed)


def breaker(before: str, after: str, at: float = AT, provider: str = "openai", **changed: Any) -> BreakerChanged:
    fact = BreakerChanged(f"b-{at}-{after}", at, provider, before, after, None, 0.0)
    return fact._replace(**changed)


def opened(at: float = AT, provider: str = "openai", before: str = "closed") -> BreakerChanged:
    return breaker(before, "open", at, provider, reason="HTTP 500", reopens_in=30.0)


def unpriced(model: str = "gpt-next", provider: str = "openai") -> Unpriced:
    return Unpriced("u-1", AT, provider, model, f"{provider}/{model}")


def budget(level: str = "warning") -> BudgetCrossed:
    return BudgetCrossed("m-1", AT, level, 0.8, 400.0, 500.0, "2026-09")
