"""Long polling: clients wait until the status digest changes, and one task polls it for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from wallie_litellm.dashboard.single_flight import SingleFlight

POLL_INTERVAL: Final = 0.25  # seconds between two looks at the status while a client waits
LONG_POLL_SECONDS: Final = 4.0  # seconds, the longest wait of a client; live.js gives up after 9


class ChangeWatch:
    """Belongs to one event loop. ``on_change`` is called before waiting clients are released."""

    def __init__(self, digest: Callable[[], Coroutine[Any, Any, str]], on_change: Callable[[], None]) -> None:
        self._digest = SingleFlight(digest, time.monotonic, POLL_INTERVAL)
        self._on_change = on_change
        self._polling: asyncio.Task[None] | None = None

    async def digest(self) -> str:
        """The present digest, at most ``POLL_INTERVAL`` old."""
        return await self._digest.get()

    async def wait_for_change(self, timeout: float) -> None:
        """Return when the digest changes, after ``timeout`` seconds, or on :meth:`release`."""
        if self._polling is None or self._polling.done():
            self._polling = asyncio.ensure_future(self._poll())
        await asyncio.wait({self._polling}, timeout=timeout)

    def release(self) -> None:
        """End all waits."""
        if self._polling is not None:
            self._polling.cancel()

    async def _poll(self) -> None:
        """One loop for all waiting clients; it ends even if nothing changes, when the first of them have left."""
        before, end = await self._digest.get(), time.monotonic() + 2 * LONG_POLL_SECONDS
        while time.monotonic() < end:
            await asyncio.sleep(POLL_INTERVAL)
            if await self._digest.get() != before:
                break
        self._on_change()
