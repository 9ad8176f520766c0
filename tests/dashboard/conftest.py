"""The dashboard's application over a real guard and, if configured, a real ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from dashboard_support import TOKEN
from starlette.testclient import TestClient

from wallie_litellm.bootstrap import ledger_sink
from wallie_litellm.config import WallieConfig
from wallie_litellm.dashboard.server import whole_app
from wallie_litellm.events import Event
from wallie_litellm.guard import Guard
from wallie_litellm.telemetry.bus import Bus

MakeApp = Callable[..., "Served"]


class Served:
    """An application, its guard, and a client."""

    def __init__(self, guard: Guard, client: TestClient) -> None:
        self.guard = guard
        self.client = client

    def record(self, events: Sequence[Event]) -> None:
        """Write ``events`` into the ledger."""
        for event in events:
            self.guard.bus.publish(event)
        assert asyncio.run(self.guard.flush())


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Builds applications; sections of ``wallie:`` are keywords. Without ``tokens`` only loopback is admitted."""
    opened: list[Any] = []

    def make(
        tokens: Sequence[str] = (TOKEN,), *, client: str = "127.0.0.1", host: str = "127.0.0.1", **wallie: Any
    ) -> Served:
        place = {"url": f"sqlite:///{tmp_path}/wallie.db"}
        spool = {"telemetry": {"spool": str(tmp_path / "spool")}}
        config = WallieConfig.model_validate({"ledger": place, **spool, **wallie})
        bus = Bus()
        guard = Guard(config, bus=bus)
        if (sink := ledger_sink(config)) is not None:
            bus.add(sink)
        app, service = whole_app(guard, tokens=lambda: tokens, aside=False)
        asked = TestClient(app, base_url=f"http://{host}", client=(client, 40000), follow_redirects=False)
        opened.append((service, guard))
        return Served(guard, asked)

    yield make
    for service, guard in opened:
        service.close()
        guard.close()
