"""Time ranges of the API's parameters, and the sums over them in the API's answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from wallie_litellm.config import parse_duration
from wallie_litellm.core.iso_time import iso_time
from wallie_litellm.dashboard.schemas import Usage, UsageRow
from wallie_litellm.dashboard.series_queries import beginning
from wallie_litellm.dashboard.usage_tables import By, gather_usage
from wallie_litellm.dashboard.view_model import RANGES
from wallie_litellm.ledger.figures import RequestTotals, Totals
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.ranges import EXACT_UP_TO, align

ENDS: Final = ".."  # between the ends of a free range, in its name
MOST: Final = 50  # groups in an answer, unless it is asked for another number
_MEANWHILE: Final = 5.0  # seconds by which an open range may have become longer when the ledger is asked
_LATEST: Final = 253_402_300_800.0  # Unix seconds, the end of the year 9999, the last of datetime


class Stretch(NamedTuple):
    """From ``since`` to before ``until`` (``None``: now), in Unix seconds; ``name`` is of ``RANGES``, or ``None``."""

    since: float
    until: float | None
    name: str | None


def stretch_of(
    name: str | None, since: str | None, until: str | None, default: str, now: float, zone: str = "UTC"
) -> Stretch:
    """The range that a request asks for: by its name, or by its ends, which are of ``zone`` where they state none.

    Raises:
        ValueError: the parameters make no sense; the message says what is expected.
    """
    if name is not None and (since or until):
        raise ValueError("range: give it, or since and until, not both")
    if since is None and until is not None:
        raise ValueError("until: it needs a since")
    if name is not None and ENDS in name:
        since, _, until = name.partition(ENDS)
    if since is None:
        name = default if name is None else name
        if name not in RANGES:
            raise ValueError(
                f"range: found {name!r}, expected one of {', '.join(RANGES)}, or two times as SINCE..UNTIL"
            )
        return Stretch(beginning(RANGES[name].seconds, now), None, name)
    begins = parse_time("since", since, now, zone)
    ends = None if until is None else parse_time("until", until, now, zone, latest=True)
    if ends is not None and ends <= begins:
        raise ValueError(f"until: found {until!r}, expected a time after since ({since})")
    return Stretch(begins, ends, None)


def as_asked(stretch: Stretch, now: float) -> Stretch:
    """``stretch`` as the ledger sums it: above two hours, widened to whole quarters of an hour."""
    length = (now if stretch.until is None else stretch.until) - stretch.since
    if length < EXACT_UP_TO - _MEANWHILE:
        return stretch
    since, until = align(stretch.since, stretch.until, now)
    return Stretch(float(since), None if until is None else float(until), stretch.name)


def parse_time(where: str, text: str, now: float, zone: str = "UTC", *, latest: bool = False) -> float:
    """Unix seconds from themselves, from ISO 8601 (of ``zone`` unless it has an offset), or from an age such as 24h.

    A time that a change of the clocks skips is as late as if they had not been changed, as RFC 5545 3.3.5 has it. Of
    one that they repeat it is the first, and with ``latest`` the last: a range has all of it.

    Raises:
        ValueError: it is none of these.
    """
    found: float | None = None
    with suppress(ValueError):
        number = float(text)
        found = number if math.isfinite(number) else None
    if found is None:
        with suppress(ValueError):
            found = now - parse_duration(text)
    if found is None:
        with suppress(ValueError, OverflowError):
            when = datetime.fromisoformat(text)
            found = when.timestamp() if when.tzinfo else _in_zone(when, zone, latest=latest)
    if found is None or not 0 <= found < _LATEST:
        raise ValueError(
            f"{where}: found {text[:60]!r}, expected a time such as 2026-11-23, 2026-11-23T08:00Z or 1790000000, "
            "or an age such as 24h"
        )
    return found


def _in_zone(when: datetime, zone: str, *, latest: bool) -> float:
    first, last = (when.replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp() for fold in (0, 1))
    return max(first, last) if latest else first  # of a skipped time the first reading is the later


def iso(at: float) -> str:
    """ISO 8601 in UTC."""
    return iso_time(at)


async def usage_of(queries: LedgerQueries, stretch: Stretch, by: By, top: int = MOST) -> Usage:
    """Attempts and requests by one dimension, of the ``top`` groups of highest cost, and of all others together."""
    table = await gather_usage(queries, by, stretch.since, stretch.until, top)
    return Usage(
        range=stretch.name,
        since=iso(stretch.since),
        until=None if stretch.until is None else iso(stretch.until),
        by=by,
        totals=[usage_row(one.name, one.totals, one.requests) for one in table.lines],
        others=table.others,
        rest=None if table.rest is None else usage_row("", table.rest, None),
    )


def usage_row(name: str | None, one: Totals, requests: RequestTotals | None) -> UsageRow:
    """One row of the sums."""
    latency = one.latency
    return UsageRow(
        name=name or "",
        attempts=one.attempts,
        successes=one.successes,
        success_rate=one.success_rate,
        errors=one.errors,
        error_rate=one.error_rate,
        mean_ms=latency.mean_ms,
        p50_ms=latency.p50_ms,
        p95_ms=latency.p95_ms,
        p99_ms=latency.p99_ms,
        first_token_p50_ms=one.first_token.p50_ms,
        first_token_p95_ms=one.first_token.p95_ms,
        waited_ms=one.waited_ms,
        prompt_tokens=one.prompt_tokens,
        completion_tokens=one.completion_tokens,
        total_tokens=one.total_tokens,
        cached_tokens=one.cached_tokens,
        cache_write_tokens=one.cache_write_tokens,
        cost_usd=one.cost_usd,
        unpriced=one.unpriced,
        estimated=one.estimated,
        requests=None if requests is None else requests.requests,
        fallbacks=None if requests is None else requests.fallbacks,
        fallback_rate=None if requests is None else requests.fallback_rate,
    )


def file_name(stretch: Stretch, kinds: Sequence[str], now: float) -> str:
    """The file name of an export."""
    part = stretch.name or "range"
    return f"wallie-{'-'.join(kinds)}-{datetime.fromtimestamp(now, UTC):%Y-%m-%d}-{part}.csv"


def finite(value: Any) -> Any:
    """``value`` for JSON: infinite numbers and NaN become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return [finite(one) for one in value] if isinstance(value, list | tuple) else value
