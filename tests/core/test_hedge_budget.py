from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.hedge_budget import DEPOSIT_LIFE, DailyDollars, HedgeBudget


def requests(budget, number, now):
    for _ in range(number):
        budget.deposit(now)


def test_a_share_of_the_requests_may_be_hedged():
    budget = HedgeBudget(0.05)
    requests(budget, 59, 100.0)
    assert [budget.withdraw(100.0) for _ in range(3)] == [True, True, False]


def test_a_request_entitles_for_ten_seconds():
    budget = HedgeBudget(0.5)
    requests(budget, 2, 100.0)
    requests(budget, 2, 105.0)
    assert budget.left(109.9) == 2
    assert budget.left(100.0 + DEPOSIT_LIFE) == 1
    assert budget.left(1_000.0) == 0


def test_the_oldest_requests_are_spent_first():
    budget = HedgeBudget(0.5)
    requests(budget, 2, 100.0)
    requests(budget, 2, 105.0)
    assert budget.withdraw(106.0)
    assert budget.left(110.0) == 1


def test_below_a_hedge_in_ten_seconds_none_is_sent():
    budget = HedgeBudget(0.02)
    for second in range(1_000):
        requests(budget, 4, second)
        assert not budget.withdraw(second)
    for second in range(1_000, 1_020):
        requests(budget, 5, second)
    assert budget.withdraw(1_020 - 0.1)


def test_a_hedge_that_was_not_sent_is_put_back():
    budget = HedgeBudget(0.02)
    requests(budget, 50, 100.0)
    assert budget.withdraw(101.0)
    budget.put_back(101.0)
    assert budget.left(105.0) == 1


@given(
    share=st.sampled_from((0.01, 0.02, 0.05, 0.3, 1.0)),
    events=st.lists(st.tuples(st.floats(0, 4), st.integers(0, 40), st.integers(0, 3)), max_size=40),
)
def test_there_are_never_more_hedges_than_the_share_of_all_requests(share, events):
    budget, now, made, sent = HedgeBudget(share), 50.0, 0, 0
    for seconds, begun, wanted in events:
        now += seconds
        requests(budget, begun, now)
        made += begun
        sent += sum(budget.withdraw(now) for _ in range(wanted))
        assert sent <= share * made + 1e-6
        assert 0 <= budget.left(now) <= share * made + 1e-6


def test_a_days_dollars_are_spent_and_begin_anew_at_midnight():
    dollars = DailyDollars(1.0)
    noon = 20_000 * 86_400 + 43_200.0
    assert dollars.spend(noon, 0.75)
    assert not dollars.spend(noon, 0.5)
    assert dollars.spend(noon, 0.25)
    assert dollars.left(noon) == 0.0
    assert dollars.spend(noon + 43_200, 0.75)


def test_an_estimate_is_corrected():
    dollars = DailyDollars(1.0)
    dollars.spend(1_000.0, 0.75)
    dollars.correct(1_000.0, -0.5)
    assert dollars.left(1_000.0) == pytest.approx(0.75)


def test_without_a_limit_everything_may_be_spent():
    dollars = DailyDollars(None)
    assert dollars.spend(1_000.0, 1e9)
    assert dollars.spent(1_000.0) == 1e9
