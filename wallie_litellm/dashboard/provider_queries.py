"""The page's questions to the ledger about one provider in a range, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wallie_litellm.clock import DAY
from wallie_litellm.dashboard.series_queries import ends_of, gather_series
from wallie_litellm.dashboard.view_model import Range, Series
from wallie_litellm.ledger.figures import FailureKind, RecordedFailure, RequestTotals, Totals, Transition, Where
from wallie_litellm.ledger.queries import LedgerQueries

CHANGES: Final = 100  # of breakers and health, at most
KINDS: Final = 20  # of errors, at most
FAILURES: Final = 20  # failed attempts, at most
_KNOWN_FOR: Final = 400 * DAY  # seconds in which a provider that was called is known


@dataclass(frozen=True, slots=True)
class ProviderFigures:
    """A provider's figures of a range; ``changes`` and ``failures`` the latest first, ``kinds`` by number."""

    total: Totals
    requests: RequestTotals
    models: Sequence[Totals]
    series: Series
    changes: Sequence[Transition]
    kinds: Sequence[FailureKind]
    failures: Sequence[RecordedFailure]


async def gather_provider(queries: LedgerQueries, provider: str, chosen: Range, now: float) -> ProviderFigures:
    """The sums from the roll-ups; errors from the records, which end with their retention."""
    since, until = ends_of(chosen, now)
    where = Where(provider=provider)
    (total,) = await queries.totals(since, until, where=where)
    (requests,) = await queries.requests(since, until, where=where)
    return ProviderFigures(
        total,
        requests,
        await queries.totals(since, until, by=["model"], where=where),
        await gather_series(queries, chosen, now, provider),
        await queries.changes(since, provider, CHANGES, until=until),
        await queries.failure_kinds(provider, since, KINDS, until=until),
        await queries.failures(provider, since, FAILURES, until=until),
    )


async def is_on_record(queries: LedgerQueries, provider: str, now: float) -> bool:
    """Whether a provider of this name has been called."""
    (total,) = await queries.totals(now - _KNOWN_FOR, where=Where(provider=provider), percentiles=False)
    return total.attempts > 0
