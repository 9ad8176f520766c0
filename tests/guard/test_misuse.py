"""Bad input, unreadable errors and failing calls of applications: one clear error, and every attempt settled."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from math import inf, nan

import pytest
from support import assert_nothing_leaked, messages

from wallie_litellm import (
    ChainExhausted,
    CircuitOpen,
    DeadlineExceeded,
    MemberFailure,
    RateLimited,
    execute_ai_request,
    stream_ai_request,
)

ONE_GROUP = "llama-3.1-8b"


class UnreadableError(Exception):
    """An error that cannot be turned into text."""

    status_code = 500
    headers = 5

    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("refused elsewhere", provider="x", retry_after=1.0),
        CircuitOpen("closed elsewhere", provider="x", retry_after=1.0),
        DeadlineExceeded("too late elsewhere"),
        UnreadableError(),
        ValueError("a bug"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_any_exception_of_an_applications_own_call_is_settled(make_router, error):
    router = make_router(retry={"max_retries": 0})

    async def call(_target):
        raise error

    with pytest.raises(BaseException):  # noqa: B017, PT011 - which one is not the point
        await execute_ai_request(router, ONE_GROUP, execute=call)
    assert_nothing_leaked(router)
    assert router.guard.status()["providers"]["groq"]["paused_for"] == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"estimated_tokens": -5},
        {"estimated_tokens": 1.5},
        {"estimated_tokens": nan},
        {"estimated_tokens": 10**15},
        {"estimated_tokens": "many"},
        {"priority": "high"},
        {"priority": 0.5},
        {"deadline": nan},
        {"deadline": "5s"},
    ],
    ids=str,
)
async def test_an_argument_that_is_no_number_is_refused_by_name(make_router, fleet, asked):
    router = make_router()
    with pytest.raises((TypeError, ValueError), match=next(iter(asked))):
        await execute_ai_request(router, ONE_GROUP, messages(), **asked)
    assert fleet["groq"].counts().received == 0
    json.dumps(router.guard.status(), allow_nan=False)


async def test_an_infinite_deadline_is_no_deadline(make_router):
    assert (await execute_ai_request(make_router(), ONE_GROUP, messages(), deadline=inf)).text


@pytest.mark.parametrize("tokens", [-1, 0.5, "5", 10**13])
async def test_the_guard_takes_only_counts(make_router, tokens):
    guard = make_router().guard
    with pytest.raises((TypeError, ValueError), match="tokens"):
        await guard.wait_for_capacity("openai", tokens)
    with pytest.raises((TypeError, ValueError), match="tokens"):
        guard.update_usage("openai", 1, tokens)


async def test_an_enormous_usage_leaves_the_status_readable(make_router):
    router = make_router()

    async def call(_target):
        return {"usage": {"prompt_tokens": 10**18, "completion_tokens": 0, "total_tokens": 10**18}}

    await execute_ai_request(router, ONE_GROUP, execute=call)
    json.dumps(router.guard.status(), allow_nan=False)
    assert_nothing_leaked(router)


async def test_a_deadline_holds_for_the_fallback_from_inside_a_stream(make_router, fleet, turns):
    router = make_router(retry={"max_retries": 0})
    fleet["openai"].cut_stream(0, times=1)
    fleet["anthropic"].hang()
    started = turns.now()
    with pytest.raises(DeadlineExceeded):
        async for _ in stream_ai_request(router, "gpt-4o-mini", messages(), deadline=1):
            pass
    assert turns.now() - started < 3
    assert_nothing_leaked(router)


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("a limit", provider="openai", retry_after=2.5, model="gpt-4o"),
        ChainExhausted([MemberFailure("gpt-4o", "openai", "HTTP 500", None, 500)]),
        DeadlineExceeded("late"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301 - our own bytes
def test_an_error_survives_copying_and_pickling(error, remake):
    again = remake(error)
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert again.status_code == error.status_code


async def test_a_refusal_names_the_limit_that_cannot_be_waited_for(make_router, fleet):
    router = make_router(providers={"groq": {"concurrency": 1}}, admission={"max_wait": "50ms"})
    fleet["groq"].hang(times=1)
    first = asyncio.create_task(router.acompletion(ONE_GROUP, messages()))
    while not router.guard.status()["providers"]["groq"]["in_flight"]:  # noqa: ASYNC110 - the guard has no such event
        await asyncio.sleep(0.01)
    with pytest.raises(RateLimited, match="groq is at its concurrency limit"):
        await router.acompletion(ONE_GROUP, messages())
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert_nothing_leaked(router)


async def test_waiting_requests_of_a_closed_guard_are_refused_with_that_reason(make_router):
    router = make_router(providers={"groq": {"rpm": 6, "burst": {"rpm": 1}}})
    await router.acompletion(ONE_GROUP, messages())
    waiting = asyncio.create_task(router.acompletion(ONE_GROUP, messages()))
    while not router.guard.status()["providers"]["groq"]["waiting"]:  # noqa: ASYNC110 - the guard has no such event
        await asyncio.sleep(0.01)
    await router.guard.aclose()
    with pytest.raises(RateLimited, match="the guard was closed"):
        await waiting


@pytest.mark.parametrize(
    "asked",
    [{"messages": "no list"}, {"messages": [5]}, {"timeout": "soon"}, {"tools": 5}, {"messages": None}],
    ids=str,
)
@pytest.mark.parametrize("group", ["gpt-4o-mini", "claude-sonnet-4", ONE_GROUP])
async def test_a_callers_mistake_does_not_count_as_a_providers_failure(make_router, fleet, group, asked):
    router = make_router(breaker={"failures": 1})
    with pytest.raises(Exception):  # noqa: B017, PT011 - LiteLLM has several names for it
        await router.acompletion(group, **{"messages": messages(), **asked})
    for name, provider in router.guard.status()["providers"].items():
        assert provider["breaker"]["state"] == "closed", name
        assert fleet[name].counts().received == 0
    assert_nothing_leaked(router)


@pytest.mark.parametrize(
    "asked", [{"metadata": {"tags": 5}}, {"metadata": {"feature": 7}}, {"num_retries": "x"}, {"user": 5}], ids=str
)
async def test_unusual_arguments_do_not_fail_a_request(make_router, asked):
    assert (await make_router().acompletion(ONE_GROUP, messages(), **asked)).choices


@pytest.mark.parametrize(
    ("group", "asked"),
    [
        ("gemini-2.0-flash", {"messages": [{"role": "tool", "content": "x"}]}),
        ("gemini-2.0-flash", {"messages": [{"role": 5}]}),
        ("claude-sonnet-4", {"messages": messages("\ud800")}),
        ("gpt-4o-mini", {"temperature": object(), "fallbacks": []}),
    ],
    ids=["tool without a call", "role of no kind", "lone surrogate", "object"],
)
async def test_what_litellm_cannot_send_opens_no_breaker(make_router, fleet, group, asked):
    router = make_router(breaker={"failures": 1}, retry={"max_retries": 0})
    with pytest.raises(Exception):  # noqa: B017, PT011 - LiteLLM has several names for it
        await router.acompletion(group, **{"messages": messages(), **asked})
    assert {"closed"} == {each["breaker"]["state"] for each in router.guard.status()["providers"].values()}


async def test_a_callers_short_deadlines_open_no_breaker(make_router, fleet):
    router = make_router(breaker={"failures": 1})
    fleet["groq"].slow(0.3)
    for _ in range(3):
        with pytest.raises(DeadlineExceeded):
            await execute_ai_request(router, ONE_GROUP, messages(), deadline=0.05)
    assert router.guard.status()["providers"]["groq"]["breaker"]["state"] == "closed"


@pytest.mark.parametrize("smuggled", [{"fallback_depth": 1}, {"fallback_depth": 1, "_wallie_scope": 5}], ids=str)
async def test_a_requests_own_arguments_cannot_bypass_the_limits(make_router, smuggled):
    router = make_router(providers={"groq": {"rpm": 1}}, admission={"max_wait": 0})
    await router.acompletion(ONE_GROUP, messages(), **smuggled)
    with pytest.raises(RateLimited):
        await router.acompletion(ONE_GROUP, messages(), **smuggled)


@pytest.mark.parametrize("tokens", [nan, inf, -5, "5", 10**30])
async def test_a_lease_is_settled_by_a_whole_number_only(make_router, tokens):
    router = make_router()
    lease = await router.guard.wait_for_capacity("openai", 10)
    with pytest.raises((TypeError, ValueError), match="tokens"):
        lease.settle(tokens)
    lease.release()
    json.dumps(router.guard.status(), allow_nan=False)
    assert_nothing_leaked(router)


async def test_a_stream_that_failed_yields_nothing_more(make_router, fleet):
    router = make_router(retry={"max_retries": 0})
    fleet["groq"].fail(500, times=1)
    stream = stream_ai_request(router, ONE_GROUP, messages())
    with pytest.raises(Exception):  # noqa: B017, PT011 - LiteLLM has several names for it
        await anext(stream)
    assert [delta async for delta in stream] == []
    assert (fleet["groq"].counts().received, stream.result) == (1, None)


async def test_a_stream_closed_while_it_is_opened_is_closed(make_router, fleet):
    router = make_router()
    fleet["groq"].slow(0.2)
    stream = stream_ai_request(router, ONE_GROUP, messages())
    reading = asyncio.create_task(anext(stream, None))
    while not fleet["groq"].counts().in_flight:  # noqa: ASYNC110 - another process has no event
        await asyncio.sleep(0.01)
    await stream.aclose()
    assert await reading is None
    assert_nothing_leaked(router)


async def test_the_helper_for_whole_answers_refuses_to_stream(make_router):
    with pytest.raises(TypeError, match="stream_ai_request"):
        await execute_ai_request(make_router(), ONE_GROUP, messages(), stream=True)
