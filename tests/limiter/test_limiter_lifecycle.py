"""Waiters that leave, reservations that nobody settles, timers, and closing."""

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


# Leaving


def test_a_waiter_that_leaves_frees_its_place(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    first, second = queue.join(tokens(50)), queue.join(tokens(5))
    clock.advance(6)
    limiter.abandon(first)
    assert queue.answered == [second]
    assert limiter.state().waiting == 0
    clock.advance(100)
    assert queue.answered == [second], "nobody wakes one who left"


def test_a_waiter_that_leaves_from_the_middle_does_not_disturb_the_order(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    first, second, third = (queue.join(tokens(5)) for _ in range(3))
    limiter.abandon(second)
    clock.advance(10)
    assert queue.answered == [first, third]


def test_what_was_granted_to_one_who_left_meanwhile_goes_to_the_next(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    first, second = queue.join(tokens(5)), queue.join(tokens(5))
    clock.advance(5)
    assert isinstance(first.result, Reservation)
    limiter.abandon(first)
    assert isinstance(second.result, Reservation)
    assert limiter.state().in_flight == 1
    assert limiter.state().usage["tpm"].balance == Balance(reserved=70, settled=60, refunded=5)


def test_leaving_twice_or_after_being_turned_away_is_harmless(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    impatient, gone, served = queue.join(tokens(5), patience=1), queue.join(tokens(5)), queue.join(tokens(5))
    limiter.abandon(gone)
    clock.advance(5)
    for waiter in (impatient, gone, served) * 2:
        limiter.abandon(waiter)
    assert queue.answered == [impatient, served]
    assert (limiter.state().waiting, limiter.state().in_flight) == (0, 0)
    assert limiter.state().usage["tpm"].balance == Balance(65, 60, 5)


# Reservations that nobody settles


def test_a_reservation_that_nobody_settles_expires_and_keeps_its_estimate(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"rpd": 10, "concurrency": 1}, ttl=600)
    lost = granted(limiter.reserve(Demand()))
    clock.advance(599.9)
    assert limiter.state().in_flight == 1
    clock.advance(0.2)
    state = limiter.state()
    assert (state.in_flight, state.usage["rpd"].used, state.usage["rpd"].balance) == (0, 1, Balance(1, 1, 0))
    assert not limiter.settle(lost, Demand())
    granted(limiter.reserve(Demand()))


def test_each_reservation_has_its_own_time(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {}, ttl=600)
    in_flight = []
    for _ in range(3):
        granted(limiter.reserve(Demand()))
        clock.advance(100)
    for _ in range(7):
        in_flight.append(limiter.state().in_flight)
        clock.advance(100)
    assert in_flight == [3, 3, 3, 2, 1, 0, 0]


def test_an_expired_reservation_makes_room_for_those_who_wait(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"concurrency": 1}, ttl=600)
    granted(limiter.reserve(Demand()))
    waiter = RecordedQueue(clock, limiter).join(Demand())
    clock.advance(600)
    assert isinstance(waiter.result, Reservation)


def test_a_reservation_that_had_to_wait_expires_too(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    assert isinstance(queue.join(tokens(5)).result, type(None))
    clock.advance(5)
    assert limiter.state().in_flight == 1
    clock.advance(600)
    assert limiter.state().in_flight == 0


def test_a_reservation_that_passed_those_who_wait_expires_too(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    queue.join(tokens(60), patience=1000)
    clock.advance(10)
    granted(limiter.reserve(tokens(1), priority=1))
    clock.advance(610)
    assert limiter.state().in_flight == 1, "the one that waited, admitted later"
    clock.advance(100)
    assert limiter.state().in_flight == 0


def test_a_lost_probe_frees_its_permit_and_says_nothing_about_the_provider(clock: FakeClock) -> None:
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


def test_there_is_one_timer_however_many_wait(clock: FakeClock) -> None:
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
    """Its timers may fire even after they were called off, as a real one's do when both happen at once."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callable[[], None]] = []

    def call_at(self, when: float, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return super().call_at(when, callback)


def test_a_timer_that_fires_although_it_was_called_off_arms_no_second_one() -> None:
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


def test_waking_happens_outside_the_lock(clock: FakeClock) -> None:
    """A waiter that calls the limiter back while it is woken must not block."""
    limiter, queue = used_up(clock)
    seen: list[int] = []
    waiter = queue.join(tokens(5))
    waiter.wake = lambda _: seen.append(limiter.state().in_flight)
    thread = threading.Thread(target=clock.advance, args=(5,), daemon=True)
    thread.start()
    thread.join(5)
    assert seen == [1]


# Closing


def test_closing_turns_everybody_away_and_stops_the_timer(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    waiters = [queue.join(tokens(5), priority) for priority in (0, 1, 0)]
    limiter.close()
    assert {type(waiter.result) for waiter in waiters} == {Denial}
    assert (len(queue.answered), limiter.state().waiting, clock.armed) == (3, 0, 0)


def test_after_closing_nobody_is_left_waiting(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    limiter.close()
    late = queue.join(tokens(5))
    assert isinstance(late.result, Denial)
    assert (queue.answered, limiter.state().waiting, clock.armed) == ([late], 0, 0)
    limiter.abandon(late)
    limiter.close()
