"""Days and months of a time zone, and what is counted in them to the nano-dollar."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from wallie_litellm.core.spending import SpendingAccount, SpendingFigures, SpendingLimits, admits, nano_of, periods


def unix(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


@pytest.mark.parametrize(
    ("zone", "at", "day", "day_ends", "month", "month_ends"),
    [
        ("UTC", "2026-11-28T10:00", "2026-11-28", "2026-11-29", "2026-11-01", "2026-12-01"),
        ("UTC", "2026-12-31T23:59", "2026-12-31", "2027-01-01", "2026-12-01", "2027-01-01"),
        ("Europe/Berlin", "2026-10-25T12:00", "2026-10-25", "2026-10-26", "2026-10-01", "2026-11-01"),
        ("Pacific/Kiritimati", "2026-03-01T00:30", "2026-03-01", "2026-03-02", "2026-03-01", "2026-04-01"),
    ],
)
def test_days_and_months_begin_and_end_at_midnight_of_the_time_zone(
    zone: str, at: str, day: str, day_ends: str, month: str, month_ends: str
) -> None:
    found = periods(unix(at, zone), zone)
    assert found.day == unix(day, zone)
    assert found.day_ends == unix(day_ends, zone)
    assert found.month == unix(month, zone)
    assert found.month_ends == unix(month_ends, zone)


def test_a_day_on_which_clocks_change_is_25_hours_long() -> None:
    found = periods(unix("2026-10-25T12:00", "Europe/Berlin"), "Europe/Berlin")
    assert found.day_ends - found.day == 25 * 3600


def test_a_cost_counts_in_the_day_and_the_month_in_which_it_came_up() -> None:
    account = SpendingAccount(day=1000, month=500, day_spent=3, month_spent=7, until=100)
    account.spend(99, 1_000)  # the figures that it began with have it
    account.spend(499, 100)
    account.spend(999, 10)
    account.spend(1000, 1)
    assert (account.day_spent, account.month_spent) == (4, 18)
    account.roll(2000, 500)
    account.roll(1000, 500)  # of a worker whose clock is behind
    account.spend(1999, 5)
    assert (account.day, account.day_spent, account.month_spent) == (2000, 0, 23)
    account.spend(2000, 2)
    account.roll(9000, 9000, latest=2500)  # of one that is ahead
    assert account.figures(()) == (2000, 500, 2, 25, 0)
    account.roll(9000, 9000)
    account.spend(9500, 4)
    account.roll(2000, 500, latest=2500)
    assert account.figures(()) == (2000, 500, 4, 4, 0)


@pytest.mark.parametrize(
    ("day_spent", "month_spent", "reserved", "admitted"),
    [(9, 9, 0, True), (10, 10, 0, False), (5, 5, 5, False), (5, 5, 4, True), (0, 19, 1, False), (0, 19, 0, True)],
)
def test_a_request_is_admitted_while_less_than_each_limit_is_spent_and_reserved(
    day_spent: int, month_spent: int, reserved: int, admitted: bool
) -> None:
    figures = SpendingFigures(0, 0, day_spent, month_spent, reserved)
    assert admits(figures, SpendingLimits(10, 20)) is admitted


def test_dollars_are_nano_dollars_without_a_fraction() -> None:
    assert nano_of(0.1) + nano_of(0.2) == nano_of(0.3) == 300_000_000


def test_an_amount_beyond_every_budget_is_the_largest_and_a_negative_one_nothing() -> None:
    assert nano_of(1e302) == nano_of(1_000_000) == 1_000_000_000_000_000
    assert nano_of(-1.0) == 0
