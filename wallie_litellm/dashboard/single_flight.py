"""Found out once, for all who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class SingleFlight:
    """Something that is found out once for all who ask, and again when it has grown old. Belongs to one event loop."""

    def __init__(self, find: Callable[[], Awaitable[Any]], now: Callable[[], float], fresh_for: float) -> None:
        self._find, self._now, self._fresh_for = find, now, fresh_for
        self._value: Any = None
        self._found_at = float("-inf")
        self._finding: asyncio.Task[Any] | None = None

    async def get(self, late: float = 0.0) -> Any:
        """The value; one that is older, but by less than ``late`` seconds, serves while a new one is being found."""
        age = self._now() - self._found_at
        if age < self._fresh_for:
            return self._value
        if self._finding is None:
            self._finding = asyncio.ensure_future(self._renew())
            self._finding.add_done_callback(_look_at)  # perhaps nobody waits for it
        return self._value if age < self._fresh_for + late else await asyncio.shield(self._finding)

    def forget(self) -> None:
        """Find it anew for whoever asks next, though perhaps somebody is just finding it."""
        self._found_at, self._finding = float("-inf"), None

    async def _renew(self) -> Any:
        task = asyncio.current_task()
        try:
            value = await self._find()
            if self._finding is task:
                self._value, self._found_at = value, self._now()
            return value
        finally:
            if self._finding is task:
                self._finding = None


def _look_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
