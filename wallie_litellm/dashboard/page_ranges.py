"""Time ranges of the page: those of ``RANGES``, and free ones from a time to another, by a name that links carry.

The name of a free range is its ends, ``2026-11-28T08:00Z..2026-11-28T10:00Z``; the API takes it as ``range`` too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from wallie_litellm.clock import DAY
from wallie_litellm.dashboard.usage_ranges import ENDS, parse_time, stretch_of
from wallie_litellm.dashboard.view_model import DEFAULT_RANGE, RANGES, Range

LONGEST_DAYS: Final = 400  # of a free range on the page
_MOST_BUCKETS: Final = 62  # of a free range's charts
_STEPS: Final = (60, 300, 900, 3_600, 6 * 3_600, DAY, 7 * DAY)  # seconds of a bucket
_MINUTE: Final = 60  # seconds, to which the ends of a free range are rounded


def chosen_range(name: str | None, since: str, until: str, now: float, zone: str = "UTC") -> Range:
    """The range that a page's address asks for; an unknown name is that of the default. Ends are of ``zone``.

    Raises:
        ValueError: the ends of a free range make no sense; the message says what is expected.
    """
    if not since and not until:
        if name is None or ENDS not in name:
            return RANGES.get(name or "", RANGES[DEFAULT_RANGE])
        since, _, until = name.partition(ENDS)
    begins, ends, _ = stretch_of(None, since or None, until or None, DEFAULT_RANGE, now, zone)
    if begins >= now:
        raise ValueError(f"since: found {since[:60]!r}, expected a time before now")
    last = min(now if ends is None else ends, now)
    if last - begins > LONGEST_DAYS * DAY:
        raise ValueError(f"since: found {since[:60]!r}, expected at most {LONGEST_DAYS} days before until")
    return free_range(begins, last)


def strict_range(name: str | None, since: str | None, until: str | None, now: float, zone: str) -> Range:
    """The range that a program asks for, by its name or by its ends, which are of ``zone`` where they state none.

    Raises:
        ValueError: the name is unknown, or the ends make no sense; the message says what is expected.
    """
    stretch_of(name, since, until, DEFAULT_RANGE, now, zone)
    return chosen_range(name, since or "", until or "", now, zone)


def free_range(since: float, until: float) -> Range:
    """The range between two times, in whole minutes."""
    first, last = int(since // _MINUTE) * _MINUTE, -int(-until // _MINUTE) * _MINUTE
    seconds = max(_MINUTE, last - first)
    step = next((step for step in _STEPS if seconds / step <= _MOST_BUCKETS), _STEPS[-1])
    return Range(f"{_minute(first)}{ENDS}{_minute(first + seconds)}", seconds, step, first + seconds)


def range_of(name: str) -> Range:
    """The range of a name that :func:`chosen_range` has given.

    Raises:
        ValueError: it is none.
    """
    if name in RANGES:
        return RANGES[name]
    since, _, until = name.partition(ENDS)
    return free_range(parse_time("range", since, 0.0), parse_time("range", until, 0.0))


def _minute(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%MZ}"
