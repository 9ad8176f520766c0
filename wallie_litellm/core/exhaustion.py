"""In how many seconds a limit per minute is used up, if demand goes on as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RATE_WINDOWS: Final = (5.0, 30.0)  # seconds; demand over both counts: a burst is over soon, or not long enough


def seconds_to_empty(left: float, refill: float, demanded: Mapping[float, float], waiting: float) -> float | None:
    """When ``left`` units are used up; ``None`` if they are not.

    ``refill`` is in units a second. ``demanded`` are the units that were asked for, by the length of the time in
    seconds; ``waiting`` are those that requests in the queue ask for, which are demand of the present.
    """
    if not left and waiting:
        return 0.0
    excess = min(((units + waiting) / seconds for seconds, units in demanded.items()), default=0.0) - refill
    return max(0.0, left - waiting) / excess if excess > 0 else None
