"""When a request waits for a provider and when it falls back."""

from __future__ import annotations

import asyncio

import pytest
from fake_clock import FakeClock
from support import messages, until

from wallie_litellm import RateLimited, execute_ai_request, stream_ai_request


async def use_up(router, group="gpt-4o-mini", times=1):
    for _ in range(times):
        await router.acompletion(group, messages())


def waiting(router, provider="openai"):
    return router.guard.status()["providers"][provider]["waiting"]


@pytest.mark.parametrize(
    "patient",
    [
        {"admission": {"max_wait": "30s", "patience": "2s"}},
        {"features": {"wallie-chat": {"patience": "2s"}}},
    ],
    ids=["for all", "for one feature"],
)
async def test_with_a_patience_of_two_seconds_a_short_wait_waits_and_a_long_one_moves_on(make_router, patient):
    for rpm, moved_on in ((60, False), (6, True)):
        clock = FakeClock()
        router = make_router(clock=clock, providers={"openai": {"rpm": rpm, "burst": {"rpm": 1}}}, **patient)
        await use_up(router)
        request = asyncio.create_task(execute_ai_request(router, "gpt-4o-mini", messages(), feature="wallie-chat"))
        if not moved_on:
            await until(lambda router=router: waiting(router) == 1)
            clock.advance(1)
        result = await request
        assert (result.provider, result.used_fallback) == (("anthropic", True) if moved_on else ("openai", False))
        assert moved_on == (result.waited_ms == 0)


async def test_a_chain_in_the_order_of_latency_passes_over_a_member_without_room_and_a_stated_one_waits(make_router):
    clock = FakeClock()
    router = make_router(
        clock=clock, providers={"openai": {"rpm": 6, "burst": {"rpm": 1}}}, routing={"order": "latency"}
    )
    await use_up(router)
    result = await execute_ai_request(router, "gpt-4o-mini", messages())
    assert (result.provider, result.used_fallback, result.waited_ms) == ("anthropic", True, 0)
    stated = asyncio.create_task(router.acompletion("gpt-4o-mini", messages(), fallbacks=["claude-sonnet-4"]))
    await until(lambda: waiting(router) == 1)
    clock.advance(10)
    assert (await stated)._hidden_params["additional_headers"]["x-wallie-provider"] == "openai"


async def test_other_features_keep_their_patience(make_router):
    clock = FakeClock()
    router = make_router(
        clock=clock,
        providers={"openai": {"rpm": 6, "burst": {"rpm": 1}}},
        features={"wallie-chat": {"patience": "2s"}},
    )
    await use_up(router)
    request = asyncio.create_task(execute_ai_request(router, "gpt-4o-mini", messages(), feature="wallie-report"))
    await until(lambda: waiting(router) == 1)
    clock.advance(10)
    assert (await request).provider == "openai"


@pytest.mark.parametrize(
    "named",
    [
        {"metadata": {"feature": "wallie-chat"}},
        {"metadata": {"tags": ["feature:wallie-chat"]}},
    ],
)
async def test_a_plain_router_call_names_its_feature_in_its_metadata(make_router, fleet, named):
    router = make_router(
        providers={"openai": {"rpm": 6, "burst": {"rpm": 1}}}, features={"wallie-chat": {"patience": "2s"}}
    )
    await use_up(router)
    await router.acompletion("gpt-4o-mini", messages(), **named)
    assert fleet["anthropic"].counts().received == 1


async def test_without_an_alternative_a_request_waits_up_to_max_wait(make_router):
    clock = FakeClock()
    router = make_router(
        clock=clock,
        providers={"groq": {"rpm": 6, "burst": {"rpm": 1}}},
        admission={"max_wait": "15s", "patience": "2s"},
    )
    await use_up(router, "llama-3.1-8b")
    patient = asyncio.create_task(execute_ai_request(router, "llama-3.1-8b", messages()))
    await until(lambda: waiting(router, "groq") == 1)
    with pytest.raises(RateLimited) as caught:  # 20 s by then
        await execute_ai_request(router, "llama-3.1-8b", messages())
    assert caught.value.retry_after == pytest.approx(20)
    clock.advance(10)
    assert (await patient).waited_ms == pytest.approx(10_000)


async def test_with_every_alternative_busy_a_request_waits_longer_than_its_patience(make_router):
    clock = FakeClock()
    slow = {"rpm": 6, "burst": {"rpm": 1}}
    router = make_router(
        clock=clock,
        providers=dict.fromkeys(("openai", "anthropic", "gemini", "groq"), slow),
        admission={"max_wait": "30s", "patience": "2s"},
    )
    await use_up(router, times=4)
    request = asyncio.create_task(execute_ai_request(router, "gpt-4o-mini", messages()))
    await until(lambda: waiting(router) == 1)
    clock.advance(10)
    assert (await request).provider == "openai"


async def test_a_wait_that_would_miss_the_deadline_falls_back_at_once(make_router):
    router = make_router(providers={"openai": {"rpm": 6, "burst": {"rpm": 1}}})
    await use_up(router)
    result = await execute_ai_request(router, "gpt-4o-mini", messages(), deadline=5)
    assert result.provider == "anthropic"


async def test_a_deadline_cuts_a_stream_too(make_router, fleet):
    from wallie_litellm import DeadlineExceeded

    router = make_router()
    fleet["openai"].hang(after_chunks=1)
    received = []

    async def read():
        async for delta in stream_ai_request(router, "gpt-4o-mini", messages(), deadline=0.4):
            received.append(delta)

    with pytest.raises(DeadlineExceeded):
        await read()
    assert received
    assert router.guard.status()["providers"]["openai"]["in_flight"] == 0


async def test_a_higher_priority_is_served_first(make_router):
    clock = FakeClock()
    router = make_router(
        clock=clock,
        providers={"groq": {"rpm": 6, "burst": {"rpm": 1}}},
        features={"urgent": {"priority": 5}},
        admission={"max_wait": "60s"},
    )
    await use_up(router, "llama-3.1-8b")
    served = []

    async def ask(name, **kwargs):
        await execute_ai_request(router, "llama-3.1-8b", messages(), **kwargs)
        served.append(name)

    tasks = []
    for name, kwargs in (("first", {}), ("second", {}), ("urgent", {"feature": "urgent"}), ("top", {"priority": 9})):
        tasks.append(asyncio.create_task(ask(name, **kwargs)))
        await until(lambda: waiting(router, "groq") == len(tasks))
    for count in range(1, 5):
        clock.advance(10)
        await until(lambda count=count: len(served) == count)
    assert served == ["top", "urgent", "first", "second"]


async def test_a_wait_beyond_the_patience_ends_when_an_alternative_can_serve(make_router):
    clock = FakeClock()
    slow = {"rpm": 6, "burst": {"rpm": 1}}
    router = make_router(
        clock=clock,
        providers={"openai": slow, "anthropic": slow, "gemini": slow, "groq": slow},
        admission={"max_wait": "60s", "patience": "2s"},
    )
    await use_up(router, times=4)
    request = asyncio.create_task(execute_ai_request(router, "gpt-4o-mini", messages()))
    await until(lambda: waiting(router) == 1)
    clock.advance(3)
    await asyncio.sleep(0.05)
    assert waiting(router) == 1  # no other member could have served
    router.guard.reset_quota("gemini")
    clock.advance(2)
    result = await asyncio.wait_for(request, 10)
    assert (result.provider, result.waited_ms) == ("gemini", pytest.approx(5_000))
