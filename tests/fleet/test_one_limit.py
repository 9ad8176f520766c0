"""Processes that share a Redis share one limit, however they try to take more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fleet_support import Plan, Report, Worker, over_admitted
from redis_support import RedisServer

LIMITS = {"rpm": 6000, "burst": {"rpm": 100}}  # 100 a second
START = 0.2  # seconds in which all processes receive when to begin


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def run(plans: list[dict[str, Any]], url: str, kill: float | None = None) -> tuple[list[Report], float]:
    """Carry the plans out side by side; ``kill`` seconds after the start the first one is killed."""
    workers = [Worker(Plan(url, LIMITS, waits_for_begin=True, **plan)) for plan in plans]
    for worker in workers:
        worker.wait_until_ready()
    start_at = time.monotonic() + START
    for worker in workers:
        worker.begin(start_at)
    first: list[Report] = []
    if kill is not None:
        time.sleep(max(0.0, start_at + kill - time.monotonic()))
        first = [workers.pop(0).kill()]
    return first + [worker.report() for worker in workers], start_at


def merged(reports: list[Report]) -> list[float]:
    return sorted(at for report in reports for at in report.admitted)


def check(reports: list[Report]) -> None:
    assert over_admitted(merged(reports), 6000, 100) <= 1e-3  # of a request
    assert not [error for report in reports for error in report.errors]


def test_four_processes_at_twice_the_limit_use_all_of_it_and_no_more(server: RedisServer) -> None:
    seconds = 8.0
    reports, start_at = run([{"phases": [(seconds, 50.0)]}] * 4, server.url)
    check(reports)
    admitted = [at for at in merged(reports) if at < start_at + seconds]
    assert len(admitted) >= 0.95 * (100 + 100 * seconds)
    fair = len(merged(reports)) / 4
    assert all(len(report.admitted) >= 0.7 * fair for report in reports)


def test_idle_leases_that_meet_a_full_bucket_admit_no_more(server: RedisServer) -> None:
    # Each takes a lease, spends a little of it, waits until the bucket is full again, and wants everything at once.
    phases = [(0.5, 20.0), (0.45, 0.0), (0.05, 6000.0), (0.7, 0.0), (0.05, 6000.0), (1.5, 0.0), (0.05, 9000.0)]
    reports, _ = run([{"phases": phases, "max_wait": 1.0}] * 4, server.url)
    check(reports)
    assert len(merged(reports)) >= 100


def test_processes_whose_clocks_are_minutes_wrong_share_one_limit(server: RedisServer) -> None:
    plans = [{"phases": [(4.0, 50.0)], "skew": skew} for skew in (-400.0, -60.0, 0.0, 300.0)]
    reports, _ = run(plans, server.url)
    check(reports)
    assert all(report.admitted for report in reports)


def test_a_process_killed_with_a_lease_in_hand_costs_no_more_than_the_lease(server: RedisServer) -> None:
    reports, start_at = run([{"phases": [(9.0, 50.0)]}] * 4, server.url, kill=2.0)
    assert over_admitted(merged(reports), 6000, 100) <= 1e-3
    assert not [error for report in reports[1:] for error in report.errors]
    late = [at for at in merged(reports) if start_at + 6 < at < start_at + 9]
    assert len(late) >= 0.9 * 300  # the rest has all of it, once the lease has expired
