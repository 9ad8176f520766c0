"""The ledger's databases, and sinks that are closed however a test ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ledger_fixtures import database_url, engine, own_postgres, postgres
from ledger_query_fixtures import config_file, ledger_file, write

from wallie_litellm.ledger.writer import LedgerSink

__all__ = ["config_file", "database_url", "engine", "ledger_file", "own_postgres", "postgres", "write"]

SinkMaker = Callable[..., LedgerSink]


@pytest.fixture
def spool_directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def open_sink(spool_directory: Path) -> Iterator[SinkMaker]:
    """Opens ledger sinks by URL."""
    opened: list[LedgerSink] = []

    def make(url: str, **options: Any) -> LedgerSink:
        sink = LedgerSink(url, spool_directory, **{"worker": "test", "retention": 90 * 86_400.0, **options})
        opened.append(sink)
        return sink

    yield make
    for sink in opened:
        sink.close(1.0)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """The port of a server that accepts connections and says nothing."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connections.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()
