"""The parts of a range of time that are read from each roll-up. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

from wallie_litellm.ledger.schema import DAY, QUARTER

EXACT_UP_TO: Final = 7200.0  # seconds; longer ranges are read from the roll-ups


class Segment(NamedTuple):
    """Rows of the roll-up of ``grain`` seconds that begin from ``since`` to before ``until`` (Unix seconds)."""

    grain: int
    since: int
    until: int | None


def align(since: float, until: float | None, now: float) -> tuple[int, int | None]:
    """The range widened to whole quarters of an hour; one that reaches the present has no end."""
    end = None if until is None else -(-until // QUARTER) * QUARTER
    return int(since // QUARTER) * QUARTER, None if end is None or end > now else int(end)


def segments(since: int, until: int | None, step: int | None = None, kept: int | None = None) -> list[Segment]:
    """An aligned range as whole UTC days and, at its edges, quarters of an hour.

    With ``step`` (seconds of a bucket) days are used only if buckets are made of whole days. ``kept`` is the start of
    the first quarter that has not been pruned; an edge before it is widened to its day, which is all that is left.
    """
    first = -(-since // DAY) * DAY
    last = None if until is None else until // DAY * DAY
    if (step or DAY) % DAY:
        return [Segment(QUARTER, since, until)]
    if until is not None and last is not None and last < until and kept is not None and last + DAY <= kept:
        until = last = last + DAY
    if last is not None and first > last:
        return [Segment(QUARTER, since, until)]
    if kept is not None and since < kept and since < first:
        since = first = first - DAY
    parts = [Segment(QUARTER, since, first), Segment(DAY, first, last)]
    if until is not None and last is not None:
        parts.append(Segment(QUARTER, last, until))
    return [part for part in parts if part.until is None or part.since < part.until]
