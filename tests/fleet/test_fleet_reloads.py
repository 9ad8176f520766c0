"""A reload that is asked for at one worker reaches the whole fleet, each with its own file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis_support import RedisServer
from support import wait_until

from wallie_litellm.bootstrap import open_guard
from wallie_litellm.config import load_config
from wallie_litellm.core.demand import ONE_REQUEST
from wallie_litellm.dashboard.guard_source import GuardSource
from wallie_litellm.guard import Guard
from wallie_litellm.limiter.store import Reservation

MODEL = {"model_name": "o", "litellm_params": {"model": "openai/gpt-4o-mini"}}


class FleetWorker:
    """A guard with a file of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        folder.mkdir()
        self.path = folder / "router_config.yaml"
        self.store = {"url": url, "on_store_error": "closed"}
        self.telemetry = {"spool": str(folder / "spool")}
        self.write(rpm=60)
        self.guard: Guard = open_guard(load_config(self.path))

    def write(self, **limits: Any) -> None:
        wallie = {"ledger": None, "store": self.store, "telemetry": self.telemetry, "providers": {"openai": limits}}
        self.path.write_text(yaml.safe_dump({"model_list": [MODEL], "wallie": wallie}))

    def limit(self) -> Any:
        return self.guard.status()["providers"]["openai"]["quota"]["rpm"]["limit"]

    def knows_the_fleet(self) -> bool:
        return self.guard.status()["store"]["workers"] == 2 and bool(self.guard._fleet.switches.exchanged)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[FleetWorker]]:
    with RedisServer() as server:
        made = [FleetWorker(tmp_path / name, server.url) for name in ("first", "second")]
        wait_until(lambda: all(one.knows_the_fleet() for one in made))
        yield made
        for one in made:
            one.guard.close()


def test_all_workers_reload_and_the_smallest_number_holds_while_files_differ(workers: list[FleetWorker]) -> None:
    first, second = workers
    first.write(rpm=30)
    second.write(rpm=20)

    GuardSource(first.guard).reload("ann")

    assert first.limit() == 30
    wait_until(lambda: second.limit() == 20)
    time.sleep(2.5)  # the second states its number with its next exchange, at the latest
    began, admitted = time.monotonic(), 0
    while (passed := time.monotonic() - began) < 1.0:
        taken = [one.guard.limiter("openai").reserve(ONE_REQUEST) for one in workers]
        admitted += sum(isinstance(one, Reservation) for one in taken)
        time.sleep(0.005)
    assert 0 < admitted <= 20 + passed * 20 / 60


def test_a_file_with_a_mistake_at_one_worker_stays_with_that_worker(workers: list[FleetWorker]) -> None:
    first, second = workers
    first.write(rpm=30)
    second.path.write_text("model_list: none\n")

    GuardSource(first.guard).reload("ann")

    wait_until(lambda: second.guard.status()["config"]["refused"])
    assert (first.limit(), second.limit()) == (30, 60)
