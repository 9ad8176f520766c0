"""When a limit per minute is used up: what is asked of it, and what waits, against the refill."""

from __future__ import annotations

import pytest
from fake_clock import FakeClock
from limiter_support import granted, new_limiter, tokens

from wallie_litellm.core.demand import Demand
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.waiter import Waiter

pytestmark = pytest.mark.usefixtures("every_store")


def load(limiter: Limiter, clock: FakeClock, seconds: int, a_second: int, size: int = 10) -> None:
    """``a_second`` requests in each of so many seconds, settled at once."""
    for _ in range(seconds):
        for _ in range(a_second):
            limiter.settle(granted(limiter.reserve(tokens(size))), tokens(size))
        clock.advance(1)


def exhausted_in(limiter: Limiter, dimension: str) -> float | None:
    return limiter.state().usage[dimension].exhausted_in


def test_demand_above_the_refill_uses_a_limit_up_and_demand_below_it_does_not() -> None:
    clock = FakeClock()
    limiter = new_limiter(clock, {"rpm": 120, "tpm": 60_000})
    load(limiter, clock, 35, 1)
    assert exhausted_in(limiter, "rpm") is None

    load(limiter, clock, 35, 4)  # 2 of 4 are refilled

    assert exhausted_in(limiter, "rpm") == pytest.approx((120 - 35 * 2) / 2, rel=0.15)
    assert exhausted_in(limiter, "tpm") is None


def test_tokens_of_calls_under_way_are_demand_before_they_are_settled() -> None:
    clock = FakeClock()
    limiter = new_limiter(clock, {"tpm": 6_000})
    for _ in range(30):
        granted(limiter.reserve(tokens(150)))  # 100 a second are refilled
        clock.advance(1)

    assert exhausted_in(limiter, "tpm") == pytest.approx((6_000 - 30 * 50) / 50, rel=0.15)


def test_requests_that_wait_are_demand() -> None:
    clock = FakeClock()
    limiter = new_limiter(clock, {"rpm": 60})
    for _ in range(60):
        granted(limiter.reserve(Demand(1, 0, 0, 0)))
    assert exhausted_in(limiter, "rpm") is not None

    limiter.enqueue(Waiter(Demand(1, 0, 0, 0), 0, clock.now() + 30, lambda _: None))

    assert exhausted_in(limiter, "rpm") == 0
