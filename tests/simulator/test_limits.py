"""A provider enforces its own limits: at the right count, with its vendor's headers and bodies."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import httpx
import litellm
import pytest
from simulator_support import MODELS, PROMPT, Clock

from wallie_litellm.simulator import SimulatedProvider
from wallie_litellm.simulator.gemini_wire import GeminiWire
from wallie_litellm.simulator.limit_header_values import duration
from wallie_litellm.simulator.limits import Charge, SimulatedLimits


@contextmanager
def provider(name: str, **limits: Any) -> Iterator[SimulatedProvider]:
    with SimulatedProvider(name, **{"slack": 0.0, **limits}) as started:
        yield started


async def ask(provider: SimulatedProvider, **more: Any) -> Any:
    arguments = {"model": MODELS[provider.name], "messages": PROMPT, "max_retries": 0, "num_retries": 0}
    where = {"api_base": provider.api_base, "api_key": "sk-test"}
    return await litellm.acompletion(**{**arguments, **where, **more})


async def refusal(provider: SimulatedProvider) -> litellm.RateLimitError:
    with pytest.raises(litellm.RateLimitError) as caught:
        await ask(provider)
    return caught.value


def headers_of(error: litellm.RateLimitError) -> dict[str, str]:
    return dict(error.litellm_response_headers)


@pytest.mark.parametrize("name", list(MODELS))
async def test_requests_over_the_minutes_limit_get_429(name: str) -> None:
    with provider(name, rpm=3) as limited:
        for _ in range(3):
            await ask(limited)
        await refusal(limited)
        counts = limited.counts()
    assert (counts.received, counts.succeeded, counts.rejected_429) == (4, 3, 1)
    assert len(counts.arrivals) == 4
    assert list(counts.arrivals) == sorted(counts.arrivals)


@pytest.mark.parametrize("name", list(MODELS))
async def test_tokens_over_the_minutes_limit_get_429(name: str) -> None:
    # 10 tokens of prompt and 20 of completion for each request; Gemini counts the prompt alone.
    with provider(name, tpm=20 if name == "gemini" else 60, completion_tokens=20) as limited:
        assert (await ask(limited)).usage.total_tokens == 30
        await ask(limited)
        await refusal(limited)


async def test_requests_over_the_days_limit_get_429() -> None:
    with provider("openai", rpd=2, rpm=1000) as limited:
        await ask(limited)
        await ask(limited)
        error = await refusal(limited)
    assert "requests per day (RPD): Limit 2, Used 2, Requested 1" in str(error)


async def test_an_error_gives_its_tokens_back_but_stays_a_request() -> None:
    with provider("openai", tpm=40, rpm=3, completion_tokens=20) as limited:
        limited.fail(500, times=1)
        with pytest.raises(litellm.InternalServerError):
            await ask(limited)
        answer = await ask(limited)
    assert answer._hidden_params["additional_headers"]["x-ratelimit-remaining-requests"] == "1"


async def test_a_request_over_a_limit_uses_up_no_fault() -> None:
    with provider("openai", rpm=1) as limited:
        await ask(limited)
        limited.fail(503, times=1)
        await refusal(limited)
        limited.reset()
        with pytest.raises(litellm.ServiceUnavailableError):
            await ask(limited)


async def test_openais_429_has_its_headers_and_body() -> None:
    with provider("openai", rpm=3, tpm=1000) as limited:
        for _ in range(3):
            await ask(limited)
        error = await refusal(limited)
    headers = headers_of(error)
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"5\d(\.\d+)?s|1m0s", headers["x-ratelimit-reset-requests"])
    assert headers["x-ratelimit-limit-tokens"] == "1000"
    assert 955 <= int(headers["x-ratelimit-remaining-tokens"]) <= 1000
    milliseconds = int(headers["retry-after-ms"])
    assert 10_000 < milliseconds <= 20_000
    assert int(headers["retry-after"]) == math.ceil(milliseconds / 1000)
    assert error.body["code"] == "rate_limit_exceeded"
    assert error.body["type"] == "requests"
    assert "Please try again in 1" in str(error)


async def test_groqs_request_headers_describe_the_day() -> None:
    with provider("groq", rpm=2, rpd=100, tpm=1000) as limited:
        await ask(limited)
        await ask(limited)
        headers = headers_of(await refusal(limited))
    assert headers["x-ratelimit-limit-requests"] == "100"
    assert headers["x-ratelimit-remaining-requests"] == "98"
    assert headers["x-ratelimit-limit-tokens"] == "1000"
    assert 20 <= int(headers["retry-after"]) <= 30
    assert "retry-after-ms" not in headers


async def test_anthropics_429_has_its_headers_and_body() -> None:
    with provider("anthropic", rpm=2, tpm=1000) as limited:
        await ask(limited)
        await ask(limited)
        error = await refusal(limited)
    headers = headers_of(error)
    assert headers["anthropic-ratelimit-requests-limit"] == "2"
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert headers["anthropic-ratelimit-tokens-limit"] == "1000"
    assert 968 <= int(headers["anthropic-ratelimit-tokens-remaining"]) <= 1000
    reset = datetime.strptime(headers["anthropic-ratelimit-requests-reset"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert 45 < (reset - datetime.now(UTC)).total_seconds() <= 61
    assert 20 <= int(headers["retry-after"]) <= 30
    assert "rate_limit_error" in str(error)


async def test_geminis_429_says_in_its_body_how_long_to_wait() -> None:
    with provider("gemini", rpm=2) as limited:
        url = f"{limited.api_base}/models/gemini-2.5-flash:generateContent"
        async with httpx.AsyncClient(trust_env=False) as client:
            body = {"contents": [{"parts": [{"text": "hello"}]}]}
            responses = [await client.post(url, json=body) for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        error = responses[-1].json()["error"]
        assert (error["code"], error["status"]) == (429, "RESOURCE_EXHAUSTED")
        details = {detail["@type"]: detail for detail in error["details"]}
        assert details["type.googleapis.com/google.rpc.RetryInfo"]["retryDelay"] in [
            f"{seconds}s" for seconds in range(20, 31)
        ]
        violation = details["type.googleapis.com/google.rpc.QuotaFailure"]["violations"][0]
        assert violation["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel"
        assert "retry-after" not in responses[-1].headers
        assert "retryDelay" in str(await refusal(limited))


async def test_litellm_before_1_110_takes_a_403_anywhere_in_geminis_429_for_a_refused_permission() -> None:
    # Why the simulated Gemini avoids those digits; without those releases, `_delay` can say the decimals again.
    error = {"code": 429, "message": "Please retry in 19.978048403s.", "status": "RESOURCE_EXHAUSTED"}
    with provider("gemini") as limited:
        limited.fail(429, body={"error": error})
        with pytest.raises((litellm.BadRequestError, litellm.RateLimitError)) as caught:
            await ask(limited)
    mended = version("litellm").startswith("1.110.")
    assert isinstance(caught.value, litellm.RateLimitError) is mended


def test_geminis_delay_never_has_the_digits_403() -> None:
    clock = Clock(datetime(2026, 7, 1, 6, 53, 17, tzinfo=UTC).timestamp())
    limits = SimulatedLimits({"rpd": 1}, zone="America/Los_Angeles", wall=clock)
    limits.admit(Charge(1, 0))
    verdict = limits.admit(Charge(1, 0))
    assert verdict.retry_after == pytest.approx(403)
    reply = GeminiWire().limited(verdict, limits.meters(), "gemini-2.5-flash", 1)
    assert reply.body["error"]["details"][1]["retryDelay"] == "404s"


async def test_deepseeks_429_has_no_headers() -> None:
    with provider("deepseek", rpm=1) as limited:
        await ask(limited)
        error = await refusal(limited)
    assert not [name for name in headers_of(error) if name.startswith(("x-ratelimit", "retry"))]
    assert "Rate Limit Reached" in str(error)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
async def test_answers_carry_the_limits_too(name: str) -> None:
    with provider(name, rpm=10, tpm=1000) as limited:
        headers = (await ask(limited))._hidden_params["additional_headers"]
    assert headers["x-ratelimit-limit-requests"] == "10"
    assert headers["x-ratelimit-remaining-requests"] == "9"
    assert headers["x-ratelimit-limit-tokens"] == "1000"


async def test_a_request_that_can_never_fit_is_too_large() -> None:
    with provider("openai", tpm=5) as limited:
        error = await refusal(limited)
    assert "Request too large" in str(error)
    assert "retry-after" not in headers_of(error)


def test_the_bucket_refills_at_its_rate() -> None:
    clock = Clock()
    limits = SimulatedLimits({"rpm": 60}, slack=0.0, clock=clock)
    assert all(limits.admit(Charge(1, 0)).admitted for _ in range(60))
    refused = limits.admit(Charge(1, 0))
    assert (refused.refused_by, refused.retry_after) == ("rpm", pytest.approx(1.0))
    clock.now += 10
    assert sum(limits.admit(Charge(1, 0)).admitted for _ in range(20)) == 10


def test_slack_admits_that_many_seconds_of_rate_more() -> None:
    limits = SimulatedLimits({"rpm": 60}, slack=2.0, clock=Clock())
    assert sum(limits.admit(Charge(1, 0)).admitted for _ in range(100)) == 62
    assert limits.meters()["rpm"].remaining == 0


def test_a_refused_request_consumes_nothing() -> None:
    limits = SimulatedLimits({"rpm": 10, "tpm": 100, "rpd": 10}, slack=0.0, clock=Clock())
    assert limits.admit(Charge(90, 0)).admitted
    assert limits.admit(Charge(20, 0)).refused_by == "tpm"
    meters = limits.meters()
    assert (meters["rpm"].remaining, meters["tpm"].remaining, meters["rpd"].remaining) == (9, 10, 9)


def test_the_day_ends_at_midnight_where_the_vendor_lives() -> None:
    # 06:30 UTC is 23:30 of the day before in Los Angeles, in summer.
    wall = Clock(datetime(2026, 7, 1, 6, 30, tzinfo=UTC).timestamp())
    limits = SimulatedLimits({"rpd": 1}, zone="America/Los_Angeles", wall=wall)
    assert limits.admit(Charge(1, 0)).admitted
    assert limits.admit(Charge(1, 0)).retry_after == pytest.approx(1800)
    wall.now += 1800
    assert limits.admit(Charge(1, 0)).admitted


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.006, "6ms"), (1.0, "1s"), (7.66, "7.66s"), (179.56, "2m59.56s"), (3600.0, "1h0m0s"), (0.0, "0ms")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
