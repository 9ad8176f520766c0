"""Tables, and values in them, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta


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
