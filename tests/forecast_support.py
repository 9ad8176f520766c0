"""Weeks of use whose weekdays are known, for forecasts."""

from __future__ import annotations

from wallie_litellm.core.local_day import SLOTS

WEEKDAY = [100, 120, 110, 100, 90, 40, 30]  # units in all, from Monday on


def day(total: float, mornings: float = 0.5) -> list[float]:
    """A day that uses ``mornings`` of its total evenly before noon, and the rest evenly after it."""
    half = SLOTS // 2
    return [total * mornings / half] * half + [total * (1 - mornings) / half] * half


def weeks(count: int, growth: float = 1.0) -> list[list[float]]:
    """Days from a Monday on, that grow by the factor ``growth`` a week."""
    return [day(WEEKDAY[number % 7] * growth ** (number / 7)) for number in range(7 * count)]
