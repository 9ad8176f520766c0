"""A simulated account: limits of its models beside its own, slices of a minute, other tiers, and a second client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import litellm
import pytest
from simulator_support import PROMPT, Clock

from wallie_litellm.core.limit_headers import VOCABULARIES, ResetFormat
from wallie_litellm.simulator import SimulatedProvider
from wallie_litellm.simulator.buckets import Meter
from wallie_litellm.simulator.limit_header_values import limit_headers
from wallie_litellm.simulator.limits import LIMIT_NAMES, Charge, SimulatedLimits
from wallie_litellm.simulator.settings import WIRES

ONE = Charge(1, 0)
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def admitted(limits: SimulatedLimits, tries: int, model: str = "", charge: Charge = ONE) -> int:
    return sum(limits.admit(charge, model).admitted for _ in range(tries))


def test_models_of_a_pattern_share_its_limit_and_the_first_pattern_holds() -> None:
    models = {"gpt-4o-mini*": {"rpm": 3}, "gpt-4o*": {"rpm": 2}, "off": {"rpm": 0}}
    limits = SimulatedLimits({"rpm": 100}, models, slack=0.0, clock=Clock())
    assert admitted(limits, 5, "gpt-4o-mini") == 3
    assert admitted(limits, 1, "gpt-4o") + admitted(limits, 5, "gpt-4o-2024-08-06") == 2
    assert admitted(limits, 5, "o3") == 5
    refused = limits.admit(ONE, "gpt-4o")
    assert (refused.scope, refused.refused_by, refused.meter.limit) == ("gpt-4o*", "rpm", 2)
    assert limits.admit(ONE, "off").retry_after == float("inf")


def test_a_request_takes_from_the_account_and_its_model_or_from_neither() -> None:
    limits = SimulatedLimits({"rpm": 3}, {"a": {"rpm": 2}}, slack=0.0, clock=Clock())
    assert admitted(limits, 5, "a") == 2
    assert limits.meters()["rpm"].remaining == 1
    assert limits.meters("a")["rpm"].remaining == 0
    assert admitted(limits, 5, "b") == 1
    assert limits.admit(ONE, "b").scope == ""


@pytest.mark.parametrize(
    ("name", "charge", "fit"),
    [
        ("rpm", Charge(50, 50), 100), ("tpm", Charge(5, 5), 10), ("itpm", Charge(10, 90), 10),
        ("otpm", Charge(90, 10), 10), ("rpd", Charge(50, 50), 100), ("tpd", Charge(5, 5), 10),
        ("concurrency", Charge(50, 50), 100),
    ],
)  # fmt: skip
def test_each_limit_counts_what_its_name_says(name: Any, charge: Charge, fit: int) -> None:
    limits = SimulatedLimits({name: 100}, slack=0.0, clock=Clock(), wall=Clock())
    assert admitted(limits, fit + 5, charge=charge) == fit
    assert limits.admit(charge).refused_by == name


def test_an_ended_call_frees_its_place_and_what_it_did_not_use() -> None:
    limits = SimulatedLimits({"concurrency": 1, "tpm": 100}, slack=0.0, clock=Clock())
    assert limits.admit(Charge(10, 80)).admitted
    assert limits.admit(Charge(1, 0)).refused_by == "concurrency"
    limits.end(Charge(10, 80), Charge(10, 20))
    assert limits.meters()["tpm"].remaining == 70
    assert limits.meters()["concurrency"].remaining == 1


def test_requests_per_minute_are_enforced_in_slices() -> None:
    clock = Clock()
    limits = SimulatedLimits({"rpm": 60, "tpm": 1000}, slack=0.0, slice_seconds=1.0, clock=clock)
    assert admitted(limits, 5) == 1
    refused = limits.admit(ONE)
    assert (refused.refused_by, refused.retry_after) == ("rpm", pytest.approx(1.0))
    assert (refused.meter.remaining, refused.meter.slice_remaining) == (59, 0)
    clock.now += 10
    assert admitted(limits, 5) == 1


def test_what_is_used_of_the_slack_is_over_the_limit() -> None:
    limits = SimulatedLimits({"rpm": 60}, slack=2.0, slice_seconds=5.0, clock=Clock())
    assert admitted(limits, 5) == 5
    assert limits.meters()["rpm"].over == 0
    assert admitted(limits, 5) == 2
    assert limits.meters()["rpm"].over == 2
    limits.reset()
    assert limits.meters()["rpm"].over == 0


def test_another_tier_holds_from_the_next_request() -> None:
    clock = Clock()
    limits = SimulatedLimits({"rpm": 600}, slack=0.0, clock=clock)
    assert admitted(limits, 10) == 10
    limits.change({"rpm": 60, "itpm": 100})
    assert admitted(limits, 100) == 60
    limits.change({"rpm": 600, "itpm": None})
    clock.now += 1
    assert admitted(limits, 100) == 10
    limits.change({"rpm": 1}, "gpt-4o*")
    clock.now += 60
    assert admitted(limits, 5, "gpt-4o") == 1


def test_a_second_client_takes_its_share_first() -> None:
    clock = Clock()
    limits = SimulatedLimits({"rpm": 60, "tpm": 6000}, {"a": {"rpm": 60}}, slack=0.0, clock=clock)
    assert admitted(limits, 100) == 60
    limits.share(Charge(1500, 1500, 30), "a")
    clock.now += 20
    assert admitted(limits, 100) == 10
    assert limits.meters("a")["rpm"].remaining == 60  # both refill as fast as it takes, and other models took the rest
    limits.share(Charge(0, 0, 120), "a")
    clock.now += 60
    assert admitted(limits, 100) == 0


# Every header, its number and its reset, for limits of which a tenth is used and which are whole again in 90.25 s.
RESETS = {
    ResetFormat.DURATION: "1m30.25s", ResetFormat.SECONDS: "91", ResetFormat.RFC_3339: "2026-11-28T12:01:31Z",
    ResetFormat.UNIX_SECONDS: "1795867291", ResetFormat.UNIX_MILLISECONDS: "1795867291000",
}  # fmt: skip


@pytest.mark.parametrize("vendor", sorted({*VOCABULARIES, "gemini", "deepseek"}))
def test_each_vendor_tells_its_limits_in_its_own_vocabulary(vendor: str) -> None:
    headers = limit_headers(vendor, {name: Meter(6000, 5400, 90.25) for name in LIMIT_NAMES}, NOON)
    names = VOCABULARIES[vendor].headers if vendor in VOCABULARIES else ()
    first = {one.dimension: one for one in reversed(names)}
    assert set(headers) == {name for one in first.values() for name in (one.limit, one.remaining, one.reset) if name}
    for one in first.values():
        parts = 60 if one.window == 1 else 1  # Together tells per second
        assert headers[one.limit] == str(6000 // parts)
        assert headers[one.remaining] == ("5000" if one.rounded_to == 1000 else str(5400 // parts))
        if one.reset:
            assert headers[one.reset] == ("90.25" if vendor == "cerebras" else RESETS[one.reset_format])


@pytest.fixture(scope="module")
def upstreams() -> Iterator[dict[str, SimulatedProvider]]:
    started = {
        vendor: SimulatedProvider(vendor, rpm=3, models={"m": {"rpm": 1, "itpm": 5000, "otpm": 50}}, slack=0.0).start()
        for vendor in WIRES
    }
    yield started
    for provider in started.values():
        provider.stop()


def request_of(vendor: str) -> tuple[str, dict[str, Any]]:
    chat = {"model": "m", "messages": PROMPT, "max_tokens": 10}
    if vendor == "anthropic":
        return "/v1/messages", chat
    if vendor == "gemini":
        return "/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "hello"}]}]}
    return ("/openai/deployments/m/chat/completions" if vendor == "azure" else "/v1/chat/completions"), chat


BODIES = {
    "openai": r"Rate limit reached for m .* requests per min \(RPM\): Limit 1, Used 1, Requested 1\. Please try",
    "groq": r"Rate limit reached for model `m` .* service tier `on_demand` on requests per min",
    "anthropic": r"rate limit for your organization \(simulated\) of 1 requests per minute",
    "gemini": r"GenerateRequestsPerMinutePerProjectPerModel.*\"quotaValue\": \"1\".*RetryInfo",
    "deepseek": "Rate Limit Reached",
    "azure": r"\"code\": \"429\".*exceeded call rate limit .* Please retry after \d+ seconds",
    "mistral": r"^{\"object\": \"error\", \"message\": \"Rate limit exceeded\".*\"1300\"",
    "cerebras": r"Requests per minute limit exceeded .*request_quota_exceeded",
    "together_ai": r"rate limit specific to this model m\. .* 1 queries per minute.*model_rate_limit",
}


@pytest.mark.parametrize("vendor", sorted(WIRES))
async def test_the_models_limit_shows_in_the_answer_the_stream_and_the_429(
    upstreams: dict[str, SimulatedProvider], vendor: str
) -> None:
    provider, (path, body) = upstreams[vendor], request_of(vendor)
    provider.reset()
    async with httpx.AsyncClient(base_url=provider.base_url, trust_env=False) as client:
        answer, refused = await client.post(path, json=body), await client.post(path, json=body)
        provider.reset()
        streamed = await client.post(
            path.replace("generateContent", "streamGenerateContent"), json={**body, "stream": True}
        )
    assert [one.status_code for one in (answer, streamed, refused)] == [200, 200, 429]
    names = VOCABULARIES[vendor].headers if vendor in VOCABULARIES else ()
    for one in names:
        if one.dimension == "rpm" and vendor != "together_ai":  # whose limit per second is below 1 here
            for response, remaining in ((answer, "0"), (streamed, "0"), (refused, "0")):
                assert (response.headers[one.limit], response.headers[one.remaining]) == ("1", remaining)
    assert re.search(BODIES[vendor], refused.text)
    assert ("retry-after" in refused.headers) is (vendor in ("openai", "groq", "anthropic", "azure", "cerebras"))
    assert ("retry-after-ms" in refused.headers) is (vendor in ("openai", "azure"))
    if vendor == "groq":
        assert answer.json()["service_tier"] == "on_demand"


async def test_azure_tells_nothing_of_its_limits_on_the_responses_api(upstreams: dict[str, SimulatedProvider]) -> None:
    upstreams["azure"].reset()
    async with httpx.AsyncClient(base_url=upstreams["azure"].base_url, trust_env=False) as client:
        answer = await client.post("/openai/responses", json={"model": "m", "input": "hello"})
    told = {name: value for name, value in answer.headers.items() if name.startswith("x-ratelimit")}
    assert told == {
        "x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "0"
    }  # fmt: skip


async def test_a_refused_request_for_too_much_output_says_what_it_asked(
    upstreams: dict[str, SimulatedProvider],
) -> None:
    with SimulatedProvider("openai", tpm=30_000) as provider:
        async with httpx.AsyncClient(base_url=provider.base_url, trust_env=False) as client:
            body = {"model": "m", "messages": PROMPT, "max_tokens": 38_990}
            refused = await client.post("/v1/chat/completions", json=body)
    assert (
        "on tokens per min (TPM): Limit 30000, Requested 39000. The input or output"
        in refused.json()["error"]["message"]
    )
    assert "retry-after" not in refused.headers


CACHED = {
    "openai": ("openai/m", 100),
    "anthropic": ("anthropic/m", 40),
    "gemini": ("gemini/m", 100),
    "groq": ("groq/m", 40),
    "deepseek": ("deepseek/m", 100),
}


@pytest.mark.parametrize("vendor", CACHED)
async def test_cached_tokens_are_reported_and_count_as_the_vendor_has_it(vendor: str) -> None:
    model, counted = CACHED[vendor]
    written = 10 if vendor == "anthropic" else 0
    settings = {"cached_tokens": 60, "cache_write_tokens": written, "completion_tokens": 1, "tpd": 6000}
    with SimulatedProvider(vendor, **settings) as provider:
        answer = await litellm.acompletion(
            model, [{"role": "user", "content": "x" * 400}], api_base=provider.api_base, api_key="sk-test"
        )
        remaining = provider.limits()["tpd"].remaining
    assert answer.usage.prompt_tokens == 100
    assert answer.usage.prompt_tokens_details.cached_tokens == 60
    assert (answer.usage.get("cache_creation_input_tokens") or 0) == written
    assert remaining == 6000 - counted - (0 if vendor == "gemini" else 1)  # Gemini's limits count no output


async def test_limits_and_a_second_client_are_set_from_outside_while_it_runs() -> None:
    with SimulatedProvider("openai", in_process=False, rpm=60, models={"m*": {"rpm": 10}}) as provider:
        assert provider.limits("m1")["rpm"].limit == 10
        provider.change_limits(rpm=120, tpm=1000)
        provider.change_limits("m*", rpm=20)
        assert (provider.limits()["rpm"].limit, provider.limits("m1")["rpm"].limit) == (120, 20)
        provider.use_elsewhere(requests=6000)
        for _ in range(500):
            if provider.limits()["rpm"].remaining < 110:
                break
            await asyncio.sleep(0.01)
        assert provider.limits()["rpm"].remaining < 110
        with pytest.raises(RuntimeError, match="no limit 'rps'"):
            provider.change_limits(rps=1)
        assert provider.counts().by_limit == {}


@pytest.mark.parametrize("vendor", ["azure", "mistral", "cerebras", "together_ai"])
async def test_litellm_reads_the_answers_and_streams_of_other_vendors_with_openais_format(
    upstreams: dict[str, SimulatedProvider], vendor: str
) -> None:
    provider = upstreams[vendor]
    provider.reset()
    call = {"model": f"{vendor}/other", "messages": PROMPT, "api_base": provider.api_base, "api_key": "sk-test"}
    if vendor == "azure":
        call["api_version"] = "2024-10-21"
    answer = await litellm.acompletion(**call, max_retries=0)
    stream = await litellm.acompletion(**call, max_retries=0, stream=True, stream_options={"include_usage": True})
    usages = [chunk.usage async for chunk in stream if getattr(chunk, "usage", None)]
    assert (answer.usage.prompt_tokens, usages[-1].prompt_tokens) == (10, 10)
    assert provider.counts().by_model == {"other": 2}
