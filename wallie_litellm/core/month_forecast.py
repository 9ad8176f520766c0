"""What a limit that ends days from now will have used: today as in a day's forecast, and the days after it."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp

from wallie_litellm.core.daily_quota import next_midnight
from wallie_litellm.core.day_forecast import Forecast, Window, day_forecast
from wallie_litellm.core.weekly_shape import WeeklyShape

_Days = Sequence[tuple[float, float, float]]  # when each day begins and ends, and what it usually uses


def month_forecast(shape: WeeklyShape | None, today: float, used: float, limit: float, window: Window) -> Forecast:
    """As :func:`day_forecast`, where the window ends at a later midnight than today's.

    Each later day uses what its weekday usually does; the interval is by how far sums of as many days were off. Within
    a later day, use counts as even.
    """
    midnight = next_midnight(window.now, window.zone.key)
    first = day_forecast(shape, today, used, limit, window._replace(reset_at=min(midnight, window.reset_at)))
    if shape is None or not shape.is_known or midnight >= window.reset_at:
        return first if midnight >= window.reset_at else day_forecast(None, today, used, limit, window)
    days = _days(shape, midnight, window)
    wide, usual = shape.spread(len(days)), sum(units for _, _, units in days)
    low, high = exp(-wide), exp(wide)
    return Forecast(
        first.end + usual,
        first.low + usual * low,
        first.high + usual * high,
        _or_later(first.exhausts_at, limit - first.end, days, 1.0),
        _or_later(first.earliest, limit - first.high, days, high),
        _or_later(first.latest, limit - first.low, days, low),
        "weekly",
    )


def _days(shape: WeeklyShape, midnight: float, window: Window) -> _Days:
    days: list[tuple[float, float, float]] = []
    while midnight < window.reset_at:
        end = min(next_midnight(midnight, window.zone.key), window.reset_at)
        days.append((midnight, end, shape.ahead(len(days) + 1)))
        midnight = end
    return days


def _or_later(at: float | None, left: float, days: _Days, factor: float) -> float | None:
    """``at``, if it is today; else when ``left`` units more are used in the days after it."""
    if at is not None:
        return at
    for start, end, units in days:
        if units * factor >= left:
            return start + (end - start) * max(0.0, left) / (units * factor) if units else start
        left -= units * factor
    return None
