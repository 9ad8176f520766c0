"""Two routers that share a guard: its limits and breakers are common, chains and prices are each router's own."""

from __future__ import annotations

from copy import deepcopy

import pytest
from recording import RecordingBus
from support import messages, shipped_config

from wallie_litellm import execute_ai_request
from wallie_litellm.events import Settled

GROUP = "gpt-4o-mini"


def with_chain(*members: str) -> dict[str, object]:
    data = deepcopy(shipped_config())
    data["router_settings"]["fallbacks"] = [{GROUP: list(members)}]
    return data


def priced(router, cost_per_token: float) -> None:
    """Have ``router`` price its OpenAI deployments at ``cost_per_token``."""
    for deployment in router.model_list:
        if router.provider_of(deployment) == "openai":
            deployment["litellm_params"]["input_cost_per_token"] = cost_per_token
            deployment["litellm_params"]["output_cost_per_token"] = 0.0


@pytest.fixture
def bus() -> RecordingBus:
    return RecordingBus()


@pytest.fixture
def two_routers(make_router, bus):
    first = make_router(bus=bus, data=with_chain("claude-sonnet-4"), retry={"max_retries": 0})
    second = make_router(guard=first.guard, data=with_chain("gemini-2.0-flash"), retry={"max_retries": 0})
    return first, second


async def test_each_router_follows_its_own_chain(two_routers, fleet):
    fleet["openai"].fail(500)
    first, second = two_routers
    served = [(await execute_ai_request(router, GROUP, messages())).provider for router in (first, second, first)]
    assert served == ["anthropic", "gemini", "anthropic"]
    answer = await first.acompletion(GROUP, messages())
    assert "claude" in answer.model


async def test_each_routers_stream_falls_back_along_its_own_chain(two_routers, fleet, bus):
    fleet["openai"].fail(500)
    for router in two_routers:
        async for _ in await router.acompletion(GROUP, messages(), stream=True):
            pass
    assert [event.provider for event in bus.of(Settled) if event.success] == ["anthropic", "gemini"]


async def test_each_router_bills_at_its_own_prices(two_routers, bus):
    for router, cost in zip(two_routers, (1.0, 2.0), strict=True):
        priced(router, cost)
        await execute_ai_request(router, GROUP, messages())
    await execute_ai_request(two_routers[0], GROUP, messages())
    costs = [event.cost_usd / event.prompt_tokens for event in bus.of(Settled)]
    assert costs == [pytest.approx(1.0), pytest.approx(2.0), pytest.approx(1.0)]


async def test_both_routers_requests_count_against_the_same_limits(two_routers):
    first, second = two_routers
    assert first.guard is second.guard
    for router in two_routers:
        await execute_ai_request(router, GROUP, messages())
    assert first.guard.status()["providers"]["openai"]["quota"]["rpd"]["used"] == 2


def test_the_next_fallback_of_a_group_is_looked_up_in_every_router(make_router):
    first = make_router(data=with_chain("claude-sonnet-4"))
    assert first.guard.next_fallback(GROUP, exclude=["anthropic"]) is None
    make_router(guard=first.guard, data=with_chain("gemini-2.0-flash"))
    assert first.guard.next_fallback(GROUP) == "claude-sonnet-4"
    assert first.guard.next_fallback(GROUP, exclude=["anthropic"]) == "gemini-2.0-flash"
