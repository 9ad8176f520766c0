"""Requests that start together on one event loop reserve a few at a time."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from typing import Final

PACED_PER_ROUND: Final = 16  # requests that may reserve in one round of an event loop


class AdmissionPacer:
    """Lets at most :data:`PACED_PER_ROUND` requests pass in one round of the event loop, in order.

    Six hundred requests that start together would otherwise all reserve before the first of them is sent, seconds of
    LiteLLM's work later. By then this package's buckets have refilled by those seconds and the provider's have not: the
    last requests would exceed the provider's limit by one refill.
    """

    __slots__ = ("_passed", "_waiting")

    def __init__(self) -> None:
        self._passed = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def passes(self) -> bool:
        """Pass now, if this round lets one more; else :meth:`wait` for one of the next."""
        if not self._passed:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._next_round, loop)
        if self._passed < PACED_PER_ROUND and not self._waiting:
            self._passed += 1
            return True
        return False

    async def wait(self) -> None:
        """Pass in one of the next rounds."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def _next_round(self, loop: asyncio.AbstractEventLoop) -> None:
        self._passed = 0
        while self._waiting and self._passed < PACED_PER_ROUND:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._passed += 1
        if self._passed:
            loop.call_soon(self._next_round, loop)


class _Latest(threading.local):
    """The last pacer of each thread: nearly every call finds it without the weak dictionary."""

    loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
    pacer: AdmissionPacer


_latest = _Latest()
_pacers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AdmissionPacer] = weakref.WeakKeyDictionary()


def pacer() -> AdmissionPacer:
    """The pacer of the running event loop."""
    loop = asyncio.get_running_loop()
    if _latest.loop is not None and _latest.loop() is loop:
        return _latest.pacer
    _latest.pacer = _pacers.setdefault(loop, AdmissionPacer())
    _latest.loop = weakref.ref(loop)
    return _latest.pacer
