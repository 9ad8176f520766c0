"""What a key has met at one worker holds for that key at every worker, and for no other."""

from __future__ import annotations

from collections.abc import Callable

from recording import RecordingBus
from redis_support import RedisServer
from support import until

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import ONE_REQUEST, Demand, Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.events import ProviderDown
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt

PAUSED = AttemptResult(Outcome.REJECTED, status_code=429, pause_for=20.0, rate_limited=True)
REFUSED = AttemptResult(Outcome.REJECTED, Verdict.FAILURE, status_code=401, fault=FaultDomain.ACCOUNT)
KEYS = ("openai#aaaaaaaa", "openai#bbbbbbbb", "openai#cccccccc")


async def call(guard: Guard, account: str, result: AttemptResult) -> None:
    context, attempt = guard.open_context("o"), Attempt("o", "openai", account)
    await guard.admit(context, attempt, Demand(1, 1, 1, 0))
    guard.settle(context, attempt, result)


def ready(guard: Guard) -> list[bool]:
    return [guard.could_serve(key, ONE_REQUEST) for key in KEYS]


async def test_a_key_that_is_paused_or_refused_at_one_worker_is_left_alone_by_all_and_no_other_key_is(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    one, other = (make_guard(server.url, breaker={"failures": 1}) for _ in range(2))
    for guard in (one, other):
        for key in KEYS:
            guard.meet("openai", key, at_own_address=True)
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in (one, other)))
    await until(lambda: ready(other) == [True, True, True])
    await call(one, KEYS[0], PAUSED)
    await call(one, KEYS[1], REFUSED)
    await until(lambda: ready(other) == [False, False, True])
    provider = other.status()["providers"]["openai"]
    assert (provider["paused_for"], provider["breaker"]["state"]) == (0.0, "closed")
    accounts = provider["accounts"]
    assert 15 < accounts["aaaaaaaa"]["paused_for"] <= 20
    assert [one["breaker"]["state"] for one in accounts.values()] == ["closed", "open", "closed"]
    assert [one["health"] for one in accounts.values()] == ["degraded", "down", "healthy"]
    buses = [guard.bus for guard in (one, other)]
    assert all(isinstance(bus, RecordingBus) for bus in buses)
    await until(lambda: [event.provider for bus in buses for event in bus.of(ProviderDown)] == [KEYS[1]])
    await call(other, KEYS[2], AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS))


OF_A_MODEL = PAUSED._replace(fault=FaultDomain.MODEL)


def paused_for(guard: Guard, model: str) -> float:
    found: float = guard.status()["providers"]["openai"].get("models", {}).get(model, {}).get("paused_for", 0.0)
    return found


async def test_a_model_that_is_paused_at_one_worker_is_left_alone_by_all_and_by_later_ones_and_no_other_model_is(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    one, other = (make_guard(server.url) for _ in range(2))
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in (one, other)))
    context, attempt = one.open_context("o"), Attempt("o", "openai", "openai", "openai|a", "openai/a")
    await one.admit(context, attempt, Demand(1, 1, 1, 0))
    one.settle(context, attempt, OF_A_MODEL)
    await until(lambda: paused_for(other, "a") > 0)
    later = make_guard(server.url)
    await until(lambda: paused_for(later, "a") > 0)
    for guard in (one, other, later):
        assert 15 < paused_for(guard, "a") <= 20
        assert not guard.could_serve("openai|a", ONE_REQUEST)
        assert guard.status()["providers"]["openai"]["paused_for"] == 0
    await until(lambda: other.could_serve("openai|b", ONE_REQUEST))
    operators = make_guard(server.url)
    await until(lambda: operators.status()["store"]["state"] == "ok")
    operators.reset_quota("openai")
    await until(lambda: not any(paused_for(guard, "a") for guard in (one, other, later)))
