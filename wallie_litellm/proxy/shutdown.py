"""The end of a proxy's process: waits end at SIGTERM, calls under way have ten seconds, and the sinks are drained."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from types import FrameType
from typing import Any, Final

from wallie_litellm.guard import Guard

UNDER_WAY: Final = 10.0  # seconds that calls have to end after SIGTERM


class CallsUnderWay:
    """The tasks that answer requests, so that the last of them can be ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> None:
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)

    def __exit__(self, *_: object) -> None:
        if (task := asyncio.current_task()) is not None:
            self._tasks.discard(task)

    def cancel(self) -> None:
        """Cancel them, from their event loop's thread."""
        for task in tuple(self._tasks):
            task.cancel()


def end_with_process(guard: Guard, under_way: CallsUnderWay) -> None:
    """Have the guard refuse what waits at SIGTERM, and close it when the proxy has shut down."""
    _refuse_at_sigterm(guard, under_way)
    _drain_at_shutdown(guard)


def _refuse_at_sigterm(guard: Guard, under_way: CallsUnderWay) -> None:
    """Before the server's own handler, which waits for the requests that it has begun."""
    if threading.current_thread() is not threading.main_thread():
        return  # handlers can be set in the main thread only
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    servers = signal.getsignal(signal.SIGTERM)

    def refuse() -> None:
        guard.refuse()
        loop.call_later(UNDER_WAY, under_way.cancel)

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(refuse)
        if callable(servers):
            servers(number, frame)

    if callable(servers):  # a process without a handler ends at once
        signal.signal(signal.SIGTERM, on_sigterm)


def _drain_at_shutdown(guard: Guard) -> None:
    """Make the proxy's shutdown wait for the sinks: after SIGTERM uvicorn ends the process without ``atexit``."""
    server = sys.modules.get("litellm.proxy.proxy_server")
    shutdown = getattr(server, "proxy_shutdown_event", None)
    if server is None or shutdown is None:
        return

    async def proxy_shutdown_event(*args: Any, **kwargs: Any) -> None:
        try:
            await shutdown(*args, **kwargs)
        finally:
            await guard.aclose()

    server.proxy_shutdown_event = proxy_shutdown_event  # type: ignore[attr-defined] # its lifespan looks it up here
