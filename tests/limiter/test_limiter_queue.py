"""The order in which a limiter serves its waiters, and when it denies them."""

from __future__ import annotations

from math import inf

import pytest
from fake_clock import FakeClock
from limiter_support import RecordedQueue, denied, granted, new_limiter, tokens, used_up_dimension

from wallie_litellm.core.circuit_breaker import BreakerRules, BreakerState, Verdict
from wallie_litellm.core.demand import NOTHING, Demand
from wallie_litellm.limiter.limiter import Limiter
from wallie_litellm.limiter.store import Denial, DenialReason, Reservation

PER_SECOND = {"tpm": 60}  # one token a second, sixty at once


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def used_up(clock: FakeClock, **more: float) -> tuple[Limiter, RecordedQueue]:
    """A limiter whose sixty tokens have just been used."""
    limiter = new_limiter(clock, PER_SECOND, **more)  # type: ignore[arg-type]
    limiter.consume(tokens(60))
    return limiter, RecordedQueue(clock, limiter)


def test_a_request_is_admitted_at_once_while_there_is_capacity(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND)
    reservation = granted(limiter.reserve(tokens(60)))
    assert (reservation.at, reservation.demand, limiter.state().in_flight) == (clock.now(), tokens(60), 1)
    assert denied(limiter.reserve(tokens(6))) == (DenialReason.LIMIT, pytest.approx(6), "tpm")
    assert limiter.state().waiting == 0


def test_a_waiter_is_admitted_exactly_after_the_predicted_wait(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    promised = denied(limiter.reserve(tokens(6))).retry_after
    waiter = queue.join(tokens(6))
    clock.advance(promised - 0.001)
    assert waiter.result is None
    clock.advance(0.001 + 1e-9)  # the two parts do not add up exactly
    assert granted(waiter.result).at == pytest.approx(1006, abs=1e-5)
    assert (limiter.state().waiting, limiter.state().in_flight) == (0, 1)


def test_waiters_of_one_priority_are_served_in_the_order_of_arrival(clock: FakeClock) -> None:
    _, queue = used_up(clock)
    waiters = [queue.join(tokens(5)) for _ in range(8)]
    clock.advance(40)
    assert queue.answered == waiters
    assert [round(at - 1000, 3) for at, _ in queue.admissions] == [5, 10, 15, 20, 25, 30, 35, 40]


def test_the_predicted_wait_includes_the_waiters_ahead(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    queue.join(tokens(10))
    queue.join(tokens(20), priority=1)
    assert denied(limiter.reserve(tokens(6))).retry_after == pytest.approx(36)
    assert denied(limiter.reserve(tokens(6), priority=1)).retry_after == pytest.approx(26)
    assert denied(limiter.check(tokens(6), priority=2)).retry_after == pytest.approx(6)


def test_higher_priority_is_served_first(clock: FakeClock) -> None:
    _, queue = used_up(clock)
    low, high, middle, high_too = (queue.join(tokens(5), priority) for priority in (0, 2, 1, 2))
    clock.advance(20)
    assert queue.answered == [high, high_too, middle, low]


def test_a_request_of_higher_priority_overtakes_waiters_of_lower_priority(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    queue.join(tokens(50))
    clock.advance(10)
    granted(limiter.reserve(tokens(10), priority=1))


def test_a_small_waiter_does_not_overtake_the_head_of_the_queue(clock: FakeClock) -> None:
    _, queue = used_up(clock)
    big = queue.join(tokens(50))
    small = queue.join(tokens(1))
    clock.advance(30)
    assert queue.answered == []
    clock.advance(21)
    assert queue.answered == [big, small]


def test_a_new_request_that_would_fit_does_not_overtake_the_queue(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    queue.join(tokens(50))
    clock.advance(40)
    assert isinstance(limiter.reserve(tokens(1)), Denial)
    assert isinstance(limiter.check(tokens(1)), Denial)


def test_a_new_request_does_not_overtake_the_queue_while_the_timer_is_late(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    head = queue.join(tokens(5))
    clock.lag(30)
    assert limiter.reserve(tokens(1)) == (DenialReason.QUEUED, 0.0, None)
    assert limiter.check(tokens(1)) == (DenialReason.QUEUED, 0.0, None)
    clock.advance(0)
    assert queue.answered == [head]
    granted(limiter.reserve(tokens(1)))


def test_a_large_request_is_served_in_bounded_time_however_many_small_ones_come(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    for _ in range(5):
        queue.join(tokens(1))
    promised = denied(limiter.reserve(tokens(60))).retry_after
    large = queue.join(tokens(60))
    for _ in range(200):
        if isinstance(limiter.reserve(tokens(1)), Denial):
            queue.join(tokens(1))
        clock.advance(0.5)
    assert granted(large.result).at == pytest.approx(1000 + promised, abs=1e-3)


def test_a_request_larger_than_the_capacity_is_denied_at_once_from_the_queue_too(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    assert limiter.reserve(tokens(61)) == (DenialReason.TOO_LARGE, inf, "tpm")
    waiter = queue.join(tokens(61))
    assert waiter.result == (DenialReason.TOO_LARGE, inf, "tpm")
    assert limiter.state().waiting == 0


def test_a_waiter_that_gives_up_is_denied_with_the_wait_it_would_still_have(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    queue.join(tokens(10))
    waiter = queue.join(tokens(10), patience=6)
    clock.advance(5.999)
    assert waiter.result is None
    clock.advance(0.001)
    assert waiter.result == (DenialReason.LIMIT, pytest.approx(14), "tpm")
    assert limiter.state().waiting == 1


def test_the_head_of_the_queue_is_denied_at_once_when_its_wait_exceeds_its_patience(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND)
    queue, reservation = RecordedQueue(clock, limiter), granted(limiter.reserve(tokens(60)))
    waiter, next_one = queue.join(tokens(10), patience=12), queue.join(tokens(1))
    limiter.settle(reservation, tokens(65))
    assert waiter.result == (DenialReason.LIMIT, pytest.approx(15), "tpm")
    clock.advance(6)
    assert isinstance(next_one.result, Reservation)


def test_a_debt_found_at_settlement_makes_the_waiters_wait_longer(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND)
    queue, reservation = RecordedQueue(clock, limiter), granted(limiter.reserve(tokens(60)))
    waiter = queue.join(tokens(5))
    limiter.settle(reservation, tokens(70))
    clock.advance(14.9)
    assert waiter.result is None
    clock.advance(0.1)
    assert isinstance(waiter.result, Reservation)


def test_a_refund_serves_the_waiters_at_once(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND)
    queue, reservation = RecordedQueue(clock, limiter), granted(limiter.reserve(tokens(60)))
    waiters = [queue.join(tokens(5)) for _ in range(3)]
    limiter.settle(reservation, tokens(50))
    assert queue.answered == waiters[:2]


def test_a_freed_slot_goes_to_the_head_of_the_queue(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"concurrency": 2})
    queue = RecordedQueue(clock, limiter)
    first, second = granted(limiter.reserve(Demand())), granted(limiter.reserve(Demand()))
    waiters = [queue.join(Demand(), patience=30) for _ in range(3)]
    clock.advance(20)
    assert queue.answered == []
    limiter.settle(first, first.demand)
    limiter.settle(second, NOTHING)
    assert queue.answered == waiters[:2]
    clock.advance(10)
    assert isinstance(waiters[2].result, Denial)
    assert waiters[2].result.reason is DenialReason.CONCURRENCY


def test_a_reset_serves_the_waiters_at_once(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    waiters = [queue.join(tokens(30)) for _ in range(3)]
    limiter.reset()
    assert queue.answered == waiters[:2]


# Pauses


def paused(limiter: Limiter, seconds: float) -> None:
    limiter.settle(granted(limiter.reserve(NOTHING)), NOTHING, pause_for=seconds)


def test_a_pause_admits_nothing_and_waiters_are_served_after_it(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND)
    queue = RecordedQueue(clock, limiter)
    paused(limiter, 90)
    assert limiter.reserve(tokens(1)) == (DenialReason.PAUSED, 90, None)
    assert limiter.state().paused_for == 90
    waiter = queue.join(tokens(1), patience=100)
    clock.advance(89.9)
    assert waiter.result is None
    clock.advance(0.1)
    assert isinstance(waiter.result, Reservation)


def test_a_pause_denies_at_once_the_waiters_that_give_up_before_its_end(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"tpm": 60})
    queue, reservation = RecordedQueue(clock, limiter), granted(limiter.reserve(tokens(60)))
    patient, hasty, patient_too, on_the_dot = (queue.join(tokens(1), patience=p) for p in (70, 20, 99, 60))
    limiter.settle(reservation, reservation.demand, pause_for=60)
    assert set(queue.answered) == {hasty, on_the_dot}
    assert (hasty.result, on_the_dot.result) == ((DenialReason.PAUSED, 60, None), (DenialReason.PAUSED, 60, None))
    clock.advance(60)
    assert isinstance(patient.result, Reservation)
    assert isinstance(patient_too.result, Reservation)


def test_a_pause_from_a_call_already_settled_holds_all_the_same(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {"concurrency": 1})
    queue, late = RecordedQueue(clock, limiter), granted(limiter.reserve(Demand()))
    limiter.settle(late, late.demand)
    granted(limiter.reserve(Demand()))
    waiter = queue.join(Demand(), patience=30)
    assert not limiter.settle(late, late.demand, pause_for=60)
    assert waiter.result == (DenialReason.PAUSED, 60, None)


# The breaker


def test_an_opening_breaker_denies_the_waiters(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND, BreakerRules(failures=1, open_for=30, max_open_for=60))
    queue, reservation = RecordedQueue(clock, limiter), granted(limiter.reserve(tokens(60)))
    waiters = [queue.join(tokens(1), priority) for priority in (0, 1)]
    limiter.settle(reservation, reservation.demand, Verdict.FAILURE, reason="500")
    assert queue.answered == waiters[::-1]
    assert [waiter.result for waiter in waiters] == [(DenialReason.CIRCUIT_OPEN, 30.0, None)] * 2
    state = limiter.state()
    assert (state.breaker, state.breaker_reason, state.next_probe_in, state.waiting) == (
        BreakerState.OPEN,
        "500",
        30.0,
        0,
    )


def test_a_breaker_forced_open_denies_the_waiters(clock: FakeClock) -> None:
    limiter, queue = used_up(clock)
    waiter = queue.join(tokens(1))
    limiter.act("force_open")
    assert waiter.result == (DenialReason.CIRCUIT_OPEN, inf, None)
    limiter.act("close")
    assert used_up_dimension(limiter.reserve(tokens(1))) == "tpm"


def test_a_success_starts_the_count_of_failures_again(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {}, BreakerRules(failures=2))

    def attempt(verdict: Verdict) -> int:
        limiter.settle(granted(limiter.reserve(Demand())), Demand(), verdict)
        return limiter.state().consecutive_failures

    assert [attempt(v) for v in (Verdict.FAILURE, Verdict.SUCCESS, Verdict.FAILURE, Verdict.IGNORED)] == [1, 0, 1, 1]
    assert limiter.state().breaker is BreakerState.CLOSED


def test_a_success_of_an_earlier_generation_resets_no_count_of_failures(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {}, BreakerRules(failures=3))
    old = granted(limiter.reserve(Demand()))
    limiter.act("close")
    limiter.settle(granted(limiter.reserve(Demand())), Demand(), Verdict.FAILURE)
    limiter.settle(old, Demand(), Verdict.SUCCESS)
    assert limiter.state().consecutive_failures == 1


def test_successes_count_towards_the_error_rate(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {}, BreakerRules(failures=99, error_rate=0.5, min_calls=4))
    for verdict in [Verdict.SUCCESS] * 5 + [Verdict.FAILURE] * 4:
        limiter.settle(granted(limiter.reserve(Demand())), Demand(), verdict)
    assert limiter.state().breaker is BreakerState.CLOSED
    limiter.settle(granted(limiter.reserve(Demand())), Demand(), Verdict.FAILURE)
    assert limiter.state().breaker is BreakerState.OPEN


def test_a_successful_probe_closes_the_breaker(clock: FakeClock) -> None:
    limiter = new_limiter(clock, {}, BreakerRules(failures=1, open_for=30, max_open_for=60))
    limiter.settle(granted(limiter.reserve(Demand())), Demand(), Verdict.FAILURE)
    clock.advance(30)
    probe = granted(limiter.reserve(Demand()))
    assert denied(limiter.reserve(Demand())).reason is DenialReason.CIRCUIT_OPEN
    limiter.settle(probe, Demand(), Verdict.SUCCESS)
    assert limiter.state().breaker is BreakerState.CLOSED


def test_only_one_of_several_waiters_becomes_the_probe(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND, BreakerRules(failures=1, open_for=30, max_open_for=60))
    limiter.settle(granted(limiter.reserve(tokens(60))), tokens(85), Verdict.FAILURE)
    clock.advance(30)
    queue = RecordedQueue(clock, limiter)
    waiters = [queue.join(tokens(10)) for _ in range(2)]
    clock.advance(5)
    assert granted(waiters[0].result).probe
    assert denied(waiters[1].result).reason is DenialReason.CIRCUIT_OPEN


def test_an_abandoned_probe_frees_its_permit_at_once(clock: FakeClock) -> None:
    limiter = new_limiter(clock, PER_SECOND, BreakerRules(failures=1, open_for=30, max_open_for=60))
    limiter.settle(granted(limiter.reserve(tokens(60))), tokens(85), Verdict.FAILURE)
    clock.advance(30)
    queue = RecordedQueue(clock, limiter)
    waiter = queue.join(tokens(10))
    clock.advance(5)
    assert granted(waiter.result).probe
    limiter.abandon(waiter)
    assert granted(limiter.reserve(tokens(1))).probe
