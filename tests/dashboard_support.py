"""A dashboard that is served over a real socket, from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from wallie_litellm.config import RouterConfig
from wallie_litellm.dashboard.server import serve_config, serve_guard
from wallie_litellm.guard import Guard

TOKEN = "an-operators-token"


@contextmanager
def served(guard: Guard, tokens: Sequence[str] = ()) -> Iterator[str]:
    """The address of ``guard``'s dashboard, which ends with a slash."""
    with _running(lambda ready: serve_guard(guard, "127.0.0.1", 0, tokens=lambda: tokens, ready=ready)) as address:
        yield address


@contextmanager
def served_beside(loaded: RouterConfig) -> Iterator[str]:
    """What ``wallie-litellm dashboard`` serves."""
    with _running(lambda ready: serve_config(loaded, "127.0.0.1", 0, ready=ready)) as address:
        yield address


@contextmanager
def _running(serve: Callable[[Callable[[str], object]], Coroutine[Any, Any, None]]) -> Iterator[str]:
    address: Future[str] = Future()
    loop = asyncio.new_event_loop()
    task: list[asyncio.Task[None]] = []

    async def work() -> None:
        task.append(asyncio.ensure_future(serve(address.set_result)))
        try:
            await task[0]
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            if not address.done():
                address.set_exception(error)
            raise

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()), daemon=True)
    thread.start()
    try:
        yield address.result(20)
    finally:
        if task:
            loop.call_soon_threadsafe(task[0].cancel)
        thread.join(20)
        assert not thread.is_alive(), "the dashboard does not end"
        loop.close()
