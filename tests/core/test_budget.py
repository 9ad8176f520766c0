"""The month's cost against its budget."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallie_litellm.core.budget import Budget, month_ends, month_of

LEVELS = {"warning": 0.80, "critical": 0.95}


def unix(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOON = unix("2026-11-23T12:00")


@pytest.mark.parametrize(
    ("day", "month", "ends"),
    [
        ("2026-11-23T12:00", "2026-11", "2026-12-01"),
        ("2026-12-31T23:59:59", "2026-12", "2027-01-01"),
        ("2027-01-01", "2027-01", "2027-02-01"),
        ("2028-02-29T23:59", "2028-02", "2028-03-01"),
    ],
)
def test_months_are_those_of_utc(day: str, month: str, ends: str) -> None:
    assert month_of(unix(day)) == month
    assert month_ends(unix(day)) == unix(ends)


@given(st.integers(0, 4_000_000_000))
def test_a_months_end_is_the_first_moment_of_another_month(wall: int) -> None:
    ends = month_ends(wall)
    assert wall < ends
    assert month_of(ends - 1) == month_of(wall) != month_of(ends)


def test_each_level_is_announced_once_a_month() -> None:
    budget = Budget(100, LEVELS)
    costs = [79.0, 0.5, 0.5, 10.0, 5.0, 50.0]
    assert [budget.add(NOON, cost) for cost in costs] == [[], [], ["warning"], [], ["critical"], []]
    assert (budget.spent, budget.utilization) == (145.0, 1.45)


def test_one_expensive_call_reaches_both_levels() -> None:
    assert Budget(10, LEVELS).add(NOON, 10.0) == ["warning", "critical"]


def test_a_new_month_begins_at_zero_and_announces_every_level_anew() -> None:
    budget = Budget(100, LEVELS)
    budget.add(unix("2026-12-31T23:59"), 99)
    assert budget.add(unix("2027-01-01"), 1) == []
    assert budget.spent == 1
    assert budget.add(unix("2027-01-02"), 98) == ["warning", "critical"]


def test_what_was_spent_is_that_of_the_month_that_is_asked_for() -> None:
    budget = Budget(100, LEVELS)
    assert budget.spent_at(NOON) == 0
    budget.add(NOON, 3)
    assert budget.spent_at(NOON) == 3
    assert budget.spent_at(unix("2026-12-01")) == 0


def test_what_an_earlier_process_said_is_not_said_again() -> None:
    budget = Budget(100, LEVELS)
    budget.restore(NOON, 85.0, {"warning"})
    assert budget.add(NOON, 1.0) == []
    assert budget.add(NOON, 9.0) == ["critical"]


def test_what_an_earlier_process_reached_without_saying_it_is_said_with_the_next_call() -> None:
    budget = Budget(100, LEVELS)
    budget.restore(NOON, 85.0, ())
    assert budget.add(NOON, 0.01) == ["warning"]


def test_what_was_restored_ends_with_its_month() -> None:
    budget = Budget(100, LEVELS)
    budget.restore(NOON, 99.0, LEVELS)
    assert budget.add(unix("2026-12-01"), 80.0) == ["warning"]


def test_without_a_budget_no_level_is_announced() -> None:
    budget = Budget(0, LEVELS)
    assert [budget.add(NOON, 1e9) for _ in range(3)] == [[], [], []]
    assert (budget.spent, budget.utilization) == (3e9, 0.0)


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20 * 86_400)), max_size=60))
def test_no_level_is_said_twice_in_a_month_nor_kept_back(steps: list[tuple[float, float]]) -> None:
    budget, wall = Budget(100, LEVELS), NOON
    announced: set[tuple[str, str]] = set()
    for cost, seconds in steps:
        wall += seconds
        for level in budget.add(wall, cost):
            assert (month_of(wall), level) not in announced
            announced.add((month_of(wall), level))
        for level, share in LEVELS.items():
            assert ((month_of(wall), level) in announced) == (budget.spent >= share * 100)
