"""The page's questions to the ledger about the last minutes and the last day."""

from __future__ import annotations

from wallie_litellm.dashboard.health_strip import health_cells
from wallie_litellm.dashboard.recent_traffic import CELL, HEALTH_DAY, WINDOW, HealthDay, RecentTraffic
from wallie_litellm.ledger.queries import LedgerQueries


async def gather_recent_traffic(queries: LedgerQueries, now: float) -> RecentTraffic:
    """The last ``WINDOW`` seconds, from the records themselves."""
    since = now - WINDOW
    (requests,) = await queries.requests(since)
    by_provider = await queries.totals(since, by=["provider"])
    return RecentTraffic(
        requests,
        {one.provider or "": one for one in by_provider},
        {one.provider: one for one in await queries.last_failures(since)},
        await queries.fallbacks(since),
        await queries.changes(since),
    )


async def gather_health_day(queries: LedgerQueries, now: float) -> HealthDay:
    """The last 24 hours, from the sums by quarters of an hour."""
    since = int(now // CELL + 1) * CELL - HEALTH_DAY
    found = await queries.totals(since, by=["provider"], step=CELL, percentiles=False)
    changes = await queries.changes(since)
    return HealthDay(health_cells(found, changes, since, now), changes)
