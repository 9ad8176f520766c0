"""Unix times as ISO 8601 in UTC, rounded to the precision that is asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Literal

Precision = Literal["auto", "seconds", "milliseconds", "microseconds"]

_DIGITS: Final[dict[str, int]] = {"auto": 6, "seconds": 0, "milliseconds": 3, "microseconds": 6}  # after the point
_LONGEST_RESET: Final = 366 * 86_400.0  # seconds; a debt may last longer than dates reach


def iso_time(at: float, precision: Precision = "auto", *, utc: Literal["Z", "+00:00"] = "Z") -> str:
    """``at`` (Unix seconds) as, for instance, ``2026-11-28T00:00:00.000Z``.

    The nearest moment of that precision is written: a midnight that arithmetic has left some microseconds early is
    written as midnight. ``auto`` writes microseconds, and no fraction for a whole second. ``utc`` is how the zone is
    written.

    Raises:
        ValueError: the year is beyond 9999.
    """
    nearest = datetime.fromtimestamp(round(at, _DIGITS[precision]), UTC)
    return nearest.replace(tzinfo=None).isoformat(timespec=precision) + utc


def reset_time(now: float, reset_in: float) -> str:
    """When a limit is as good as new, in milliseconds: ``reset_in`` seconds after ``now``, a year at most."""
    return iso_time(now + min(reset_in, _LONGEST_RESET), "milliseconds")
