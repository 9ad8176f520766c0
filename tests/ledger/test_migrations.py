"""Versions of the tables: created, migrated with their rows, by several processes at once, never backward."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ledger_support import assert_exactly, fetch, rows, settled
from sqlalchemy import Connection, inspect, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.errors import ConfigError
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import STEPS, migrate, version_of
from wallie_litellm.ledger.records import record_of
from wallie_litellm.ledger.schema import VERSION, metadata, schema_version
from wallie_litellm.ledger.writer import LedgerSink


async def test_tables_are_created_once(database_url: str) -> None:
    engine = open_engine(database_url)
    for _ in range(2):
        async with writing(engine) as connection:
            await connection.run_sync(migrate)
            tables = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
    await engine.dispose()
    assert set(metadata.tables) <= tables
    assert [row.version for row in await fetch(database_url, select(schema_version))] == [VERSION]


async def test_several_processes_can_create_the_tables_at_once(database_url: str) -> None:
    engines = [open_engine(database_url, busy_timeout=30) for _ in range(8)]

    async def start(engine: AsyncEngine) -> None:
        async with writing(engine) as connection:
            await connection.run_sync(migrate)

    await asyncio.gather(*map(start, engines))
    for engine in engines:
        await engine.dispose()
    assert [row.version for row in await fetch(database_url, select(schema_version))] == [VERSION]


async def test_an_earlier_version_is_migrated_with_its_rows(database_url: str, engine: AsyncEngine) -> None:
    event = settled()
    async with writing(engine) as connection:
        await connection.run_sync(insert_records, [record_of(event, "w")])

    def add_column(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE wallie_attempts ADD COLUMN region VARCHAR(20) DEFAULT 'here' NOT NULL"))

    def fill_column(connection: Connection) -> None:
        connection.execute(text("UPDATE wallie_attempts SET region = 'there' WHERE provider = 'openai'"))

    steps = {**STEPS, VERSION: add_column, VERSION + 1: fill_column}
    for _ in range(2):
        async with writing(engine) as connection:
            await connection.run_sync(migrate, steps, VERSION + 2)
    found = await fetch(database_url, text("SELECT id, region FROM wallie_attempts"))
    assert [tuple(row) for row in found] == [(event.id, "there")]
    async with engine.connect() as connection:
        assert await connection.run_sync(version_of) == VERSION + 2


async def test_a_step_that_fails_changes_nothing(database_url: str, engine: AsyncEngine) -> None:
    def fail(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE wallie_attempts ADD COLUMN region VARCHAR(20)"))
        connection.execute(text("SELECT * FROM there_is_none"))

    with pytest.raises(Exception, match="there_is_none"):
        async with writing(engine) as connection:
            await connection.run_sync(migrate, {VERSION: fail}, VERSION + 1)
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
        columns = await connection.run_sync(lambda sync: inspect(sync).get_columns("wallie_attempts"))
    assert "region" not in {column["name"] for column in columns}


async def test_a_later_version_is_refused_with_both_versions_named(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        await connection.execute(update(schema_version).values(version=VERSION + 7))
    with pytest.raises(ConfigError, match=f"has version {VERSION + 7} .* supports version {VERSION}; upgrade"):
        async with writing(engine) as connection:
            await connection.run_sync(migrate)


def test_a_sink_does_not_change_a_later_versions_tables(
    database_url: str, spool_directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def make_later() -> None:
        engine = open_engine(database_url)
        async with writing(engine) as connection:
            await connection.run_sync(migrate)
            await connection.execute(update(schema_version).values(version=VERSION + 1))
        await engine.dispose()

    asyncio.run(make_later())
    sink = LedgerSink(database_url, spool_directory, worker="w", retention=86_400.0)
    sink.handle([settled()])
    assert not sink.flush(0.5)
    assert sink.stats()["spooled"] == 1
    sink.close(1.0)
    assert rows(database_url, text("SELECT id FROM wallie_attempts")) == []
    assert f"has version {VERSION + 1} of the ledger's tables" in caplog.text


def test_dropped_tables_are_created_again(database_url: str, spool_directory: Path) -> None:
    sink = LedgerSink(database_url, spool_directory, worker="w", retention=86_400.0)
    sink.handle([settled()])
    assert sink.flush(30)

    async def drop() -> None:
        engine = open_engine(database_url)
        async with writing(engine) as connection:
            # In the order in which the sink, which prunes meanwhile, takes their locks.
            for table in metadata.tables.values():
                await connection.run_sync(table.drop)
        await engine.dispose()

    asyncio.run(drop())
    sink.handle([event := settled()])
    assert sink.flush(30)
    sink.close(5)
    assert_exactly(database_url, [event])
