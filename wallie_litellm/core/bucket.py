"""A token bucket kept as one number: the instant at which it will be full again.

This is the generic cell rate algorithm (ITU-T I.371) read as a token bucket: taking ``n`` moves the instant
``n / rate`` further away, time moves towards it, and the bucket is empty when it lies ``capacity / rate`` ahead.
A single float per bucket needs no refill step, keeps debt (a call that used more than it reserved) by itself, and a
refund can never overfill it.
"""

from __future__ import annotations

SECONDS_PER_MINUTE = 60.0

# The sum of many small floats may overshoot the last permitted one; a microsecond of rate forgives that.
TOLERANCE = 1e-6


class Bucket:
    """A bucket of ``capacity`` units, refilled continuously at ``per_minute`` units a minute.

    Times are seconds on any monotonic clock that the caller keeps to.
    """

    __slots__ = ("capacity", "cost", "depth", "full_at")

    def __init__(self, per_minute: float, capacity: float) -> None:
        self.capacity = capacity
        self.cost = SECONDS_PER_MINUTE / per_minute
        self.depth = capacity * self.cost + TOLERANCE
        self.full_at = 0.0

    def wait(self, now: float, amount: float) -> float:
        """Seconds until ``amount`` can be taken; 0 or less when it can be now."""
        start = self.full_at if self.full_at > now else now
        return start + amount * self.cost - self.depth - now

    def take(self, now: float, amount: float) -> None:
        """Take ``amount``, into debt if it is not there. A negative amount gives back."""
        self.full_at = (self.full_at if self.full_at > now else now) + amount * self.cost

    def give_back(self, amount: float) -> None:
        """Undo part of an earlier :meth:`take`. What has been refilled since then is not filled twice."""
        self.full_at -= amount * self.cost

    def used(self, now: float) -> float:
        """Units taken and not yet refilled, debt included."""
        return max(0.0, self.full_at - now) / self.cost

    def full_in(self, now: float) -> float:
        """Seconds until the bucket is full again."""
        return max(0.0, self.full_at - now)

    def reset(self) -> None:
        """Fill the bucket."""
        self.full_at = 0.0
