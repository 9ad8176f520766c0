"""One timer that is set again and again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf

from wallie_litellm.clock import Clock


class ResettableTimer:
    """A timer of ``clock`` with one time at most; its methods are called under the limiter's lock.

    ``callback`` is called without the lock and with a number: a cancelled timer may fire all the same, so the callback
    asks :meth:`expired` first.
    """

    __slots__ = ("_callback", "_cancel", "_clock", "_number", "at")

    def __init__(self, clock: Clock, callback: Callable[[int], None]) -> None:
        self.at = inf
        self._clock = clock
        self._callback = callback
        self._cancel: Callable[[], None] | None = None
        self._number = 0

    def set(self, when: float) -> None:
        """Fire at ``when`` and at no other time; ``inf`` for never."""
        if when == self.at and self._cancel is not None:
            return
        if self._cancel is not None:
            self._cancel()
            self._cancel = None
        self.at = when
        if when < inf:
            self._number += 1
            self._cancel = self._clock.call_at(when, partial(self._callback, self._number))

    def expired(self, number: int) -> bool:
        """Whether the call with ``number`` is the timer's latest: it is then no longer set."""
        if number != self._number:
            return False
        self._cancel = None
        self.at = inf
        return True
