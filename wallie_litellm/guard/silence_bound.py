"""A bound on how long a provider may say nothing, which an event loop without time does not pass."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

BUSY: Final = 0.05  # seconds: a turn of the event loop that takes longer keeps answers waiting that have come
TURNS: Final = 2  # of the loop that are timed before the bound is passed
AGAIN: Final = 0.25  # seconds at least until a busy loop is looked at again


class SilenceBound:
    """As :func:`asyncio.timeout`, unless the loop is late when ``seconds`` have passed.

    A loop that is late with its timers is late with what its sockets have, too: the provider may have answered in time.
    While it is, the bound begins anew. Without this, a process that has no CPU to spare takes all of its providers for
    silent, opens their breakers and refuses requests that it would have served, late.
    """

    __slots__ = ("_due", "_handle", "_loop", "_seconds", "_timeout", "extended")

    def __init__(self, seconds: float) -> None:
        self.extended = 0.0  # seconds more than it was given
        self._seconds = max(0.0, seconds)
        self._timeout = asyncio.timeout(None)

    def expired(self) -> bool:
        """Whether the bound was passed."""
        return self._timeout.expired()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self._timeout.__aenter__()
        self._wait(self._seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        await self._timeout.__aexit__(kind, error, trace)  # swallows nothing: it raises a TimeoutError

    def _wait(self, seconds: float) -> None:
        self._due = self._loop.time() + seconds
        self._handle: asyncio.Handle = self._loop.call_at(self._due, self._turn, TURNS)

    def _turn(self, left: int) -> None:
        now = self._loop.time()
        if (late := now - self._due) > BUSY:
            again = max(self._seconds, AGAIN)
            self.extended += late + again
            self._wait(again)
        elif left:
            self._due = now
            self._handle = self._loop.call_soon(self._turn, left - 1)
        else:
            self._timeout.reschedule(now)
