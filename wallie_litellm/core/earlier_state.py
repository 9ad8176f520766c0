"""A state of the lease server that was lost, as its workers report it to the one that follows."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Final

from wallie_litellm.core.lease_exchange import Amounts
from wallie_litellm.core.token_bucket import TokenBucket

JOINED_WITHIN: Final = 1.0  # seconds in which its workers join the one that follows, unless they are gone
EARLIER: Final = ""  # stands in the place of those that have not joined, with what they had on lease


class EarlierState:
    """What has been reported of it, and how many workers are awaited. Times are seconds of the server's clock."""

    __slots__ = ("_awaited_until", "_reported", "awaited")

    def __init__(self) -> None:
        self.awaited = 0  # workers that have not joined
        self._awaited_until = 0.0
        self._reported: dict[str, float] = {}  # when a bucket was to be full again; units used of a day

    def begin(self, now: float, workers: int) -> None:
        """The first of so many workers joins."""
        self.awaited, self._awaited_until = workers - 1, now + JOINED_WITHIN

    def join(self) -> None:
        """Another worker joins."""
        self.awaited = max(0, self.awaited - 1)

    def is_awaited(self, now: float) -> bool:
        """Whether nothing is leased yet, because a worker may be about to report more use."""
        return self.awaited > 0 and now < self._awaited_until

    def beyond(
        self, now: float, used: Amounts, buckets: Mapping[str, TokenBucket], days: Container[str]
    ) -> dict[str, float]:
        """Units of what a worker says was ``used``, by limit, that workers before it have not reported."""
        found: dict[str, float] = {}
        for name, units in used.items():
            if (bucket := buckets.get(name)) is not None:
                before = max(now, self._reported.get(name, now))
                self._reported[name] = max(before, now + units * bucket.cost)
                found[name] = (self._reported[name] - before) / bucket.cost
            elif name in days:
                before = self._reported.get(name, 0.0)
                self._reported[name] = max(before, units)
                found[name] = self._reported[name] - before
        return found

    def end_day(self, name: str) -> None:
        """A limit's day has ended: what is reported from then on is of the next."""
        self._reported.pop(name, None)
