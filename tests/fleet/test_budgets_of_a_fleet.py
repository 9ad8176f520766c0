"""Budgets that processes share: exact over a fleet, and through the loss of Redis and of its data."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from recording import RecordingBus
from redis_support import RedisServer
from support import until

from wallie_litellm.budgets.holds import BudgetHold
from wallie_litellm.core.spending import NANO, AccountName, Periods
from wallie_litellm.errors import BudgetExhausted, RateLimited
from wallie_litellm.events import BudgetCrossed
from wallie_litellm.guard import Guard

MakeGuard = Callable[..., Guard]
CHAT = {"chat": {"budget": {"daily_usd": 1.0, "on_exhausted": "refuse"}}}


async def reserve(guard: Guard, usd: float, user: str | None = None, key: str | None = None) -> BudgetHold | None:
    """The hold of a request of the feature chat, or ``None`` if it is refused."""
    spending = guard.budgets.spending
    assert spending is not None
    hold = spending.hold_of(guard.budgets.entries("chat", user, key), round(usd * NANO))
    refused = spending.admit(hold)
    if hold.answer is not None:
        refused = await asyncio.wrap_future(hold.answer)
    return None if refused else hold


def state(guard: Guard) -> str:
    found: str = guard.status()["store"]["budgets"]["state"]
    return found


def row(guard: Guard) -> dict[str, Any]:
    return guard.budgets.rows()[0]


async def fleet_of(make_guard: MakeGuard, server: RedisServer, count: int, **more: Any) -> list[Guard]:
    guards = [make_guard(server.url, **{"features": CHAT, **more}) for _ in range(count)]
    for guard in guards:
        guard.budgets.begin(None)
    await until(lambda: all(state(guard) == "ok" for guard in guards))
    return guards


async def test_what_one_worker_has_reserved_or_spent_the_others_cannot(
    server: RedisServer, make_guard: MakeGuard
) -> None:
    one, other = await fleet_of(make_guard, server, 2)
    hold = await reserve(one, 0.6)
    assert hold is not None
    assert await reserve(other, 0.6) is not None  # less than 1 USD was reserved
    assert await reserve(other, 0.01) is None
    with pytest.raises(BudgetExhausted):
        raise one.budgets.refusal(one.budgets.entries("chat", None)[0], "openai", "o")
    hold.settle(time.time(), 0.1)
    await until(lambda: row(other)["spent_usd"] == 0.1)
    assert await reserve(other, 0.01) is not None


async def test_a_keys_budget_is_one_of_the_fleet_and_its_alert_names_the_key(
    server: RedisServer, make_guard: MakeGuard
) -> None:
    keys = {"batch": {"budget": {"monthly_usd": 0.5, "on_exhausted": "refuse"}}}
    one, other = await fleet_of(make_guard, server, 2, features={}, keys=keys)
    hold = await reserve(one, 0.6, key="batch")
    assert hold is not None
    assert one.budgets.entries("chat", None, "chat-app") == ()
    assert await reserve(other, 0.01, key="batch") is None
    hold.settle(time.time(), 0.6)
    await until(lambda: row(other)["spent_usd"] == 0.6)
    assert (row(other)["key"], row(other)["feature"], row(other)["state"]) == ("batch", None, "exhausted")
    crossed = [event for guard in (one, other) for event in guard.bus.of(BudgetCrossed)]  # type: ignore[attr-defined]
    assert {(event.proxy_key, event.feature) for event in crossed} == {("batch", None)}


async def test_what_four_workers_want_at_once_reserves_no_more_than_there_is(
    server: RedisServer, make_guard: MakeGuard
) -> None:
    guards = await fleet_of(make_guard, server, 4)
    holds = await asyncio.gather(*(reserve(guards[number % 4], 0.002) for number in range(2_000)))
    assert sum(hold is not None for hold in holds) == 500
    for hold in holds:
        if hold is not None:
            hold.settle(time.time(), 0.002)
    await until(lambda: all(row(guard)["spent_usd"] == 1.0 and not row(guard)["reserved_usd"] for guard in guards))
    crossed = [event.level for guard in guards for event in guard.bus.of(BudgetCrossed)]  # type: ignore[attr-defined]
    assert sorted(crossed) == ["critical", "exhausted", "warning"]  # each once in the fleet


async def test_the_reservations_of_a_worker_that_ends_are_free(server: RedisServer, make_guard: MakeGuard) -> None:
    one, other = await fleet_of(make_guard, server, 2)
    assert await reserve(one, 5.0) is not None
    assert await reserve(other, 0.1) is None
    await one.aclose()
    await until(lambda: row(other)["reserved_usd"] == 0)
    assert await reserve(other, 0.1) is not None


async def test_what_redis_loses_comes_back_from_the_ledger_exactly(server: RedisServer, make_guard: MakeGuard) -> None:
    """The ledger stands still for what is read of it here: all that was settled before its second."""
    settled: list[tuple[float, int]] = []

    def ledger(untils: Mapping[AccountName, float], now: Periods) -> dict[AccountName, tuple[int, int]]:
        sums = {name: sum(cost for at, cost in settled if now.day <= at < until) for name, until in untils.items()}
        return {name: (cost, cost) for name, cost in sums.items()}

    guards = await fleet_of(make_guard, server, 2)
    for guard in guards:
        assert guard.budgets.spending is not None
        guard.budgets.spending.reader = ledger

    async def spend(guard: Guard, usd: float) -> None:
        hold = await reserve(guard, usd)
        assert hold is not None
        at = time.time()
        settled.append((at, round(usd * NANO)))
        hold.settle(at, usd)

    for number in range(20):
        await spend(guards[number % 2], 0.01)
    held = await reserve(guards[0], 0.2)
    server.flush()
    for number in range(10):
        await spend(guards[number % 2], 0.01)
    assert held is not None
    held.release()
    total = sum(cost for _, cost in settled) / NANO
    await until(lambda: all((row(guard)["spent_usd"], row(guard)["reserved_usd"]) == (total, 0) for guard in guards))


@pytest.mark.parametrize(("policy", "admitted"), [("local", 2), ("open", 9), ("closed", 0)])
async def test_while_redis_is_away_the_policy_holds_and_costs_are_kept(
    server: RedisServer, make_guard: MakeGuard, policy: str, admitted: int
) -> None:
    one, other = await fleet_of(make_guard, server, 2, on_store_error=policy, timeout="250ms")
    first = await reserve(one, 0.2)
    assert first is not None
    first.settle(time.time(), 0.2)
    await until(lambda: row(other)["spent_usd"] == 0.2)
    server.stop()
    await until(lambda: state(other) == "down")
    assert other.status()["store"]["budgets"]["on_store_error"] == policy
    holds = [await reserve(other, 0.2) for _ in range(9)]
    made = [hold for hold in holds if hold is not None]
    assert len(made) == admitted  # of the 0.80 USD that are left, half are this worker's
    if policy == "closed":
        with pytest.raises(RateLimited, match="on_store_error"):
            raise other.budgets.refusal(other.budgets.entries("chat", None)[0], "openai", "o")
    for hold in made:
        hold.settle(time.time(), 0.2)
    assert row(other)["spent_usd"] == pytest.approx(0.2 + 0.2 * admitted)
    server.start()
    await until(lambda: state(one) == state(other) == "ok")
    await until(lambda: row(one)["spent_usd"] == pytest.approx(0.2 + 0.2 * admitted))


def test_a_start_goes_on_with_what_the_ledger_has_and_users_come_when_they_are_asked_for(
    tmp_path: Path, make_router: Callable[..., Any]
) -> None:
    from wallie_litellm.bootstrap import open_guard
    from wallie_litellm.config import parse_config

    budget = {"daily_usd": 9, "on_exhausted": "refuse", "per_user": {"daily_usd": 1e-9}}
    wallie = {
        "ledger": {"url": f"sqlite:///{tmp_path}/wallie.db"},
        "telemetry": {"spool": str(tmp_path)},
        "features": {"chat": {"budget": budget}},
    }
    model = {"model_name": "gpt-4o-mini", "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "sk"}}
    loaded = parse_config({"model_list": [model], "wallie": wallie}, tmp_path / "router_config.yaml", env={})
    data = {"model_list": [model], "wallie": wallie}
    guard = open_guard(loaded)
    router = make_router(guard=guard, data=data)
    router.completion("gpt-4o-mini", [{"role": "user", "content": "hi"}], metadata={"feature": "chat"}, user="u")
    spent = row(guard)["spent_usd"]
    assert spent > 0
    guard.close()
    again = open_guard(loaded)
    router = make_router(guard=again, data=data)
    assert row(again)["spent_usd"] == pytest.approx(spent, abs=1e-9)
    with pytest.raises(BudgetExhausted):
        router.completion("gpt-4o-mini", [{"role": "user", "content": "hi"}], metadata={"feature": "chat"}, user="u")
    router.completion("gpt-4o-mini", [{"role": "user", "content": "hi"}], metadata={"feature": "chat"}, user="v")
    assert not isinstance(again.bus, RecordingBus)
    again.close()
