"""A simulated provider that sends what a test says, byte by byte, under any path."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from wallie_litellm.simulator.loopback_server import LoopbackServer

MAX_BODY: Final = 2**22  # bytes
PAUSE: Final = 0.02  # seconds between two pieces that are to arrive apart
BEFORE_CUT: Final = 0.1  # seconds before a connection is aborted: some clients discard what they have not read by then
WAIT: Final = 60.0  # seconds for what is held back, at most


class ScriptedVendor:
    """Answers every request with the same payloads until it is given others."""

    def __init__(self) -> None:
        self._server = LoopbackServer("scripted vendor", self._handle, MAX_BODY)
        self._pieces: Sequence[bytes] = ()
        self._aborted = self._apart = False
        self._body: bytes | None = None
        self._type = ""
        self._next: Sequence[bytes] | None = None
        self._held_back: Sequence[bytes] = ()
        self._asked_on = threading.Event()
        self.bodies: list[Any] = []

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    @property
    def base(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self._server.port}"

    def stream(
        self, *pieces: bytes, aborted: bool = False, apart: bool = False, held_back: Sequence[bytes] = ()
    ) -> None:
        """Answer with a stream; ``aborted``: the connection breaks after it; ``apart``: piece by piece.

        What is ``held_back`` follows after :meth:`go_on`: only then it cannot arrive together with what is before it.
        """
        self._pieces, self._aborted, self._apart, self._body, self._next = pieces, aborted, apart, None, None
        self._held_back = held_back
        self._asked_on.clear()
        self.bodies.clear()

    def go_on(self) -> None:
        """Send what is held back."""
        self._asked_on.set()

    def then(self, *pieces: bytes) -> None:
        """Answer the second request, and all after it, with another stream."""
        self._next = pieces

    def whole(self, body: Any, content_type: str = "application/json") -> None:
        """Answer in one piece."""
        self._body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self._type = content_type
        self.bodies.clear()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        data = await request.read()
        self.bodies.append(json.loads(data) if data.startswith(b"{") else data)
        if self._body is not None:
            return web.Response(body=self._body, content_type=self._type)
        pieces, held_back, self._held_back = self._pieces, self._held_back, ()
        if self._next is not None:
            self._pieces, self._next = self._next, None
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            if self._apart:
                await asyncio.sleep(PAUSE)
        if held_back:
            await asyncio.to_thread(self._asked_on.wait, WAIT)
            await response.write(b"".join(held_back))
        if self._aborted and request.transport is not None:
            await asyncio.sleep(BEFORE_CUT)
            request.transport.abort()
        return response
