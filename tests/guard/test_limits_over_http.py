"""The limits over real HTTP, seen from a caller, with time under the test's control."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from fake_clock import FakeClock
from support import assert_nothing_leaked, messages, quota, until

from wallie_litellm import RateLimited, RequestTooLarge, execute_ai_request


async def test_600_requests_at_500_rpm_are_served_500_at_once_and_the_rest_in_order(make_router, fleet):
    clock = FakeClock()
    router = make_router(clock=clock, providers={"openai": {"rpm": 500}})
    served = []

    async def ask(number):
        await router.acompletion("gpt-4o-mini", messages())
        served.append(number)

    tasks = [asyncio.create_task(ask(number)) for number in range(600)]
    await until(lambda: len(served) == 500)
    await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 100)
    for due in range(500, 600):
        clock.advance(60 / 500)
        await until(lambda due=due: len(served) == due + 1)
    await asyncio.gather(*tasks)
    assert list(range(500, 600)) == served[500:]
    assert set(range(500)) == set(served[:500])
    assert fleet["openai"].counts().by_status == {200: 600}
    assert_nothing_leaked(router)


async def test_a_request_waits_for_tokens_per_minute(make_router):
    clock = FakeClock()
    router = make_router(clock=clock, providers={"openai": {"tpm": 600}})
    asked = {"estimated_tokens": 400}
    await execute_ai_request(router, "gpt-4o-mini", messages(), **asked)  # 400 held, 10-odd used
    first, second = (
        asyncio.create_task(execute_ai_request(router, "gpt-4o-mini", messages(), **asked, execute=_hold))
        for _ in range(2)
    )
    await until(lambda: router.guard.status()["providers"]["openai"]["waiting"] == 1)
    clock.advance(25)
    await asyncio.gather(first, second)
    assert_nothing_leaked(router)


async def _hold(_target):
    return {"usage": {"prompt_tokens": 400, "completion_tokens": 0, "total_tokens": 400}}


async def test_a_used_up_daily_limit_falls_back_at_once(make_router, fleet):
    router = make_router(providers={"openai": {"rpd": 2}})
    results = [await execute_ai_request(router, "gpt-4o-mini", messages()) for _ in range(3)]
    assert [result.provider for result in results] == ["openai", "openai", "anthropic"]
    assert fleet["openai"].counts().received == 2


async def test_a_used_up_daily_limit_has_the_time_to_midnight_as_retry_after(make_router):
    clock = FakeClock()
    router = make_router(clock=clock, providers={"groq": {"rpd": 1}})
    await router.acompletion("llama-3.1-8b", messages())
    with pytest.raises(RateLimited, match="rpd") as caught:
        await router.acompletion("llama-3.1-8b", messages())
    assert 0 < caught.value.retry_after <= 86_400
    clock.advance(caught.value.retry_after)
    await router.acompletion("llama-3.1-8b", messages())


async def test_a_guessed_answer_length_never_refuses_a_request_that_fits(make_router):
    router = make_router(providers={"groq": {"tpm": 100}})  # less than the 150 that are estimated for an answer
    await router.acompletion("llama-3.1-8b", messages())
    assert quota(router, "groq", "tpm")["settled"] < 100


async def test_a_request_whose_max_tokens_alone_does_not_fit_takes_the_whole_limit_and_goes_out(make_router):
    router = make_router(providers={"groq": {"tpm": 100_000}})
    await router.acompletion("llama-3.1-8b", messages(), max_tokens=131_072)
    assert quota(router, "groq", "tpm")["reserved"] == 100_000


async def test_a_prompt_larger_than_the_whole_limit_is_refused_at_once_as_too_large(make_router, fleet):
    router = make_router(providers={"groq": {"tpm": 100_000}})
    with pytest.raises(RequestTooLarge, match=r"larger than groq's whole tpm limit of 100000") as caught:
        await router.acompletion("llama-3.1-8b", messages("x" * 400_004))
    assert inf == caught.value.retry_after
    assert fleet["groq"].counts().received == 0
    assert_nothing_leaked(router)


async def test_a_request_too_large_for_one_member_goes_to_the_next(make_router):
    router = make_router(providers={"openai": {"tpm": 1000}})
    result = await execute_ai_request(router, "gpt-4o-mini", messages("x" * 8000))
    assert result.provider == "anthropic"


async def test_usage_replaces_the_estimate(make_router):
    router = make_router()
    result = await execute_ai_request(router, "gpt-4o-mini", messages(), max_tokens=1000)
    used = quota(router, "openai", "tpm")
    assert used["reserved"] > 1000
    assert used["settled"] == result.total_tokens < 50


@pytest.mark.parametrize(
    ("fault", "requests", "tokens"),
    [
        (lambda provider: provider.fail(400), 1, False),
        (lambda provider: provider.fail(500), 1, False),
        (lambda provider: provider.rate_limit(120), 1, False),
        (lambda provider: provider.refuse(), 0, False),
        (lambda provider: provider.hang(), 1, True),
    ],
    ids=["400", "500", "429", "refused", "timeout"],
)
async def test_a_failed_attempt_keeps_only_what_the_provider_counts(make_router, fleet, fault, requests, tokens):
    router = make_router(retry={"max_retries": 0})
    fault(fleet["groq"])
    with pytest.raises(Exception):  # noqa: B017, PT011 - which error is another test's business
        await router.acompletion("llama-3.1-8b", messages(), timeout=0.5)
    assert requests == quota(router, "groq", "rpm")["settled"]
    assert tokens == (quota(router, "groq", "tpm")["settled"] > 0)
    assert_nothing_leaked(router)


async def test_two_groups_of_one_provider_share_its_limit(make_router, fleet):
    router = make_router(providers={"openai": {"rpm": 1}}, admission={"max_wait": "1s"})
    await router.acompletion("gpt-4o-mini", messages())
    result = await execute_ai_request(router, "gpt-4o", messages())
    assert result.provider == "anthropic"


async def test_a_named_provider_has_limits_of_its_own(make_router, fleet):
    from support import shipped_config

    data = shipped_config()
    for deployment in data["model_list"]:
        if deployment["model_name"] == "gpt-4o-mini":
            deployment["model_info"] = {"wallie_provider": "openai-eu"}
    pointed = [
        {
            **deployment,
            "litellm_params": {
                **deployment["litellm_params"],
                "api_key": "sk-fake",
                "api_base": fleet["openai"].api_base,
            },
        }
        for deployment in data["model_list"]
        if deployment["litellm_params"]["model"].startswith("openai/")
    ]
    router = make_router(
        data=data,
        arguments={"model_list": pointed, "fallbacks": []},
        providers={"openai-eu": {"rpm": 1}},
        admission={"max_wait": "1s"},
    )
    await router.acompletion("gpt-4o-mini", messages())
    with pytest.raises(RateLimited, match="openai-eu"):
        await router.acompletion("gpt-4o-mini", messages())
    await router.acompletion("gpt-4o", messages())


async def test_a_group_of_two_providers_uses_the_one_that_can_serve(make_router, fleet):
    from support import shipped_config

    data = shipped_config()
    twin = next(dict(entry) for entry in data["model_list"] if entry["model_name"] == "deepseek-chat")
    data["model_list"].append({**twin, "model_name": "gpt-4o-mini"})
    router = make_router(data=data, providers={"openai": {"rpm": 1}, "deepseek": {"rpm": 100}})
    results = [await execute_ai_request(router, "gpt-4o-mini", messages()) for _ in range(10)]
    assert {"openai", "deepseek"} >= {result.provider for result in results}
    assert not any(result.used_fallback or result.waited_ms > 50 for result in results)
    assert fleet["openai"].counts().received <= 1
