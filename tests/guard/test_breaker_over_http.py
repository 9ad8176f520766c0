"""The breaker over real HTTP, seen from a caller."""

from __future__ import annotations

import asyncio

import pytest
from fake_clock import FakeClock
from support import assert_nothing_leaked, messages, until

from wallie_litellm import CircuitOpen, execute_ai_request

NO_RETRIES = {"max_retries": 0}


def breaker(router, provider="openai"):
    return router.guard.status()["providers"][provider]["breaker"]


async def trip(router, group="gpt-4o-mini", times=5):
    for _ in range(times):
        await asyncio.gather(router.acompletion(group, messages(), timeout=0.5), return_exceptions=True)


async def test_five_consecutive_errors_open_the_breaker_and_the_next_request_falls_back(make_router, fleet):
    router = make_router(retry=NO_RETRIES)
    fleet["openai"].fail(500)
    await trip(router, times=4)
    assert breaker(router)["state"] == "closed"
    await trip(router, times=1)
    assert breaker(router)["state"] == "open"
    result = await execute_ai_request(router, "gpt-4o-mini", messages())
    assert (result.provider, result.model, result.used_fallback) == ("anthropic", "claude-sonnet-4", True)
    assert [attempt.provider for attempt in result.attempts] == ["anthropic"]
    assert fleet["openai"].counts().received == 5
    assert router.guard.status()["providers"]["openai"]["health"] == "down"


async def test_of_fifty_requests_after_open_for_one_probes_and_its_success_closes_the_breaker(make_router, fleet):
    clock = FakeClock()
    router = make_router(clock=clock, retry=NO_RETRIES)
    fleet["openai"].fail(500)
    await trip(router)
    fleet["openai"].heal()
    fleet["openai"].slow(0.3)
    fleet["openai"].reset()
    clock.advance(10)
    results = await asyncio.gather(*(execute_ai_request(router, "gpt-4o-mini", messages()) for _ in range(50)))
    assert [result.provider for result in results].count("openai") == 1
    assert fleet["openai"].counts().received == 1
    assert breaker(router)["state"] == "closed"
    assert_nothing_leaked(router)


async def test_a_failed_probe_doubles_the_time_that_the_breaker_stays_open(make_router, fleet):
    clock = FakeClock()
    router = make_router(clock=clock, retry=NO_RETRIES)
    fleet["openai"].fail(500)
    await trip(router)
    for expected in (20, 40, 60, 60):
        clock.advance(breaker(router)["next_probe_in"])
        await trip(router, times=1)
        assert breaker(router)["state"] == "open"
        assert breaker(router)["next_probe_in"] == pytest.approx(expected)


async def test_a_group_with_a_single_deployment_and_no_chain_is_protected_too(make_router, fleet):
    router = make_router(retry=NO_RETRIES)
    fleet["groq"].fail(500)
    await trip(router, "llama-3.1-8b")
    with pytest.raises(CircuitOpen, match="groq's circuit for openai/gpt-oss-20b is open") as caught:
        await router.acompletion("llama-3.1-8b", messages())
    assert caught.value.status_code == 503
    assert 0 < caught.value.retry_after <= 10
    assert fleet["groq"].counts().received == 5


@pytest.mark.parametrize("fault", ["refuse", "hang", "malformed", "quota_exhausted"])
async def test_dead_connections_timeouts_and_exhausted_accounts_count_as_failures(make_router, fleet, fault):
    router = make_router(retry=NO_RETRIES)
    getattr(fleet["groq"], fault)()
    await trip(router, "llama-3.1-8b")
    assert breaker(router, "groq")["state"] == "open"


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_account_counts_as_a_failure(make_router, fleet, status):
    router = make_router(retry=NO_RETRIES)
    fleet["groq"].fail(status)
    await trip(router, "llama-3.1-8b")
    assert breaker(router, "groq")["state"] == "open"


@pytest.mark.parametrize("fault", ["content_policy", "context_window"])
async def test_a_refused_prompt_does_not_count_as_a_failure(make_router, fleet, fault):
    router = make_router(retry=NO_RETRIES)
    getattr(fleet["openai"], fault)()
    await trip(router, times=7)
    assert (breaker(router)["state"], breaker(router)["consecutive_failures"]) == ("closed", 0)


async def test_a_model_that_is_not_there_is_not_called_any_more(make_router, fleet):
    router = make_router(retry=NO_RETRIES)
    fleet["openai"].fail(404)
    await trip(router, times=7)
    assert fleet["openai"].counts().received == 5
    assert breaker(router)["state"] == "open"


@pytest.mark.parametrize("status", [400, 422, 429])
async def test_the_callers_own_errors_do_not_count_as_failures(make_router, fleet, status):
    router = make_router(retry=NO_RETRIES, admission={"max_wait": "1ms"})
    fleet["openai"].fail(status)
    await trip(router, times=7)
    assert (breaker(router)["state"], breaker(router)["consecutive_failures"]) == ("closed", 0)


async def test_a_cancelled_probe_does_not_count_and_frees_the_probe(make_router, fleet):
    clock = FakeClock()
    router = make_router(clock=clock, retry=NO_RETRIES)
    fleet["openai"].fail(500)
    await trip(router)
    fleet["openai"].heal()
    fleet["openai"].hang(times=1)
    clock.advance(10)
    probe = asyncio.create_task(router.acompletion("gpt-4o-mini", messages()))
    await until(lambda: fleet["openai"].counts().in_flight == 1)
    assert breaker(router)["state"] == "half_open"
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert breaker(router)["state"] == "half_open"
    result = await execute_ai_request(router, "gpt-4o-mini", messages())
    assert result.provider == "openai"
    assert breaker(router)["state"] == "closed"


async def test_waiting_requests_fall_back_when_the_breaker_opens(make_router, fleet):
    router = make_router(retry=NO_RETRIES, providers={"openai": {"rpm": 5}})
    fleet["openai"].fail(500)
    fleet["openai"].slow(0.2)
    results = await asyncio.gather(*(execute_ai_request(router, "gpt-4o-mini", messages()) for _ in range(8)))
    assert {"anthropic"} == {result.provider for result in results}
    assert fleet["openai"].counts().received == 5
    assert_nothing_leaked(router)
