"""Chains: their order, and the error where no member can serve."""

from __future__ import annotations

import litellm
import pytest
from support import messages

from wallie_litellm import ChainExhausted, execute_ai_request, stream_ai_request

CHAINS = {
    "gpt-4o": ["openai", "anthropic", "gemini", "groq"],
    "gpt-4o-mini": ["openai", "anthropic", "gemini", "groq"],
    "claude-opus-4": ["anthropic", "openai", "gemini"],
}


@pytest.mark.parametrize("group", CHAINS)
@pytest.mark.parametrize("down", [1, 2])
async def test_the_chain_goes_in_the_order_of_the_config(make_router, group, down):
    router = make_router()
    for provider in CHAINS[group][:down]:
        router.guard.open_circuit(provider)
    result = await execute_ai_request(router, group, messages())
    assert result.provider == CHAINS[group][down]
    assert len(result.attempts) == 1


@pytest.mark.parametrize("group", CHAINS)
async def test_failing_members_are_tried_in_order_once_each(make_router, fleet, group):
    router = make_router(retry={"max_retries": 0})
    for provider in CHAINS[group][:-1]:
        fleet[provider].fail(500)
    result = await execute_ai_request(router, group, messages())
    assert CHAINS[group] == [attempt.provider for attempt in result.attempts]


async def test_when_all_members_are_down_one_error_names_each_and_the_soonest_retry(make_router, turns):
    router = make_router()
    for provider in CHAINS["gpt-4o"]:
        router.guard.open_circuit(provider)
    started = turns.now()
    with pytest.raises(ChainExhausted) as caught:
        await router.acompletion("gpt-4o", messages())
    assert turns.now() - started < 1  # the Router's own retries would sleep for seconds
    assert CHAINS["gpt-4o"] == [failure.provider for failure in caught.value.failures]
    assert all(f"{provider}'s circuit is open" in str(caught.value) for provider in CHAINS["gpt-4o"])
    assert (caught.value.status_code, caught.value.retry_after) == (503, 10)


async def test_a_chain_that_only_limits_refuse_answers_429(make_router):
    limits = {name: {"rpm": 1} for name in CHAINS["gpt-4o"]}
    router = make_router(providers={**limits, "groq": {"rpm": 2}}, admission={"max_wait": "100ms"})
    for _ in range(5):
        await router.acompletion("gpt-4o", messages())
    with pytest.raises(ChainExhausted) as caught:
        await router.acompletion("gpt-4o", messages())
    assert caught.value.status_code == 429
    assert caught.value.retry_after == pytest.approx(30, abs=2)


async def test_the_callers_own_error_is_passed_on_as_it_is(make_router, fleet):
    router = make_router()
    for provider in CHAINS["gpt-4o"]:
        fleet[provider].fail(400)
    with pytest.raises(litellm.BadRequestError):
        await router.acompletion("gpt-4o", messages())


async def test_an_error_of_a_group_without_a_chain_is_the_providers_own(make_router, fleet):
    router = make_router(retry={"max_retries": 0})
    fleet["groq"].fail(500)
    with pytest.raises(litellm.InternalServerError):
        await router.acompletion("llama-3.1-8b", messages())


async def test_a_stream_that_breaks_before_its_first_chunk_falls_back(make_router, fleet):
    router = make_router(retry={"max_retries": 0})
    fleet["openai"].cut_stream(0, times=1)
    fleet["anthropic"].cut_stream(0, times=1)
    stream = stream_ai_request(router, "gpt-4o-mini", messages())
    assert "".join([delta async for delta in stream]) == "Hello from gemini."
    assert [attempt.provider for attempt in stream.result.attempts] == ["openai", "anthropic", "gemini"]


async def test_next_fallback_names_the_first_member_that_can_serve(make_router):
    guard = make_router().guard
    assert guard.next_fallback("gpt-4o-mini") == "claude-sonnet-4"
    assert guard.next_fallback("gpt-4o-mini", exclude=["claude-sonnet-4"]) == "gemini-2.0-flash"
    guard.open_circuit("gemini")
    assert guard.next_fallback("gpt-4o-mini", exclude=["anthropic"]) == "llama-3.1-8b"
    assert guard.next_fallback("llama-3.1-8b") is None
