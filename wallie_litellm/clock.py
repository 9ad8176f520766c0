"""Time, and being called when it has come: the real thing and the seam that tests put a fake into."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)


class Clock(Protocol):
    """Where the guard takes its time from. All times are seconds."""

    def now(self) -> float:
        """A clock that never goes back; its zero means nothing."""

    def wall(self) -> float:
        """Unix time."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Have ``callback`` called once :meth:`now` reaches ``when``; returns how to call it off."""

    def close(self) -> None:
        """Stop calling anybody."""


class _Entry:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class SystemClock:
    """The machine's clocks, and one daemon thread for all timers.

    A thread rather than an event loop's timers: waiters of several loops and of plain threads share one queue, and a
    loop that is blocked or closed must not keep the others waiting.
    """

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._heap: list[tuple[float, int, _Entry]] = []
        self._sequence = itertools.count()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._closed = False

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        """See :class:`Clock`."""
        entry = _Entry(callback)
        with self._condition:
            heapq.heappush(self._heap, (when, next(self._sequence), entry))
            self._ensure_thread()
            if self._heap[0][2] is entry:
                self._condition.notify()
        return entry.cancel

    def close(self) -> None:
        """See :class:`Clock`."""
        with self._condition:
            self._closed = True
            self._heap.clear()
            self._condition.notify()

    def _ensure_thread(self) -> None:
        # A forked child has the object but not the thread.
        if self._closed or (self._thread is not None and self._pid == os.getpid()):
            return
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="wallie-timers", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            callback = self._next()
            if callback is None:
                return
            try:
                callback()
            except Exception:
                logger.exception("a timer failed")

    def _next(self) -> Callable[[], None] | None:
        with self._condition:
            while not self._closed:
                if not self._heap:
                    self._condition.wait()
                    continue
                delay = self._heap[0][0] - time.monotonic()
                if delay > 0:
                    self._condition.wait(delay)
                    continue
                callback = heapq.heappop(self._heap)[2].callback
                if callback is not None:
                    return callback
        return None
