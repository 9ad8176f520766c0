"""Calendar-day counters: what has been used since the last local midnight."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo


def next_midnight(wall: float, timezone: str) -> float:
    """The Unix time, in seconds, of the first midnight in ``timezone`` after ``wall``.

    Days are 23 or 25 hours long where clocks change, so the next day's own offset counts.
    """
    zone = ZoneInfo(timezone)
    tomorrow = datetime.fromtimestamp(wall, UTC).astimezone(zone).date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone).timestamp()


def last_midnight(wall: float, timezone: str) -> float:
    """The Unix time, in seconds, at which the day of ``wall`` began in ``timezone``."""
    zone = ZoneInfo(timezone)
    today = datetime.fromtimestamp(wall, UTC).astimezone(zone).date()
    return datetime(today.year, today.month, today.day, tzinfo=zone).timestamp()


class DailyQuota:
    """Counts up to ``limit`` units a day.

    ``started_at`` and ``resets_at`` are seconds of the caller's monotonic clock, ``ends`` is in Unix time.
    """

    __slots__ = ("ends", "limit", "resets_at", "started_at", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.started_at = float("-inf")
        self.resets_at = float("inf")
        self.ends = float("inf")

    def roll(self, now: float, resets_at: float, ends: float) -> None:
        """Begin the day that ends at ``resets_at`` if the current one is over; else follow a moved clock.

        ``ends`` is the same midnight in Unix time: it shows that a day has passed while ``now`` stood still.
        """
        if now >= self.resets_at or ends > self.ends:
            self.reset(now)
        self.resets_at = resets_at
        self.ends = ends

    def move_end(self, resets_at: float, ends: float) -> None:
        """Have the day end at another time, in another zone; what was used counts until then."""
        self.resets_at = resets_at
        self.ends = ends

    def reset(self, now: float) -> None:
        """Begin anew at ``now``; refunds of earlier reservations are ignored from then on."""
        self.used = 0
        self.started_at = now

    def wait(self, now: float, amount: int) -> float:
        """Seconds until ``amount`` fits: 0 now, or the time to midnight."""
        return 0.0 if self.used + amount <= self.limit else self.resets_at - now
