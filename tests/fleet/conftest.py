"""Guards that share a real Redis: each is a worker of its own, as if it were in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from recording import RecordingBus
from redis_support import RedisServer

from wallie_litellm.config import WallieConfig
from wallie_litellm.guard import Guard

MakeGuard = Callable[..., Guard]

PATIENT = "5s"  # a busy machine may be slow, and that is no outage


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as running:
        yield running


@pytest_asyncio.fixture
async def make_guard() -> AsyncIterator[MakeGuard]:
    """Builds guards whose openai takes 600 requests a minute; sections of ``wallie:`` are given by keyword."""
    made: list[Guard] = []

    def make(url: str, on_store_error: str = "local", timeout: str = PATIENT, **wallie: Any) -> Guard:
        data = {"providers": {"openai": {"rpm": 600}}, "ledger": None, **wallie}
        store = {"url": url, "on_store_error": on_store_error, "timeout": timeout}
        config = WallieConfig.model_validate({**data, "store": store})
        made.append(Guard(config, bus=RecordingBus()))
        return made[-1]

    yield make
    for guard in made:
        await guard.aclose()
