"""An operator's actions reach every process that shares a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis_support import RedisServer
from support import until, wait_until

from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.errors import WallieError
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt
from wallie_litellm.limiter.redis.inspect import read_fleet

SERVED = AttemptResult(outcome=Outcome.SUCCESS, verdict=Verdict.SUCCESS)


@pytest.fixture
async def guards(server: RedisServer, make_guard: Callable[..., Guard]) -> list[Guard]:
    made = [make_guard(server.url, "closed", admission={"max_wait": 0.5}) for _ in range(3)]
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in made))
    return made


def states(guards: list[Guard]) -> set[str]:
    return {guard.status()["providers"]["openai"]["breaker"]["state"] for guard in guards}


def in_redis(server: RedisServer) -> str:
    return str(read_fleet(server.url, ["openai"])["states"]["openai"]["breaker"]["state"])


async def test_a_breaker_that_one_worker_opens_and_another_releases_is_probed_once(guards: list[Guard]) -> None:
    guards[0].open_circuit("openai")
    await until(lambda: states(guards) == {"forced_open"})
    guards[1].release_circuit("openai")
    await until(lambda: states(guards) == {"half_open"})
    admitted: list[tuple[Guard, Attempt]] = []

    async def ask(guard: Guard) -> None:
        scope, attempt = guard.open_context("o"), Attempt(group="o", provider="openai")
        try:
            await guard.admit(scope, attempt, Demand(1, 1, 1, 0))
        except WallieError:
            return
        admitted.append((guard, attempt))

    for _ in range(1000):
        await asyncio.gather(*(ask(guard) for guard in guards * 3))
        if admitted:
            break
        await asyncio.sleep(0.01)  # Redis had no processor for a moment
    assert len(admitted) == 1
    guard, attempt = admitted[0]
    guard.settle(guard.open_context("o"), attempt, SERVED)
    await until(lambda: states(guards) == {"closed"})


async def test_a_release_right_after_an_action_at_another_worker_is_not_lost(
    server: RedisServer, guards: list[Guard]
) -> None:
    guards[0].open_circuit("openai")
    # Whether the second worker has the new state makes no difference.
    await asyncio.to_thread(wait_until, lambda: in_redis(server) == "forced_open")
    guards[1].release_circuit("openai")
    await until(lambda: states(guards) == {"half_open"})
