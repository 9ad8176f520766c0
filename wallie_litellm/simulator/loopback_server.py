"""An HTTP server in a thread of its own, on a port of 127.0.0.1 that can refuse connections for a while."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final

from aiohttp import web

from wallie_litellm.simulator.refusable_port import RefusablePort

_START_TIMEOUT: Final = 30.0  # seconds to listen
_STOP_TIMEOUT: Final = 5.0  # seconds to end


class LoopbackServer:
    """Hands every request to ``handler``. ``max_body`` is in bytes, after decompression."""

    def __init__(
        self, name: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]], max_body: int
    ) -> None:
        self._name = name
        self._handler = handler
        self._max_body = max_body
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.port = 0

    def start(self) -> None:
        """Listen on a free port; a second call does nothing."""
        if self._thread is not None:
            return
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), name=self._name, daemon=True)
        self._thread.start()
        ready.result(_START_TIMEOUT)

    def stop(self) -> None:
        """Cut what is under way and end the thread; a second call does nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self.call(self._stop.set)
            thread.join(_STOP_TIMEOUT)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do ``work`` on the loop, and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._running()).result(_START_TIMEOUT)

    def call(self, work: Callable[[], object]) -> None:
        """Call ``work`` on the loop, and wait for it."""

        async def call() -> None:
            work()

        self._running()
        self.run(call())

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError(f"the {self._name} is not started")
        return self._loop

    async def _serve(self, ready: Future[None]) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=self._max_body)
        app.router.add_route("*", "/{path:.*}", self._handler)
        # Cancelling the handler when the client leaves keeps hanging requests from piling up.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05)
        await self._runner.setup()
        self._port = RefusablePort(self._runner)
        self._port.open()
        self.port = self._port.number
        self._loop = asyncio.get_running_loop()
        ready.set_result(None)
        await self._stop.wait()
        self._loop = None
        await self._port.close()
        await self._runner.cleanup()

    async def refuse(self) -> None:
        """Refuse connections, and drop those that exist. Runs on the loop."""
        await self._port.refuse()

    async def accept(self) -> None:
        """Listen again, on the same port. Runs on the loop."""
        self._port.accept()
