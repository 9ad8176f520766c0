from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ledger_query_fixtures import Writer
from ledger_support import ended, settled
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.config import KpiSettings
from wallie_litellm.events import QuotaCrossed, Settled, new_id
from wallie_litellm.ledger.kpis import PERIOD, Kpi, measure_kpis
from wallie_litellm.ledger.queries import LedgerQueries

NOW = datetime(2026, 11, 23, 12, 7, tzinfo=UTC).timestamp()
TARGETS = KpiSettings()


async def measure(engine: AsyncEngine, targets: KpiSettings = TARGETS) -> dict[str, Kpi]:
    found = await measure_kpis(LedgerQueries(engine, lambda: NOW), targets, NOW - PERIOD)
    return {kpi.name: kpi for kpi in found}


def good(number: int) -> Settled:
    return settled(at=NOW - 86_400 - number, latency_ms=1000.0, cost_usd=0.01, provider="openai")


def bad(number: int, error: str, status: int | None) -> Settled:
    return settled(
        at=NOW - 86_400 - number, outcome="rejected", success=False, error=error, status_code=status, cost_usd=0.0
    )


async def test_without_data_nothing_passes_and_nothing_fails(engine: AsyncEngine) -> None:
    kpis = await measure(engine)
    assert list(kpis) == list(KpiSettings.model_fields)
    assert {(kpi.actual, kpi.passed) for kpi in kpis.values()} == {(None, None)}


async def test_each_figure_is_as_defined(engine: AsyncEngine, write: Writer) -> None:
    served = [good(number) for number in range(96)]
    failed, cancelled = bad(97, "HTTP 503", 503), bad(98, "cancelled", None)
    rescued = bad(99, "HTTP 500", 500), good(100)._replace(model="claude-sonnet-4", provider="anthropic")
    await write([*served, failed, cancelled, *rescued])
    await write([ended(one) for one in served])
    await write([ended(failed), ended(cancelled, by_caller=True), ended(*rescued)])
    await write([QuotaCrossed(new_id(NOW - 5), NOW - 5, "openai", "rpm", "critical", 0.96, 480.0, 500, 12.0)])
    await write([QuotaCrossed(new_id(NOW - 6), NOW - 6, "openai", "rpm", "warning", 0.81, 405.0, 500, 12.0)])
    kpis = await measure(engine)
    assert kpis["uptime"].actual == pytest.approx(97 / 98)  # the cancelled one does not count
    assert kpis["error_rate"].actual == pytest.approx(2 / 100)
    assert kpis["fallback_rate"].actual == pytest.approx(1 / 97)
    assert kpis["p95_latency"].actual == pytest.approx(1.0, rel=0.3)
    assert kpis["critical_alerts"].actual == 1
    assert kpis["monthly_cost"].note == "$0.97 so far in 2026-11"
    assert kpis["monthly_cost"].actual == pytest.approx(0.97 * (1 + 7.495 / 1.001), rel=0.01)
    passed = {name: kpi.passed for name, kpi in kpis.items()}
    assert passed == {
        "uptime": False,
        "p95_latency": True,
        "error_rate": False,
        "monthly_cost": True,
        "fallback_rate": True,
        "critical_alerts": False,
    }


async def test_what_cache_hedges_and_auto_did_are_figures_without_a_target(engine: AsyncEngine, write: Writer) -> None:
    paid, cached, hedged = good(1)._replace(cost_usd=0.03), good(2), good(3)._replace(cost_usd=0.01)
    await write([paid, ended(paid, auto_saved_usd=0.02), ended(cached, cache_hit=True, saved_usd=0.5)])
    await write([hedged, ended(hedged, hedged=True, wasted_usd=0.01)])
    *_, cache, wasted, saved = (await measure(engine)).values()
    assert cache == Kpi("cached_share", None, pytest.approx(1 / 3), None, "saved $0.50")
    assert wasted == Kpi("wasted_share", None, pytest.approx(0.25), None, "$0.01; 33.3% of requests were hedged")
    assert (saved.name, saved.target, saved.actual, saved.passed) == ("auto_saved_usd", None, 0.02, None)


async def test_a_figure_passes_if_it_is_better_than_its_target_or_perfect(engine: AsyncEngine, write: Writer) -> None:
    await write([good(1), ended(good(1)), good(2), ended(good(2))])
    perfect = KpiSettings(uptime=1.0, error_rate=0.0, fallback_rate=0.0)
    kpis = await measure(engine, perfect)
    assert kpis["uptime"].passed
    assert kpis["error_rate"].passed
    assert kpis["fallback_rate"].passed
    failed = bad(3, "HTTP 500", 500)
    await write([failed, ended(failed), good(4), ended(good(4))])
    level = await measure(engine, KpiSettings(uptime=0.75, error_rate=0.25))
    assert (level["uptime"].actual, level["uptime"].passed) == (0.75, False)
    assert (level["error_rate"].actual, level["error_rate"].passed) == (0.25, False)


async def test_the_note_of_the_cost_has_the_number_of_unpriced_attempts(engine: AsyncEngine, write: Writer) -> None:
    await write([good(1), good(2)._replace(cost_usd=None, unpriced=True)])
    assert (await measure(engine))["monthly_cost"].note == "$0.01 so far in 2026-11, 1 unpriced attempts not included"


async def test_the_note_of_fallbacks_has_what_hedges_have_wasted(engine: AsyncEngine, write: Writer) -> None:
    plain, hedged = good(1), good(2)
    await write([plain, hedged, ended(plain), ended(hedged, hedged=True, wasted_usd=0.125, used_fallback=True)])
    note = (await measure(engine))["fallback_rate"].note
    assert note == "50.0% of requests were hedged, $0.12 wasted; faster hedges are among these"


async def test_answers_from_the_cache_make_no_latency_better_and_its_note_says_what_they_saved(
    engine: AsyncEngine, write: Writer
) -> None:
    await write([good(1), ended(good(1))])
    alone = await measure(engine)
    hit = ended(success=True, error=None, provider="", cache_hit=True, saved_usd=0.5, latency_ms=1.0, at=NOW - 86_400)
    await write([hit._replace(id=new_id(NOW - number), request_id=str(number)) for number in range(1, 4)])
    kpis = await measure(engine)
    assert alone["p95_latency"].note == ""
    assert kpis["p95_latency"].note == "without the 75.0% of answers that the cache had, which saved $1.50"
    assert kpis["p95_latency"].actual == alone["p95_latency"].actual
    assert kpis["monthly_cost"].actual == alone["monthly_cost"].actual
    assert kpis["uptime"].actual == 1.0


async def test_a_month_without_a_known_price_neither_passes_nor_fails(engine: AsyncEngine, write: Writer) -> None:
    await write([good(2)._replace(cost_usd=None, unpriced=True)])
    cost = (await measure(engine))["monthly_cost"]
    assert (cost.actual, cost.passed, cost.note) == (None, None, "1 unpriced attempts not included")
