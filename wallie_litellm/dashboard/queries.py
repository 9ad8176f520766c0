"""The page's questions to the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any, Final

from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.dashboard.chain_shares import gather_asked
from wallie_litellm.dashboard.source import RELOAD
from wallie_litellm.dashboard.view_model import ChartEvent, Costs, Figures, HistoryRow, Range, TimeBucket
from wallie_litellm.ledger.figures import Alert, Totals
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.ranges import EXACT_UP_TO, align

RECENT: Final = 20  # alerts, and rows of the history
TRANSITIONS: Final = 200  # the latest, of which the history is made: during an outage every request falls back
CHANGES: Final = 300  # the latest of breakers and health in a range, of which those of breakers are marked in charts
_MARKED: Final = {  # state of a breaker after a change: the kind of its mark
    BreakerState.OPEN.value: "opened",
    BreakerState.FORCED_OPEN.value: "opened",
    BreakerState.CLOSED.value: "closed",
}


def beginning(seconds: float, now: float) -> float:
    """When a range of ``seconds`` up to ``now`` begins; ranges above two hours are widened to quarters of an hour."""
    since = now - seconds
    return since if seconds <= EXACT_UP_TO else float(align(since, None, now)[0])


def ends_of(chosen: Range, now: float) -> tuple[float, float | None]:
    """When a range begins, and before what it ends, ``None`` if now; above two hours in whole quarters of an hour."""
    if chosen.until is None:
        return beginning(chosen.seconds, now), None
    since = float(chosen.until - chosen.seconds)
    if chosen.seconds <= EXACT_UP_TO:
        return since, float(chosen.until)
    begins, ends = align(since, chosen.until, now)
    return float(begins), None if ends is None else float(ends)


async def gather_figures(queries: LedgerQueries, chosen: Range, now: float) -> Figures:
    """The sums of a range, queried one after the other; alerts, history and key figures, of no range, stay empty."""
    since, until = ends_of(chosen, now)
    by_provider = await queries.totals(since, until, by=["provider"])
    (total,) = await queries.totals(since, until)
    (requests,) = await queries.requests(since, until)
    requests_by_provider = await queries.requests(since, until, by=["provider"], percentiles=False)
    over_time = await queries.totals(since, until, by=["provider"], step=chosen.step, percentiles=False)
    p95 = {one.start: one.latency.p95_ms for one in await queries.totals(since, until, step=chosen.step)}
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
        buckets=_buckets(over_time, p95, since, chosen.step, now if until is None else until - 1),
        alerts=(),
        history=(),
        kpis=(),
        events=await _events(queries, since, until),
        asked=await gather_asked(queries, since, until),
    )


async def _events(queries: LedgerQueries, since: float, until: float | None) -> list[ChartEvent]:
    """Breakers that opened and closed, and reloads, in order of time."""
    found = [
        ChartEvent(one.at, _MARKED[one.after], one.provider, one.model, one.reason or "")
        for one in await queries.changes(since, limit=CHANGES, until=until)
        if one.type == "breaker" and one.after in _MARKED
    ]
    ends = inf if until is None else until
    reloads = [one for one in await queries.actions(RECENT) if one.action == RELOAD and since <= one.at < ends]
    found += [ChartEvent(one.at, "reload", reason=one.detail or "") for one in reloads]
    return sorted(found, key=lambda one: one.at)


def _buckets(
    found: Sequence[Totals], p95: Mapping[int | None, float | None], since: float, step: int, last: float
) -> list[TimeBucket]:
    """All buckets of the range, those without an attempt included."""
    starts = range(int(since // step) * step, int(last) + 1, step)
    by_start: dict[int, list[Totals]] = {start: [] for start in starts}
    for one in found:
        if one.start in by_start:
            by_start[one.start].append(one)
    return [_bucket(start, ones, p95.get(start)) for start, ones in by_start.items()]


def _bucket(start: int, ones: Sequence[Totals], p95: float | None) -> TimeBucket:
    answered = [
        (one.successes - one.cache_hits, one.latency.mean_ms) for one in ones if one.latency.mean_ms is not None
    ]
    calls = sum(count for count, _ in answered)
    return TimeBucket(
        start,
        {one.provider or "": one.cost_usd or 0.0 for one in ones},
        {one.provider or "": one.attempts for one in ones},
        sum(one.attempts - one.successes - one.by_caller for one in ones),
        sum(count * mean for count, mean in answered) / calls if calls else None,
        p95,
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
