"""The page's questions to the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from wallie_litellm.dashboard.chain_shares import gather_asked
from wallie_litellm.dashboard.series_queries import ends_of, gather_series
from wallie_litellm.dashboard.view_model import Costs, Figures, HistoryRow, Range
from wallie_litellm.ledger.figures import Alert
from wallie_litellm.ledger.queries import LedgerQueries

RECENT: Final = 20  # alerts, and rows of the history
TRANSITIONS: Final = 200  # the latest, of which the history is made: during an outage every request falls back


async def gather_figures(queries: LedgerQueries, chosen: Range, now: float) -> Figures:
    """The sums of a range, queried one after the other; alerts, history and key figures, of no range, stay empty."""
    since, until = ends_of(chosen, now)
    by_provider = await queries.totals(since, until, by=["provider"])
    (total,) = await queries.totals(since, until)
    (requests,) = await queries.requests(since, until)
    requests_by_provider = await queries.requests(since, until, by=["provider"], percentiles=False)
    return Figures(
        at=now,
        since=since,
        until=until,
        by_provider={one.provider or "": one for one in by_provider},
        requests_by_provider={one.provider or "": one for one in requests_by_provider},
        total=total,
        requests=requests,
        costs=Costs(
            today=(await queries.cost_today()).cost_usd,
            month=await queries.cost_of_month(),
            spent=total.cost_usd,
            unpriced=total.unpriced,
            estimated=total.estimated,
        ),
        series=await gather_series(queries, chosen, now),
        alerts=(),
        history=(),
        kpis=(),
        asked=await gather_asked(queries, since, until),
    )


async def gather_recent(queries: LedgerQueries) -> tuple[list[Alert], list[HistoryRow]]:
    """The latest alerts, and the latest rows of the history."""
    return await queries.alerts(RECENT), await _history(queries)


async def _history(queries: LedgerQueries) -> list[HistoryRow]:
    changes: dict[Any, HistoryRow] = {}
    for one in await queries.transitions(TRANSITIONS):
        alike = one.id if one.type != "fallback" else (one.provider, one.before, one.after, one.reason)
        known = changes.get(alike)
        changes[alike] = (
            HistoryRow(one.at, one.type, one.provider, one.before, one.after, one.reason, "", model=one.model)
            if known is None
            else replace(known, times=known.times + 1)
        )
    actions = [
        HistoryRow(one.at, "action", one.provider, "", one.action, one.detail, one.actor, model=one.model)
        for one in await queries.actions(RECENT)
    ]
    return sorted([*changes.values(), *actions], key=lambda one: -one.at)[:RECENT]
