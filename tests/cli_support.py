"""A stand-in for a running proxy's or dashboard's API, and the command run against it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from click.testing import CliRunner, Result

from wallie_litellm.cli import main

QUOTA = {"used": 12, "limit": 60, "utilization": 0.2, "left": 47}
QUOTA |= {"reset_at": "2026-11-26T09:59:59.999990+00:00", "reserved": 12}
STATUS: dict[str, Any] = {
    "providers": {
        "openai": {
            "health": "down",
            "breaker": {"state": "open", "reason": "timeout", "consecutive_failures": 5, "next_probe_in": 7.25},
            "paused_for": 3.0,
            "in_flight": 2,
            "waiting": 1,
            "quota": {"rpm": QUOTA, "concurrency": {**QUOTA, "used": 2, "limit": 5, "utilization": 0.4, "left": 3}},
        },
        "spare": {
            "health": "healthy",
            "breaker": {"state": "closed", "reason": None, "consecutive_failures": 0, "next_probe_in": None},
            "paused_for": 0.0,
            "in_flight": 0,
            "waiting": 0,
            "quota": {},
        },
    },
    "features": {},
    "store": {"scope": "redis", "state": "ok", "error": None, "workers": 3},
    "sinks": {},
    "budget": {"spent_usd": 1.0, "limit_usd": 100.0},
}
USAGE: dict[str, Any] = {
    "range": "24h",
    "since": "2026-11-25T10:00:00+00:00",
    "until": "2026-11-26T10:00:00+00:00",
    "by": "provider",
    "totals": [
        {"name": "openai", "requests": 1234, "total_tokens": 56789, "cost_usd": 1.25, "unpriced": 0},
        {"name": "spare", "requests": 2, "total_tokens": 30, "cost_usd": None, "unpriced": 2},
    ],
}


class Asked(NamedTuple):
    """A request as it came in."""

    method: str
    path: str
    parameters: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """What is sent; ``cut`` is how many bytes too few that is."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    cut: int = 0


def json_answer(data: object, status: int = 200, **more: Any) -> Answer:
    return Answer(status, json.dumps(data).encode(), **more)


def problem(status: int, code: str, message: str) -> Answer:
    return json_answer({"error": {"code": code, "message": message}}, status)


class StandIn:
    """Answers at any path that ``answers`` has, as method and path, else with 404."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: dict[tuple[str, str], Answer | Callable[[], Answer]] = {
            ("GET", "/wallie/api/status"): json_answer(STATUS),
            ("GET", "/wallie/api/usage"): json_answer(USAGE),
        }
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                stand_in._answer(self)

            def do_POST(self) -> None:
                stand_in._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.asked.append(Asked(handler.command, parts.path, parse_qsl(parts.query), headers, body))
        found = self.answers.get((handler.command, parts.path), json_answer({"detail": "Not Found"}, 404))
        answer = found() if callable(found) else found
        handler.send_response(answer.status)
        for name, value in (("content-type", answer.content_type), *answer.headers):
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(answer.body) + answer.cut))
        handler.end_headers()
        handler.wfile.write(answer.body)


def run(*arguments: object, **more: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **more)


def one_line_of(result: Result) -> str:
    """The only line on stderr, where nothing was printed."""
    assert result.stdout == "", result.stdout
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr
