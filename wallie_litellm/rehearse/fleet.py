"""The workers of a rehearsal: routers that share the limits through a simulated Redis, in one event loop."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import NamedTuple

from wallie_litellm.config.models import StoreSettings
from wallie_litellm.limiter.redis.fleet import RedisFleet


class StoreChange(NamedTuple):
    """At ``at``, in Unix seconds, the store was ``down`` or ``ok`` for a ``worker``, by its number."""

    at: float
    worker: int
    state: str


class LoopFleet(RedisFleet):
    """A worker whose exchanges run in the event loop that it is made in, in place of a thread: they keep its time.

    Its ``changes`` are those of all workers.
    """

    def __init__(self, settings: StoreSettings, number: int, changes: list[StoreChange]) -> None:
        super().__init__(settings)
        self.worker = f"worker-{number}"  # alike in every run
        self._number = number
        self._changes = changes
        self._running: asyncio.Task[None] | None = None

    def close(self) -> None:
        """End the exchanges; leases are left to expire, as the rehearsal is over."""
        self._closing = True
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        for task in (self._running, self._subscription, *self._tasks):
            if task is not None:
                task.cancel()

    def _start(self) -> None:
        if self._loop is None and not self._closing:
            self._loop = asyncio.get_running_loop()
            self._running = self._loop.create_task(self._main())

    def _on_lost(self, error: BaseException) -> None:
        before = self.state
        super()._on_lost(error)
        self._note(before)

    def _on_found(self) -> None:
        before = self.state
        super()._on_found()
        self._note(before)

    def _note(self, before: str) -> None:
        if self.state != before:
            self._changes.append(StoreChange(time.time(), self._number, self.state))
