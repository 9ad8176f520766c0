"""The points and marks of the charts: of all providers, or of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

from wallie_litellm.core.circuit_breaker import BreakerState
from wallie_litellm.dashboard.source import RELOAD
from wallie_litellm.dashboard.view_model import ChartEvent, Range, Series, TimeBucket
from wallie_litellm.ledger.figures import EVERYTHING, Totals, Where
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.ranges import EXACT_UP_TO, align

CHANGES: Final = 300  # the latest of breakers and health in a range, of which those of breakers are marked in charts
RELOADS: Final = 20  # the latest actions of operators, of which reloads are marked
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


async def gather_series(queries: LedgerQueries, chosen: Range, now: float, provider: str | None = None) -> Series:
    """What the charts of a range show, of all providers or of one."""
    since, until = ends_of(chosen, now)
    where = EVERYTHING if provider is None else Where(provider=provider)
    over_time = await queries.totals(since, until, by=["provider"], step=chosen.step, where=where, percentiles=False)
    whole = await queries.totals(since, until, step=chosen.step, where=where)
    p95 = {one.start: one.latency.p95_ms for one in whole}
    buckets = _buckets(over_time, p95, since, chosen.step, now if until is None else until - 1)
    return Series(since, until, chosen.step, buckets, await _events(queries, since, until, provider))


async def _events(queries: LedgerQueries, since: float, until: float | None, provider: str | None) -> list[ChartEvent]:
    """Breakers that opened and closed, and reloads, in order of time."""
    found = [
        ChartEvent(one.at, _MARKED[one.after], one.provider, one.model, one.reason or "")
        for one in await queries.changes(since, provider, CHANGES, until=until)
        if one.type == "breaker" and one.after in _MARKED
    ]
    ends = inf if until is None else until
    reloads = [one for one in await queries.actions(RELOADS) if one.action == RELOAD and since <= one.at < ends]
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
