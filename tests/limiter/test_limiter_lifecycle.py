"""Abandoned waiters, reservations that stay unsettled, timers, and closing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf

import pytest
from fake_clock import FakeClock
from limiter_support import RecordedQueue, granted, new_limiter, tokens

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, Verdict
from wallie_litellm.core.demand import Demand
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.store import Balance, Denial, Reservation

PER_SECOND = {"tpm": 60}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def used_up(clock: FakeClock) -> tuple[Limiter, RecordedQueue]:
    limiter = new_limiter(clock, PER_SECOND)
    limiter.consume(tokens(60))
    return limiter, RecordedQueue(clock, limiter)


# Abandoned waiters


def test_an_abandoned_waiter_does_not_hold_up_the_queue(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    first, second = queue.join(tokens(50)), queue.join(tokens(5))
    clock.advance(6)
    limiter.abandon(first)
    assert queue.answered == [second]
    assert limiter.state().waiting == 0
    clock.advance(100)
    assert queue.answered == [second], "an abandoned waiter is not woken"


def test_abandoning_a_waiter_in_the_middle_keeps_the_order_of_the_others(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    first, second, third = (queue.join(tokens(5)) for _ in range(3))
    limiter.abandon(second)
    clock.advance(10)
    assert queue.answered == [first, third]


def test_capacity_granted_to_an_abandoned_waiter_goes_to_the_next(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    first, second = queue.join(tokens(5)), queue.join(tokens(5))
    clock.advance(5)
    assert isinstance(first.result, Reservation)
    limiter.abandon(first)
    assert isinstance(second.result, Reservation)
    assert limiter.state().in_flight == 1
    assert limiter.state().usage["tpm"].balance == Balance(reserved=70, settled=60, refunded=5)


def test_abandoning_twice_or_after_a_denial_changes_nothing(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    impatient, gone, served = queue.join(tokens(5), patience=1), queue.join(tokens(5)), queue.join(tokens(5))
    limiter.abandon(gone)
    clock.advance(5)
    for waiter in (impatient, gone, served) * 2:
        limiter.abandon(waiter)
    assert queue.answered == [impatient, served]
    assert (limiter.state().waiting, limiter.state().in_flight) == (0, 0)
    assert limiter.state().usage["tpm"].balance == Balance(65, 60, 5)


# Reservations that stay unsettled


def test_an_unsettled_reservation_expires_and_is_charged_its_estimate(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"rpd": 10, "concurrency": 1}, ttl=600)
    lost = granted(limiter.reserve(Demand()))
    clock.advance(599.9)
    assert limiter.state().in_flight == 1
    clock.advance(0.2)
    state = limiter.state()
    assert (state.in_flight, state.usage["rpd"].used, state.usage["rpd"].balance) == (0, 1, Balance(1, 1, 0))
    assert not limiter.settle(lost, Demand())
    granted(limiter.reserve(Demand()))


def test_each_reservation_expires_at_its_own_time(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {}, ttl=600)
    in_flight = []
    for _ in range(3):
        granted(limiter.reserve(Demand()))
        clock.advance(100)
    for _ in range(7):
        in_flight.append(limiter.state().in_flight)
        clock.advance(100)
    assert in_flight == [3, 3, 3, 2, 1, 0, 0]


def test_an_expired_reservation_frees_capacity_for_the_queue(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"concurrency": 1}, ttl=600)
    granted(limiter.reserve(Demand()))
    waiter = RecordedQueue(clock, limiter).join(Demand())
    clock.advance(600)
    assert isinstance(waiter.result, Reservation)


def test_a_reservation_granted_from_the_queue_expires_too(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    assert isinstance(queue.join(tokens(5)).result, type(None))
    clock.advance(5)
    assert limiter.state().in_flight == 1
    clock.advance(600)
    assert limiter.state().in_flight == 0


def test_a_reservation_that_overtook_the_queue_expires_too(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    queue.join(tokens(60), patience=1000)
    clock.advance(10)
    granted(limiter.reserve(tokens(1), priority=1))
    clock.advance(610)
    assert limiter.state().in_flight == 1, "the one that waited, admitted later"
    clock.advance(100)
    assert limiter.state().in_flight == 0


def test_an_expired_probe_frees_its_permit_and_leaves_the_breaker_half_open(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {}, BreakerRules(failures=1), ttl=10)
    limiter.settle(granted(limiter.reserve(Demand())), Demand(), Verdict.FAILURE)
    clock.advance(30)
    granted(limiter.reserve(Demand()))
    clock.advance(11)
    assert limiter.state().breaker is BreakerState.HALF_OPEN
    assert granted(limiter.reserve(Demand())).probe


# Timers


def test_an_idle_limiter_has_no_timer(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND)
    assert clock.armed == 0
    limiter.settle(granted(limiter.reserve(tokens(1))), tokens(1))
    clock.advance(1000)
    assert clock.armed == 0


def test_one_timer_serves_any_number_of_waiters(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    for patience in (300, 20, 100, inf):
        for priority in (0, 1):
            queue.join(tokens(7), priority, patience)
            assert clock.armed == 1
    for _ in range(100):
        clock.advance(1)
        assert clock.armed <= 1
        if limiter.state().waiting:
            assert clock.armed == 1


class LateClock(FakeClock):
    """Timers that fire although they were cancelled, as real ones do when both happen at once."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callable[[], None]] = []

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return super().call_at(when, callback)


def test_a_cancelled_timer_that_fires_all_the_same_arms_no_second_one() -> None:
    clock = LateClock()
    limiter, queue = used_up(clock)
    queue.join(tokens(20))
    queue.join(tokens(5), priority=1)
    assert len(clock.callbacks) == 2
    for _ in range(3):
        clock.callbacks[0]()
    assert (clock.armed, limiter.state().waiting) == (1, 2)
    clock.advance(100)
    assert limiter.state().waiting == 0


def test_waiters_are_woken_outside_the_lock(clock: FakeClock) -> None:
    """A waiter that calls the limiter back while it is woken must not block."""
    limiter, queue = used_up(clock)
    seen: list[int] = []
    waiter = queue.join(tokens(5))
    waiter.wake = lambda _: seen.append(limiter.state().in_flight)
    thread = threading.Thread(target=clock.advance, args=(5,), daemon=True)
    thread.start()
    thread.join(60)
    assert seen == [1]


# Closing


def test_closing_denies_all_waiters_and_stops_the_timer(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    waiters = [queue.join(tokens(5), priority) for priority in (0, 1, 0)]
    limiter.close()
    assert {type(waiter.result) for waiter in waiters} == {Denial}
    assert (len(queue.answered), limiter.state().waiting, clock.armed) == (3, 0, 0)


def test_a_closed_limiter_denies_new_waiters_at_once(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    limiter.close()
    late = queue.join(tokens(5))
    assert isinstance(late.result, Denial)
    assert (queue.answered, limiter.state().waiting, clock.armed) == ([late], 0, 0)
    limiter.abandon(late)
    limiter.close()
