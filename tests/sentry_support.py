"""Sentry's ingestion on a loopback socket, and sample requests that failed."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import event_samples

from wallie_litellm.core.demand import NOTHING
from wallie_litellm.events import Ended, Settled

AT = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC


class Received(NamedTuple):
    """One envelope: its headers, and header and payload of each item; ``raw`` is all of it as text."""

    headers: dict[str, Any]
    items: list[tuple[dict[str, Any], dict[str, Any]]]
    raw: str
    auth: str


class Ingestion:
    """Records envelopes; responds with :attr:`status` and :attr:`headers`."""

    def __init__(self) -> None:
        self.envelopes: list[Received] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.go = threading.Event()
        self.go.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.dsn = f"http://publickey@127.0.0.1:{self._server.server_address[1]}/7"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [
            payload for envelope in self.envelopes for header, payload in envelope.items if header["type"] == "event"
        ]

    def close(self) -> None:
        """Respond to waiting requests, and stop."""
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        ingestion = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Encoding"] == "gzip"
                assert self.path == "/api/7/envelope/"
                ingestion.go.wait(30)
                if ingestion.status == 200:
                    ingestion.envelopes.append(parsed(gzip.decompress(body), self.headers["X-Sentry-Auth"]))
                self.send_response(ingestion.status)
                for name, value in ingestion.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler


def parsed(body: bytes, auth: str) -> Received:
    first, *lines = body.rstrip(b"\n").split(b"\n")
    items = [(json.loads(header), json.loads(payload)) for header, payload in zip(lines[::2], lines[1::2], strict=True)]
    return Received(json.loads(first), items, body.decode(), auth)


def settled(number: int = 1, provider: str = "openai", **changed: Any) -> Settled:
    """An attempt that failed with HTTP 500."""
    usual = {
        "id": f"s-{number}",
        "at": AT,
        "request_id": "r-1",
        "number": number,
        "provider": provider,
        "model": "gpt-4o",
        "deployment": f"{provider}/gpt-4o-2024",
        "error": "HTTP 500",
        "status_code": 500,
        "latency_ms": 120.0,
        "waited_ms": 3.0,
        "charged": NOTHING,
        "user_id": "user-marked",
        "metadata": {"conversationId": "metadata-marked"},
    }
    return event_samples.failed(**{**usual, **changed})


def ended(number: int = 1, **changed: Any) -> Ended:
    """A request that failed at the second provider of its chain too."""
    usual = {
        "id": f"e-{number}",
        "at": AT,
        "request_id": "r-1",
        "model": "gpt-4o",
        "provider": "groq",
        "error": "HTTP 500",
        "status_code": 500,
        "latency_ms": 250.0,
        "waited_ms": 3.0,
        "used_fallback": True,
        "user_id": "user-marked",
        "metadata": {"conversationId": "metadata-marked"},
    }
    attempts = settled(), settled(2, "groq", error="timeout", status_code=408, outcome="cut")
    return event_samples.ended(*attempts, **{**usual, **changed})
