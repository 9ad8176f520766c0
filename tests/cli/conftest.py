"""Servers that the commands ask: a stand-in for a running proxy, and a Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cli_support import StandIn
from click.testing import Result
from ledger_query_fixtures import config_file, ledger_file
from redis_support import RedisServer, wait_for
from status_support import PASSWORD, read_status, run_status

__all__ = ["config_file", "ledger_file"]


@pytest.fixture(autouse=True)
def _clean_env(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "CONFIG", "REDIS_URL", "DATABASE_URL", "ADMIN_TOKEN"):
        monkeypatch.delenv(f"WALLIE_{name}", raising=False)
    monkeypatch.delenv("LITELLM_MASTER_KEY", raising=False)


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture(scope="session")
def running_redis() -> Iterator[RedisServer]:
    with RedisServer(password=PASSWORD) as server:
        yield server


@pytest.fixture
def server(running_redis: RedisServer) -> RedisServer:
    # A guard that closes waits for its thread for a limited time: on a busy machine, that of the test before may still
    # report, and its breaker's state would be in Redis again after a flush.
    with running_redis.client() as client:
        wait_for(lambda: len(client.client_list()) == 1, "all others have left", 30.0)
    running_redis.flush()
    return running_redis


@pytest.fixture
def status(tmp_path: Path) -> Callable[..., Result]:
    return partial(run_status, tmp_path)


@pytest.fixture
def read(server: RedisServer, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    return partial(read_status, tmp_path, server.url)
