"""A guard that is one of several, without a store that they share, keeps to its part of every limit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from fake_clock import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from ports import free_port
from support import shipped_config

from wallie_litellm.bootstrap import open_guard
from wallie_litellm.config import WallieConfig, parse_config
from wallie_litellm.core.demand import Demand, shares
from wallie_litellm.errors import RateLimited, RequestTooLarge
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt

ONE = Demand()
LIMITS = {"openai": {"rpm": 41, "tpm": 4000, "burst": {"rpm": 20}, "concurrency": 80}}


def guard_of(processes: int, **wallie: Any) -> Guard:
    config = {"providers": LIMITS, "admission": {"max_wait": "0s"}, **wallie}
    return Guard(WallieConfig.model_validate(config), clock=FakeClock(), processes=processes)


def limits_of(entry: dict[str, Any]) -> dict[str, int]:
    return {name: each["limit"] for name, each in entry["quota"].items()}


async def admitted(guard: Guard, asked: int, demand: Demand = ONE, feature: str | None = None) -> int:
    """How many of ``asked`` requests for openai are admitted."""
    for number in range(asked):
        context = guard.open_context("openai", chain=(), feature=feature)
        try:
            await guard.admit(context, Attempt(group="openai", provider="openai"), demand)
        except RateLimited:
            return number
    return asked


async def test_each_of_four_guards_admits_a_quarter_of_the_burst() -> None:
    guards = [guard_of(4) for _ in range(4)]
    assert [await admitted(guard, 30) for guard in guards] == [5] * 4
    assert limits_of(guards[0].status()["providers"]["openai"]) == {"rpm": 10, "tpm": 1000, "concurrency": 20}
    assert guards[0].status()["store"]["processes"] == 4


async def test_a_single_guard_keeps_the_whole_limit() -> None:
    guard = guard_of(1)
    assert await admitted(guard, 30) == 20
    assert guard.status()["store"] == {"scope": "process", "state": "ok", "processes": 1}


async def test_a_request_that_only_the_whole_limit_could_hold_is_too_large() -> None:
    large = Demand(1, 1001, 1001, 0)
    assert await admitted(guard_of(1), 1, large) == 1
    guard = guard_of(4)
    with pytest.raises(RequestTooLarge):
        await guard.admit(guard.open_context("openai", chain=()), Attempt(group="openai", provider="openai"), large)


async def test_a_features_limits_and_those_of_a_provider_that_the_file_omits_are_divided_too() -> None:
    guard = guard_of(4, features={"chat": {"limits": {"rpm": 8}}})
    assert await admitted(guard, 5, feature="chat") == 2
    assert limits_of(guard.status()["features"]["chat"]) == {"rpm": 2}
    assert limits_of(guard.status()["providers"]["anthropic"])["rpm"] == 250


def test_a_guard_that_starts_restores_its_part_of_the_usage_of_all(tmp_path: Path) -> None:
    """Charged with the usage of all, a guard restarted at a quarter of the daily limit would block until midnight."""
    data = shipped_config()
    data["wallie"] |= {
        "providers": {"openai": {"rpm": 600, "rpd": 1000}},
        "ledger": {"url": f"sqlite:///{tmp_path}/wallie.db"},
        "telemetry": {"spool": str(tmp_path / "spool")},
    }
    loaded = parse_config(data, tmp_path / "router_config.yaml")
    before = open_guard(loaded, processes=4)
    for _ in range(10):
        before.update_usage("openai", requests=12)
    asyncio.run(before.aclose())
    after = open_guard(loaded, processes=4)
    try:
        quota = after.status()["providers"]["openai"]["quota"]
        assert quota["rpd"]["used"] == 30
        assert 20 <= quota["rpm"]["used"] <= 30  # 2.5 a second flow back
        assert limits_of(after.status()["providers"]["openai"]) == {"rpm": 150, "rpd": 250}
    finally:
        after.close()


@given(st.lists(st.builds(Demand, *[st.integers(0, 100)] * 4)), st.integers(1, 9))
def test_parts_of_what_was_used_add_up(used: list[Demand], processes: int) -> None:
    parts = list(shares(used, processes))
    assert len(parts) == len(used)
    for kind in range(4):
        whole, part = amount_of(used, kind), amount_of(parts, kind)
        assert part == -(-whole // processes)
        assert all(each[kind] >= 0 for each in parts)


def amount_of(demands: Iterable[Demand], kind: int) -> int:
    return sum(each[kind] for each in demands)


def test_the_workers_of_a_proxy_divide_the_dollars_of_hedges_with_a_shared_store_too() -> None:
    hedge = {"after": "4s", "max_usd_day": 1.0}
    store = {"url": f"redis://127.0.0.1:{free_port()}"}
    guard = guard_of(4, store=store, features={"chat": {"hedge": hedge}})
    try:
        assert guard.processes == 1
        assert guard.status()["routing"]["hedge"]["chat"]["usd_left_today"] == 0.25
        guard.configure(guard.config.model_copy(deep=True))
        assert guard.status()["routing"]["hedge"]["chat"]["usd_left_today"] == 0.25
    finally:
        guard.close()
