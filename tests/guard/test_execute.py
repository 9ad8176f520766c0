"""The helpers that applications call."""

from __future__ import annotations

import gc

import pytest
from support import assert_nothing_leaked, messages, quota, until

from wallie_litellm import (
    AIRequestResult,
    DeadlineExceeded,
    calculate_cost,
    execute_ai_request,
    execute_ai_request_sync,
    extract_text,
    stream_ai_request,
)


@pytest.mark.parametrize(
    ("group", "provider"),
    [
        ("gpt-4o-mini", "openai"),
        ("claude-sonnet-4", "anthropic"),
        ("gemini-2.0-flash", "gemini"),
        ("llama-3.1-8b", "groq"),
        ("deepseek-chat", "deepseek"),
    ],
)
async def test_a_result_has_the_provider_the_answer_and_the_cost(make_router, group, provider):
    router = make_router()
    result = await execute_ai_request(router, group, messages(), feature="wallie-chat", user_id="u1")
    assert (result.text, result.provider, result.model) == (f"Hello from {provider}.", provider, group)
    assert result.total_tokens == result.prompt_tokens + result.completion_tokens > 0
    expected = calculate_cost(result.deployment, result.prompt_tokens, result.completion_tokens)
    assert result.cost_usd == pytest.approx(expected)
    assert result.cost_usd > 0
    assert (result.used_fallback, len(result.attempts)) == (False, 1)
    assert result.latency_ms >= result.attempts[0].latency_ms > 0


async def test_a_stream_yields_text_and_then_has_a_result(make_router):
    router = make_router()
    stream = stream_ai_request(router, "gpt-4o-mini", messages(), user_id="u1")
    assert stream.result is None
    deltas = [delta async for delta in stream]
    assert len(deltas) > 1
    assert "".join(deltas) == stream.result.text == "Hello from openai."
    assert stream.result.total_tokens > 0
    assert_nothing_leaked(router)


async def test_a_stream_closed_early_is_charged_what_came(make_router):
    router = make_router()
    async with stream_ai_request(router, "gpt-4o-mini", messages()) as stream:
        async for _ in stream:
            break
    assert isinstance(stream.result, AIRequestResult)
    assert [attempt.outcome for attempt in stream.result.attempts] == ["cut"]
    (record,) = stream.result.attempts
    assert quota(router, "openai", "tpm")["settled"] == record.charged.tokens == 7 + 2  # the prompt, and "Hello "
    assert_nothing_leaked(router)


@pytest.mark.parametrize("kind", ["chat", "messages", "responses"])
async def test_a_stream_closed_before_its_first_chunk_is_settled(make_router, kind):
    router = make_router()
    if kind == "chat":
        stream = await router.acompletion("gpt-4o-mini", messages(), stream=True)
    elif kind == "messages":
        stream = await router.aanthropic_messages(
            model="claude-sonnet-4", messages=messages(), max_tokens=9, stream=True
        )
    else:
        stream = await router.aresponses(model="gpt-4o-mini", input="Hello", stream=True)
    await stream.aclose()
    await stream.aclose()
    assert_nothing_leaked(router)


@pytest.mark.parametrize("iterated", [True, False])
async def test_a_dropped_stream_settles_when_it_is_collected(make_router, iterated):
    router = make_router()
    stream = await router.acompletion("gpt-4o-mini", messages(), stream=True)
    if iterated:
        await anext(stream)
    del stream
    gc.collect()
    await until(lambda: router.guard.status()["providers"]["openai"]["in_flight"] == 0)
    assert_nothing_leaked(router)


async def test_the_callers_metadata_is_left_as_it_was(make_router):
    metadata = {"conversationId": "123", "hasRAG": True}
    await execute_ai_request(make_router(), "gpt-4o-mini", messages(), feature="wallie-chat", metadata=metadata)
    assert metadata == {"conversationId": "123", "hasRAG": True}


async def test_an_applications_own_call_goes_along_the_chain_under_the_same_guard(make_router):
    router = make_router(retry={"max_retries": 0})
    targets = []

    async def call(target):
        targets.append(target)
        if target.provider == "openai":
            raise ConnectionRefusedError("no server")
        return {"answer": 42, "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}

    result = await execute_ai_request(router, "gpt-4o-mini", execute=call, estimated_tokens=500)
    assert [target.provider for target in targets] == ["openai", "anthropic"]
    assert targets[0].model == "gpt-4o-mini"
    assert result.data == {"answer": 42, "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}}
    assert (result.used_fallback, result.total_tokens) == (True, 12)
    assert quota(router, "openai", "tpm")["settled"] == 0
    assert quota(router, "anthropic", "tpm")["settled"] == 12
    assert router.guard.status()["providers"]["openai"]["breaker"]["consecutive_failures"] == 1


async def test_a_router_call_inside_an_applications_own_call_is_a_separate_request(make_router):
    router = make_router()

    async def call(_target):
        return await router.acompletion("llama-3.1-8b", messages())

    result = await execute_ai_request(router, "gpt-4o-mini", execute=call)
    assert (result.provider, result.text) == ("openai", "Hello from groq.")
    assert quota(router, "groq", "rpm")["settled"] == quota(router, "openai", "rpm")["settled"] == 1
    assert_nothing_leaked(router)


@pytest.mark.parametrize("deadline", [0, -1])
async def test_a_deadline_that_has_passed_calls_no_provider(make_router, fleet, deadline):
    with pytest.raises(DeadlineExceeded):
        await execute_ai_request(make_router(), "gpt-4o-mini", messages(), deadline=deadline)
    assert fleet["openai"].counts().received == 0


async def test_the_synchronous_helper_refuses_to_block_an_event_loop(make_router):
    with pytest.raises(RuntimeError, match="await execute_ai_request instead"):
        execute_ai_request_sync(make_router(), "gpt-4o-mini", messages())


def test_the_synchronous_helper_needs_no_event_loop(make_router):
    router = make_router()
    result = execute_ai_request_sync(router, "gpt-4o-mini", messages(), feature="wallie-chat")
    assert result.text == "Hello from openai."
    assert_nothing_leaked(router)


async def test_messages_are_needed_unless_execute_is_given(make_router):
    with pytest.raises(TypeError, match="messages, or execute="):
        await execute_ai_request(make_router(), "gpt-4o-mini")


async def test_a_cache_hit_costs_nothing(make_router, fleet, monkeypatch):
    import litellm
    from litellm.caching.caching import Cache

    monkeypatch.setattr(litellm, "cache", Cache(type="local"))
    router = make_router(arguments={"cache_responses": True})
    for _ in range(3):
        await router.aembedding("text-embedding-3-small", input=["hello"])
        async for _ in await router.acompletion("gpt-4o-mini", messages(), stream=True):
            pass
    assert fleet["openai"].counts().received == 2
    assert quota(router, "openai", "rpm")["settled"] == 2
    assert quota(router, "openai", "rpm")["refunded"] == 4
    assert_nothing_leaked(router)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("plain", "plain"),
        ({"choices": [{"message": {"content": "chat"}}]}, "chat"),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "parts"}]}}]}, "parts"),
        ({"choices": [{"delta": {"content": "delta"}}]}, "delta"),
        ({"choices": [{"text": "legacy"}]}, "legacy"),
        ({"content": [{"type": "text", "text": "anthropic"}]}, "anthropic"),
        ({"output": [{"content": [{"type": "output_text", "text": "responses"}]}]}, "responses"),
        ({"choices": [{"message": {"content": None}}]}, ""),
        (None, ""),
        ({}, ""),
    ],
)
def test_extract_text_reads_every_wire_format(response, text):
    assert extract_text(response) == text


def test_the_cost_of_a_model_without_a_price_is_none_and_not_zero():
    assert calculate_cost("openai/no-such-model", 10, 10) is None
    assert calculate_cost("openai/gpt-4o-mini", 1_000_000, 0) == pytest.approx(0.15)
