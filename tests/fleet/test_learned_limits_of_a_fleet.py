"""A limit that one worker has learned is kept to by all workers that share a Redis, and shown from there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner
from recording import RecordingBus
from redis_support import RedisServer
from support import until

from wallie_litellm.cli import main
from wallie_litellm.core.attempt_result import AttemptResult
from wallie_litellm.core.circuit_breaker import Verdict
from wallie_litellm.core.demand import Demand, Outcome
from wallie_litellm.events import LimitOverstated
from wallie_litellm.guard import Guard
from wallie_litellm.guard.context import Attempt

SERVED = AttemptResult(Outcome.SUCCESS, Verdict.SUCCESS)


async def call(guard: Guard, rpm: int, left: int) -> None:
    """One call, in whose answer the vendor says this."""
    parameters = {"model": "openai/gpt-4o"}
    attempt = Attempt("g", "openai", "openai", "openai|gpt-4o", "openai/gpt-4o", entry={"litellm_params": parameters})
    context = guard.open_context("g")
    await guard.admit(context, attempt, Demand(1, 1, 1, 0))
    said = {"limit-requests": rpm, "remaining-requests": left}
    headers = {f"llm_provider-x-ratelimit-{name}": str(value) for name, value in said.items()}
    headers["llm_provider-date"] = formatdate(guard.clock.wall(), usegmt=True)
    guard.vendor_limits.answered(attempt, headers)
    guard.settle(context, attempt, SERVED)


def shown(guard: Guard) -> dict[str, Any]:
    """The limit of the model's requests, as status lists it."""
    models = guard.status()["providers"]["openai"].get("models", {})
    found: dict[str, Any] = models.get("gpt-4o", {}).get("quota", {}).get("rpm", {})
    return found


async def test_a_limit_that_one_worker_learns_holds_for_all(
    server: RedisServer, make_guard: Callable[..., Guard], tmp_path: Path
) -> None:
    rules = {"providers": {"openai": {"rpm": 600, "learn": "enforce"}}}
    one, other = workers = [make_guard(server.url, **rules) for _ in range(2)]
    await until(lambda: all(guard.status()["store"]["state"] == "ok" for guard in workers))
    await call(one, 60, 20)
    await until(lambda: [shown(guard).get("limit") for guard in workers] == [60, 60])
    await until(lambda: all(shown(guard)["left"] < 40 for guard in workers))
    assert shown(one)["learned"] == 60
    await call(other, 60, 19)
    await until(lambda: shown(one)["used"] == 1)  # the first call was made before the model had a limit
    assert len([event for guard in workers for event in bus_of(guard).of(LimitOverstated)]) <= 1
    for _ in range(2):
        await call(other, 120, 100)
    await until(lambda: shown(one).get("limit", 0) > 60 or shown(other).get("limit", 0) >= 60)
    later = make_guard(server.url, **rules)
    await until(lambda: shown(later).get("limit", 0) >= 60)
    model = {"model_name": "g", "litellm_params": {"model": "openai/gpt-4o", "api_key": "fake"}}
    file = tmp_path / "router_config.yaml"
    file.write_text(
        yaml.safe_dump({"model_list": [model], "wallie": {**rules, "store": {"url": server.url, "timeout": "5s"}}})
    )
    result = await asyncio.to_thread(CliRunner().invoke, main, ["limits", "--json", "--config", str(file)])
    found = json.loads(result.stdout)["providers"]["openai"]["scopes"]
    assert found[""]["limits"]["rpm"]["configured"] == found[""]["limits"]["rpm"]["limit"] == 600
    assert (found["gpt-4o"]["learn"], found["gpt-4o"]["limits"]["rpm"]["configured"]) == ("enforce", None)
    assert found["gpt-4o"]["limits"]["rpm"]["learned"] == shown(later)["limit"]


async def test_a_learned_limit_is_given_up_once_a_workers_file_does_not_keep_to_it_any_more(
    server: RedisServer, make_guard: Callable[..., Guard]
) -> None:
    one = make_guard(server.url, providers={"openai": {"rpm": 600, "learn": "enforce"}})
    await until(lambda: one.status()["store"]["state"] == "ok")
    await call(one, 60, 59)
    await until(lambda: shown(one).get("limit") == 60)
    make_guard(server.url, providers={"openai": {"rpm": 600, "learn": "off"}})
    await until(lambda: "limit" not in shown(one))


def bus_of(guard: Guard) -> RecordingBus:
    assert isinstance(guard.bus, RecordingBus)
    return guard.bus
