"""What a limit per day will have used at its reset, and when it runs out."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from forecast_support import weeks

from wallie_litellm.core.day_forecast import Window, day_forecast
from wallie_litellm.core.weekly_shape import WeeklyShape

UTC = ZoneInfo("UTC")
ANGELES = ZoneInfo("America/Los_Angeles")


def at(moment: str, zone: ZoneInfo = UTC) -> float:
    return datetime.fromisoformat(moment).replace(tzinfo=zone).timestamp()


def window(day_: str, hour: str, zone: ZoneInfo = UTC) -> Window:
    begin, now = at(f"{day_}T00:00", zone), at(f"{day_}T{hour}", zone)
    return Window(now, begin, at(f"{day_[:-2]}{int(day_[-2:]) + 1:02}T00:00", zone), zone)


MONDAY = "2026-11-23"


def test_a_limit_ends_when_the_rest_of_the_usual_day_has_used_what_is_left() -> None:
    shape = WeeklyShape(weeks(5))  # 100 units on a Monday, 50 of them evenly after noon

    found = day_forecast(shape, 50, 50, 75, window(MONDAY, "12:00"))

    assert found.method == "weekly"
    assert found.end == pytest.approx(100)
    assert found.exhausts_at == pytest.approx(at(f"{MONDAY}T18:00"))
    assert found.earliest is not None
    assert found.latest is not None
    assert found.earliest <= found.exhausts_at <= found.latest


def test_a_limit_that_outlasts_the_day_does_not_end() -> None:
    found = day_forecast(WeeklyShape(weeks(5)), 50, 50, 200, window(MONDAY, "12:00"))

    assert (found.exhausts_at, found.earliest, found.latest) == (None, None, None)


def test_a_limit_that_is_used_up_ends_now() -> None:
    now = window(MONDAY, "12:00")

    assert day_forecast(WeeklyShape(weeks(5)), 50, 80, 80, now).exhausts_at == now.now


def test_an_operators_reset_gives_the_limit_back_and_does_not_make_the_day_a_quiet_one() -> None:
    found = day_forecast(WeeklyShape(weeks(5)), 50, 0, 100, window(MONDAY, "12:00"))

    assert found.end == pytest.approx(50)


def test_without_a_week_of_days_the_forecast_is_a_line_with_a_wide_interval() -> None:
    found = day_forecast(WeeklyShape(weeks(1)[:6]), 30, 30, 40, window(MONDAY, "06:00"))

    assert found.method == "linear"
    assert (found.end, found.low, found.high) == pytest.approx((120, 75, 210))
    assert found.exhausts_at == pytest.approx(at(f"{MONDAY}T08:00"))
    assert day_forecast(None, 0, 0, 40, window(MONDAY, "06:00")).exhausts_at is None


def test_where_clocks_change_the_rest_of_the_day_is_as_long_as_it_is() -> None:
    shape = WeeklyShape([[1.0] * 96] * 35)
    found = {
        day_: day_forecast(shape, 4, 4, 1_000, window(day_, "01:00", ANGELES)).end
        for day_ in ("2026-11-01", "2026-03-08", "2026-03-10")
    }

    assert found == pytest.approx({"2026-11-01": 100, "2026-03-08": 92, "2026-03-10": 96})
