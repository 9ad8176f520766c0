"""The days of a time zone, in quarters of an hour by its clocks. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

SLOTS: Final = 96  # quarters of an hour in a day by the clock, also where clocks change
QUARTER: Final = 900  # seconds


def slot_at(at: float, zone: ZoneInfo) -> float:
    """The quarter of an hour that the clocks of ``zone`` show, with the fraction of it that has passed."""
    local = datetime.fromtimestamp(at, zone)
    return (local.hour * 3600 + local.minute * 60 + local.second + local.microsecond / 1e6) / QUARTER


def days_until(now: float, quarters: Iterable[tuple[float, float]], zone: ZoneInfo) -> list[list[float]]:
    """Units by slot, of each day from the first whole one that is on record to yesterday.

    ``quarters`` are sums of units with the times at which they begin, oldest first. An hour that the clocks repeat
    counts as the mean of both times, so that the day after has the same shape; one that they leave out is empty.
    """
    today = datetime.fromtimestamp(now, zone).toordinal()
    days: dict[int, list[float]] = {}
    first: int | None = None
    for start, units in quarters:
        local = datetime.fromtimestamp(start, zone)
        day, slot = local.toordinal(), (local.hour * 60 + local.minute) // 15
        if first is None:
            first = day if slot == 0 else day + 1
        if first <= day < today:
            slots = days.setdefault(day, [0.0] * SLOTS)
            slots[slot] = (slots[slot] + units) / 2 if local.fold else slots[slot] + units
    if first is None:
        return []
    return [days.get(day, [0.0] * SLOTS) for day in range(first, today)]
