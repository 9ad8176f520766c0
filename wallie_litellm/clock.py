"""Time and timers: the machine's own, behind a protocol that tests implement with a fake."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, Protocol

logger = logging.getLogger(__name__)

DAY: Final = 86_400  # seconds


class Clock(Protocol):
    """The guard's source of time. All times are seconds."""

    def now(self) -> float:
        """A monotonic time, from an arbitrary zero."""

    def wall(self) -> float:
        """Unix time."""

    def call_at(self, when: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Have ``callback`` called once :meth:`now` reaches ``when``; returns a function that cancels this."""

    def close(self) -> None:
        """Stop all timers."""


class SystemClock:
    """The machine's clocks, and one daemon thread for all timers.

    A thread rather than an event loop's timers: waiters of several loops and of plain threads share one queue, and a
    loop that is blocked or closed must not keep the others waiting. New timers reach the thread through a
    ``SimpleQueue``, whose ``put`` may be called from anywhere, a finaliser in the middle of another ``put`` included.
    """

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def __init__(self) -> None:
        self._inbox: SimpleQueue[tuple[float, int, list[Callable[[], object]]] | None] = SimpleQueue()
        self._sequence = itertools.count()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._closed = False

    def call_at(self, when: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Have the timer thread call ``callback`` once :meth:`now` reaches ``when``; returns what cancels it."""
        cell = [callback]
        self._inbox.put((when, next(self._sequence), cell))
        if self._pid != os.getpid():  # a forked child has the object but not the thread
            self._start()
        return cell.clear

    def close(self) -> None:
        """Stop all timers and the thread."""
        self._closed = True
        self._inbox.put(None)

    def _start(self) -> None:
        with self._starting:
            if self._closed or self._pid == os.getpid():
                return
            self._pid = os.getpid()
            self._thread = threading.Thread(target=self._run, name="wallie-timers", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        timers: list[tuple[float, int, list[Callable[[], object]]]] = []
        closing = False
        while not closing:
            delay = max(0.0, timers[0][0] - time.monotonic()) if timers else None
            with suppress(Empty):
                timer = self._inbox.get(timeout=delay)
                if timer is None:
                    closing = True
                elif timer[2]:
                    heapq.heappush(timers, timer)
                timer = None  # what it calls must not live until the next timer comes
            while timers and timers[0][0] <= time.monotonic():
                _fire(heapq.heappop(timers)[2])


def _fire(cell: list[Callable[[], object]]) -> None:
    if not cell:
        return
    try:
        cell[0]()
    except Exception:
        logger.exception("a timer failed")


class Repeating:
    """Calls ``look`` every ``interval`` seconds on a daemon thread, in a forked child on one of its own, until closed.

    An error is logged, and ends nothing.
    """

    def __init__(self, look: Callable[[], object], interval: float, name: str) -> None:
        self._look = look
        self._interval = interval
        self._name = name
        self._closing = threading.Event()

    def start(self) -> None:
        """Begin; the first call is at once."""
        _repeating.add(self)
        threading.Thread(target=self._run, args=(self._closing,), name=f"wallie-{self._name}", daemon=True).start()

    def close(self) -> None:
        """End the thread. Idempotent."""
        self._closing.set()

    def go_on(self) -> None:
        """Begin anew in a forked child, which has no thread of its parent's."""
        if not self._closing.is_set():
            self._closing = threading.Event()  # another thread of the parent may have held the lock of the old one
            self.start()

    def _run(self, closing: threading.Event) -> None:
        while not closing.is_set():
            try:
                self._look()
            except Exception:
                logger.exception("%s: a look failed", self._name)
            closing.wait(self._interval)


_repeating: weakref.WeakSet[Repeating] = weakref.WeakSet()


def _repeat_in_child() -> None:
    for one in tuple(_repeating):
        one.go_on()


os.register_at_fork(after_in_child=_repeat_in_child)


def wakeup() -> tuple[asyncio.Future[None], Callable[[], None]]:
    """A future of the running event loop, and what sets it: from any thread, any number of times, also too late."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if over.done() else over.set_result(None))

    return over, wake
