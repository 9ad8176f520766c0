"""A model's breaker is one for all workers that share a Redis, and those that start later know of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from recording import RecordingBus
from redis_support import RedisServer
from support import until

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.core.fault_domain import FaultDomain
from wallie_litellm.errors import CircuitOpen
from wallie_litellm.events import BreakerChanged, ProviderDown
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt
from wallie_litellm.limiter.leased.leased_limiter import LeasedLimiter

SERVED: Final = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)
FAILED: Final = AttemptResult(
    Outcome.REJECTED, Verdict.FAILURE, reason="HTTP 503", status_code=503, fault=FaultDomain.PROVIDER
)
# Neither time passes unasked for nor does a permit get lost while the machine is busy.
RULES: Final[dict[str, Any]] = {"failures": 3, "open_for": "60s"}


async def begin(guard: Guard, model: str) -> Attempt:
    attempt = Attempt(model, "openai", "openai", f"openai|{model}", model)
    await guard.admit(guard.open_context(model), attempt, Demand(1, 1, 1, 0))
    return attempt


def end(guard: Guard, attempt: Attempt, result: AttemptResult) -> None:
    guard.settle(guard.open_context(attempt.group), attempt, result)


async def call(guard: Guard, model: str, result: AttemptResult) -> None:
    end(guard, await begin(guard, model), result)


def state(guard: Guard, model: str = "a") -> tuple[str, int]:
    """The state of a model's breaker and its failures, as far as status lists it."""
    found = guard.status()["providers"]["openai"].get("models", {}).get(model)
    return ("closed", 0) if found is None else (found["breaker"]["state"], found["breaker"]["consecutive_failures"])


def has_limiter(guard: Guard, model: str = "a") -> bool:
    return f"openai|{model}" in [limiter.name for limiter in guard.limiters()]


async def test_a_models_breaker_is_shared_probed_once_and_given_up_by_the_whole_fleet(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    one, other = workers = [make_guard(server.url, breaker=RULES) for _ in range(2)]
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in workers))
    old = await begin(other, "a")
    for guard in workers:
        await call(guard, "a", SERVED)
        await call(guard, "b", SERVED)
    assert not any(map(has_limiter, workers))
    for guard, count in ((one, 1), (other, 2)):  # of each worker's calls, together
        await call(guard, "a", FAILED)
        await until(lambda count=count: {state(guard) for guard in workers} == {("closed", count)})
    await call(one, "a", FAILED)
    later = make_guard(server.url, breaker=RULES)
    workers.append(later)
    await until(lambda: {state(guard) for guard in workers} == {("open", 0)})
    for guard in workers:
        assert guard.is_open("openai|a")
        await call(guard, "b", SERVED)
        assert not has_limiter(guard, "b")
    end(other, old, FAILED)  # a call from before the breaker opened

    later.open_circuit("openai", model="a")
    await until(lambda: {state(guard) for guard in workers} == {("forced_open", 0)})
    one.release_circuit("openai", model="a")
    await until(lambda: {state(guard) for guard in workers} == {("half_open", 0)})
    probes: list[tuple[Guard, Attempt]] = []

    async def ask(guard: Guard) -> None:
        try:
            probes.append((guard, await begin(guard, "a")))
        except CircuitOpen:
            return

    await asyncio.gather(*(ask(guard) for guard in workers * 3))
    assert len(probes) == 1
    end(*probes[0], SERVED)
    await until(lambda: {state(guard) for guard in workers} == {("closed", 0)})
    await until(lambda: not any(map(has_limiter, workers)))
    exchanges = [guard.status()["store"]["exchanges"] for guard in workers]
    assert not any("openai|a" in counted for counted in exchanges)

    buses = [guard.bus for guard in workers]
    assert all(isinstance(bus, RecordingBus) for bus in buses)
    changes = Counter((event.model, event.after) for bus in buses for event in bus.of(BreakerChanged))
    assert changes == {("a", "open"): 1, ("a", "forced_open"): 1, ("a", "half_open"): 1, ("a", "closed"): 1}
    await until(lambda: [event.model for bus in buses for event in bus.of(ProviderDown)] == ["a"])

    # The next outage of the model: Redis still has the state of its breaker, and none of the workers has a limiter.
    for _ in range(3):
        await call(one, "a", FAILED)
    await until(lambda: {state(guard) for guard in workers} == {("open", 0)})


async def test_a_result_from_before_an_outage_says_nothing_after_it(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    one, other = workers = [make_guard(server.url, breaker={**RULES, "failures": 1}) for _ in range(2)]
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in workers))
    old = await begin(other, "a")
    await call(one, "a", FAILED)
    await until(lambda: {state(guard) for guard in workers} == {("open", 0)})
    one.close_circuit("openai", model="a")
    await until(lambda: not any(map(has_limiter, workers)))
    end(other, old, FAILED)
    await until(lambda: not has_limiter(other))
    assert {state(guard) for guard in workers} == {("closed", 0)}
    await call(other, "a", FAILED)
    await until(lambda: {state(guard) for guard in workers} == {("open", 0)})


async def test_while_redis_is_away_a_model_has_a_breaker_of_its_own(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    guard = make_guard(server.url, breaker={**RULES, "failures": 1})
    await until(lambda: guard.status()["store"]["state"] == "ok")
    await call(guard, "b", SERVED)
    server.stop()
    await until(lambda: guard.status()["store"]["state"] == "down")
    await call(guard, "a", FAILED)
    assert state(guard) == ("open", 0)
    await call(guard, "b", SERVED)
    server.start()
    later = make_guard(server.url, breaker=RULES)
    await until(lambda: state(later) == ("open", 0))


async def test_a_provider_is_in_service_while_another_worker_is_served_by_another_model_of_it(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    one, other = workers = [make_guard(server.url, breaker=RULES) for _ in range(2)]
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in workers))
    await call(other, "b", SERVED)
    limiter = one.limiter("openai")
    assert isinstance(limiter, LeasedLimiter)
    await until(lambda: "b" in limiter.served_in_fleet)
    for _ in range(3):
        await call(one, "a", FAILED)
    await until(lambda: {state(guard) for guard in workers} == {("open", 0)})
    overall = [guard.status()["providers"]["openai"] for guard in workers]
    assert {(found["breaker"]["state"], found["health"]) for found in overall} == {("closed", "degraded")}
    buses = [guard.bus for guard in workers]
    assert all(isinstance(bus, RecordingBus) for bus in buses)
    await until(lambda: [event.model for bus in buses for event in bus.of(ProviderDown)] == ["a"])
