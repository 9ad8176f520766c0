"""How many hedges may be sent: a share of the requests, and US dollars a day."""

from __future__ import annotations

from math import floor, inf
from typing import Final

DEPOSIT_LIFE: Final = 10  # seconds for which a request entitles to its share of a hedge
_DAY: Final = 86_400  # seconds of a day in Unix time, which begins at midnight UTC


class HedgeBudget:
    """A token bucket filled by requests, as Finagle's RetryBudget: each deposits ``share`` of a hedge.

    A deposit is spent once, the oldest first, and lapses after :data:`DEPOSIT_LIFE` seconds. So there are never more
    hedges than ``share`` of all requests, and none below ``1 / (share * DEPOSIT_LIFE)`` requests a second. Times are
    seconds of a clock that does not go back.
    """

    __slots__ = ("_newest", "_slots", "_total", "share")

    def __init__(self, share: float) -> None:
        self.share = share
        self._slots = [0.0] * DEPOSIT_LIFE  # a ring of seconds: requests not spent yet
        self._total = 0.0
        self._newest = 0

    def take_over(self, earlier: HedgeBudget) -> None:
        """Go on with the requests that another budget has counted."""
        self._slots, self._total, self._newest = list(earlier._slots), earlier._total, earlier._newest

    def deposit(self, now: float) -> None:
        """Count a request."""
        second = floor(now)
        if second != self._newest:
            self._move_to(second)
        self._slots[second % DEPOSIT_LIFE] += 1.0
        self._total += 1.0

    def left(self, now: float) -> int:
        """How many hedges may be sent now."""
        self._move_to(floor(now))
        return floor(self._total * self.share + 1e-9)

    def withdraw(self, now: float) -> bool:
        """Spend what one hedge costs; ``False`` where that is not there."""
        if not self.left(now):
            return False
        due = 1.0 / self.share
        for second in range(self._newest - DEPOSIT_LIFE + 1, self._newest + 1):
            taken = min(due, self._slots[second % DEPOSIT_LIFE])
            self._slots[second % DEPOSIT_LIFE] -= taken
            self._total -= taken
            due -= taken
            if due <= 0:
                break
        return True

    def put_back(self, now: float) -> None:
        """Undo a :meth:`withdraw`: that hedge was not sent."""
        self._move_to(floor(now))
        self._slots[self._newest % DEPOSIT_LIFE] += 1.0 / self.share
        self._total += 1.0 / self.share

    def _move_to(self, second: int) -> None:
        if second - self._newest >= DEPOSIT_LIFE:
            self._slots = [0.0] * DEPOSIT_LIFE
            self._total = 0.0
        else:
            for gone in range(self._newest + 1, second + 1):
                self._total -= self._slots[gone % DEPOSIT_LIFE]
                self._slots[gone % DEPOSIT_LIFE] = 0.0
        self._newest = max(second, self._newest)


class DailyDollars:
    """US dollars that may be spent in a day of UTC; ``wall`` is Unix time in seconds. ``None`` is without a limit."""

    __slots__ = ("_day", "_spent", "limit")

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self._day = 0
        self._spent = 0.0

    def spent(self, wall: float) -> float:
        """What has been spent today."""
        if (day := floor(wall / _DAY)) != self._day:
            self._day, self._spent = day, 0.0
        return self._spent

    def left(self, wall: float) -> float:
        """What may still be spent today."""
        return inf if self.limit is None else max(0.0, self.limit - self.spent(wall))

    def spend(self, wall: float, usd: float) -> bool:
        """Spend ``usd``; ``False`` where less is left."""
        if usd > self.left(wall):
            return False
        self.correct(wall, usd)
        return True

    def correct(self, wall: float, usd: float) -> None:
        """Add ``usd``, which may be negative, to what has been spent: an estimate has become a figure."""
        self._spent = max(0.0, self.spent(wall) + usd)
