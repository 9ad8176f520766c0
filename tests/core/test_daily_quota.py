"""Calendar days: where they end, and what a counter does then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wallie_litellm.core.daily_quota import DailyQuota, last_midnight, next_midnight

LOS_ANGELES = "America/Los_Angeles"
ZONES = ("UTC", LOS_ANGELES, "Asia/Kolkata", "Europe/Berlin", "Pacific/Apia", "America/Havana", "Asia/Beirut")


def unix(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("day", "hours"),
    [("2026-03-07", 24), ("2026-03-08", 23), ("2026-03-09", 24), ("2026-10-31", 24), ("2026-11-01", 25)],
)
def test_a_day_in_los_angeles_has_the_length_that_its_clocks_give_it(day: str, hours: int) -> None:
    start = unix(day, LOS_ANGELES)
    assert next_midnight(start, LOS_ANGELES) - start == hours * 3600
    assert next_midnight(start + hours * 3600 - 1, LOS_ANGELES) - start == hours * 3600


def test_midnight_itself_belongs_to_the_new_day() -> None:
    assert next_midnight(unix("2026-06-01"), "UTC") == unix("2026-06-02")
    assert next_midnight(unix("2026-06-01") - 0.5, "UTC") == unix("2026-06-01")


def test_a_midnight_that_the_clocks_skip_is_when_they_skip_it() -> None:
    # Beirut goes from 00:00 straight to 01:00.
    assert next_midnight(unix("2026-03-28T23:30", "Asia/Beirut"), "Asia/Beirut") == unix("2026-03-28T22:00")


@given(st.integers(1_500_000_000, 2_000_000_000), st.sampled_from(ZONES))
@settings(deadline=None, max_examples=300)
def test_the_next_midnight_is_ahead_and_begins_the_next_date(wall: int, zone: str) -> None:
    midnight = next_midnight(wall, zone)
    assert 0 < midnight - wall <= 25 * 3600

    def date(when: float) -> datetime:
        return datetime.fromtimestamp(when, UTC).astimezone(ZoneInfo(zone))

    assert date(midnight).date() == date(wall).date() + timedelta(days=1)
    assert date(midnight - 1).date() == date(wall).date()


@pytest.mark.parametrize("moment", ["00:00", "00:00:01", "01:30", "12:00", "23:59:59"])
@pytest.mark.parametrize("day", ["2026-03-08", "2026-06-01", "2026-11-01", "2026-12-31"])
def test_a_day_began_at_its_own_midnight_whatever_its_clocks_did_since(day: str, moment: str) -> None:
    assert last_midnight(unix(f"{day}T{moment}", LOS_ANGELES), LOS_ANGELES) == unix(day, LOS_ANGELES)


def test_a_day_whose_midnight_was_skipped_began_when_the_clocks_went_on() -> None:
    assert last_midnight(unix("2026-03-29T12:00", "Asia/Beirut"), "Asia/Beirut") == unix("2026-03-28T22:00")


@given(st.integers(1_500_000_000, 2_000_000_000), st.sampled_from(ZONES))
@settings(deadline=None, max_examples=300)
def test_a_moment_lies_between_its_days_two_midnights(wall: int, zone: str) -> None:
    began, ends = last_midnight(wall, zone), next_midnight(wall, zone)
    assert began <= wall < ends
    assert next_midnight(began, zone) == ends
    assert last_midnight(ends, zone) == ends
    assert last_midnight(ends - 1, zone) == began


def test_a_counter_fills_up_and_waits_for_midnight() -> None:
    counter = DailyQuota(10)
    counter.roll(100.0, 500.0, 86_400.0)
    counter.used = 8
    assert counter.wait(100.0, 2) == 0
    assert counter.wait(100.0, 3) == 400


def test_a_counter_begins_anew_at_midnight_and_not_before() -> None:
    counter = DailyQuota(10)
    counter.roll(100.0, 500.0, 86_400.0)
    counter.used = 8
    counter.roll(499.9, 500.0, 86_400.0)
    assert (counter.used, counter.started_at) == (8, float("-inf"))
    counter.roll(500.0, 500.0 + 86_400, 2 * 86_400.0)
    assert (counter.used, counter.started_at) == (0, 500.0)


def test_a_counter_begins_anew_at_its_reset_time_though_the_wall_clock_is_a_moment_behind() -> None:
    counter = DailyQuota(10)
    counter.roll(100.0, 500.0, 86_400.0)
    counter.used = 8
    counter.roll(500.0, 500.000001, 86_400.0)
    assert counter.used == 0


def test_a_counter_follows_a_clock_set_back_and_keeps_its_usage() -> None:
    counter = DailyQuota(10)
    counter.roll(100.0, 500.0, 86_400.0)
    counter.used = 8
    counter.roll(160.0, 4100.0, 86_400.0)
    assert (counter.used, counter.wait(160.0, 3)) == (8, 3940.0)


def test_a_counter_notices_a_day_that_passed_while_the_machine_slept() -> None:
    counter = DailyQuota(10)
    counter.roll(100.0, 500.0, 86_400.0)
    counter.used = 8
    counter.roll(160.0, 80_000.0, 2 * 86_400.0)
    assert (counter.used, counter.started_at) == (0, 160.0)
