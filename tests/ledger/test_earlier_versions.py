"""Ledgers that earlier versions have written, as files: converted with every row, and read as before.

All hold 160 attempts and their requests over four days and a half, and one record of every other kind.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from pathlib import Path
from typing import Any

import pytest
from ledger_query_fixtures import write_events
from ledger_support import PostgresServer, fetch, settled
from sqlalchemy import delete, inspect, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.ledger.aggregates import ATTEMPTS, Question
from wallie_litellm.ledger.distributions import ranks
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.export import export
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.percentiles import OLD_RATIO
from wallie_litellm.ledger.queries import LedgerQueries
from wallie_litellm.ledger.restore import restore
from wallie_litellm.ledger.schema import DAY, LATENCY, RECORD_TABLES, VERSION, metadata, requests, schema_version, usage

VERSIONS = (1, 2, 3)
START = 20_500 * DAY
NOW = START + 6 * DAY
COUNTS = {"attempt": 160, "request": 160, "alert": 2, "transition": 2, "action": 1, "outside_usage": 1}


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> int:
    """The version of the tables."""
    found: int = request.param
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, version: int, tmp_path: Path) -> str:
    """The URL of a ledger of ``version``, on each kind of database in turn."""
    files = Path(__file__).with_name(f"version_{version}")
    if request.param == "sqlite":
        file = tmp_path / "wallie.db"
        file.write_bytes(gzip.decompress((files / "wallie.db.gz").read_bytes()))
        return f"sqlite:///{file}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.load(gzip.decompress((files / "wallie.sql.gz").read_bytes()).decode())


async def convert(url: str) -> AsyncEngine:
    engine = open_engine(url, busy_timeout=30)
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
    return engine


async def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table."""
    found = {}
    for table in (*(RECORD_TABLES[kind].name for kind in COUNTS), "wallie_usage"):
        rows = await fetch(url, select(text("*")).select_from(text(table)))
        found[table] = sorted((dict(row._mapping) for row in rows), key=lambda row: str(list(row.values())[:8]))
    return found


async def test_every_row_is_kept_and_has_nothing_for_what_is_new(old_url: str, version: int) -> None:
    before = await contents(old_url)
    assert {kind: len(before[RECORD_TABLES[kind].name]) for kind in COUNTS} == COUNTS
    engine = await convert(old_url)
    await engine.dispose()
    after = await contents(old_url)
    for table, rows in before.items():
        for old, new in zip(rows, after[table], strict=True):
            assert {name: new[name] for name in old} == old
            assert not any(new[name] for name in new.keys() - old.keys())
    (row,) = await fetch(old_url, select(schema_version))
    assert (row.version, row.created) == (VERSION, version)


async def test_it_has_the_tables_of_a_new_ledger_and_converting_twice_changes_nothing(old_url: str) -> None:
    await (await convert(old_url)).dispose()
    engine = await convert(old_url)
    async with engine.connect() as connection:
        columns = await connection.run_sync(
            lambda sync: {
                name: {(column["name"], column["nullable"]) for column in inspect(sync).get_columns(name)}
                for name in metadata.tables
            }
        )
    await engine.dispose()
    for name, table in metadata.tables.items():
        assert {(column.name, column.nullable) for column in table.columns} <= columns[name]
    for kind in ("attempt", "request"):
        assert len(columns[RECORD_TABLES[kind].name]) == len(RECORD_TABLES[kind].columns)


async def test_an_earlier_version_goes_on_with_converted_tables_and_they_are_converted_again(
    old_url: str, version: int
) -> None:
    before = await contents(old_url)
    engine = await convert(old_url)
    async with writing(engine) as connection:
        await connection.execute(
            update(schema_version).values(version=version, totals_from=0)
        )  # as docs/ledger.md says
        for table in map(RECORD_TABLES.__getitem__, COUNTS):  # its records have the columns that it knows
            row = {**before[table.name][0], "id": "written-after-going-back"}
            await connection.execute(table.insert().values(row))
        await connection.run_sync(migrate)
    await engine.dispose()
    after = await contents(old_url)
    assert {kind: len(after[RECORD_TABLES[kind].name]) for kind in COUNTS} == {
        kind: count + 1 for kind, count in COUNTS.items()
    }
    (row,) = await fetch(old_url, select(schema_version))
    assert (row.version, row.totals_from > time.time()) == (VERSION, True)


async def test_sums_have_what_was_written_before_there_were_coarse_roll_ups(old_url: str) -> None:
    engine = await convert(old_url)
    await write_events(engine, [settled(at=NOW - DAY + number, latency_ms=800.0) for number in range(40)])
    queries = LedgerQueries(engine, lambda: NOW)
    (found,) = await queries.totals(START)
    assert found.attempts == 200
    async with writing(engine) as connection:
        await connection.execute(update(schema_version).values(totals_from=NOW - DAY))
        await connection.execute(delete(usage).where(usage.c.view == "model", usage.c.start >= NOW - DAY))
    assert (await queries.totals(START))[0].attempts == 160
    (found,) = await queries.totals(NOW - DAY)
    by_provider = await queries.totals(NOW - DAY, by=["provider"], percentiles=False)
    assert [(one.provider, one.attempts) for one in by_provider] == [("openai", 40)]
    await engine.dispose()
    assert (found.attempts, found.latency.p95_ms) == (40, pytest.approx(800.0, rel=0.045))


async def test_several_processes_can_convert_it_at_once(old_url: str) -> None:
    engines = await asyncio.gather(*(convert(old_url) for _ in range(4)))
    for engine in engines:
        await engine.dispose()
    assert [row.version for row in await fetch(old_url, select(schema_version))] == [VERSION]
    assert len(await fetch(old_url, select(RECORD_TABLES["attempt"]))) == 160


@pytest.mark.parametrize("version", [1], indirect=True)
async def test_a_long_range_has_the_percentiles_of_its_bins_beside_those_of_new_records(old_url: str) -> None:
    engine = await convert(old_url)
    new = [settled(at=NOW - DAY + number, latency_ms=100_000.0 + number, first_token_ms=250.0) for number in range(40)]
    await write_events(engine, new)
    queries = LedgerQueries(engine, lambda: NOW)
    found = {one.provider: one for one in await queries.totals(START, by=["provider"])}
    statement = ranks(ATTEMPTS, LATENCY, Question(("provider",)), 0, None, sqlite=engine.dialect.name == "sqlite")
    async with engine.connect() as connection:
        exact = {row[0]: row[1:] for row in await connection.execute(statement)}
    await engine.dispose()
    assert sum(one.attempts for one in found.values()) == 200
    for provider, true in exact.items():
        times = found[provider].latency
        for value, (name, expected) in zip(
            (times.p50_ms, times.p95_ms, times.p99_ms), zip(("p50", "p95", "p99"), true, strict=True), strict=True
        ):
            assert value is not None, name
            assert expected / OLD_RATIO <= value <= expected * OLD_RATIO, (provider, name)
    assert found["openai"].first_token.p95_ms == pytest.approx(250.0, rel=0.045)
    assert found["anthropic"].first_token.p95_ms is None


@pytest.mark.parametrize("version", [1], indirect=True)
async def test_what_a_process_of_version_1_writes_meanwhile_is_counted(old_url: str) -> None:
    engine = await convert(old_url)
    old = "INSERT INTO wallie_usage (grain, start, view, provider, count, successes, latency_ms, latency_20) "
    async with writing(engine) as connection:
        for grain in (900, DAY):
            await connection.execute(text(f"{old} VALUES ({grain}, {NOW - DAY}, 'model', 'groq', 1, 1, 800, 1)"))
    (found,) = await LedgerQueries(engine, lambda: NOW).totals(NOW - DAY, by=["provider"])
    await engine.dispose()
    assert (found.provider, found.attempts) == ("groq", 1)
    assert found.latency.p50_ms == pytest.approx(800, rel=0.3)


@pytest.mark.parametrize("version", [2, 3], indirect=True)
async def test_a_process_of_an_earlier_version_writes_on_until_it_ends(old_url: str) -> None:
    engine = await convert(old_url)
    written = (
        "INSERT INTO wallie_requests (id, at, worker, request_id, model, success, latency_ms, attempts, metadata)"
        " VALUES ('new', 1771600000, 'w', 'r', 'gpt-4o-mini', '1', 800, 1, '{}')"
    )
    async with writing(engine) as connection:
        await connection.execute(text(written))
    await engine.dispose()
    (found,) = await fetch(old_url, select(requests).where(requests.c.id == "new"))
    assert (found.hedged, found.cache_hit, found.wasted_usd, found.why, found.proxy_key) == (False, False, 0, None, "")


def test_a_start_continues_from_it(old_url: str) -> None:
    restored = restore(old_url, {"openai": (START, START + 4 * DAY)}, wall=NOW, timeout=30.0)
    assert restored is not None
    assert restored.day["openai"].requests > 90
    assert restored.recent["openai"]


async def test_an_export_of_it_has_the_new_columns(old_url: str, version: int) -> None:
    engine = await convert(old_url)
    lines = [chunk.text async for chunk in export(engine, "jsonl", ["attempt", "transition"])]
    await engine.dispose()
    exported = "".join(lines)
    assert exported.count('"hedge": false, ') == exported.count('"at": "2026') - 2 == 160
    if version == 1:
        assert exported.count('"first_token_ms": null, ') == exported.count('"scope": null, ') == 160
        assert '"model": ""' in lines[-1]
