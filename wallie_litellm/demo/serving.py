"""The end of the demo: the dashboard over the scenarios' ledgers, and a little traffic that goes on."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wallie_litellm.demo.display import Write
from wallie_litellm.demo.stage import CHAT_GROUPS, Stage, ask

if TYPE_CHECKING:
    from wallie_litellm.guard.router import WallieRouter
    from wallie_litellm.ledger.records import Record

PORT: Final = 4100  # the dashboard's usual port
EVERY: Final = 0.5  # seconds between two requests
HEALTHY_FOR: Final = 30.0  # seconds between two outages
DOWN_FOR: Final = 15.0  # seconds that one lasts
FAILING: Final = "openai"
FEATURES: Final = ("wallie-chat", "email-draft", "summaries")
USERS: Final = ("maria", "jorge", "lucia", "pablo")


async def serve_demo(stage: Stage, write: Write, port: int | None = None) -> None:
    """Serve the dashboard until Ctrl-C; once in a while a simulated provider is down.

    Without a ``port`` it is 4100, or a free one where that is taken.

    Raises:
        ConfigError: the port cannot be had.
    """
    import litellm

    from wallie_litellm.dashboard.server import serve_guard

    port = free_port(PORT) if port is None else port
    ledger = stage.folder / "demo.db"
    await gather_records(stage.ledgers(), ledger)

    def ready(address: str) -> None:
        write(f"Dashboard: {address}  (Ctrl-C ends)")
        write(f"Requests go on, and {FAILING} is down for {DOWN_FOR:.0f} s after every {HEALTHY_FOR:.0f} s.")

    try:
        async with stage.router(ledger={"url": f"sqlite:///{ledger}"}) as router, traffic_in(stage, router):
            await serve_guard(router.guard, "127.0.0.1", port, tokens=tuple, ready=ready)
    finally:
        await litellm.close_litellm_async_clients()


async def gather_records(ledgers: Sequence[Path], into: Path) -> None:
    """Copy what the scenarios' ledgers hold into one."""
    from wallie_litellm.ledger.engine import open_engine, writing
    from wallie_litellm.ledger.insert import insert_records
    from wallie_litellm.ledger.migrations import migrate

    target = open_engine(f"sqlite:///{into}")
    async with writing(target) as connection:
        await connection.run_sync(migrate)
    for path in ledgers:
        async with writing(target) as connection:
            await connection.run_sync(insert_records, await _records(path))
    await target.dispose()


async def _records(path: Path) -> list[Record]:
    from sqlalchemy import select

    from wallie_litellm.ledger.engine import open_engine
    from wallie_litellm.ledger.records import Record
    from wallie_litellm.ledger.schema import RECORD_TABLES

    found = []
    source = open_engine(f"sqlite:///{path}")
    async with source.connect() as connection:
        for kind, table in RECORD_TABLES.items():
            rows = (await connection.execute(select(table))).all()
            found += [Record(kind, tuple(map(_as_written, row))) for row in rows]
    await source.dispose()
    return found


def _as_written(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value


@asynccontextmanager
async def traffic_in(stage: Stage, router: WallieRouter) -> AsyncIterator[None]:
    """Meanwhile, requests are made, and a provider fails now and then; it is healed at the end."""
    tasks = [asyncio.create_task(_traffic(router)), asyncio.create_task(_outages(stage))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stage.clear()


async def _traffic(router: WallieRouter) -> None:
    requests: set[asyncio.Task[None]] = set()
    try:
        for group, feature in _demands():
            task = asyncio.create_task(_request(router, group, feature))
            requests.add(task)
            task.add_done_callback(requests.discard)
            await asyncio.sleep(EVERY)
    finally:
        for task in requests:
            task.cancel()


def _demands() -> Iterator[tuple[str, str]]:
    """Half of it chat with the small model."""
    groups = (*CHAT_GROUPS[:1] * len(CHAT_GROUPS), *CHAT_GROUPS)
    for number in itertools.count():
        yield random.choice(groups), FEATURES[number % len(FEATURES)]  # noqa: S311 - nothing depends on it


async def _request(router: WallieRouter, group: str, feature: str) -> None:
    with suppress(Exception):  # a provider is down now and then, which is the point
        user = random.choice(USERS)  # noqa: S311 - nothing depends on it
        await ask(router, group, feature=feature, user_id=user)


async def _outages(stage: Stage) -> None:
    while True:
        await asyncio.sleep(HEALTHY_FOR)
        stage.providers[FAILING].fail(503)
        try:
            await asyncio.sleep(DOWN_FOR)
        finally:
            stage.providers[FAILING].heal()


def free_port(wanted: int) -> int:
    """``wanted``, or 0, which stands for any, if another program has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted
