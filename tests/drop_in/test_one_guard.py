"""Two routers on one guard, deployments that change under it, and routing strategies of the application's own."""

from __future__ import annotations

from typing import Any, Final

import pytest
from litellm.types.router import CustomRoutingStrategyBase, Deployment

from drop_in.actions import PROMPT, outcome_of
from drop_in.routers import NO_LIMITS, UNGUARDED, our_router, pointed
from drop_in.row import deployment
from drop_in.upstream import Upstream, failing
from wallie_litellm.config import WallieConfig
from wallie_litellm.errors import CircuitOpen, RateLimited
from wallie_litellm.guard import Guard
from wallie_litellm.guard.router import WallieRouter

THREE: Final = [deployment("m", "a"), deployment("n", "b"), deployment("o", "c")]
CLAUDE: Final = "anthropic/claude-sonnet-4-5"
COUNTED: Final = {**NO_LIMITS, "openai": {"rpm": 100}, "anthropic": {"rpm": 100}}
ONE_AT_ONCE: Final = {"providers": {**NO_LIMITS, "openai": {"rpm": 1}}, "admission": {"max_wait": 0}}


async def ask(router: Any, model: str = "m") -> str:
    return str((await router.acompletion(model=model, messages=PROMPT)).choices[0].message.content)


def used(router: Any, provider: str) -> int:
    return int(router.guard.status()["providers"][provider]["quota"]["rpm"]["used"])


async def test_two_routers_of_one_guard_have_each_their_own_fallbacks(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(), ...]})
    guard = Guard(WallieConfig.model_validate(UNGUARDED))
    models = pointed(upstream, THREE)
    first = WallieRouter(model_list=models, guard=guard, num_retries=0, fallbacks=[{"m": ["n"]}])
    second = WallieRouter(model_list=models, guard=guard, num_retries=0, fallbacks=[{"m": ["o"]}])
    assert [await ask(router) for router in (first, second, first)] == ["from b", "from c", "from b"]
    await guard.aclose()


async def test_updated_fallbacks_are_those_of_that_router_alone(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(), ...]})
    guard = Guard(WallieConfig.model_validate(UNGUARDED))
    models = pointed(upstream, THREE)
    routers = [WallieRouter(model_list=models, guard=guard, num_retries=0, fallbacks=[{"m": ["n"]}]) for _ in range(2)]
    routers[1].update_settings(fallbacks=[{"m": ["o"]}])
    assert [await ask(router) for router in routers] == ["from b", "from c"]
    assert guard.next_fallback("m", exclude=["n"]) == "o"
    await guard.aclose()


async def test_updated_fallbacks_hold_for_streams(upstream: Upstream) -> None:
    upstream.prepare({"a": [failing(), ...]})
    async with our_router(pointed(upstream, THREE), fallbacks=[{"m": ["n"]}]) as router:
        router.update_settings(fallbacks=[{"m": ["o"]}])
        stream = await router.acompletion(model="m", messages=PROMPT, stream=True)
        text = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
    assert "".join(text) == "from c"


# A deployment that becomes another vendor's


def to_claude_by_upsert(router: Any, entry: dict[str, Any]) -> None:
    router.upsert_deployment(deployment=Deployment(**entry))


def to_claude_by_delete(router: Any, entry: dict[str, Any]) -> None:
    router.delete_deployment(id="m-a")
    router.add_deployment(deployment=Deployment(**entry))


def to_claude_by_list(router: Any, entry: dict[str, Any]) -> None:
    router.set_model_list([entry])


WAYS: Final = [to_claude_by_upsert, to_claude_by_delete, to_claude_by_list]


@pytest.mark.parametrize("change", WAYS, ids=lambda way: way.__name__)
async def test_a_deployment_of_another_vendor_is_charged_to_that_vendor(upstream: Upstream, change: Any) -> None:
    async with our_router(pointed(upstream, [deployment("m", "a")]), wallie={"providers": COUNTED}) as router:
        await ask(router)
        (entry,) = pointed(upstream, [deployment("m", "b", CLAUDE, {"id": "m-a"})])
        change(router, entry)
        assert await ask(router) == "from b"
        assert (used(router, "openai"), used(router, "anthropic")) == (1, 1)


@pytest.mark.parametrize("change", WAYS, ids=lambda way: way.__name__)
async def test_a_deployment_of_another_vendor_asks_that_vendors_breaker(upstream: Upstream, change: Any) -> None:
    wallie = {"providers": COUNTED, "admission": {"max_wait": 0}}
    async with our_router(pointed(upstream, [deployment("m", "a")]), wallie=wallie) as router:
        await ask(router)
        router.guard.open_circuit("openai")
        (entry,) = pointed(upstream, [deployment("m", "b", CLAUDE, {"id": "m-a"})])
        change(router, entry)
        assert await ask(router) == "from b"
        router.guard.open_circuit("anthropic")
        assert isinstance(await outcome_of(ask(router)), CircuitOpen)


async def test_a_deployment_with_another_key_is_asked_with_that_key(upstream: Upstream) -> None:
    async with our_router(pointed(upstream, [deployment("m", "a")])) as router:
        await ask(router)
        (entry,) = pointed(upstream, [deployment("m", "a", api_key="sk-new")])
        to_claude_by_upsert(router, entry)
        await ask(router)
    assert [request.key for request in upstream.requests] == ["sk-a", "sk-new"]


# A routing strategy of the application's own


class _First(CustomRoutingStrategyBase):  # type: ignore[misc] # LiteLLM is not type-checked here
    def __init__(self, router: Any) -> None:
        self._router = router
        self.asked = 0

    async def async_get_available_deployment(self, *_: Any, **__: Any) -> Any:
        return self.get_available_deployment()

    def get_available_deployment(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        return self._router.get_model_list()[0]


async def test_the_guard_is_asked_under_a_custom_routing_strategy(upstream: Upstream) -> None:
    async with our_router(pointed(upstream, THREE), wallie=ONE_AT_ONCE) as router:
        strategy = _First(router)
        router.set_custom_routing_strategy(strategy)
        results = [await outcome_of(ask(router)) for _ in range(4)]
    assert results[0] == "from a"
    assert [isinstance(result, RateLimited) for result in results[1:]] == [True] * 3
    assert strategy.asked >= 1
    assert len(upstream.requests) == 1


async def test_a_breaker_holds_under_a_custom_routing_strategy(upstream: Upstream) -> None:
    async with our_router(pointed(upstream, THREE), wallie={"admission": {"max_wait": 0}}) as router:
        router.set_custom_routing_strategy(_First(router))
        router.guard.open_circuit("openai")
        assert isinstance(await outcome_of(ask(router)), CircuitOpen)
    assert upstream.requests == []


async def test_calls_under_a_custom_routing_strategy_are_charged(upstream: Upstream) -> None:
    async with our_router(pointed(upstream, THREE), wallie={"providers": COUNTED}) as router:
        router.set_custom_routing_strategy(_First(router))
        await ask(router)
        assert used(router, "openai") == 1
        status = router.guard.status()["providers"]["openai"]
        assert (status["in_flight"], status["waiting"]) == (0, 0)
