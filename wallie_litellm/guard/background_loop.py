"""The event loop on which the synchronous helper runs its requests."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _BackgroundLoop:
    """An event loop in a daemon thread, kept for the process: LiteLLM's HTTP clients live as long as their loop."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, name="wallie-sync", daemon=True).start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


_lock = threading.Lock()
_loop: _BackgroundLoop | None = None


def run_in_background(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, run on the process' background loop while this thread waits."""
    global _loop  # noqa: PLW0603 - one loop for the process, made with its first use
    with _lock:
        if _loop is None or _loop.process != os.getpid():  # a forked child has the object, but not the thread
            _loop = _BackgroundLoop()
    return _loop.run(work)


def _release_lock_in_child() -> None:
    """Another thread of the parent may have held the lock."""
    global _lock  # noqa: PLW0603 - as above
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_release_lock_in_child)
