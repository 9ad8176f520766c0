"""Hedges over real connections: the one that loses is cancelled, and its connection closed, whatever the wire."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import Any

import pytest
from recording import RecordingBus
from support import assert_nothing_leaked, messages, until

from wallie_litellm import execute_ai_request, stream_ai_request
from wallie_litellm.events import Ended, Settled

AFTER = 0.1  # seconds to a hedge
TAGS = {"feature": "chat"}
GROUP = "gpt-4o-mini"  # openai's; anthropic's is the next


async def chat(router, **more):
    answer = await router.acompletion(GROUP, messages(), metadata=TAGS, **more)
    return answer.choices[0].message.content, answer._hidden_params["additional_headers"]


async def chat_stream(router, **more):
    stream = await router.acompletion(GROUP, messages(), stream=True, metadata=TAGS, **more)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return text, stream._hidden_params["additional_headers"]


async def responses(router, **more):
    answer = await router.aresponses(model=GROUP, input="Hello", litellm_metadata=TAGS, **more)
    return answer.output[-1].content[0].text, answer._hidden_params["additional_headers"]


async def responses_stream(router, **more):
    stream = await router.aresponses(model=GROUP, input="Hello", stream=True, litellm_metadata=TAGS, **more)
    events = [event async for event in stream]
    return "".join(event.delta for event in events if event.type == "response.output_text.delta"), None


async def anthropic(router, **more):
    answer = await router.aanthropic_messages(
        model=GROUP, messages=messages(), max_tokens=50, litellm_metadata=TAGS, **more
    )
    return answer["content"][0]["text"], None


async def helper_stream(router, **more):
    async with stream_ai_request(router, GROUP, messages(), feature="chat", **more) as stream:
        return "".join([delta async for delta in stream]), None


WAYS = (chat, chat_stream, responses, responses_stream, anthropic, helper_stream)


@pytest.fixture
def hedged(make_router, fleet):
    """A router whose late calls are hedged, its events, and what the event loop could not deliver."""
    bus, lost = RecordingBus(), []
    router = make_router(
        bus=bus,
        features={"chat": {"hedge": {"after": AFTER, "budget": 1}}},
        breaker={"failures": 1_000},
        retry={"max_retries": 0},
    )
    return router, bus, lost


def under_way() -> list[Any]:
    """The tasks of requests and hedges that have not ended."""
    own = {"HedgedAttempt._run_hedge", "WallieRouter.request"}
    return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__qualname__", "") in own]


async def assert_all_over(router, bus, fleet, **expected):
    """Each call is settled once, each connection closed, no task left, and the providers saw what was ``expected``."""
    await until(lambda: not under_way())
    for name, outcomes in expected.items():
        await until(lambda name=name: not fleet[name].counts().in_flight)
        counts = fleet[name].counts()
        assert {key: getattr(counts, key) for key in outcomes} == outcomes, name
        assert counts.received == sum(outcomes.values())
    (ended,) = bus.of(Ended)
    assert list(ended.settled) == bus.of(Settled)
    assert len(ended.settled) == sum(fleet[name].counts().received for name in fleet)
    assert ended.hedged
    assert_nothing_leaked(router)
    return ended


@pytest.mark.parametrize("ask", WAYS)
async def test_a_provider_that_says_nothing_is_left_for_the_next_and_its_connection_is_closed(hedged, fleet, ask):
    router, bus, _ = hedged
    fleet["openai"].hang(after_headers=ask in (chat_stream, responses_stream))
    text, headers = await ask(router)
    assert text == "Hello from anthropic."
    ended = await assert_all_over(router, bus, fleet, openai={"disconnected": 1}, anthropic={"succeeded": 1})
    lost, served = ended.settled
    assert (lost.provider, lost.outcome, lost.error, lost.hedge) == ("openai", "cut", "hedged", False)
    assert (served.provider, served.success, served.hedge) == ("anthropic", True, True)
    assert ended.wasted_usd == lost.cost_usd > 0
    if headers is not None:
        assert headers["x-wallie-hedged"] == 1
        assert headers["x-wallie-provider"] == "anthropic"
    if ask is chat:
        assert float(headers["x-wallie-cost-usd"]) == pytest.approx(lost.cost_usd + served.cost_usd, abs=1e-8)


@pytest.mark.parametrize("ask", [chat, chat_stream, anthropic])
async def test_a_hedge_that_is_slower_is_cancelled_and_its_connection_closed(hedged, fleet, ask):
    router, bus, _ = hedged
    fleet["openai"].slow(1.0)
    fleet["anthropic"].hang()
    assert (await ask(router))[0] == "Hello from openai."
    ended = await assert_all_over(router, bus, fleet, openai={"succeeded": 1}, anthropic={"disconnected": 1})
    assert [(one.provider, one.error, one.hedge) for one in ended.settled] == [
        ("anthropic", "hedged", True),
        ("openai", None, False),
    ]
    assert ended.wasted_usd == ended.settled[0].cost_usd > 0
    assert not ended.used_fallback


@pytest.mark.parametrize("ask", [chat, chat_stream])
async def test_a_caller_that_cancels_frees_both(hedged, fleet, ask):
    router, bus, _ = hedged
    for name in ("openai", "anthropic"):
        fleet[name].hang(after_headers=ask is chat_stream)
    task = asyncio.create_task(ask(router))
    await until(lambda: fleet["anthropic"].counts().received)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    ended = await assert_all_over(router, bus, fleet, openai={"disconnected": 1}, anthropic={"disconnected": 1})
    assert (ended.success, ended.error, ended.by_caller) == (False, "cancelled", True)
    assert {one.error for one in ended.settled} == {"cancelled"}


async def test_a_deadline_covers_both_and_the_result_has_the_cost_of_both(hedged, fleet):
    router, bus, _ = hedged
    fleet["openai"].hang()
    result = await execute_ai_request(router, GROUP, messages(), feature="chat", deadline=60)
    assert result.provider == "anthropic"
    assert result.cost_usd == pytest.approx(sum(one.cost_usd for one in result.attempts))
    bus.events.clear()
    fleet["openai"].reset()
    fleet["anthropic"].reset()
    fleet["anthropic"].hang()
    with pytest.raises(Exception, match="deadline passed"):
        await execute_ai_request(router, GROUP, messages(), feature="chat", deadline=1.5)
    ended = await assert_all_over(router, bus, fleet, openai={"disconnected": 1}, anthropic={"disconnected": 1})
    assert ended.error == "wallie_deadline_exceeded"


async def test_a_winning_stream_that_is_dropped_is_settled_and_closed(hedged, fleet):
    router, bus, _ = hedged
    fleet["openai"].hang()
    fleet["anthropic"].hang(after_chunks=1)
    stream = await router.acompletion(GROUP, messages(), stream=True, metadata=TAGS)
    await anext(stream)
    del stream

    def over() -> bool:
        gc.collect()
        return bool(bus.of(Ended))

    await until(over)
    ended = await assert_all_over(router, bus, fleet, openai={"disconnected": 1}, anthropic={"disconnected": 1})
    assert [(one.error, one.hedge) for one in ended.settled] == [("hedged", False), ("abandoned", True)]


async def test_nothing_that_is_lost_is_reported_to_the_event_loop(hedged, fleet):
    router, _, lost = hedged
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    fleet["openai"].slow(0.3, times=10)
    fleet["anthropic"].fail(500, times=5)
    fleet["anthropic"].slow(0.3, times=10)
    asked: list[Any] = await asyncio.gather(*(chat(router) for _ in range(10)), return_exceptions=True)
    assert not [one for one in asked if isinstance(one, BaseException)]
    await until(lambda: not under_way())
    gc.collect()
    await asyncio.sleep(0)
    assert lost == []
    assert_nothing_leaked(router)


@pytest.mark.parametrize(
    "more",
    [{"store": True}, {"hedge": False}, {"tools": [{"type": "mcp", "server_url": "https://x.invalid"}]}],
    ids=["store", "by the caller", "remote tool"],
)
async def test_what_is_not_to_be_done_twice_is_not_hedged(hedged, fleet, more):
    router, bus, _ = hedged
    fleet["openai"].slow(0.5)
    await responses(router, **more)
    (ended,) = bus.of(Ended)
    assert not ended.hedged
    assert fleet["anthropic"].counts().received == 0


async def test_neither_a_batch_nor_a_call_of_the_applications_own_is_hedged(hedged, fleet):
    router, bus, _ = hedged
    fleet["openai"].slow(0.3)
    await router.abatch_completion([GROUP], messages(), metadata=TAGS)

    async def own(_target):
        await asyncio.sleep(0.3)
        return "done"

    await execute_ai_request(router, GROUP, execute=own, feature="chat")
    assert [ended.hedged for ended in bus.of(Ended)] == [False, False]
    assert fleet["anthropic"].counts().received == 0
