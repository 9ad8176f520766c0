"""The token bucket: what it admits, when it admits again, and what debts and refunds do to it."""

from __future__ import annotations

from bisect import insort
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.token_bucket import MAX_LOWS, TOLERANCE, TokenBucket

PER_MINUTE = st.integers(1, 200_000)
# Sixteenths of a second add up without rounding, so that ties are frequent and exact.
PAUSES = st.integers(0, 16 * 90).map(lambda ticks: ticks / 16)


def admitted(bucket: TokenBucket, now: float, amount: float) -> bool:
    if bucket.wait(now, amount) > 0:
        return False
    bucket.take(now, amount)
    return True


def assert_within_limit(passed: list[tuple[float, float]], per_minute: float, capacity: float) -> None:
    """In the interval between any two admissions, both included, no more passed than the bucket may hold and refill."""
    rate = per_minute / 60
    sums = list(accumulate((amount for _, amount in passed), initial=0.0))
    for last, (end, _) in enumerate(passed):
        for first, (start, _) in enumerate(passed[: last + 1]):
            allowed = capacity + rate * (end - start + 2 * TOLERANCE) + 1e-6
            assert sums[last + 1] - sums[first] <= allowed, (passed[first : last + 1], capacity)


@given(PER_MINUTE, st.floats(0.01, 3), st.lists(st.tuples(PAUSES, st.floats(0.001, 1.2)), max_size=40))
@settings(deadline=None)
def test_no_interval_sees_more_than_capacity_and_refill(
    per_minute: int, burst: float, arrivals: list[tuple[float, float]]
) -> None:
    bucket, now = TokenBucket(per_minute, per_minute * burst), 1000.0
    passed = []
    for pause, share in arrivals:
        now += pause
        amount = share * bucket.capacity
        if admitted(bucket, now, amount):
            passed.append((now, amount))
    assert_within_limit(passed, per_minute, bucket.capacity)


@given(PER_MINUTE, st.floats(0, 1e6), st.lists(st.integers(1, 100), min_size=1, max_size=30))
@settings(deadline=None)
def test_waiting_as_long_as_predicted_is_enough_and_not_a_moment_too_long(
    per_minute: int, start: float, percents: list[int]
) -> None:
    bucket, now = TokenBucket(per_minute, per_minute), start
    for percent in percents:
        amount = per_minute * percent / 100
        wait = bucket.wait(now, amount)
        if wait > 0:
            if wait > 1e-4:
                assert bucket.wait(now + wait - 1e-5, amount) > 0
            now += wait
        assert admitted(bucket, now, amount)


def test_the_tolerance_does_not_add_up() -> None:
    bucket, now, passed = TokenBucket(60, 60), 0.0, 0
    for _ in range(100_000):
        passed += admitted(bucket, now, 1)
        now += 0.01
    assert passed <= 60 + now


def test_a_full_bucket_serves_its_whole_capacity_and_no_more() -> None:
    bucket = TokenBucket(60, 10)
    assert all(admitted(bucket, 5.0, 1) for _ in range(10))
    assert bucket.wait(5.0, 1) == pytest.approx(1.0)
    assert bucket.used(5.0) == pytest.approx(10)
    assert bucket.full_in(5.0) == pytest.approx(10)


def test_debt_is_refilled_before_anything_is_admitted() -> None:
    bucket = TokenBucket(60, 10)
    bucket.take(0.0, 25)
    assert bucket.used(0.0) == pytest.approx(25)
    assert bucket.wait(0.0, 1) == pytest.approx(16)
    assert bucket.wait(15.9, 1) > 0
    assert bucket.wait(16.0, 1) <= 0


def test_reset_fills_the_bucket() -> None:
    bucket = TokenBucket(60, 10)
    bucket.take(0.0, 25)
    bucket.reset()
    assert bucket.used(0.0) == 0
    assert bucket.wait(0.0, 10) <= 0


def test_a_refund_of_what_has_been_refilled_since_gives_nothing() -> None:
    bucket = TokenBucket(60, 60)
    bucket.take(0.0, 60)
    bucket.take(60.0, 60)  # full again by then, whatever the first was worth
    bucket.give_back(61.0, 0.0, 60)
    assert bucket.used(61.0) == pytest.approx(59)


def test_a_refund_to_a_full_bucket_does_not_overfill_it() -> None:
    bucket = TokenBucket(60, 10)
    bucket.take(0.0, 5)
    bucket.give_back(100.0, 0.0, 5)
    assert bucket.used(100.0) == 0
    assert bucket.wait(100.0, 11) > 0


def test_an_immediate_refund_undoes_the_taking() -> None:
    bucket = TokenBucket(60, 10)
    bucket.take(7.0, 4)
    bucket.take(7.0, 3)
    bucket.give_back(7.0, 7.0, 4)
    assert bucket.used(7.0) == pytest.approx(3)


def test_refunds_one_after_another_give_no_more_than_both_together() -> None:
    bucket = TokenBucket(60, 100)
    bucket.take(0.0, 50)
    bucket.take(1.0, 50)
    bucket.take(50.0, 40)
    bucket.give_back(51.0, 0.0, 50)
    bucket.give_back(52.0, 1.0, 50)
    assert bucket.used(52.0) == pytest.approx(38), "as if only the 40 had been taken, two seconds ago"


def test_a_refund_limits_later_refunds_of_earlier_takings() -> None:
    bucket = TokenBucket(60, 100)
    bucket.take(1.0, 60)
    bucket.take(2.0, 35)
    bucket.take(20.0, 20)
    bucket.give_back(22.0, 2.0, 35)
    bucket.give_back(23.0, 1.0, 60)
    assert bucket.used(23.0) == pytest.approx(17), "as if only the 20 had been taken, three seconds ago"


def replayed(bucket: TokenBucket, charges: list[tuple[float, int, float]], now: float) -> float:
    """How much is used if everything had been charged at its true amount from the start."""
    other = TokenBucket(60 / bucket.cost, bucket.capacity)
    for when, _, amount in charges:
        other.take(when, amount)
    return other.used(now)


STEPS = st.lists(
    st.tuples(PAUSES.map(lambda pause: pause / 8), st.booleans(), st.integers(0, 100), st.integers(0, 30)), max_size=40
)


@given(st.sampled_from([30, 60, 120]), STEPS)
@settings(deadline=None, max_examples=200)
def test_a_refunded_bucket_equals_one_from_which_only_the_rest_was_taken(
    capacity: int, steps: list[tuple[float, bool, int, int]]
) -> None:
    """In any sequence of takings and refunds, the bucket never holds more than an exact one would."""
    bucket, now = TokenBucket(60, capacity), 100.0
    charges: list[tuple[float, int, float]] = []
    outstanding: list[tuple[float, int, float]] = []
    for number, (pause, settle, percent, which) in enumerate(steps):
        now += pause + 0.001  # in one instant, the order of events would matter
        if settle and outstanding:
            charge = outstanding.pop(which % len(outstanding))
            kept = charge[2] * percent / 100
            bucket.give_back(now, charge[0], charge[2] - kept)
            charges.remove(charge)
            insort(charges, (charge[0], charge[1], kept))
        elif admitted(bucket, now, amount := capacity * max(1, percent) / 100):
            outstanding.append((now, number, amount))
            charges.append(outstanding[-1])
        assert bucket.used(now) == pytest.approx(replayed(bucket, charges, now), abs=1e-6)


def test_many_outstanding_refunds_are_bounded_in_memory_and_never_too_large() -> None:
    bucket, now = TokenBucket(60_000, 60_000), 0.0
    for _ in range(3 * MAX_LOWS):
        bucket.take(now, 3)
        now += 0.001
    assert len(bucket._lows) <= MAX_LOWS
    assert bucket.used(now) == pytest.approx(2 * 3 * MAX_LOWS), "three taken a millisecond, one refilled"
    bucket.give_back(now, 0.0, 3)
    # One of the first three was refilled before anything else was taken.
    assert 2 * 3 * MAX_LOWS - 2 - 1e-6 <= bucket.used(now) <= 2 * 3 * MAX_LOWS + 1e-6
