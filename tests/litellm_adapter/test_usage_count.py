"""LiteLLM's count of usage per minute: left out where nothing reads it, and as LiteLLM makes it everywhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import litellm
import pytest
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.router import Router
from support import messages, until

from wallie_litellm import Guard, WallieRouter

by_callbacks = pytest.mark.skipif(hasattr(Router, "select"), reason="LiteLLM counts in its core since 1.109")
TOKENS: Final = 30  # of LiteLLM's made up answers: prompt and completion
MINUTES_END: Final = 55.0  # seconds of a minute after which a test waits for the next: counts are per minute
GEMINI: Final = "gemini/gemini-3.5-flash"  # the price map states its limits


def deployment(model: str = "openai/gpt-4o-mini", info: Mapping[str, Any] | None = None, **params: Any) -> dict:
    params = {"model": model, "api_key": "sk-a", "mock_response": "made up", **params}
    return {"model_name": "m", "litellm_params": params, "model_info": {"id": "a", **(info or {})}}


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WallieRouter]]:
    # LiteLLM's Router writes the limits of its deployments into the price map.
    monkeypatch.setattr(litellm, "model_cost", {name: dict(entry) for name, entry in litellm.model_cost.items()})
    made: list[WallieRouter] = []

    def build(*models: dict, **settings: Any) -> WallieRouter:
        made.append(WallieRouter(model_list=[*models], guard=Guard(), **settings))
        return made[-1]

    yield build
    for router in made:
        router.guard.close()


async def usage_after_one_call(router: Any) -> tuple[int | None, int | None]:
    if time.time() % 60 > MINUTES_END:
        await until(lambda: time.time() % 60 < MINUTES_END)
    await call(router, "m")
    return await router.get_model_group_usage("m")


async def call(router: Any, group: str) -> None:
    """One call, with LiteLLM's callbacks for it."""
    await router.acompletion(model=group, messages=messages())
    for _ in range(4):
        await asyncio.sleep(0)  # until the callbacks are with LiteLLM's worker
    await GLOBAL_LOGGING_WORKER.flush()


LIMITED: Final = {
    "of the parameters": deployment(rpm=100, tpm=100_000),
    "of the model's info": deployment(info={"rpm": 100}),
    "of the price map": deployment(GEMINI),
}


@by_callbacks
@pytest.mark.parametrize("limited", LIMITED.values(), ids=LIMITED)
async def test_a_deployment_with_a_limit_is_counted(make, limited: dict) -> None:
    assert await usage_after_one_call(make(limited)) == (TOKENS, 1)


@by_callbacks
async def test_only_the_deployments_with_a_limit_are_counted(make) -> None:
    free = {**deployment(), "model_name": "free", "model_info": {"id": "b"}}
    router = make(deployment(rpm=100), free)
    await call(router, "free")
    assert await usage_after_one_call(router) == (TOKENS, 1)
    assert await router.get_model_group_usage("free") == (None, None)


@by_callbacks
async def test_a_limit_that_comes_later_is_counted_by(make) -> None:
    router = make(deployment())
    assert await usage_after_one_call(router) == (None, None)
    router.upsert_deployment(litellm.router.Deployment(**deployment(rpm=100)))
    assert await usage_after_one_call(router) == (TOKENS, 1)


def names(callbacks: list[Any]) -> list[str]:
    return [getattr(callback, "__qualname__", "") for callback in callbacks]


@by_callbacks
def test_litellms_own_callbacks_stay_where_cooldowns_read_them(make) -> None:
    make(deployment(), disable_cooldowns=False)
    assert "Router.deployment_callback_on_success" in names(litellm._async_success_callback)
    assert "Router.sync_deployment_callback_on_success" in names(litellm.success_callback)


@by_callbacks
def test_litellms_own_callbacks_come_and_go_with_cooldowns(make) -> None:
    def present() -> tuple[bool, bool, bool]:
        lists = names(litellm._async_success_callback), names(litellm.success_callback)
        return (
            "UsageCount.count" in lists[0],
            "Router.deployment_callback_on_success" in lists[0],
            "Router.sync_deployment_callback_on_success" in lists[1],
        )

    router = make(deployment())
    assert present() == (True, False, False)
    router.disable_cooldowns = False
    assert present() == (False, True, True)
    router.disable_cooldowns = True
    assert present() == (True, False, False)
    router.discard()
    assert present() == (False, False, False)


@by_callbacks
async def test_another_routers_calls_are_not_counted_twice(make) -> None:
    router, other = make(deployment(rpm=100)), make({**deployment(), "model_info": {"id": "b"}})
    await call(other, "m")
    assert await usage_after_one_call(router) == (TOKENS, 1)


@by_callbacks
async def test_a_model_that_litellm_does_not_know_is_counted_as_by_litellm(make) -> None:
    entry = deployment("openai/no-such-model", rpm=100)
    plain = Router(model_list=[entry], disable_cooldowns=True)
    try:
        expected = await usage_after_one_call(plain)
    finally:
        plain.discard()
    assert await usage_after_one_call(make(entry)) == expected
