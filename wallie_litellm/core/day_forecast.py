"""What a limit per day will have used when it resets, and when it is used up before that. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from wallie_litellm.core.local_day import QUARTER, SLOTS, slot_at
from wallie_litellm.core.weekly_shape import Rest, WeeklyShape, between

Method = Literal["weekly", "linear"]

_LINEAR_SPREAD: Final = 2.0  # the rest of a linear forecast may be this many times smaller or larger
_SHORTEST: Final = 900.0  # seconds; a line is not drawn through less


class Window(NamedTuple):
    """The day of a limit that resets at midnight in ``zone``; what is used of it is counted from ``since`` on."""

    now: float
    since: float
    reset_at: float
    zone: ZoneInfo


class Forecast(NamedTuple):
    """Units used when the day ends, with an interval, and the times at which the limit is used up.

    A time is ``None`` where that is not before the reset: ``earliest`` is of the interval's upper end, ``latest`` of
    its lower.
    """

    end: float
    low: float
    high: float
    exhausts_at: float | None
    earliest: float | None
    latest: float | None
    method: Method


def day_forecast(shape: WeeklyShape | None, today: float, used: float, limit: float, window: Window) -> Forecast:
    """The forecast of a limit of which ``used`` units are used, by the weekly ``shape`` of what is used.

    ``today`` is what was used in this day by the record that the shape is made of: an operator's reset changes what is
    used of the limit, and not how much is asked for. Without a week of days the forecast is linear.
    """
    if shape is None or not shape.is_known:
        return _linear(used, limit, window)
    slot = slot_at(window.now, window.zone)
    total, shares = shape.usual(shape.present)
    # Where clocks change, the rest of this day is an hour longer or shorter than that of the days before it.
    by_clock, pieces = total * between(shares, slot, SLOTS), _pieces(shape, window)
    length = sum(units for _, _, units in pieces) / by_clock if by_clock > 0 else 1.0
    rest = Rest(*(units * length for units in shape.rest(slot, today)))
    return _forecast(used, limit, window, rest, pieces, "weekly")


def _linear(used: float, limit: float, window: Window) -> Forecast:
    rate = used / max(_SHORTEST, window.now - window.since)
    units = rate * max(0.0, window.reset_at - window.now)
    rest = Rest(units, units / _LINEAR_SPREAD, units * _LINEAR_SPREAD)
    return _forecast(used, limit, window, rest, [(window.now, window.reset_at, units)], "linear")


def _forecast(
    used: float, limit: float, window: Window, rest: Rest, pieces: Sequence[tuple[float, float, float]], method: Method
) -> Forecast:
    usual = sum(units for _, _, units in pieces)
    if usual <= 0:  # what may come all the same is spread evenly
        usual, pieces = 1.0, [(window.now, window.reset_at, 1.0)]
    at, latest, earliest = (_reaches(limit - used, window.now, pieces, units / usual) for units in rest)
    end, low, high = (used + units for units in rest)
    return Forecast(end, low, high, at, earliest, latest, method)


def _pieces(shape: WeeklyShape, window: Window) -> list[tuple[float, float, float]]:
    """The rest of the day in quarters of an hour: when each begins and ends, and what it usually uses."""
    total, shares = shape.usual(shape.present)
    pieces = []
    start = window.now
    while start < window.reset_at:
        end = min((start // QUARTER + 1) * QUARTER, window.reset_at)
        slot = slot_at(start, window.zone)
        pieces.append((start, end, total * between(shares, slot, slot + (end - start) / QUARTER)))
        start = end
    return pieces


def _reaches(left: float, now: float, pieces: Sequence[tuple[float, float, float]], factor: float) -> float | None:
    """When ``left`` units more are used, of pieces that use their units times ``factor``."""
    if left <= 0:
        return now
    for start, end, units in pieces:
        if units * factor >= left:
            return start + (end - start) * left / (units * factor)
        left -= units * factor
    return None
