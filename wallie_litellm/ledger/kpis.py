"""The key figures against their targets.

- ``uptime``: the share of answered requests, of those that their caller did not end.
- ``p95_latency``: seconds within which 95 % of the requests were that a provider answered; its note says how many a
  cache did, and what that saved.
- ``error_rate``: the share of attempts that failed for other reasons than the caller's.
- ``monthly_cost``: the cost of the calendar month (UTC) at its end, as ``LedgerQueries.cost_of_month`` projects it.
- ``fallback_rate``: the share of the answered requests that a fallback answered.
- ``critical_alerts``: how many alerts of level ``critical`` there were.

Three more have no target, and are there where they say something:

- ``cached_share``: the share of the answered requests that a cache answered.
- ``wasted_share``: the share of the cost that was that of hedges which lost.
- ``auto_saved_usd``: what the tiers that ``auto`` chose saved, or in shadow would have, in US dollars.

All but the month's cost are of a period, by default the last 30 days. A figure passes if it is better than its target,
or reaches a target that cannot be surpassed (100 %, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from wallie_litellm.config import KpiSettings
from wallie_litellm.ledger.figures import MonthCost, RequestTotals, Totals
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.schema import DAY

PERIOD: Final = 30.0 * DAY  # seconds


@dataclass(frozen=True, slots=True)
class Kpi:
    """One figure: shares from 0 to 1, latency in seconds, cost in US dollars.

    ``actual`` and ``passed`` are ``None`` without data, and ``target`` of a figure without one; ``note`` explains it.
    """

    name: str
    target: float | None
    actual: float | None
    passed: bool | None
    note: str = ""


async def measure_kpis(queries: LedgerQueries, targets: KpiSettings, since: float) -> list[Kpi]:
    """The figures since ``since`` (Unix seconds), those with a target first, in the order of ``KpiSettings``."""
    (requests,) = await queries.requests(since)
    (attempts,) = await queries.totals(since, percentiles=False)
    critical = await queries.count_alerts("critical", since)
    month = await queries.cost_of_month()
    p95 = requests.latency.p95_ms
    anything = requests.requests or attempts.attempts or critical
    return [
        _at_least("uptime", targets.uptime, requests.success_rate),
        _at_most("p95_latency", targets.p95_latency, None if p95 is None else p95 / 1000, _without_cached(requests)),
        _at_most("error_rate", targets.error_rate, attempts.error_rate),
        _within(targets.monthly_cost, month),
        _at_most("fallback_rate", targets.fallback_rate, requests.fallback_rate, _hedged(requests)),
        _no_more("critical_alerts", targets.critical_alerts, critical if anything else None),
        *_without_target(requests, attempts),
    ]


def _without_target(requests: RequestTotals, attempts: Totals) -> Iterator[Kpi]:
    if requests.cache_hits:
        yield Kpi("cached_share", None, requests.cached_share, None, f"saved ${requests.saved_usd:,.2f}")
    if requests.hedged:
        wasted = requests.wasted_usd / attempts.cost_usd if attempts.cost_usd else None
        note = f"${requests.wasted_usd:,.2f}; {requests.hedged / requests.requests:.1%} of requests were hedged"
        yield Kpi("wasted_share", None, wasted, None, note)
    if requests.auto_saved_usd:
        yield Kpi("auto_saved_usd", None, requests.auto_saved_usd, None, "what auto chose, or in shadow would have")


def _at_least(name: str, target: float, actual: float | None) -> Kpi:
    return Kpi(name, target, actual, None if actual is None else actual > target or actual >= 1)


def _at_most(name: str, target: float, actual: float | None, note: str = "") -> Kpi:
    return Kpi(name, target, actual, None if actual is None else actual < target or actual <= 0, note)


def _within(budget: float, month: MonthCost) -> Kpi:
    """A budget of 0 is no budget, and is neither passed nor failed."""
    kpi = _at_most("monthly_cost", budget, month.projected_usd, _about(month))
    return kpi if budget else replace(kpi, passed=None)


def _no_more(name: str, target: int, actual: int | None) -> Kpi:
    return Kpi(name, target, actual, None if actual is None else actual <= target)


def _without_cached(requests: RequestTotals) -> str:
    """How many answers the latency leaves out, as a cache had them."""
    if not requests.cache_hits:
        return ""
    return (
        f"without the {requests.cached_share:.1%} of answers that the cache had, which saved ${requests.saved_usd:,.2f}"
    )


def _hedged(requests: RequestTotals) -> str:
    """How many requests had a hedge, which counts as a fallback if it was faster, and what that has cost."""
    if not requests.hedged:
        return ""
    hedged = requests.hedged / requests.requests
    return f"{hedged:.1%} of requests were hedged, ${requests.wasted_usd:,.2f} wasted; faster hedges are among these"


def _about(month: MonthCost) -> str:
    """The figures behind the projection."""
    spent = month.to_date
    parts = [] if spent.cost_usd is None else [f"${spent.cost_usd:,.2f} so far in {month.month}"]
    if spent.unpriced:
        parts.append(f"{spent.unpriced} unpriced attempts not included")
    return ", ".join(parts)
