"""How good the forecasts of earlier days would have been, by hour of the day, against a line through the day so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from wallie_litellm.core.local_day import SLOTS
from wallie_litellm.core.weekly_shape import WEEK, WeeklyShape

LAST: Final = 28  # days that are judged
CLOSE: Final = 0.10  # share of a day's total by which a close forecast misses it at most
_HOURS: Final = range(1, 24)
_PER_HOUR: Final = SLOTS // 24


class HourScore(NamedTuple):
    """The forecasts made at one hour of so many ``days``: errors are mean absolute ones, shares of the day's total.

    ``close`` is the share of forecasts within a tenth of the total, ``covered`` of intervals that held it.
    """

    hour: int
    days: int
    error: float
    linear_error: float
    close: float
    covered: float


def backtest(shape: WeeklyShape, hours: Iterable[int] = _HOURS, last: int = LAST) -> list[HourScore]:
    """The scores of the ``last`` days of a shape: each forecast knows the days before alone.

    A day without any use, one whose weekday had none before, and one that its limit has ended, is not judged.
    """
    judged = [
        day
        for day in range(max(WEEK, shape.present - last), shape.present)
        if shape.used(day) > 0 and shape.usual(day)[0] > 0 and day not in shape.guessed
    ]
    return [_score(shape, judged, hour) for hour in hours] if judged else []


def _score(shape: WeeklyShape, days: Sequence[int], hour: int) -> HourScore:
    slot = hour * _PER_HOUR
    found = list(_misses(shape, days, slot))
    errors, linear, covered = zip(*found, strict=True)
    count = len(found)
    close = sum(error <= CLOSE for error in errors)
    return HourScore(hour, count, sum(errors) / count, sum(linear) / count, close / count, sum(covered) / count)


def _misses(shape: WeeklyShape, days: Sequence[int], slot: int) -> Iterator[tuple[float, float, bool]]:
    for day in days:
        used, total = shape.used(day, slot), shape.used(day)
        rest = shape.rest(slot, used, day)
        error, linear = abs(used + rest.expected - total), abs(used * SLOTS / slot - total)
        yield error / total, linear / total, used + rest.low <= total * (1 + 1e-9) and total <= used + rest.high + 1e-9
