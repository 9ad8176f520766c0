"""Stores and limiters on a fake clock, and the checks that hold for them after every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import inf
from typing import Any

from fake_clock import FakeClock

from wallie_litellm.core.circuit_breaker import BreakerRules
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.core.dimensions import DIMENSION_KINDS, RATE_DIMENSIONS
from wallie_litellm.core.token_bucket import TOLERANCE
from wallie_litellm.limiter.leased.lease_client import NONE_WAITING, Head, Waiting
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.limits import AccountLimits, ScopeLimits
from wallie_litellm.limiter.memory_store import MemoryStore
from wallie_litellm.limiter.store import Balance, Denial, DenialReason, ProviderStore, Reservation
from wallie_litellm.limiter.waiter import Waiter

Admission = tuple[float, Demand]


def in_memory(clock: FakeClock, limits: AccountLimits, rules: BreakerRules) -> ProviderStore:
    return MemoryStore("openai", limits, rules, clock.wall)


# `new_store` calls the last one; the fixture `every_store` appends those of other stores.
makers: list[Callable[[FakeClock, AccountLimits, BreakerRules], ProviderStore]] = [in_memory]


def new_store(
    clock: FakeClock,
    limits: Mapping[str, int],
    rules: BreakerRules | None = None,
    **more: Any,
) -> ProviderStore:
    return makers[-1](clock, AccountLimits(limits, **more), rules or BreakerRules())


def new_limiter(
    clock: FakeClock, limits: Mapping[str, int], rules: BreakerRules | None = None, ttl: float = 600.0, **more: Any
) -> Limiter:
    return Limiter("openai", new_store(clock, limits, rules, **more), clock, ttl)


def tokens(amount: int) -> Demand:
    """One request of ``amount`` tokens, all of them input."""
    return Demand(1, amount, amount, 0)


def waiting(head: Demand | None, queued: Demand = NOTHING, max_wait: float = inf) -> Waiting:
    """Calls that wait at a worker: the first of them, and what all of them demand."""
    if head is None:
        return NONE_WAITING
    return Waiting((Head("", head),), {"": queued if queued.requests else head}, max_wait)


def granted(result: object) -> Reservation:
    assert isinstance(result, Reservation), result
    return result


def denied(result: object) -> Denial:
    assert isinstance(result, Denial), result
    return result


def used_up_dimension(result: object) -> str | None:
    """The dimension of a denial for a limit that is used up."""
    denial = denied(result)
    assert denial.reason is DenialReason.LIMIT, denial
    return denial.dimension


class RecordedQueue:
    """The waiters of one limiter, in the order in which they were woken."""

    def __init__(self, clock: FakeClock, limiter: Limiter) -> None:
        self.clock = clock
        self.limiter = limiter
        self.answered: list[Waiter] = []
        self.admissions: list[Admission] = []

    def join(self, demand: Demand, priority: int = 0, patience: float = inf, scope: str = "") -> Waiter:
        waiter = Waiter(demand, priority, self.clock.now() + patience, self._wake, scope)
        self.limiter.enqueue(waiter)
        return waiter

    def _wake(self, waiter: Waiter) -> None:
        assert waiter.result is not None
        assert waiter not in self.answered, "woken twice"
        self.answered.append(waiter)
        if isinstance(waiter.result, Reservation):
            self.admissions.append((waiter.result.at, waiter.demand))


def assert_scopes_hold(admissions: Sequence[tuple[float, Demand, str]], limiter: Limiter) -> None:
    """Neither the account nor a model's limits let more pass than they allow; admissions come with their scope."""
    limits = limiter._store.limits
    assert_never_over_admitted([(at, demand) for at, demand, _ in admissions], limits)
    for pattern, own in limits.models.items():
        assert_never_over_admitted([(at, demand) for at, demand, scope in admissions if scope == pattern], own)


def assert_never_over_admitted(admissions: Sequence[Admission], limits: ScopeLimits) -> None:
    """Between any two admissions, no rate dimension let more pass than its capacity and what was refilled."""
    for dimension in RATE_DIMENSIONS:
        if dimension not in limits.per_dimension:
            continue
        limit = limits.per_dimension[dimension] * (1 - limits.headroom)
        stated = limits.burst.get(dimension, limits.per_dimension[dimension]) * (1 - limits.headroom)
        capacity = max(1.0, stated)  # a bucket that could never hold one request would refuse everything
        sums = list(accumulate((demand[DIMENSION_KINDS[dimension]] for _, demand in admissions), initial=0))
        for last, (end, _) in enumerate(admissions):
            for first, (start, _) in enumerate(admissions[: last + 1]):
                allowed = capacity + limit / 60 * (end - start + 2 * TOLERANCE) + 1e-6
                assert sums[last + 1] - sums[first] <= allowed, (dimension, admissions[first : last + 1], capacity)


def assert_balances(balances: Mapping[str, Balance], in_flight: Sequence[Demand]) -> None:
    """All units ever reserved were settled, refunded, or are in flight."""
    for dimension, balance in balances.items():
        held = sum(demand.of(dimension) for demand in in_flight)
        assert balance.reserved == balance.settled + balance.refunded + held, (dimension, balance, held)
