"""The dashboard's queries of a SQLite ledger with a million attempts and their requests over 30 days."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.harness import Report
from wallie_litellm.config import KpiSettings
from wallie_litellm.core.demand import Demand
from wallie_litellm.dashboard.chain_shares import gather_asked
from wallie_litellm.dashboard.provider_queries import gather_provider
from wallie_litellm.dashboard.queries import gather_figures, gather_recent
from wallie_litellm.dashboard.recent_queries import gather_health_day, gather_recent_traffic
from wallie_litellm.dashboard.series_queries import ends_of
from wallie_litellm.dashboard.usage_tables import DEFAULT_BY, TABS, gather_usage
from wallie_litellm.dashboard.view_model import RANGES, Range
from wallie_litellm.events import Ended, Settled
from wallie_litellm.ledger.aggregates import ATTEMPTS, Question, from_records
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.kpis import measure_kpis
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.records import Record, record_of
from wallie_litellm.ledger.request_log import RequestFilter
from wallie_litellm.ledger.schema import DAY

GOAL_MS = 50.0
NOW = 20_500 * DAY + 13.5 * 3600  # in the middle of a day, so that a range has edges of half a day
MONTH = 30 * DAY
DEPLOYMENTS = (
    *(
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-mini"),
        ("anthropic", "claude-sonnet-4"),
        ("anthropic", "claude-opus-4"),
    ),
    *(("gemini", "gemini-2.0-flash"), ("gemini", "gemini-2.0-flash-thinking"), ("groq", "llama-3.3-70b")),
    *(("groq", "llama-3.1-8b"), ("deepseek", "deepseek-chat")),
)
RARE_FEATURE = "feature-rare"  # of 1 request in 100,000
_BATCH = 10_000

Ask = Callable[[], Awaitable[Any]]


class Query(NamedTuple):
    """One question of the dashboard, and the same sums (without percentiles) from the records, if there are any."""

    name: str
    ask: Ask
    plain: Ask | None = None
    goal: bool = True


def run(quick: bool) -> Report:
    attempts = 100_000 if quick else 1_000_000
    report = Report(
        f"Asking a SQLite ledger with {attempts:,} attempts over 30 days",
        (
            "query",
            "p50, ms",
            "p95, ms",
            "CPU, ms",
            f"p95 < {GOAL_MS:.0f} ms",
            "plain SQL over the records, ms",
            "ratio",
        ),
        notes=[
            "5 providers, 9 models, 9 features, 500 users; as many requests. Times are from asking to the answer as "
            "objects, over SQLAlchemy and aiosqlite; CPU is that of the whole process. Users: the 50 dearest, without "
            "percentiles. Charts have the page's steps: a minute, an hour, 6 hours and a day. Of the request log the "
            "last 50 of 30 days; page is all that it asks with nothing kept from before, KPIs included, which it asks "
            "every 5 minutes. Plain SQL is the same grouping of the records themselves, without any percentile."
        ],
    )
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(_measure_all(report, f"sqlite:///{place}/wallie.db", attempts, 10 if quick else 50))
    return report


async def _measure_all(report: Report, url: str, attempts: int, rounds: int) -> None:
    engine = open_engine(url)
    try:
        await fill(engine, attempts)
        for query in _queries(engine):
            report.rows.append(await _measure(report, query, rounds))
    finally:
        await engine.dispose()


async def _measure(report: Report, query: Query, rounds: int) -> tuple[str, ...]:
    await query.ask()  # the statement is compiled once
    wall, cpu = [], []
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        await query.ask()
        wall.append((time.perf_counter() - began) * 1e3)
        cpu.append((time.process_time() - used) * 1e3)
    p50, p95 = statistics.median(wall), sorted(wall)[-(-len(wall) * 95 // 100) - 1]
    report.data[query.name] = {"p50_ms": p50, "p95_ms": p95, "cpu_ms": statistics.median(cpu)}
    verdict = ("met" if p95 < GOAL_MS else "missed") if query.goal else "-"
    row = (query.name, f"{p50:.1f}", f"{p95:.1f}", f"{statistics.median(cpu):.1f}", verdict)
    if query.plain is None:
        return (*row, "", "")
    plain = await _once(query.plain)
    report.data[query.name]["plain_ms"] = plain
    return (*row, f"{plain:.0f}", f"{plain / p50:.1f}")


async def _once(ask: Ask) -> float:
    """The best of three, in ms: these take long."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        await ask()
        times.append((time.perf_counter() - began) * 1e3)
    return min(times)


def _queries(engine: AsyncEngine) -> Iterator[Query]:
    queries = LedgerQueries(engine, lambda: NOW)

    def totals(name: str, since: float, **options: Any) -> Query:
        question = Question(tuple(options.get("by", ())), options.get("step"))

        async def plain() -> None:
            async with engine.connect() as connection:
                (await connection.execute(from_records(ATTEMPTS, question, since, None, sqlite=True))).all()

        goal = options.pop("goal", True)
        return Query(name, lambda: queries.totals(since, **options), plain, goal)

    for chosen in RANGES.values():
        span, step, since = chosen.name, chosen.step, NOW - chosen.seconds
        yield totals(f"totals, {span}", since)
        for by in ("provider", "model", "feature"):
            yield totals(f"by {by}, {span}", since, by=[by])
        yield totals(f"by user, {span}", since, by=["user_id"], percentiles=False, top=50)
        yield totals(f"chart, {span}", since, step=step)
        yield totals(f"chart by provider, {span}", since, step=step, by=["provider"], percentiles=False)
        yield Query(f"requests, {span}", partial(queries.requests, since))
        yield Query(f"chains, {span}", partial(gather_asked, queries, since))
        for tab in TABS:
            yield Query(f"ranking by {tab}, {span}", partial(gather_usage, queries, tab, since))
        yield Query(f"page, {span}", partial(_ask_for_page, queries, chosen), goal=False)
    yield from _of_no_range(queries)
    yield from _request_logs(queries)


def _of_no_range(queries: LedgerQueries) -> Iterator[Query]:
    yield Query("cost today", queries.cost_today)
    yield Query("cost of the month, projected", queries.cost_of_month)
    yield Query("KPIs", partial(measure_kpis, queries, KpiSettings(), NOW - MONTH))
    yield Query("alerts", queries.alerts)
    yield Query("transitions", queries.transitions)
    yield Query("last minutes", partial(gather_recent_traffic, queries, NOW))
    yield Query("health of a day", partial(gather_health_day, queries, NOW))
    for name in ("24h", "30d"):
        asked = partial(gather_provider, queries, "openai", RANGES[name], NOW)
        yield Query(f"provider's page, {name}", asked, goal=False)


def _request_logs(queries: LedgerQueries) -> Iterator[Query]:
    month = RequestFilter(NOW - MONTH)
    for what, wanted in {
        "all": month,
        "a user": month._replace(user="user-7"),
        "no such user": month._replace(user="nothing"),
        "a rare feature": month._replace(feature=RARE_FEATURE),
        "no such provider": month._replace(provider="nothing"),
        "no such model": month._replace(model="nothing"),
        "failed": month._replace(failed=True),
        "no such error": month._replace(error="nothing"),
    }.items():
        yield Query(f"request log, {what}", partial(queries.latest_requests, wanted))


async def _ask_for_page(queries: LedgerQueries, chosen: Range) -> None:
    """What the page asks, in its order."""
    await gather_figures(queries, chosen, NOW)
    await gather_usage(queries, DEFAULT_BY, *ends_of(chosen, NOW))
    await gather_recent(queries)
    await measure_kpis(queries, KpiSettings(), NOW - MONTH)
    await gather_recent_traffic(queries, NOW)
    await gather_health_day(queries, NOW)


async def fill(engine: AsyncEngine, attempts: int, now: float = NOW) -> None:
    """As many attempts, and their requests, over the 30 days before ``now``."""
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
    records = _records(attempts, now)
    while batch := list(islice(records, _BATCH)):
        async with writing(engine) as connection:
            await connection.run_sync(insert_records, batch)


def _records(attempts: int, now: float) -> Iterator[Record]:
    chance = random.Random(1)
    for number in range(attempts):
        one = _settled(chance, number, now - MONTH + (number + chance.random()) * MONTH / attempts)
        yield record_of(one, "w1")
        yield record_of(_ended(one), "w1")


def _settled(chance: random.Random, number: int, at: float) -> Settled:
    provider, model = DEPLOYMENTS[int(len(DEPLOYMENTS) * chance.random() ** 1.5)]
    success = chance.random() < 0.985
    prompt, completion = int(chance.random() * 2000), int(chance.random() * 500)
    return Settled(
        id=f"{int(at * 1000):012x}-a-{number:06x}",
        at=at,
        request_id=f"r{number}",
        number=1,
        provider=provider,
        model=model,
        deployment=model,
        operation="chat",
        stream=False,
        outcome="success" if success else "rejected",
        success=success,
        error=None if success else "HTTP 500",
        status_code=None if success else 500,
        latency_ms=chance.lognormvariate(6.6, 0.6),
        waited_ms=0.0,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        cached_tokens=0,
        reasoning_tokens=0,
        cost_usd=(prompt + 3 * completion) * 1e-6 if success else 0.0,
        unpriced=False,
        estimated=False,
        charged=Demand(1, prompt + completion, prompt, completion),
        feature=RARE_FEATURE if number % 100_000 == 0 else f"feature-{int(8 * chance.random())}",
        user_id=f"user-{int(500 * chance.random())}",
        metadata={},
    )


def _ended(one: Settled) -> Ended:
    return Ended(
        id=one.id.replace("-a-", "-r-"),
        at=one.at,
        request_id=one.request_id,
        model=one.model,
        operation=one.operation,
        stream=False,
        success=one.success,
        error=one.error,
        status_code=one.status_code,
        by_caller=False,
        latency_ms=one.latency_ms,
        waited_ms=0.0,
        used_fallback=False,
        provider=one.provider,
        feature=one.feature,
        user_id=one.user_id,
        metadata={},
        settled=(one,),
    )
