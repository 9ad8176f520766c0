"""A cached value that concurrent callers share, and that one of them has renewed when it has become old."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """The value of ``find``, for ``fresh_for`` seconds of ``now``'s clock. Belongs to one event loop."""

    def __init__(self, find: Callable[[], Coroutine[Any, Any, T]], now: Callable[[], float], fresh_for: float) -> None:
        self._find, self._now, self._fresh_for = find, now, fresh_for
        self._found: _Found[T] | None = None
        self._finding: asyncio.Task[T] | None = None

    async def get(self, stale_for: float = 0.0) -> T:
        """The value; one that is too old by less than ``stale_for`` seconds is returned while a new one is found."""
        found = self._found
        age = float("inf") if found is None else self._now() - found.at
        if found is not None and age < self._fresh_for:
            return found.value
        if self._finding is None:
            self._finding = asyncio.ensure_future(self._renew())
            self._finding.add_done_callback(_retrieve_exception)  # a stale value may have been returned instead
        if found is not None and age < self._fresh_for + stale_for:
            return found.value
        return await asyncio.shield(self._finding)

    def forget(self) -> None:
        """Make the next :meth:`get` find the value anew, even if a renewal is running: it may have begun too early."""
        self._found = self._finding = None

    async def _renew(self) -> T:
        task = asyncio.current_task()
        try:
            value = await self._find()
            if self._finding is task:
                self._found = _Found(self._now(), value)
            return value
        finally:
            if self._finding is task:
                self._finding = None


class _Found(NamedTuple, Generic[T]):
    at: float
    value: T


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
