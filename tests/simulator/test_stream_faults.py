"""What a client of each vendor's wire format sees of a faulty stream, and of the other faults of failover."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import litellm
import openai
import pytest
from simulator_support import MODELS, PROMPT, PROVIDERS, eventually

from wallie_litellm.simulator import SimulatedProvider, SimulatedProviders

CHAT_COMPLETIONS = ["openai", "groq", "deepseek"]
PATHS = {
    "openai": "/chat/completions",
    "groq": "/chat/completions",
    "deepseek": "/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
}
USER = {"role": "user", "content": "Say hello"}


def asked(provider: SimulatedProvider, stream: bool = True, messages: list[dict[str, Any]] | None = None) -> Any:
    """Where a client of the vendor's own format posts to, and what."""
    path = PATHS[provider.name]
    if provider.name == "gemini":
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}
        return provider.api_base + (path if stream else path.replace("streamG", "g")), body
    model = MODELS[provider.name].partition("/")[2]
    return provider.api_base + path, {"model": model, "messages": messages or [USER], "stream": stream}


async def events(provider: SimulatedProvider, **more: Any) -> list[str]:
    """The data of every event of a stream, as it is on the wire."""
    url, body = asked(provider, **more)
    found: list[str] = []
    async with httpx.AsyncClient() as client, client.stream("POST", url, json=body) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                found.append(line.removeprefix("data: "))
    return found


async def post(provider: SimulatedProvider, **more: Any) -> httpx.Response:
    url, body = asked(provider, stream=False, **more)
    async with httpx.AsyncClient() as client:
        return await client.post(url, json=body)


def deltas(data: list[str]) -> str:
    chunks = [json.loads(event) for event in data if event != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_a_truncated_stream_ends_as_http_has_it_without_an_end_mark(fleet: SimulatedProviders) -> None:
    for name in PROVIDERS:
        fleet[name].truncate_stream(1)
        data = " ".join(await events(fleet[name]))  # httpx would raise on an incomplete body
        assert "Hello" in data, name
        assert not any(mark in data for mark in ("[DONE]", "message_stop", '"stop"', "STOP", "end_turn")), name
        assert fleet[name].counts().failed == 1


async def test_everything_but_the_last_event_can_come(fleet: SimulatedProviders) -> None:
    for name in PROVIDERS:
        fleet[name].omit_end(times=1)
        without, whole = await events(fleet[name]), await events(fleet[name])
        if name == "gemini":  # its last event is text, with the finish reason
            assert len(without) == len(whole)
        else:
            assert len(without) == len(whole) - 1
        assert fleet[name].counts().succeeded == 2


@pytest.mark.parametrize("name", CHAT_COMPLETIONS)
async def test_a_stream_can_end_without_a_finish_reason_and_count_on_every_chunk(
    fleet: SimulatedProviders, name: str
) -> None:
    fleet[name].omit_finish(times=1)
    data = await events(fleet[name])
    chunks = [json.loads(event) for event in data[:-1]]
    assert data[-1] == "[DONE]"
    assert deltas(data) == f"Hello from {name}."
    assert {choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]} == {None}
    assert all(chunk["usage"]["completion_tokens"] for chunk in chunks)


async def test_one_broken_event_is_surrounded_by_right_ones(fleet: SimulatedProviders) -> None:
    for name in PROVIDERS:
        whole = await events(fleet[name])
        fleet[name].malformed(after_chunks=1)
        data = await events(fleet[name])
        broken = [event for event in data if event != "[DONE]" and not is_json(event)]
        assert (len(data), len(broken)) == (len(whole) + 1, 1), name


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("after", [None, 0, 2])
@pytest.mark.parametrize("name", CHAT_COMPLETIONS)
async def test_an_error_object_inside_a_200_has_the_status_as_its_code(
    fleet: SimulatedProviders, name: str, after: int | None
) -> None:
    fleet[name].error_in_200(503, after_chunks=after)
    data = await events(fleet[name])
    assert json.loads(data[-2])["error"]["code"] == 503
    assert data[-1] == "[DONE]"
    assert deltas(data) == ("Hello from " if after else "")
    assert len(data) == {None: 2, 0: 3, 2: 5}[after]
    assert fleet[name].counts().failed == 1


async def test_anthropics_error_inside_a_200_is_an_event_of_its_own(fleet: SimulatedProviders) -> None:
    fleet["anthropic"].error_in_200(529, after_chunks=1)
    data = [json.loads(event) for event in await events(fleet["anthropic"])]
    assert data[-1]["type"] == "error"
    assert data[-1]["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert [event["delta"]["text"] for event in data if event["type"] == "content_block_delta"] == ["Hello "]


async def test_a_response_of_the_responses_api_can_fail_in_the_middle(fleet: SimulatedProviders) -> None:
    fleet["openai"].error_in_200(after_chunks=1)
    stream = await openai.AsyncOpenAI(base_url=fleet["openai"].api_base, api_key="sk-simulated").responses.create(
        model="gpt-4o-mini", input="Say hello", stream=True
    )
    kinds = [event.type async for event in stream]
    assert kinds[-1] == "response.failed"
    assert kinds.count("response.output_text.delta") == 1


async def test_an_answer_in_one_piece_can_be_an_error_object_too(fleet: SimulatedProviders) -> None:
    for name in PROVIDERS:
        fleet[name].error_in_200(503)
        response = await post(fleet[name])
        assert response.status_code == 200
        assert "error" in response.json(), name
        assert fleet[name].counts().failed == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_can_come_at_once_and_the_answer_late(fleet: SimulatedProviders, stream: bool) -> None:
    fleet["openai"].slow(0.3, after_headers=True)
    url, body = asked(fleet["openai"], stream=stream)
    between = []  # seconds from the headers to the answer: a client without a processor finds both at once
    while len(between) < 5 and max(between, default=0.0) < 0.2:
        started = time.monotonic()
        async with httpx.AsyncClient() as client, client.stream("POST", url, json=body) as response:
            headers_at = time.monotonic()
            text = (await response.aread()).decode()
        between.append(time.monotonic() - headers_at)
        assert "Hello" in text
        assert time.monotonic() - started >= 0.3
    assert max(between) >= 0.2
    assert fleet["openai"].counts().succeeded == len(between)


@pytest.mark.parametrize("stream", [False, True])
async def test_headers_can_come_at_once_and_the_answer_never(fleet: SimulatedProviders, stream: bool) -> None:
    fleet["openai"].hang(after_headers=True)
    url, body = asked(fleet["openai"], stream=stream)
    async with httpx.AsyncClient(timeout=0.2) as client, client.stream("POST", url, json=body) as response:
        assert response.status_code == 200
        with pytest.raises(httpx.ReadTimeout):
            await response.aread()
    await eventually(lambda: fleet["openai"].counts().disconnected == 1)


async def test_a_stream_can_say_its_role_and_then_nothing(fleet: SimulatedProviders) -> None:
    fleet["openai"].hang(after_chunks=0)
    url, body = asked(fleet["openai"])
    async with httpx.AsyncClient(timeout=0.2) as client, client.stream("POST", url, json=body) as response:
        lines = response.aiter_lines()
        chunk = json.loads((await anext(lines)).removeprefix("data: "))
        await anext(lines)  # the empty line that ends the event
        with pytest.raises(httpx.ReadTimeout):
            await anext(lines)
    assert chunk["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}


async def test_a_stream_can_pause_in_the_middle_and_go_on(fleet: SimulatedProviders) -> None:
    fleet["openai"].slow(0.2, after_chunks=1)
    started = time.monotonic()
    assert deltas(await events(fleet["openai"])) == "Hello from openai."
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_connection_can_be_reset_before_the_headers(fleet: SimulatedProviders, name: str) -> None:
    fleet[name].reset_connection(times=1)
    with pytest.raises(httpx.ReadError):
        await post(fleet[name])
    assert fleet[name].counts().failed == 1
    assert (await post(fleet[name])).status_code == 200


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_prefill_can_be_refused_and_other_requests_are_served(
    fleet: SimulatedProviders, chat: Any, name: str
) -> None:
    fleet[name].refuse_prefill()
    assert (await chat(name)).choices[0].message.content == f"Hello from {name}."
    if name == "gemini":  # LiteLLM writes a user's message behind the prefill
        return
    with pytest.raises(litellm.BadRequestError):
        await chat(name, messages=[*PROMPT, {"role": "assistant", "content": "Hello"}])


@pytest.mark.parametrize("name", ["openai", "anthropic", "deepseek"])
async def test_a_prefill_is_continued(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    response = await chat(name, messages=[*PROMPT, {"role": "assistant", "content": "Hello from", "prefix": True}])
    # LiteLLM puts the prefill before the answer of Anthropic's models.
    assert response.choices[0].message.content in (f" {name}.", f"Hello from {name}.")
    assert fleet[name].counts().succeeded == 1


async def test_anthropic_refuses_a_prefill_that_ends_in_a_space(fleet: SimulatedProviders) -> None:
    response = await post(fleet["anthropic"], messages=[USER, {"role": "assistant", "content": "Hello "}])
    assert response.status_code == 400
    assert "trailing whitespace" in response.json()["error"]["message"]


async def test_the_bodies_of_requests_can_be_read(fleet: SimulatedProviders, chat: Any) -> None:
    await chat("openai", temperature=0.5)
    await chat("openai")
    first, second = fleet["openai"].bodies()
    assert (first["temperature"], first["messages"]) == (0.5, PROMPT)
    assert "temperature" not in second
    fleet["openai"].reset()
    assert fleet["openai"].bodies() == []


async def test_eight_clients_that_leave_are_counted(fleet: SimulatedProviders, chat: Any) -> None:
    fleet["openai"].hang(after_headers=True)
    calls = [asyncio.ensure_future(chat("openai", stream=True)) for _ in range(8)]
    await eventually(lambda: fleet["openai"].counts().in_flight == 8)
    for call in calls:
        stream = await call
        await stream.aclose()
    await eventually(lambda: fleet["openai"].counts().disconnected == 8)
    assert fleet["openai"].counts().by_model == {"gpt-4o-mini": 8}
