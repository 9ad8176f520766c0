"""A ledger, of each kind of database in turn, that tests write events into."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from wallie_litellm.events import Event
from wallie_litellm.ledger.engine import open_engine, writing
from wallie_litellm.ledger.insert import insert_records
from wallie_litellm.ledger.migrations import migrate
from wallie_litellm.ledger.records import record_of

Writer = Callable[[Sequence[Event]], Awaitable[None]]
FileWriter = Callable[[Sequence[Event]], str]


async def write_events(engine: AsyncEngine, events: Sequence[Event]) -> None:
    async with writing(engine) as connection:
        await connection.run_sync(insert_records, [record_of(event, "w1") for event in events])


@pytest.fixture
def write(engine: AsyncEngine) -> Writer:
    """Writes events into the ledger behind ``engine``."""

    async def write(events: Sequence[Event]) -> None:
        await write_events(engine, events)

    return write


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a router_config.yaml whose ledger is as given."""

    def make(ledger: str, kpis: str = "{}") -> Path:
        path = tmp_path / "router_config.yaml"
        path.write_text(
            "model_list:\n  - model_name: gpt-4o-mini\n    litellm_params: {model: openai/gpt-4o-mini}\n"
            f"wallie:\n  ledger: {ledger}\n  kpis: {kpis}\n"
        )
        return path

    return make


@pytest.fixture
def ledger_file(tmp_path: Path) -> FileWriter:
    """Writes events into a ledger in a file, for tests without an event loop; returns its URL."""

    def write(events: Sequence[Event]) -> str:
        url = f"sqlite:///{tmp_path}/wallie.db"

        async def fill() -> None:
            engine = open_engine(url)
            async with writing(engine) as connection:
                await connection.run_sync(migrate)
            await write_events(engine, events)
            await engine.dispose()

        asyncio.run(fill())
        return url

    return write
