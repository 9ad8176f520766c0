"""A token bucket kept as one number: the instant at which it will be full again.

This is the generic cell rate algorithm (ITU-T I.371) read as a token bucket: taking ``n`` moves the instant
``n / rate`` further away, time moves towards it, and the bucket is empty when it lies ``capacity / rate`` ahead.
A single float per bucket needs no refill step and keeps debt (a call that used more than it reserved) by itself.

A refund needs a little more: what was taken long ago may have been refilled since, and giving that back would fill it
in twice. So the bucket keeps the least that was ever missing since a given instant; no refund is larger.
"""

from __future__ import annotations

from bisect import bisect_right
from math import inf
from typing import Final

SECONDS_PER_MINUTE: Final = 60.0
TOLERANCE: Final = 1e-6  # seconds of refill; the sum of many small floats may exceed the capacity by less than that
MAX_LOWS: Final = 512  # low points that are kept before neighbours are merged


class TokenBucket:
    """A bucket of ``capacity`` units, refilled continuously at ``per_minute`` units a minute.

    Times are seconds of the caller's monotonic clock.
    """

    __slots__ = ("_lows", "_max_lows", "_was_full_at", "capacity", "cost", "depth", "full_at")

    def __init__(self, per_minute: float, capacity: float, max_lows: int = MAX_LOWS) -> None:
        self._max_lows = max_lows
        self._set(per_minute, capacity)
        self.full_at = -inf
        self._was_full_at = -inf  # what was taken before has all been refilled
        # Since then: (instant, seconds to full just before something was taken), each lower than all that came after.
        self._lows: list[tuple[float, float]] = []

    def _set(self, per_minute: float, capacity: float) -> None:
        self.capacity = capacity
        self.cost = SECONDS_PER_MINUTE / per_minute
        self.depth = capacity * self.cost + TOLERANCE

    def resize(self, now: float, per_minute: float, capacity: float) -> None:
        """Change the limit; the units that are missing stay missing."""
        before = self.cost
        self._set(per_minute, capacity)
        if self.cost != before and self.full_at > now:
            ratio = self.cost / before
            self.full_at = now + (self.full_at - now) * ratio
            self._lows = [(when, missing * ratio) for when, missing in self._lows]

    def forgive(self, now: float) -> None:
        """Let no more be missing than the capacity: a limit that turned out smaller was exceeded by its lack."""
        excess = self.full_at - now - self.capacity * self.cost
        if excess <= 0:
            return
        self.full_at -= excess
        lowered = [(when, missing - excess) for when, missing in self._lows]
        self._lows = [low for low in lowered if low[1] > 0]
        filled = [when for when, missing in lowered if missing <= 0]
        self._was_full_at = max((self._was_full_at, *filled))

    def wait(self, now: float, amount: float) -> float:
        """Seconds until ``amount`` can be taken; 0 or less when it can be now."""
        missing = self.full_at - now
        short = (missing if missing > 0 else 0.0) + amount * self.cost - self.depth
        # Half of the tolerance is left, so that waiting exactly this long is enough however it is rounded.
        return short + TOLERANCE / 2 if short > 0 else short

    def take_if_there(self, now: float, amount: float) -> bool:
        """:meth:`take` if :meth:`wait` is over, else nothing and ``False``."""
        missing, span = self.full_at - now, amount * self.cost
        if (missing if missing > 0 else 0.0) + span > self.depth:
            return False
        if missing > 0:
            self._note_low(now, missing)
            self.full_at += span
        else:
            self._lows.clear()
            self._was_full_at = now
            self.full_at = now + span
        return True

    def untake(self, amount: float) -> None:
        """Undo a :meth:`take_if_there` of the same instant."""
        self.full_at -= amount * self.cost

    def take(self, now: float, amount: float) -> None:
        """Take ``amount``, into debt if it is not there."""
        missing = self.full_at - now
        if missing > 0:
            self._note_low(now, missing)
            self.full_at += amount * self.cost
        else:
            self._lows.clear()
            self._was_full_at = now
            self.full_at = now + amount * self.cost

    def _note_low(self, now: float, missing: float) -> None:
        lows = self._lows
        while lows and lows[-1][1] >= missing:
            lows.pop()
        lows.append((now, missing))
        if len(lows) > self._max_lows:
            # The later instant with the lower level: a refund may come out smaller, never larger.
            lows[:] = [(lows[i + 1][0], lows[i][1]) for i in range(0, len(lows) - 1, 2)] + lows[len(lows) & ~1 :]

    def give_back(self, now: float, since: float, amount: float) -> None:
        """Undo ``amount`` of what was taken at ``since``, as if it had never been; what has been refilled stays."""
        missing = self.full_at - now
        if missing <= 0 or since < self._was_full_at:
            return
        lows = self._lows
        credit = min(amount * self.cost, missing)
        if not lows or lows[-1][0] <= since:  # nothing was taken since: the usual case of a call on its own
            self.full_at -= credit
            return
        first = bisect_right(lows, (since, inf))
        credit = min(credit, lows[first][1])
        self.full_at -= credit
        later = [(when, missing - credit) for when, missing in lows[first:]]
        del lows[first:]
        while lows and later and lows[-1][1] >= later[0][1]:
            lows.pop()
        lows += later

    def used(self, now: float) -> float:
        """Units taken and not yet refilled, debt included."""
        return max(0.0, self.full_at - now) / self.cost

    def full_in(self, now: float) -> float:
        """Seconds until the bucket is full again."""
        return max(0.0, self.full_at - now)

    def reset(self) -> None:
        """Fill the bucket."""
        self.full_at = -inf
