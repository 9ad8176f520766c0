"""Guards that share a Redis share the limits of each model too, and use the account's together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from redis_support import RedisServer
from support import until

from wallie_litellm import RateLimited
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt

ONE = Demand(1, 1, 1, 0)
OPENAI = {"rpd": 60, "models": {"gpt-4o": {"rpd": 20, "concurrency": 3}, "o*": {"rpd": 30}}}


async def call(guard: Guard, model: str) -> bool:
    """Whether a call was admitted; it has ended."""
    context = guard.open_context("o", chain=())
    attempt = Attempt("o", "openai", "openai", f"openai|{model}", f"openai/{model}")
    try:
        await guard.admit(context, attempt, ONE)
    except RateLimited:
        return False
    await asyncio.sleep(0)
    guard.settle(context, attempt, AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS, usage=ONE))
    return True


def used(guard: Guard) -> dict[str, int]:
    provider: dict[str, Any] = guard.status()["providers"]["openai"]
    models = {pattern: own["quota"]["rpd"]["used"] for pattern, own in provider["models"].items()}
    return {"": provider["quota"]["rpd"]["used"], **models}


async def test_neither_a_model_nor_the_account_is_over_its_limit_at_several_workers_and_all_of_it_is_used(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    guards = [make_guard(server.url, providers={"openai": OPENAI}, admission={"max_wait": 5}) for _ in range(3)]
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in guards))
    models = ["gpt-4o", "o3", "o4", "gpt-5"]
    asked = [(model, guard) for model in models for guard in guards for _ in range(12)]
    admitted = await asyncio.gather(*(call(guard, model) for model, guard in asked))
    served = [model for (model, _), done in zip(asked, admitted, strict=True) if done]
    counts = {model: served.count(model) for model in models}
    assert counts["gpt-4o"] <= 20
    assert counts["o3"] + counts["o4"] <= 30
    assert sum(counts.values()) == 60
    await until(lambda: all(used(guard)[""] == 60 for guard in guards))
    assert used(guards[0]) == {"": 60, "gpt-4o": counts["gpt-4o"], "o*": counts["o3"] + counts["o4"]}

    guards[0].reset_quota("openai", model="gpt-4o")
    await until(lambda: [used(guard)["gpt-4o"] for guard in guards] == [0, 0, 0])
    assert used(guards[2])[""] == 60
    guards[1].reset_quota("openai")
    await until(lambda: all(set(used(guard).values()) == {0} for guard in guards))
    assert await call(guards[2], "gpt-4o")
