"""Weeks of use with a weekday shape, growth and noise, and how well forecasts and alerts would have done over them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from wallie_litellm.core.cut_days import shape_without
from wallie_litellm.core.day_forecast import Forecast, Window, day_forecast
from wallie_litellm.core.local_day import QUARTER, SLOTS
from wallie_litellm.core.weekly_shape import WeeklyShape
from wallie_litellm.forecast.alerts import LOOK_EVERY, is_due

WEEKS: Final = 8
JUDGED: Final = 28  # days, the last of them
NOON: Final = SLOTS // 2
LEAD: Final = 3600.0  # seconds
DAY: Final = 86_400.0
UTC: Final = ZoneInfo("UTC")
_WEEKDAYS: Final = (1.0, 1.08, 1.05, 1.02, 0.9, 0.42, 0.36)  # a day's use, from Monday on


@dataclass(frozen=True)
class Traffic:
    """What is simulated: ``growth`` a week; ``day_noise`` and ``noise`` are the logarithms' standard deviations.

    The noise of a quarter of an hour is 0.8 times that of the one before, and something new. ``quiet`` is the share of
    days that have half the use, such as holidays; ``batches`` of days with a job of a fifth of a day's use in an hour.
    """

    name: str
    growth: float = 0.04
    day_noise: float = 0.06
    noise: float = 0.20
    quiet: float = 0.02
    batches: float = 0.0


def simulate(traffic: Traffic, seed: int, total: float = 20_000, weeks: int = WEEKS) -> list[list[float]]:
    """Units by quarter of an hour of each day, from a Monday on."""
    rng, noise, days = random.Random(seed), 0.0, []
    for day in range(7 * weeks):
        shape = [_office(slot / 4) if day % 7 < 5 else _weekend(slot / 4) for slot in range(SLOTS)]
        level = total * _WEEKDAYS[day % 7] * (1 + traffic.growth) ** (day / 7) / sum(shape)
        level *= math.exp(rng.gauss(0, traffic.day_noise)) * (0.5 if rng.random() < traffic.quiet else 1)
        slots = []
        for share in shape:
            noise = 0.8 * noise + 0.6 * rng.gauss(0, 1)
            units = level * share * math.exp(traffic.noise * noise - traffic.noise**2 / 2)
            slots.append(max(0.0, float(round(rng.gauss(units, math.sqrt(units))))))
        if rng.random() < traffic.batches:
            begin = rng.randrange(SLOTS - 4)
            slots[begin : begin + 4] = [units + total / 20 for units in slots[begin : begin + 4]]
        days.append(slots)
    return days


def _office(hour: float) -> float:
    peaks = ((1.0, 10.5, 2.2), (0.95, 15.0, 2.5), (0.45, 20.5, 1.5))
    return 0.15 + sum(height * math.exp(-(((hour - at) / width) ** 2)) for height, at, width in peaks)


def _weekend(hour: float) -> float:
    return 0.2 + 0.5 * math.exp(-(((hour - 13) / 4) ** 2)) + 0.6 * math.exp(-(((hour - 20.5) / 2.5) ** 2))


def forecast_at(shape: WeeklyShape, slot: int, used: float, limit: float) -> Forecast:
    """The forecast of the day after those of ``shape``, at the beginning of a slot."""
    return day_forecast(shape, used, used, limit, Window(slot * QUARTER, 0.0, DAY, UTC))


class Scores(NamedTuple):
    """Of forecasts at one time of day: mean absolute errors as shares of the day's total, and shares of forecasts."""

    error: float
    linear_error: float
    close: float  # within a tenth
    covered: float  # by their intervals
    width: float  # of the interval, as a share of the total


def scores_at(days: Sequence[Sequence[float]], slot: int = NOON) -> Scores:
    """The scores over the last days; each forecast knows the days before it, and its own until then."""
    return mean_of([last_score(days[:end], slot) for end in range(len(days) - JUDGED + 1, len(days) + 1)])


def last_score(days: Sequence[Sequence[float]], slot: int = NOON) -> Scores:
    """The score of the forecast of the last day, made at ``slot``."""
    used, total = sum(days[-1][:slot]), sum(days[-1])
    found = forecast_at(WeeklyShape(days[:-1]), slot, used, math.inf)
    error, linear = abs(found.end - total) / total, abs(used * SLOTS / slot - total) / total
    close, covered = float(error <= 0.10), float(found.low <= total <= found.high)
    return Scores(error, linear, close, covered, (found.high - found.low) / total)


def mean_of(scores: Sequence[Scores]) -> Scores:
    return Scores(*map(fmean, zip(*scores, strict=True)))


class AlertScores(NamedTuple):
    """Days judged; those on which the limit ran out, and had an alert ``LEAD`` before; those with a false one."""

    days: int
    exhausted: int
    in_time: int
    false: int

    def plus(self, other: AlertScores) -> AlertScores:
        return AlertScores(*map(sum, zip(self, other, strict=True)))


def alert_scores(days: Sequence[Sequence[float]], limit: float) -> AlertScores:
    """The alerts of a limit over the last days, which is looked at every quarter of an hour.

    The record has of each day what the limit let through. A job that looks every minute sees what is due sooner.
    """
    seen = [_cut(day, limit) for day in days]
    judged = range(len(days) - JUDGED, len(days))
    exhausted = in_time = false = 0
    for number in judged:
        used = [0.0, *accumulate(days[number])]
        end = next((slot for slot, units in enumerate(used) if units >= limit), None)
        shape = shape_without(limit, seen[:number])
        alert = next((slot for slot in range(end or SLOTS) if _due(shape, slot, used[slot], limit)), None)
        exhausted += end is not None
        false += end is None and alert is not None
        in_time += end is not None and alert is not None and (end - alert) * QUARTER >= LEAD
    return AlertScores(len(judged), exhausted, in_time, false)


def _due(shape: WeeklyShape, slot: int, used: float, limit: float) -> bool:
    return is_due(forecast_at(shape, slot, used, limit), slot * QUARTER, LEAD + QUARTER - LOOK_EVERY)


def _cut(day: Sequence[float], limit: float) -> list[float]:
    left, seen = limit, []
    for units in day:
        seen.append(min(units, left))
        left -= seen[-1]
    return seen


def limit_of(days: Sequence[Sequence[float]], seed: int) -> float:
    """A limit that the busier of the last days reach: between 0.85 and 1.1 times their 0.8 quantile."""
    totals = sorted(sum(day) for day in days[-JUDGED:])
    return totals[int(0.8 * JUDGED)] * random.Random(seed).uniform(0.85, 1.1)
