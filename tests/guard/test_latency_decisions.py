"""Decisions by what calls take, over real connections: order, bounds on the first token, slow calls."""

from __future__ import annotations

import asyncio

import pytest
from recording import RecordingBus
from support import assert_nothing_leaked, messages

from wallie_litellm import execute_ai_request
from wallie_litellm.events import BreakerChanged, Ended, OrderChanged
from wallie_litellm.routing import first_token, order

GROUP = "gpt-4o-mini"  # openai's; anthropic's is the next
CHAIN = {"arguments": {"fallbacks": [{GROUP: ["claude-sonnet-4"]}]}}
SHORTEST = 0.25  # seconds, instead of five


@pytest.fixture(autouse=True)
async def warm(make_router):
    """LiteLLM imports what it needs for a call at the first one, which takes seconds."""
    router = make_router()
    for group in (GROUP, "claude-sonnet-4"):
        await execute_ai_request(router, group, messages())
        async for _ in await router.acompletion(group, messages(), stream=True):
            pass


@pytest.fixture(autouse=True)
def short_bounds(monkeypatch):
    monkeypatch.setattr(first_token, "SHORTEST", SHORTEST)
    monkeypatch.setattr(first_token, "REFRESHED", 0.0)


async def ask(router, times, at_once=10):
    for _ in range(0, times, at_once):
        await asyncio.gather(*(execute_ai_request(router, GROUP, messages(), feature="chat") for _ in range(at_once)))


async def test_a_slow_provider_is_asked_second_and_the_record_says_why(make_router, fleet, monkeypatch):
    monkeypatch.setattr(order, "DECIDED_EVERY", 0.05)
    bus = RecordingBus()
    router = make_router(
        bus=bus, routing={"order": "latency"}, features={"chat": {}, "plain": {"order": "fixed"}}, **CHAIN
    )
    fleet["openai"].slow(1.0)
    for _ in range(30):
        await ask(router, 10)
        if bus.of(OrderChanged):
            break
    await ask(router, 10)
    [chain] = router.guard.status()["routing"]["order"]
    change = bus.of(OrderChanged)[-1]
    assert (change.chain, change.before) == ((GROUP, "claude-sonnet-4"), (GROUP, "claude-sonnet-4"))
    assert (change.after, change.reason) == (("claude-sonnet-4", GROUP), chain["reason"])
    assert chain["order"] == ["claude-sonnet-4", GROUP]
    moved = [ended for ended in bus.of(Ended) if ended.order == GROUP][-1]
    assert (moved.model, moved.requested, moved.used_fallback) == ("claude-sonnet-4", GROUP, False)
    assert moved.why in {("claude-sonnet-4 first by latency",), ("claude-sonnet-4 is asked to see what it takes",)}
    plain = await execute_ai_request(router, GROUP, messages(), feature="plain")
    assert plain.provider == "openai"
    router.guard.switch("order", on=False)
    assert (await execute_ai_request(router, GROUP, messages(), feature="chat")).provider == "openai"
    assert_nothing_leaked(router)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_falls_silent_is_left_after_two_calls(make_router, fleet, stream):
    router = make_router(features={"chat": {"first_token": "auto"}}, breaker={"open_for": "60s"}, **CHAIN)

    async def once():
        if not stream:
            return (await execute_ai_request(router, GROUP, messages(), feature="chat")).provider
        answer = await router.acompletion(GROUP, messages(), stream=True, metadata={"feature": "chat"})
        async for _ in answer:
            pass
        return answer._hidden_params["additional_headers"]["x-wallie-provider"]

    for _ in range(3):
        await asyncio.gather(*(once() for _ in range(8)))
    before = fleet["openai"].counts().received
    fleet["openai"].hang(after_headers=stream)
    assert [await once() for _ in range(8)] == ["anthropic"] * 8
    assert fleet["openai"].counts().received - before == 2


async def test_a_model_that_is_slow_by_nature_is_left_alone(make_router, fleet):
    router = make_router(features={"chat": {"first_token": "auto"}}, **CHAIN)
    fleet["openai"].slow(2 * SHORTEST)
    await ask(router, 60, at_once=30)
    counts = fleet["openai"].counts()
    assert counts.received == counts.succeeded
    [bounds] = router.guard.status()["routing"]["first_token"].values()
    assert bounds["whole"] >= 6 * SHORTEST


async def test_slow_calls_open_the_models_breaker_where_the_file_says_so(make_router, fleet):
    bus = RecordingBus()
    breaker = {"slow_call": "100ms", "min_calls": 5, "open_for": "60s"}
    router = make_router(bus=bus, breaker=breaker, **CHAIN)
    fleet["openai"].slow(0.2)
    router.guard.switch("slow_call", on=False)
    await ask(router, 10)
    assert not bus.of(BreakerChanged)
    router.guard.switch("slow_call", on=True)
    await ask(router, 10)
    [change] = bus.of(BreakerChanged)
    assert (change.provider, change.after, change.reason) == ("openai", "open", "slow calls")
    assert (await execute_ai_request(router, GROUP, messages())).provider == "anthropic"
