"""Every fault surfaces as the LiteLLM exception that the vendor's own failure would be."""

from __future__ import annotations

import asyncio
from typing import Any

import litellm
import pytest
from litellm.exceptions import MidStreamFallbackError
from simulator_support import PROVIDERS, eventually

from wallie_litellm.simulator import Fault, FaultKind, SimulatedProviders

HTTP_DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


def response_headers(error: Exception) -> dict[str, str]:
    return dict(getattr(error, "litellm_response_headers", None) or {})


async def read(stream: Any, received: list[str] | None = None) -> str:
    pieces = [] if received is None else received
    async for chunk in stream:
        pieces.extend(choice.delta.content or "" for choice in chunk.choices)
    return "".join(pieces)


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, litellm.AuthenticationError),
        (404, litellm.NotFoundError),
        (429, litellm.RateLimitError),
        (500, litellm.InternalServerError),
        # Gemini's words for a 503 make LiteLLM raise an InternalServerError.
        (503, (litellm.ServiceUnavailableError, litellm.InternalServerError)),
        (504, litellm.Timeout),
    ],
)
async def test_a_status_surfaces_as_its_exception(
    fleet: SimulatedProviders, chat: Any, name: str, status: int, error: type[Exception]
) -> None:
    fleet[name].fail(status, times=1)
    with pytest.raises(error):
        await chat(name)
    assert fleet[name].counts().by_status == {status: 1}
    assert (await chat(name)).choices[0].message.content == f"Hello from {name}."


@pytest.mark.parametrize("name", PROVIDERS)
@pytest.mark.parametrize(("given", "sent"), [(120, "120"), (0.5, "0.5"), (HTTP_DATE, HTTP_DATE)])
async def test_a_429_carries_the_retry_after_of_the_fault(
    fleet: SimulatedProviders, chat: Any, name: str, given: float | str, sent: str
) -> None:
    fleet[name].rate_limit(given)
    with pytest.raises(litellm.RateLimitError) as caught:
        await chat(name)
    assert response_headers(caught.value)["retry-after"] == sent
    assert fleet[name].counts().rejected_429 == 1


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_429_refuses_a_stream_too(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    fleet[name].rate_limit(7)
    # LiteLLM connects to Gemini only when the stream is read, and then calls the 429 a mid-stream failure.
    with pytest.raises((litellm.RateLimitError, MidStreamFallbackError)) as caught:
        await read(await chat(name, stream=True))
    assert caught.value.status_code == 429


@pytest.mark.parametrize("name", ["openai", "anthropic", "groq", "deepseek"])
async def test_a_content_policy_refusal_is_recognised(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    fleet[name].content_policy()
    # With OpenAI's client 3 LiteLLM does not see the code, which is in the body.
    with pytest.raises(litellm.BadRequestError) as caught:
        await chat(name)
    is_one = isinstance(caught.value, litellm.ContentPolicyViolationError)
    assert is_one or caught.value.body["code"] == "content_policy_violation"


async def test_gemini_blocks_a_prompt_with_a_200(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["gemini"].content_policy()
    response = await chat("gemini")
    assert response.choices[0].finish_reason == "content_filter"
    assert response.choices[0].message.content is None


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_prompt_that_is_too_long_is_recognised(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    fleet[name].context_window()
    with pytest.raises(litellm.ContextWindowExceededError):
        await chat(name)


@pytest.mark.parametrize(
    ("name", "error", "status", "words"),
    [
        ("openai", litellm.RateLimitError, 429, "exceeded your current quota"),
        ("groq", litellm.RateLimitError, 429, "insufficient_quota"),
        ("anthropic", litellm.BadRequestError, 400, "credit balance is too low"),
        ("gemini", litellm.RateLimitError, 429, "GenerateRequestsPerDayPerProjectPerModel"),
        ("deepseek", litellm.BadRequestError, 402, "Insufficient Balance"),
    ],
)
async def test_an_exhausted_account_is_refused_as_by_its_vendor(
    fleet: SimulatedProviders, chat: Any, name: str, error: type[Exception], status: int, words: str
) -> None:
    fleet[name].quota_exhausted()
    with pytest.raises(error, match=words) as caught:
        await chat(name)
    assert getattr(caught.value, "status_code", None) == status
    assert "retry-after" not in response_headers(caught.value)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_hang_ends_in_the_callers_timeout(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    fleet[name].hang()
    with pytest.raises(litellm.Timeout):
        await chat(name, timeout=0.2)
    await disconnected(fleet, name)


async def disconnected(fleet: SimulatedProviders, name: str) -> None:
    await eventually(lambda: fleet[name].counts().disconnected)
    assert fleet[name].counts().in_flight == 0


@pytest.mark.parametrize("name", ["openai", "anthropic", "groq", "deepseek"])
async def test_a_stream_that_stalls_ends_in_the_callers_timeout(
    fleet: SimulatedProviders, chat: Any, name: str
) -> None:
    fleet[name].hang(after_chunks=1)
    with pytest.raises((MidStreamFallbackError, litellm.Timeout)):  # OpenAI's client 3 has the second
        await read(await chat(name, stream=True, timeout=0.2))
    await disconnected(fleet, name)


async def test_a_client_that_disconnects_is_counted_as_disconnected(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].slow(60)
    task = asyncio.ensure_future(chat("openai"))
    await eventually(lambda: fleet["openai"].counts().in_flight)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await disconnected(fleet, "openai")


async def test_a_slow_answer_is_late_and_correct(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].slow(0.3, times=1)
    started = asyncio.get_running_loop().time()
    assert (await chat("openai")).choices[0].message.content == "Hello from openai."
    assert asyncio.get_running_loop().time() - started >= 0.3


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_refused_connection_fails_until_it_is_accepted_again(
    fleet: SimulatedProviders, chat: Any, name: str
) -> None:
    await chat(name)  # so that LiteLLM holds an open connection to lose
    fleet[name].refuse()
    # Only Gemini's adapter says APIConnectionError; the others turn it into a 500.
    with pytest.raises((litellm.APIConnectionError, litellm.InternalServerError)):
        await chat(name)
    fleet[name].accept()
    assert (await chat(name)).choices[0].message.content == f"Hello from {name}."
    assert fleet[name].counts().received == 2


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_cut_stream_delivers_some_text_and_breaks(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    fleet[name].cut_stream(after_chunks=2, times=1)
    received: list[str] = []
    with pytest.raises(MidStreamFallbackError):
        await read(await chat(name, stream=True), received)
    assert "".join(received) in ("Hello ", "Hello from ")
    assert fleet[name].counts().failed == 1
    assert await read(await chat(name, stream=True)) == f"Hello from {name}."


async def test_a_cut_never_lets_a_stream_look_complete(fleet: SimulatedProviders, chat: Any) -> None:
    for name in PROVIDERS:
        fleet[name].cut_stream(after_chunks=1000)
        with pytest.raises(MidStreamFallbackError):
            await read(await chat(name, stream=True))


async def test_an_answer_in_one_piece_uses_up_no_stream_fault(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].cut_stream(times=1)
    assert (await chat("openai")).choices[0].message.content == "Hello from openai."
    with pytest.raises(MidStreamFallbackError):
        await read(await chat("openai", stream=True))


async def test_a_stream_can_come_without_usage(fleet: SimulatedProviders, chat: Any) -> None:
    for name in PROVIDERS:
        fleet[name].omit_usage(times=1)
        chunks = [chunk async for chunk in await chat(name, stream=True)]
        counted = [chunk.usage.total_tokens for chunk in chunks if getattr(chunk, "usage", None)]
        assert not any(counted), name
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == f"Hello from {name}."


@pytest.mark.parametrize("name", PROVIDERS)
async def test_broken_json_is_an_error(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    fleet[name].malformed(times=1)
    with pytest.raises(
        (litellm.APIError, litellm.APIConnectionError, litellm.BadRequestError, litellm.InternalServerError)
    ):
        await chat(name)
    counts = fleet[name].counts()
    assert (counts.by_status, counts.failed) == ({200: 1}, 1)


async def test_faults_apply_in_the_order_they_were_set(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].fail(503, times=1)
    fleet["openai"].fail(401, times=2)
    for expected in (litellm.ServiceUnavailableError, litellm.AuthenticationError, litellm.AuthenticationError):
        with pytest.raises(expected):
            await chat("openai")
    await chat("openai")


async def test_a_fault_can_be_for_one_model_only(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].fail(500, model="gpt-4o")
    await chat("openai", model="openai/gpt-4o-mini")
    with pytest.raises(litellm.InternalServerError):
        await chat("openai", model="openai/gpt-4o")


async def test_a_failure_can_have_any_body_and_retry_after(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].fail(502, body="<html>Bad gateway</html>", retry_after=3)
    with pytest.raises(litellm.BadGatewayError) as caught:
        await chat("openai")
    cause = caught.value.__context__
    assert isinstance(cause, litellm.llms.openai.common_utils.OpenAIError)
    assert cause.body == "<html>Bad gateway</html>"
    assert response_headers(caught.value)["retry-after"] == "3"


async def test_heal_drops_every_fault_and_accepts_again(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].fail(500)
    fleet["openai"].refuse()
    fleet["openai"].heal()
    assert (await chat("openai")).choices[0].message.content == "Hello from openai."


def test_a_fault_that_makes_no_sense_is_refused(fleet: SimulatedProviders) -> None:
    with pytest.raises(ValueError, match="times must be at least 1"):
        fleet["openai"].fail(500, times=0)
    with pytest.raises(ValueError, match="status must be between"):
        fleet["openai"].fail(99)


async def test_a_fault_of_every_third_request_leaves_the_others_alone(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].set_fault(Fault(FaultKind.STATUS, status=503, every=3))
    seen = []
    for _ in range(7):
        try:
            await chat("openai")
            seen.append(200)
        except litellm.ServiceUnavailableError:
            seen.append(503)
    assert seen == [200, 200, 503, 200, 200, 503, 200]
