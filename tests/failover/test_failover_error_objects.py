"""An error inside a 200, and a stream without its end, on every wire: the provider's failure, and never a success."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from failover_rows import CLEAN, MESSAGES, TEXT, fast_defaults
from recording import RecordingBus

from wallie_litellm.events import Ended
from wallie_litellm.simulator import SimulatedProvider

# By LiteLLM's prefix, a model that vendor may serve and the simulated provider that speaks its format.
CHAT = {
    "openai": ("openai/gpt-4o-mini", "openai"),
    "groq": ("groq/llama-3.1-8b-instant", "groq"),
    "deepseek": ("deepseek/deepseek-chat", "deepseek"),
    "hosted_vllm": ("hosted_vllm/qwen", "openai"),
    "openrouter": ("openrouter/qwen/qwen3", "openai"),
    "anthropic": ("anthropic/claude-sonnet-4-5", "anthropic"),
}
STATUS = {"anthropic": 529}  # overloaded_error
LITELLMS_STATUS = {"anthropic": 500}  # LiteLLM's error for a 529 in a stream of chat says no more
AFTER = {"before content": None, "after the role": 0, "after text": 4}
REQUESTS = 5  # failures that open a circuit


@pytest.fixture
def asked(open_router, fleet) -> Callable[..., Any]:
    """A router on a group of one deployment, without retries, and what it records."""

    def make(prefix: str, fallback: bool = False) -> tuple[Any, SimulatedProvider, RecordingBus]:
        model, server = CHAT[prefix]
        where = {"api_base": fleet[server].api_base, "api_key": "sk-simulated"}
        backup = {"api_base": fleet["gemini"].api_base, "api_key": "sk-simulated"}
        bus, chains = RecordingBus(), [{"faulty": ["backup"]}] if fallback else []
        router = open_router(
            {
                "model_list": [
                    {"model_name": "faulty", "litellm_params": {"model": model, **where}},
                    {"model_name": "backup", "litellm_params": {"model": "gemini/gemini-2.5-flash", **backup}},
                ],
                "router_settings": {
                    "disable_cooldowns": True,
                    "fallbacks": chains,
                },
                "wallie": fast_defaults({"retry": {"max_retries": 0}}),
            },
            bus=bus,
        )
        return router, fleet[server], bus

    return make


async def chat(router: Any) -> str:
    answer = await router.acompletion("faulty", MESSAGES, stream=True)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in answer if chunk.choices])


async def messages(router: Any) -> str:
    """The text of Anthropic's format; an ``error`` event in it is an error for its reader."""
    answer = await router.aanthropic_messages(model="faulty", messages=MESSAGES, max_tokens=50, stream=True)
    return "".join([event if isinstance(event, str) else event.decode() async for event in answer])


def statuses(prefix: str) -> tuple[int | None, ...]:
    """What the caller's error and the record may say of the fault."""
    return STATUS.get(prefix, 503), LITELLMS_STATUS.get(prefix)


def is_open(router: Any) -> bool:
    """Whether some circuit is open; only the faulty provider's can be."""
    return "open" in {provider["breaker"]["state"] for provider in router.guard.status()["providers"].values()}


@pytest.mark.parametrize("place", AFTER)
@pytest.mark.parametrize("prefix", CHAT)
async def test_an_error_inside_a_200_is_the_providers_failure(asked, prefix, place):
    router, provider, bus = asked(prefix)
    status = STATUS.get(prefix, 503)
    provider.error_in_200(status, after_chunks=AFTER[place])
    for _ in range(REQUESTS):
        with pytest.raises(CLEAN) as caught:
            await chat(router)
        assert caught.value.status_code in statuses(prefix)
    for ended in bus.of(Ended):
        assert (ended.success, ended.by_caller) == (False, False)
        assert ended.status_code in statuses(prefix)
    assert len(bus.of(Ended)) == REQUESTS
    assert is_open(router)


@pytest.mark.parametrize("place", ["before content", "after the role"])
@pytest.mark.parametrize("prefix", CHAT)
async def test_an_error_inside_a_200_before_content_goes_on_along_the_chain(asked, fleet, prefix, place):
    router, provider, bus = asked(prefix, fallback=True)
    status = STATUS.get(prefix, 503)
    provider.error_in_200(status, after_chunks=AFTER[place])
    assert await asyncio.gather(*(chat(router) for _ in range(2))) == [TEXT] * 2
    assert fleet["gemini"].counts().received == 2
    for ended in bus.of(Ended):
        assert (ended.success, ended.used_fallback) == (True, True)
        first, last = ended.settled
        assert (first.success, last.success) == (False, True)
        assert first.status_code in statuses(prefix)
        assert first.error == f"HTTP {first.status_code}"


@pytest.mark.parametrize("place", ["before content", "after text"])
async def test_anthropics_error_event_on_its_own_route_is_a_failure(asked, place):
    router, provider, bus = asked("anthropic")
    provider.error_in_200(529, after_chunks=AFTER[place])
    for _ in range(REQUESTS):
        (outcome,) = await asyncio.gather(messages(router), return_exceptions=True)
        assert isinstance(outcome, CLEAN) or "event: error" in outcome
        assert "message_stop" not in str(outcome)
    assert [(ended.success, ended.status_code) for ended in bus.of(Ended)] == [(False, 529)] * REQUESTS
    assert is_open(router)


async def test_anthropics_error_event_before_content_goes_on_along_the_chain(asked, fleet):
    router, provider, bus = asked("anthropic", fallback=True)
    provider.error_in_200(529)
    text = await messages(router)
    assert "message_stop" in text
    assert "event: error" not in text
    assert fleet["gemini"].counts().received == 1
    (ended,) = bus.of(Ended)
    assert (ended.success, ended.used_fallback) == (True, True)


@pytest.mark.parametrize("way", ["truncate_stream", "cut_stream"])
async def test_anthropics_own_route_without_an_end_is_cut(asked, way):
    router, provider, bus = asked("anthropic")
    getattr(provider, way)(4)
    for _ in range(REQUESTS):
        with pytest.raises(CLEAN):
            await messages(router)
    assert [ended.success for ended in bus.of(Ended)] == [False] * REQUESTS
    assert is_open(router)


async def test_a_local_server_that_never_says_finished_is_well(asked):
    router, provider, bus = asked("hosted_vllm")
    provider.omit_finish()
    assert [await chat(router) for _ in range(REQUESTS)] == [TEXT] * REQUESTS
    assert [ended.success for ended in bus.of(Ended)] == [True] * REQUESTS
    assert not is_open(router)
