"""Databases for the ledger's tests: SQLite in a file, and a PostgreSQL server of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from ledger_support import PostgresServer
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.migrations import migrate


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL; a test that stops or kills it uses :func:`own_postgres`."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_postgres(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The server, to be stopped and killed at will: it runs again afterwards."""
    yield postgres
    postgres.start()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/wallie.db"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine whose database has the ledger's tables."""
    engine = open_engine(database_url)
    async with writing(engine) as connection:
        await connection.run_sync(migrate)
    yield engine
    await engine.dispose()
