"""The page's questions to the ledger about one provider's last 24 hours, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wallie_litellm.dashboard.recent_traffic import CELL, CELLS, HEALTH_DAY
from wallie_litellm.ledger.figures import FailureKind, RecordedFailure, RequestTotals, Totals, Transition, Where
from wallie_litellm.ledger.queries import LedgerQueries

CHANGES: Final = 100  # of breakers and health, at most
KINDS: Final = 20  # of errors, at most
FAILURES: Final = 20  # failed attempts, at most


@dataclass(frozen=True, slots=True)
class ProviderDay:
    """A provider's last 24 hours, from ``since`` on (Unix seconds); ``latency`` has the p95 by half hours, in ms.

    ``changes`` and ``failures`` are the latest first, ``kinds`` the most frequent.
    """

    since: int
    total: Totals
    requests: RequestTotals
    models: Sequence[Totals]
    latency: Sequence[tuple[int, float | None]]
    changes: Sequence[Transition]
    kinds: Sequence[FailureKind]
    failures: Sequence[RecordedFailure]


async def gather_provider_day(queries: LedgerQueries, provider: str, now: float) -> ProviderDay:
    """The sums from the roll-ups; errors from the records, which end with their retention."""
    since, where = int(now // CELL + 1) * CELL - HEALTH_DAY, Where(provider=provider)
    (total,) = await queries.totals(since, where=where)
    (requests,) = await queries.requests(since, where=where)
    p95 = {one.start: one.latency.p95_ms for one in await queries.totals(since, step=CELL, where=where)}
    return ProviderDay(
        since,
        total,
        requests,
        await queries.totals(since, by=["model"], where=where),
        [(start, p95.get(start)) for start in range(since, since + CELL * CELLS, CELL)],
        await queries.changes(since, provider, CHANGES),
        await queries.failure_kinds(provider, since, KINDS),
        await queries.failures(provider, since, FAILURES),
    )
