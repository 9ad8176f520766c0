"""Which forecasts are announced, and how often."""

from __future__ import annotations

import pytest

from wallie_litellm.core.day_forecast import Forecast, Method
from wallie_litellm.forecast.alerts import ForecastAlerts, is_due
from wallie_litellm.forecast.limits import DayLimit

HOUR = 3600.0
MIDNIGHT = 24 * HOUR
RPD = DayLimit("openai", "", "rpd")


def forecast(
    earliest: float | None, at: float | None, latest: float | None, method: Method = "weekly", end: float = 120
) -> Forecast:
    """Times are hours of the day."""
    times = (None if hour is None else hour * HOUR for hour in (at, earliest, latest))
    return Forecast(end, end - 10, end + 10, *times, method)


@pytest.mark.parametrize(
    ("found", "due"),
    [
        (forecast(None, None, None), False),
        (forecast(15, 16, 18), True),  # even the lower end runs out
        (forecast(15, 16, None), False),  # it may not, and there is time to wait
        (forecast(9.9, 16, None), True),  # the last moment, if the upper end is right
        (forecast(9.9, None, None), True),
        (forecast(15, 16, 18, "linear"), False),  # a line is not trusted for the whole day
        (forecast(9.9, 12, 18, "linear"), True),
    ],
)
def test_a_limit_is_announced_once_it_is_sure_to_run_out_and_at_the_latest_in_time(found: Forecast, due: bool) -> None:
    assert is_due(found, 9 * HOUR, lead=HOUR) is due


def test_a_limit_is_announced_once_a_day_and_again_the_next() -> None:
    seen: list[float] = []
    alerts = ForecastAlerts(HOUR, lambda _limit, _forecast, _full, reset_at: seen.append(reset_at))
    sure, calm = forecast(15, 16, 18), forecast(None, None, None, end=60)

    for hour, found in ((9, calm), (10, sure), (11, sure), (12, calm), (13, sure)):
        alerts.look(RPD, found, 100, 50, hour * HOUR, MIDNIGHT)
    assert seen == [MIDNIGHT]
    alerts.look(RPD, sure, 100, 100, 25 * HOUR, 2 * MIDNIGHT)
    assert seen == [MIDNIGHT, 2 * MIDNIGHT]


def test_what_is_used_up_already_or_announced_elsewhere_is_not_announced() -> None:
    seen: list[DayLimit] = []
    alerts = ForecastAlerts(HOUR, lambda limit, *_: seen.append(limit))

    alerts.look(RPD, forecast(9, 9, 9), 100, 0, 9 * HOUR, MIDNIGHT)
    alerts.note(RPD, MIDNIGHT, 10 * HOUR)
    alerts.look(RPD, forecast(15, 16, 18), 100, 50, 11 * HOUR, MIDNIGHT)

    assert not seen
