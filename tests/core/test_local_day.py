"""Quarters of an hour as days of a time zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from wallie_litellm.core.local_day import QUARTER, SLOTS, days_until, slot_at

ANGELES = ZoneInfo("America/Los_Angeles")


def quarters(start: str, end: str, zone: ZoneInfo, units: float = 1.0) -> list[tuple[float, float]]:
    first, last = (datetime.fromisoformat(moment).replace(tzinfo=zone).timestamp() for moment in (start, end))
    return [(at, units) for at in range(int(first), int(last), QUARTER)]


def noon(day: str, zone: ZoneInfo) -> float:
    return datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=zone).timestamp()


def test_days_are_those_of_the_limits_time_zone_and_end_with_yesterday() -> None:
    record = quarters("2026-11-26T00:00", "2026-11-28T09:00", ANGELES)

    assert days_until(noon("2026-11-28", ANGELES), record, ANGELES) == [[1.0] * SLOTS] * 2


def test_a_day_in_which_the_record_begins_is_left_out_and_one_without_use_is_empty() -> None:
    record = [(noon("2026-11-24", ANGELES), 5.0), (noon("2026-11-26", ANGELES), 7.0)]

    wednesday, thursday = days_until(noon("2026-11-27", ANGELES), record, ANGELES)

    assert sum(wednesday) == 0
    assert thursday[48] == sum(thursday) == 7


def test_the_hour_that_clocks_repeat_counts_once_and_the_one_they_leave_out_is_empty() -> None:
    autumn = days_until(noon("2026-11-02", ANGELES), quarters("2026-11-01", "2026-11-02", ANGELES), ANGELES)
    spring = days_until(noon("2026-03-09", ANGELES), quarters("2026-03-08", "2026-03-09", ANGELES), ANGELES)

    assert autumn == [[1.0] * SLOTS]
    assert spring[0][8:12] == [0.0] * 4
    assert sum(spring[0]) == SLOTS - 4


def test_a_moments_slot_is_by_the_clock_with_its_fraction() -> None:
    assert slot_at(noon("2026-11-01", ANGELES) + 90, ANGELES) == 48.1
