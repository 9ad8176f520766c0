"""What a limit that ends days from now will have used at its end."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from forecast_support import WEEKDAY, weeks

from wallie_litellm.core.day_forecast import Window
from wallie_litellm.core.month_forecast import month_forecast
from wallie_litellm.core.weekly_shape import WeeklyShape

UTC = ZoneInfo("UTC")


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()


NOON = Window(at("2026-11-23T12:00"), at("2026-11-01T00:00"), at("2026-12-01T00:00"), UTC)  # a Monday


def test_the_rest_of_today_and_the_weekdays_after_it_are_added_up() -> None:
    found = month_forecast(WeeklyShape(weeks(6)), 50, 1_000, 5_000, NOON)

    assert found.end == pytest.approx(1_000 + 50 + sum(WEEKDAY[1:]) + 100)  # to the Monday after
    assert found.low == pytest.approx(found.high, rel=0.05)  # weeks without noise
    assert found.exhausts_at is None


@pytest.mark.parametrize(
    ("limit", "ends"), [(1_025, "2026-11-23T18:00"), (1_170, "2026-11-25T00:00"), (1_225, "2026-11-25T12:00")]
)
def test_it_is_used_up_today_or_on_the_day_that_reaches_the_limit(limit: float, ends: str) -> None:
    found = month_forecast(WeeklyShape(weeks(6)), 50, 1_000, limit, NOON)

    assert found.exhausts_at == pytest.approx(at(ends), abs=60)
    assert found.earliest == pytest.approx(found.exhausts_at, abs=3600)


def test_the_interval_is_by_how_far_sums_of_as_many_days_were_off() -> None:
    noisy = [[units * (1.5 if number // 7 % 2 else 0.75) for units in day] for number, day in enumerate(weeks(8))]

    calm, found = (month_forecast(WeeklyShape(days), 50, 1_000, 5_000, NOON) for days in (weeks(8), noisy))

    assert found.high - found.low > 5 * (calm.high - calm.low)


def test_with_less_than_a_week_it_is_a_line_through_the_month() -> None:
    found = month_forecast(None, 0, 225, 5_000, NOON)

    assert found.method == "linear"
    assert found.end == pytest.approx(300)  # 22.5 of 30 days have passed
