"""One limit of a simulated provider: a minute's, a day's, or of calls at once.

They deliberately share nothing with the package's own limiter: if the provider and its client counted with the same
code, a test could not show that the client counts right.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_SLOT_WAIT: Final = 1.0  # seconds until a call in flight may have ended; nothing tells when it will


class Meter(NamedTuple):
    """One limit as a provider reports it in its headers."""

    limit: int
    remaining: int
    reset_after: float  # seconds until the whole limit is available again
    slice_remaining: int = 0  # what remains of the shortest time in which it is enforced
    over: float = 0.0  # by how much, at worst, more was used than the limit allows without its slack


class SimulatedLimit(ABC):
    """One limit, and what another client of the account takes of it: ``drain``, in units a second."""

    limit: int
    drain: float

    @abstractmethod
    def wait_for(self, amount: float) -> float:
        """Seconds until ``amount`` is available: 0 now, infinite when it never will be."""

    @abstractmethod
    def take(self, amount: float) -> None:
        """Use ``amount``; a negative amount gives back."""

    @abstractmethod
    def change(self, limit: int, drain: float) -> None:
        """Another limit, or another client, from now on; what is available never grows by it at once."""

    @abstractmethod
    def reset(self) -> None:
        """Everything is available."""

    @abstractmethod
    def meter(self) -> Meter:
        """The state as headers report it."""


class SimulatedBucket(SimulatedLimit):
    """A token bucket of a limit per minute: ``seconds`` of its rate, plus ``slack`` seconds of it.

    The slack is there because the first request of a burst travels longer than the later ones: an exact bucket would
    refuse a client that keeps the limit exactly. A bucket of few seconds is how vendors enforce a limit per minute in
    short slices; a slice holds one unit at least.
    """

    def __init__(self, per_minute: int, slack: float, clock: Callable[[], float], seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._slack_seconds = slack
        self._clock = clock
        self._at = clock()
        self._set(per_minute, 0.0)
        self._level = self._capacity
        self._over = 0.0

    def _set(self, per_minute: int, drain: float) -> None:
        self.limit = per_minute
        self.drain = drain
        self.rate = per_minute / 60.0
        self._slack = self.rate * self._slack_seconds
        self._capacity = min(per_minute, max(1.0, self.rate * self._seconds)) + self._slack

    def level(self) -> float:
        """What is available now. Another client takes no more than there is."""
        now = self._clock()
        gained, self._at = (now - self._at) * (self.rate - self.drain), now
        least = min(self._level, 0.0) if gained < 0 else -math.inf
        self._level = min(self._capacity, max(least, self._level + gained))
        return self._level

    def wait_for(self, amount: float) -> float:
        """Seconds until ``amount`` is available, as the vendor sees it: without what another client will take."""
        if amount > self._capacity:
            return math.inf
        missing = amount - self.level()
        return missing / self.rate if missing > 0 else 0.0

    def take(self, amount: float) -> None:
        """Consume ``amount``; a negative amount gives back."""
        self._level = min(self._capacity, self.level() - amount)
        self._over = max(self._over, self._slack - self._level)

    def change(self, limit: int, drain: float) -> None:
        """The level stays, unless it is above the new capacity."""
        level = self.level()
        self._set(limit, drain)
        self._level = min(self._capacity, level)

    def reset(self) -> None:
        """Fill it."""
        self._level, self._at, self._over = self._capacity, self._clock(), 0.0

    def meter(self) -> Meter:
        """The slack is not reported."""
        level = self.level()
        remaining = max(0, min(self.limit, math.floor(level - self._slack)))
        missing = self._capacity - level
        return Meter(self.limit, remaining, missing / self.rate if missing > 0 else 0.0, over=self._over)


class SimulatedDay(SimulatedLimit):
    """A limit per calendar day in the provider's own time zone."""

    def __init__(self, per_day: int, zone: str, wall: Callable[[], float]) -> None:
        self.limit = per_day
        self.drain = 0.0
        self._zone = ZoneInfo(zone)
        self._wall = wall
        self._at = wall()
        self._day = self._now().date()
        self._used = 0.0

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), self._zone)

    def _until_midnight(self) -> float:
        tomorrow = self._now().date() + timedelta(days=1)
        midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=self._zone)
        # Through timestamps: subtracting two datetimes of one zone ignores a clock change between them.
        return max(0.0, midnight.timestamp() - self._wall())

    def used(self) -> float:
        """What was used today."""
        now, today = self._wall(), self._now().date()
        if today != self._day:
            self._day, self._used, self._at = today, 0.0, now
        elsewhere, self._at = (now - self._at) * self.drain, now
        self._used = max(self._used, min(self.limit, self._used + elsewhere))
        return self._used

    def wait_for(self, amount: float) -> float:
        """Seconds to midnight where it does not fit."""
        if amount > self.limit:
            return math.inf
        return 0.0 if self.used() + amount <= self.limit else self._until_midnight()

    def take(self, amount: float) -> None:
        """Count it."""
        self._used = max(0.0, self.used() + amount)

    def change(self, limit: int, drain: float) -> None:
        """What was used today stays used."""
        self.used()
        self.limit, self.drain = limit, drain

    def reset(self) -> None:
        """Count from zero."""
        self._used, self._at = 0.0, self._wall()

    def meter(self) -> Meter:
        """The day ends at midnight."""
        return Meter(self.limit, max(0, math.floor(self.limit - self.used())), self._until_midnight())


class SimulatedSlots(SimulatedLimit):
    """Calls at once; another client is not simulated here."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.drain = 0.0
        self._used = 0.0

    def wait_for(self, amount: float) -> float:
        """A second, since nothing tells when a call will end."""
        return 0.0 if self._used + amount <= self.limit else _SLOT_WAIT

    def take(self, amount: float) -> None:
        """Hold it until it is given back."""
        self._used += amount

    def change(self, limit: int, drain: float) -> None:
        """Calls in flight go on."""
        self.limit = limit

    def reset(self) -> None:
        """Calls in flight are still held."""

    def meter(self) -> Meter:
        """Calls that may begin now."""
        return Meter(self.limit, max(0, math.floor(self.limit - self._used)), 0.0)
