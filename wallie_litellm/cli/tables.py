"""Tables, and values in them, as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any


def aligned(rows: Sequence[tuple[str, ...]], right: Sequence[int] = ()) -> Iterator[str]:
    """The rows, their columns as wide as they need to be; those numbered in ``right`` end at the same place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def text(value: object) -> str:
    """A value, or a dash for none."""
    return "-" if value is None else str(value)


def moment(iso: object) -> str:
    """A time in ISO 8601, to the nearest second: midnight is often some microseconds away."""
    try:
        nearest = datetime.fromisoformat(str(iso)) + timedelta(seconds=0.5)
    except (ValueError, OverflowError):
        return text(iso)
    return f"{nearest:%Y-%m-%d %H:%M:%S}"


def ends(quota: Mapping[str, Any]) -> str:
    """When a limit is used up, with the interval of that; a dash where it is not, before it resets."""
    at, earliest, latest = (
        None if (found := quota.get(name)) is None else datetime.fromisoformat(found)
        for name in ("exhausts_at", "exhausts_earliest", "exhausts_latest")
    )
    if at is None:
        return "-"
    if earliest is None:
        return f"{at:%H:%M:%S}"
    return f"{at:%H:%M} ({earliest:%H:%M}-{'' if latest is None else f'{latest:%H:%M}'})"


def next_probe(seconds: float) -> str:
    """When an open breaker sends its next probe; once it may, it waits for a request to send."""
    return f"next probe in {seconds:.1f} s" if seconds >= 0.05 else "the next request is a probe"


def percent(quota: Mapping[str, Any]) -> str:
    """The share of a limit that is used, in per cent."""
    share = quota["utilization"]
    return "-" if share is None else f"{100 * share:.0f}"
