"""Processes that share a Redis share one limit, however they try to take more.

How much of the limit they use, and how evenly, is measured by ``benchmarks/fleet.py`` and
``benchmarks/fleet_chaos.py``.
A process that gets no answer in time would go on alone, as on a busy machine it may: these refuse instead, so that
nothing but Redis admits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fleet_support import Plan, Report, Worker, over_admitted
from redis_support import RedisServer
from support import wait_until

from wallie_litellm.limiter.redis.inspect import read_fleet

LIMITS = {"rpm": 6000, "burst": {"rpm": 100}}  # 100 a second
START = 0.2  # seconds in which all processes receive when to begin


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def run(plans: list[dict[str, Any]], url: str, kill: float | None = None) -> list[Report]:
    """Carry the plans out side by side; ``kill`` seconds after the start the first one is killed."""
    workers = [
        Worker(Plan(url, LIMITS, on_store_error="closed", timeout="5s", waits_for_begin=True, **plan)) for plan in plans
    ]
    for worker in workers:
        worker.wait_until_ready()
    start_at = time.monotonic() + START
    for worker in workers:
        worker.begin(start_at)
    first: list[Report] = []
    if kill is not None:
        time.sleep(max(0.0, start_at + kill - time.monotonic()))
        first = [workers.pop(0).kill()]
    return first + [worker.report() for worker in workers]


def check(reports: list[Report]) -> None:
    """Together they have not exceeded the limit, and each of them was admitted something."""
    admitted = sorted(at for report in reports for at in report.admitted)
    assert over_admitted(admitted, 6000, 100) <= 1e-3  # of a request
    assert not [error for report in reports for error in report.errors]
    assert all(report.admitted for report in reports)


def test_four_processes_at_twice_the_limit_admit_no_more(server: RedisServer) -> None:
    check(run([{"phases": [(4.0, 50.0)]}] * 4, server.url))


def test_idle_leases_that_meet_a_full_bucket_admit_no_more(server: RedisServer) -> None:
    # Each takes a lease, spends a little of it, waits until the bucket is full again, and wants everything at once.
    phases = [(0.5, 20.0), (0.45, 0.0), (0.05, 6000.0), (0.7, 0.0), (0.05, 6000.0), (1.5, 0.0), (0.05, 9000.0)]
    check(run([{"phases": phases, "max_wait": 1.0}] * 4, server.url))


def test_processes_whose_clocks_are_minutes_wrong_share_one_limit(server: RedisServer) -> None:
    check(run([{"phases": [(3.0, 50.0)], "skew": skew} for skew in (-400.0, -60.0, 0.0, 300.0)], server.url))


def test_a_process_killed_with_a_lease_in_hand_costs_no_more_than_the_lease(server: RedisServer) -> None:
    check(run([{"phases": [(3.0, 50.0)]}] * 4, server.url, kill=1.5))

    def leased() -> list[float]:
        workers = read_fleet(server.url, ["openai"], timeout=20.0)["states"]["openai"]["workers"]
        return [amount for worker in workers.values() for amount in worker["leased"].values() if amount]

    wait_until(lambda: not leased())
