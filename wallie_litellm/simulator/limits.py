"""The limits a simulated provider enforces by itself.

They deliberately share nothing with the package's own limiter: if the provider and its client counted with the same
code, a test could not show that the client counts right.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

LimitName = Literal["rpm", "tpm", "rpd"]


@dataclass(frozen=True)
class Meter:
    """One limit as a provider reports it in its headers."""

    limit: int
    remaining: int
    reset_after: float  # seconds until the whole limit is available again


@dataclass(frozen=True)
class LimitVerdict:
    """The answer to one request: admitted, or refused by a named limit."""

    refused_by: LimitName | None = None
    retry_after: float = 0.0  # seconds until the same request would fit; infinite when it never will
    asked: int = 0  # what the request asked of the refusing limit (requests or tokens)

    @property
    def admitted(self) -> bool:
        """Whether the request may be answered."""
        return self.refused_by is None


class SimulatedBucket:
    """A token bucket holding one minute's limit, plus ``slack`` seconds of its rate.

    The slack is there because the first request of a burst travels longer than the later ones:
    an exact bucket would refuse a client that keeps the limit exactly.
    """

    def __init__(self, per_minute: int, slack: float, clock: Callable[[], float]) -> None:
        self.limit = per_minute
        self.rate = per_minute / 60.0
        self._slack = self.rate * slack
        self._capacity = per_minute + self._slack
        self._clock = clock
        self._level = self._capacity
        self._at = clock()

    def level(self) -> float:
        """What is available now."""
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self.rate)
        self._at = now
        return self._level

    def wait_for(self, amount: float) -> float:
        """Seconds until ``amount`` is available: 0 now, infinite when it exceeds the capacity."""
        if amount > self._capacity:
            return math.inf
        return max(0.0, (amount - self.level()) / self.rate)

    def take(self, amount: float) -> None:
        """Consume ``amount``; a negative amount gives back."""
        self._level = min(self._capacity, self.level() - amount)

    def reset(self) -> None:
        """Fill it."""
        self._level = self._capacity

    def meter(self) -> Meter:
        """The state as headers report it: the slack is not reported."""
        level = self.level()
        remaining = max(0, min(self.limit, math.floor(level - self._slack)))
        return Meter(self.limit, remaining, max(0.0, (self._capacity - level) / self.rate))


class SimulatedDay:
    """Requests per calendar day in the provider's own time zone."""

    def __init__(self, per_day: int, zone: str, wall: Callable[[], float]) -> None:
        self.limit = per_day
        self._zone = ZoneInfo(zone)
        self._wall = wall
        self._day = self._now().date()
        self._used = 0

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), self._zone)

    def _until_midnight(self) -> float:
        tomorrow = self._now().date() + timedelta(days=1)
        midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=self._zone)
        # Through timestamps: subtracting two datetimes of one zone ignores a clock change between them.
        return max(0.0, midnight.timestamp() - self._wall())

    def used(self) -> int:
        """Requests counted today."""
        today = self._now().date()
        if today != self._day:
            self._day, self._used = today, 0
        return self._used

    def wait(self) -> float:
        """Seconds until one more request fits."""
        return 0.0 if self.used() < self.limit else self._until_midnight()

    def take(self) -> None:
        """Count one request."""
        self._used = self.used() + 1

    def reset(self) -> None:
        """Count from zero."""
        self._used = 0

    def meter(self) -> Meter:
        """The state as headers report it."""
        return Meter(self.limit, max(0, self.limit - self.used()), self._until_midnight())


class SimulatedLimits:
    """Requests per minute, tokens per minute and requests per day; None means unlimited.

    ``slack`` is in seconds of rate; ``zone`` is where the day ends. Not thread-safe: one event loop owns it.
    """

    def __init__(
        self,
        rpm: int | None = None,
        tpm: int | None = None,
        rpd: int | None = None,
        *,
        slack: float = 2.0,
        zone: str = "UTC",
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._rpm = SimulatedBucket(rpm, slack, clock) if rpm else None
        self._tpm = SimulatedBucket(tpm, slack, clock) if tpm else None
        self._rpd = SimulatedDay(rpd, zone, wall) if rpd else None

    def admit(self, tokens: int) -> LimitVerdict:
        """Charge one request of ``tokens``, or refuse it and charge nothing."""
        waits: list[tuple[LimitName, float, int]] = []
        if self._rpd:
            waits.append(("rpd", self._rpd.wait(), 1))
        if self._rpm:
            waits.append(("rpm", self._rpm.wait_for(1), 1))
        if self._tpm:
            waits.append(("tpm", self._tpm.wait_for(tokens), tokens))
        name, wait, asked = max(waits, key=lambda entry: entry[1], default=("rpm", 0.0, 1))
        if wait > 0:
            return LimitVerdict(name, wait, asked)
        if self._rpd:
            self._rpd.take()
        if self._rpm:
            self._rpm.take(1)
        if self._tpm:
            self._tpm.take(tokens)
        return LimitVerdict()

    def refund_tokens(self, tokens: int) -> None:
        """Give back the tokens of a request that got an error: it still counts as a request."""
        if self._tpm:
            self._tpm.take(-tokens)

    def meters(self) -> dict[LimitName, Meter]:
        """The configured limits, as headers report them."""
        return {name: source.meter() for name, source in self._sources() if source}

    def _sources(self) -> tuple[tuple[LimitName, SimulatedBucket | SimulatedDay | None], ...]:
        return ("rpm", self._rpm), ("tpm", self._tpm), ("rpd", self._rpd)

    def reset(self) -> None:
        """Start afresh with everything available."""
        for _, source in self._sources():
            if source:
                source.reset()
