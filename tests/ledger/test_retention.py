"""Old records are removed, a few at a time; their sums stay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from ledger_support import ended, fetch, settled
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine
from support import wait_until

from wallie_litellm.core.demand import Demand
from wallie_litellm.events import Event, OperatorActed, QuotaCrossed, UsageReported, new_id
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.records import record_of
from wallie_litellm.ledger.retention import DAYS_KEPT, prune
from wallie_litellm.ledger.schema import (
    DAY,
    QUARTER,
    actions,
    alerts,
    attempts,
    histograms,
    outside_usage,
    requests,
    usage,
)
from wallie_litellm.ledger.writer import LedgerSink

NOW = 1_790_000_000.0


async def write(engine: AsyncEngine, events: Sequence[Event]) -> None:
    async with writing(engine) as connection:
        await connection.run_sync(insert_records, [record_of(event, "w") for event in events])


async def prune_all(engine: AsyncEngine, retention: float) -> int:
    rounds = 1
    while await prune(engine, NOW, retention):
        rounds += 1
        assert rounds < 1000
    return rounds


async def count(url: str, table: Any, *conditions: Any) -> int:
    (row,) = await fetch(url, select(func.count()).select_from(table).where(*conditions))
    return int(row[0])


async def test_old_records_are_removed_and_daily_sums_stay(database_url: str, engine: AsyncEngine) -> None:
    ages = [0.0, 5 * DAY - 1, 5 * DAY + 1, 20 * DAY, (DAYS_KEPT - 2) * DAY, (DAYS_KEPT + 2) * DAY]
    made = [settled(at=NOW - age) for age in ages]
    alerts_ = [QuotaCrossed(new_id(), NOW - age, "openai", "rpm", "warning", 0.8, 8.0, 10, 1.0) for age in ages]
    await write(engine, [*made, *(ended(attempt) for attempt in made), *alerts_])
    await prune_all(engine, 5 * DAY)
    for table in (attempts, requests, alerts):
        assert await count(database_url, table) == 2
    for sums in (usage, histograms):
        for grain, kept in ((QUARTER, ages[:2]), (DAY, ages[:-1])):
            starts = await fetch(database_url, select(sums.c.start).where(sums.c.grain == grain).distinct())
            assert sorted(row.start for row in starts) == sorted({int(NOW - age) // grain * grain for age in kept})


async def test_records_that_limits_are_restored_from_are_kept_for_two_days(
    database_url: str, engine: AsyncEngine
) -> None:
    for age in (3600.0, 3 * DAY):
        outside = UsageReported(new_id(), NOW - age, "openai", Demand(1, 2, 1, 1), "lease")
        acted = OperatorActed(new_id(), NOW - age, "admin", "reset_quota", "openai", None)
        await write(engine, [settled(at=NOW - age), outside, acted])
    await prune_all(engine, 60.0)
    assert await count(database_url, attempts) == 0
    assert await count(database_url, outside_usage) == 1
    assert await count(database_url, actions) == 1
    assert (
        await count(database_url, usage, usage.c.grain == QUARTER) == 5
    )  # by model, key, provider and user, and of all


async def test_many_old_records_are_removed_in_small_steps(database_url: str, engine: AsyncEngine) -> None:
    await write(engine, [settled(at=NOW - 10 * DAY + number) for number in range(5_000)] + [settled(at=NOW)])
    assert await prune(engine, NOW, DAY)
    assert 0 < await count(database_url, attempts) < 5_001
    assert await prune_all(engine, DAY) >= 2
    assert await count(database_url, attempts) == 1


async def test_several_processes_can_prune_at_once(database_url: str, engine: AsyncEngine) -> None:
    await write(engine, [settled(at=NOW - 10 * DAY + number) for number in range(6_000)] + [settled(at=NOW)])
    others = [open_engine(database_url, busy_timeout=30) for _ in range(3)]
    await asyncio.gather(*(prune_all(other, DAY) for other in others))
    for other in others:
        await other.dispose()
    assert await count(database_url, attempts) == 1
    assert (
        await count(database_url, usage, usage.c.grain == QUARTER) == 5
    )  # by model, key, provider and user, and of all


def test_a_sink_prunes_from_its_start(database_url: str, open_sink: Callable[..., LedgerSink]) -> None:
    now = time.time()
    first = open_sink(database_url, retention=90 * 86_400.0)
    first.handle([settled(at=now - 30 * DAY), settled(at=now)])
    assert first.flush(30)
    first.close(10)
    open_sink(database_url, retention=10 * 86_400.0)
    wait_until(lambda: asyncio.run(count(database_url, attempts)) == 1)
