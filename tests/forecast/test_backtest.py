"""How good forecasts would have been over days that are known."""

from __future__ import annotations

import pytest
from forecast_support import day, weeks

from wallie_litellm.core.weekly_shape import WeeklyShape
from wallie_litellm.forecast.backtest import backtest


def test_days_as_the_weeks_before_are_foretold_and_a_line_is_off_by_their_shape() -> None:
    days = [day(units, mornings=0.25) for units in map(sum, weeks(8))]

    (noon,) = backtest(WeeklyShape(days), hours=[12])

    assert noon.days == 28
    assert noon.error == pytest.approx(0, abs=1e-9)
    assert (noon.close, noon.covered) == (1, 1)
    assert noon.linear_error == pytest.approx(0.5)


def test_each_forecast_knows_the_days_before_it_alone() -> None:
    history = weeks(5)
    history[-1] = day(60, mornings=0.25)  # twice the usual in all, with a usual morning

    (noon,) = backtest(WeeklyShape(history), hours=[12], last=1)

    assert noon.error == pytest.approx(0.5)
    assert noon.covered == 0


def test_less_than_a_week_and_days_without_use_are_not_judged() -> None:
    assert backtest(WeeklyShape(weeks(1))) == []
    assert backtest(WeeklyShape([day(0)] * 28)) == []
