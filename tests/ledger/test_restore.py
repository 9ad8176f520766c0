"""The usage, cost and alerts that a starting process restores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ledger_support import settled
from sqlalchemy import update

from wallie_litellm.core.demand import Demand
from wallie_litellm.errors import ConfigError
from wallie_litellm.events import BudgetCrossed, Event, OperatorActed, Unpriced, UsageReported, new_id
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import record_of
from wallie_litellm.ledger.restore import Restored, restore
from wallie_litellm.ledger.schema import VERSION, schema_version
from wallie_litellm.ledger.writer import LedgerSink

NOON = datetime(2026, 11, 15, 12, 0, tzinfo=UTC).timestamp()
MIDNIGHT = NOON - 12 * 3600
MINUTE_AGO = NOON - 60
WINDOWS = {"openai": (MIDNIGHT, MINUTE_AGO), "anthropic": (MIDNIGHT + 3600, MINUTE_AGO), "groq": (MIDNIGHT, MINUTE_AGO)}
ONE = Demand(1, 200, 120, 80)


def write(url: str, events: Sequence[Event]) -> None:
    async def run() -> None:
        engine = open_engine(url)
        async with writing(engine) as connection:
            await connection.run_sync(migrate)
            await connection.run_sync(insert_records, [record_of(event, "w") for event in events])
        await engine.dispose()

    asyncio.run(run())


def restored(url: str) -> Restored:
    found = restore(url, WINDOWS, wall=NOON)
    assert found is not None
    return found


def times(count: int) -> Demand:
    return Demand(*(amount * count for amount in ONE))


def outside(at: float, provider: str = "openai") -> UsageReported:
    return UsageReported(new_id(at), at, provider, ONE, "update_usage")


def reset(at: float, provider: str = "openai", model: str | None = None) -> OperatorActed:
    return OperatorActed(new_id(at), at, "admin", "reset_quota", provider, None, model)


def test_the_day_is_summed_from_each_providers_midnight(database_url: str) -> None:
    at = [MIDNIGHT - 1, MIDNIGHT, MIDNIGHT + 1800, MIDNIGHT + 3600, NOON - 3600, NOON - 1]
    events: list[Event] = [settled(at=moment, provider=name) for moment in at for name in ("openai", "anthropic")]
    write(database_url, [*events, outside(MIDNIGHT - 1), outside(MIDNIGHT + 1), outside(NOON - 1)])
    found = restored(database_url)
    assert found.day == {"openai": times(7), "anthropic": times(3), "groq": times(0)}


def test_attempts_without_a_charge_are_not_restored(database_url: str) -> None:
    nothing = Demand(0, 0, 0, 0)
    write(database_url, [settled(at=NOON - 5, charged=nothing), settled(at=NOON - 5, charged=Demand(1, 0, 0, 0))])
    found = restored(database_url)
    assert found.day["openai"] == Demand(1, 0, 0, 0)
    assert found.recent["openai"] == [(pytest.approx(NOON - 5.8125), Demand(1, 0, 0, 0))]


@pytest.mark.parametrize("ago", [3600.0, 3600.0 + 450, 20.0])
def test_only_charges_after_an_operators_reset_are_restored(database_url: str, ago: float) -> None:
    reset_at = NOON - ago
    before = [settled(at=reset_at - offset) for offset in (0.5, 400.0, 3000.0)]
    after = [settled(at=reset_at + offset) for offset in (0.5, 10.0, *((500.0, 3000.0) if ago > 3000 else ()))]
    others = [settled(at=reset_at - 5, provider="anthropic"), outside(reset_at - 1), outside(reset_at + 1)]
    write(database_url, [*before, *after, *others, reset(reset_at), reset(reset_at - 100), reset(NOON, "groq")])
    found = restored(database_url)
    assert found.day["openai"] == times(len(after) + 1)
    assert found.day["anthropic"] == times(1)
    if ago < 60:
        assert sum(amount.requests for _, amount in found.recent["openai"]) == 3


def test_a_models_reset_ends_the_use_of_its_own_limits_alone(database_url: str) -> None:
    old, new = (settled(at=NOON - ago, deployment="openai/gpt-4o") for ago in (50.0, 5.0))
    others = settled(at=NOON - 50.0, deployment="openai/o3")
    write(database_url, [old, new, others, reset(NOON - 20.0, model="gpt-4o*")])
    found = restore(database_url, WINDOWS, {"openai": lambda model, _: f"{model[7:9]}*"}, wall=NOON)
    assert found is not None
    assert found.day["openai"] == times(3)
    assert {pattern: own.day for pattern, own in found.models["openai"].items()} == {"gp*": times(2), "o3*": times(1)}
    found = restore(database_url, WINDOWS, {"openai": lambda model, _: f"{model[7:]}*"}, wall=NOON)
    assert found is not None
    assert {pattern: own.day for pattern, own in found.models["openai"].items()} == {
        "gpt-4o*": times(1),
        "o3*": times(1),
    }


def test_the_last_minutes_charges_are_restored_by_second(database_url: str) -> None:
    ends = [NOON - 61, NOON - 30.0, NOON - 29.9, NOON - 2]
    events: list[Event] = [settled(at=at, latency_ms=1_250.0) for at in ends]
    write(database_url, [*events, outside(NOON - 1.0), settled(at=NOON - 3, provider="anthropic", latency_ms=0.0)])
    found = restored(database_url).recent
    assert found["openai"] == [
        (pytest.approx(NOON - 29.9, abs=1e-6), times(2)),
        (pytest.approx(NOON - 2, abs=1e-6), times(1)),
        (pytest.approx(NOON - 1.0, abs=1e-6), times(1)),
    ]
    assert found["anthropic"] == [(NOON - 3, times(1))]
    assert found["groq"] == []


def test_the_months_cost_and_its_announced_levels_are_restored(database_url: str) -> None:
    october, today = datetime(2026, 10, 31, 23, 59, tzinfo=UTC).timestamp(), MIDNIGHT + 1
    yesterday = MIDNIGHT - 1
    events = [
        *(settled(at=at, cost_usd=cost) for at, cost in ((october, 100.0), (yesterday, 2.5), (today, 0.25))),
        settled(at=today, cost_usd=None, unpriced=True),
        BudgetCrossed(new_id(), october, "critical", 0.95, 475.0, 500.0, "2026-10"),
        BudgetCrossed(new_id(), yesterday, "warning", 0.8, 400.0, 500.0, "2026-11"),
        Unpriced(new_id(), yesterday, "openai", "old", "openai/old"),
        Unpriced(new_id(), today, "openai", "new", "openai/new"),
    ]
    write(database_url, events)
    found = restored(database_url)
    assert found.month_cost == pytest.approx(2.75)
    assert found.budget_levels == {"warning"}
    assert found.unpriced == {"openai/new"}


def test_restoring_from_a_missing_file_is_empty_and_creates_nothing(tmp_path: Path) -> None:
    assert restore(f"sqlite:///{tmp_path}/not/wallie.db", WINDOWS, wall=NOON) == Restored()
    assert list(tmp_path.iterdir()) == []


def test_restoring_from_a_database_without_tables_is_empty(database_url: str) -> None:
    assert restored(database_url) == Restored()


async def test_restore_works_within_an_event_loop(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/wallie.db"
    await asyncio.to_thread(write, url, [settled(at=NOON - 1)])
    assert restored(url).day["openai"] == ONE


def test_an_unavailable_database_is_logged_and_nothing_is_restored(caplog: pytest.LogCaptureFixture) -> None:
    assert restore("postgresql://u:secret@127.0.0.1:9/db", WINDOWS, wall=NOON) is None
    assert "postgresql://*** cannot be read (Connection" in caplog.text
    assert "secret" not in caplog.text


def test_restore_waits_for_a_hanging_database_only_until_its_timeout(
    silent_server: int, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    assert restore(f"postgresql://u@127.0.0.1:{silent_server}/db", WINDOWS, wall=NOON, timeout=0.3) is None
    assert time.monotonic() - began < 10
    assert "cannot be read (TimeoutError)" in caplog.text


def test_a_file_that_is_no_database_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "wallie.db").write_text("this is a shopping list and not a database" * 100)
    assert restore(f"sqlite:///{tmp_path}/wallie.db", WINDOWS, wall=NOON) is None
    assert "cannot be read (SQLITE_NOTADB)" in caplog.text


def test_a_later_versions_database_is_refused(database_url: str) -> None:
    write(database_url, [])

    async def make_later() -> None:
        engine = open_engine(database_url)
        async with writing(engine) as connection:
            await connection.execute(update(schema_version).values(version=VERSION + 1))
        await engine.dispose()

    asyncio.run(make_later())
    with pytest.raises(ConfigError, match=f"version {VERSION + 1}"):
        restore(database_url, WINDOWS, wall=NOON)


def test_the_next_process_restores_the_records_of_a_sink(
    database_url: str, open_sink: Callable[..., LedgerSink]
) -> None:
    now = time.time()
    sink = open_sink(database_url)
    sink.handle([settled(at=now - 2, latency_ms=500.0), settled(at=now - 1, latency_ms=500.0)])
    assert sink.flush(30)
    found = restore(database_url, {"openai": (now - 900, now - 60)})
    assert found is not None
    assert [amount for _, amount in found.recent["openai"]] == [ONE, ONE]
