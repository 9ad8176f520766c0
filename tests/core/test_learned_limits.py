"""What is believed of a vendor's limit, from what its answers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.learned_limits import LEAST_SHARE, SLOWEST, Carefulness, LearnedLimit, left_of, pace

FILE = 500  # the amount in the file


def learned(*amounts: int, at: float = 0.0, file: int | None = FILE) -> LearnedLimit:
    limit = LearnedLimit()
    for amount in amounts:
        limit.see(amount, at, "headers", file)
    return limit


@pytest.mark.parametrize(
    ("amounts", "believed"),
    [
        ((60,), 60),  # less than the file says
        ((1000,), None),  # more, but said once
        ((1000, 1000), 1000),
        ((1000, 999), 999),  # a limit that moves with every answer
        ((60, 1000, 999), 999),
        ((60, 60, 1000), 60),
        ((60, 1000, 60, 1000), 60),
        ((60, 1000, 1000), 1000),
        ((1000, 1000, 60), 60),
    ],
)
def test_less_is_believed_at_once_and_more_when_it_is_said_twice_in_a_row(
    amounts: tuple[int, ...], believed: int | None
) -> None:
    assert learned(*amounts).amount == believed


def test_without_a_limit_in_the_file_the_first_amount_is_believed_when_it_is_said_twice() -> None:
    assert learned(60, file=None).amount is None
    limit = learned(60, 60, file=None)
    assert (limit.amount, limit.limit(0.0)) == (60, 60)


def test_a_raised_tier_is_used_within_a_minute_and_not_at_once() -> None:
    limit = learned(60)
    assert limit.limit(0.0) == 60
    for _ in range(2):
        limit.see(4000, 10.0, "headers", FILE)
    assert limit.amount == 4000
    assert limit.limit(10.0) == 60
    assert limit.limit(15.0) == pytest.approx(120)
    assert limit.is_rising(15.0)
    assert limit.limit(60.0) == 4000
    assert not limit.is_rising(60.0)
    assert limit.limit(10_000.0) == 4000


def test_a_rise_ends_at_a_tier_that_is_lowered_meanwhile() -> None:
    limit = learned(60)
    for amount in (4000, 4000, 100):
        limit.see(amount, 10.0, "headers", FILE)
    assert limit.amount == 100
    assert limit.limit(10.0) == 60
    assert limit.limit(30.0) == 100


def test_a_second_rise_begins_where_the_first_has_come() -> None:
    limit = learned(60, 240, 240)
    for _ in range(2):
        limit.see(4000, 5.0, "headers", FILE)
    assert limit.limit(5.0) == pytest.approx(120)


def test_an_amount_is_confirmed_when_it_has_been_said_twice_in_a_row() -> None:
    seen = [learned(*amounts).is_confirmed for amounts in ((60,), (60, 60), (60, 50), (1000, 1000), (60, 60, 1000))]
    assert seen == [False, True, False, True, False]


def test_an_answer_that_says_nothing_makes_careful_for_a_while() -> None:
    careful = Carefulness()
    assert careful.share(0.0) == 1.0
    assert careful.cut(10.0, sent_at=9.0)
    assert careful.share(10.0) == pytest.approx(0.7)
    assert not careful.cut(10.5, sent_at=9.5), "of the same crowd"
    assert careful.cut(11.0, sent_at=10.2)
    assert careful.share(11.0) == pytest.approx(0.705 * 0.7)
    assert careful.share(60.0) == pytest.approx(0.705 * 0.7 + 0.245)
    assert careful.share(200.0) == 1.0
    assert careful.share(10_000.0) == 1.0


@given(st.lists(st.floats(0, 1000), max_size=30))
def test_carefulness_stays_within_its_bounds(gaps: list[float]) -> None:
    careful, now = Carefulness(), 0.0
    for gap in gaps:
        now += gap
        careful.cut(now, now - 0.1)
        assert LEAST_SHARE <= careful.share(now) <= 1.0


@pytest.mark.parametrize(
    ("remaining", "rounded_to", "age", "sent_since", "left"),
    [
        (30, 1, 0.0, 0, 31),  # rounding
        (29000, 1000, 0.0, 0, 30000),
        (0, 1, 1.0, 1, 1),  # alone and at the limit of 1 a second: what comes back is sent again
        (0, 1, 20.0, 20, 1),  # and so for long calls
        (30, 1, 1.0, 40, 0),  # a burst of our own, which is not in it
        (30, 1, 1.0, 10, 22),
        (30, 1, 100.0, 0, 41),  # of a long call, the last seconds
    ],
)
def test_what_is_left_takes_account_of_what_was_sent_since(
    remaining: int, rounded_to: int, age: float, sent_since: int, left: float
) -> None:
    assert left_of(remaining, rounded_to, 1.0, age, sent_since) == pytest.approx(left)


def test_calls_slow_down_as_little_is_left_the_more_the_longer_ago_that_was() -> None:
    paces = [pace(left, 1, 600.0, 10.0, age) for left, age in ((600, 0.0), (24, 0.0), (11, 0.0), (0, 10.0), (16, 2.0))]
    assert paces == [1.0, 1.0, 0.5, SLOWEST, 0.5]
    assert pace(0, 1, 6.0, 0.1, 0.0) == 1.0  # of a small limit, one call's worth is the reserve
    assert pace(0, 100, 600.0, 10.0, 0.0) == pytest.approx(100 / 199)  # what rounding hides is kept twice
