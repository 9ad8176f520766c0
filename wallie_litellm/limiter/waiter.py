"""Requests in a limiter's queue, and when each of them gives up."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from wallie_litellm.core.demand import Demand
from wallie_litellm.limiter.store import Denial, DenialReason, Reservation

_LEASE_REQUESTED: Final = DenialReason.LEASE_REQUESTED  # an enum's member takes long to look up


class Waiter:
    """A request in the queue until ``give_up_at``; past ``worth_until`` it waits for the lease server's answer alone.

    ``result`` is set when it leaves; then ``wake`` is called with it, once, from any thread. ``scope`` is the pattern
    of its model's limits, empty where it has none, and ``model`` the model's scope. The output of a demand that is
    ``guessed`` is cut to what the limits can hold.
    """

    __slots__ = ("demand", "give_up_at", "guessed", "model", "priority", "result", "scope", "wake", "worth_until")

    def __init__(
        self,
        demand: Demand,
        priority: int,
        give_up_at: float,
        wake: Callable[[Waiter], None],
        scope: str = "",
        worth_until: float | None = None,
        model: str = "",
        guessed: bool = False,
    ) -> None:
        self.demand = demand
        self.priority = priority
        self.give_up_at = give_up_at
        self.worth_until = give_up_at if worth_until is None else worth_until
        self.wake = wake
        self.scope = scope
        self.model = model
        self.guessed = guessed
        self.result: Reservation | Denial | None = None

    def may_wait(self, now: float, denial: Denial) -> bool:
        """Whether the wait that a denial says ends in time."""
        until = self.give_up_at if denial.reason is _LEASE_REQUESTED else self.worth_until
        return now + denial.retry_after <= until


def wake(waiters: Iterable[Waiter]) -> None:
    """Wake ``waiters``; called without the limiter's lock."""
    for waiter in waiters:
        waiter.wake(waiter)


class GiveUps:
    """The times at which waiters give up, earliest first. Waiters with a result drop out by themselves."""

    __slots__ = ("_heap", "_sequence")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiter]] = []
        self._sequence = itertools.count()

    def add(self, waiter: Waiter) -> None:
        """Keep the time of ``waiter``, which has no result yet."""
        heapq.heappush(self._heap, (waiter.give_up_at, next(self._sequence), waiter))

    def first(self) -> float:
        """The earliest time; ``inf`` without waiters."""
        while self._heap and self._heap[0][2].result is not None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def last(self) -> float:
        """The latest time; there must be a waiter."""
        return max(give_up_at for give_up_at, _, waiter in self._heap if waiter.result is None)

    def pop_until(self, until: float) -> Waiter | None:
        """Remove the waiter that gives up first, if that is at ``until`` or before."""
        if self.first() > until or not self._heap:
            return None
        return heapq.heappop(self._heap)[2]
