"""Every provider answers the real LiteLLM, in one piece and streamed, with text and usage."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from simulator_support import MODELS, PROMPT, PROVIDERS, call_arguments

from wallie_litellm.simulator import SimulatedProviders


def completion_tokens(name: str) -> int:
    return -(-len(f"Hello from {name}.") // 4)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_completion_has_text_and_usage(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    response = await chat(name)
    assert response.choices[0].message.content == f"Hello from {name}."
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (10, completion_tokens(name))
    assert fleet[name].counts().succeeded == 1


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_stream_has_text_in_pieces_and_usage(fleet: SimulatedProviders, chat: Any, name: str) -> None:
    chunks = [chunk async for chunk in await chat(name, stream=True, stream_options={"include_usage": True})]
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert len(pieces) > 1
    assert "".join(pieces) == f"Hello from {name}."
    assert (usages[-1].prompt_tokens, usages[-1].completion_tokens) == (10, completion_tokens(name))
    counts = fleet[name].counts()
    assert (counts.received, counts.succeeded, counts.in_flight) == (1, 1, 0)
    assert counts.by_model == {MODELS[name].partition("/")[2]: 1}


async def test_a_system_prompt_counts_as_prompt(chat: Any) -> None:
    messages = [{"role": "system", "content": "y" * 40}, *PROMPT]
    for name in PROVIDERS:
        assert (await chat(name, messages=messages)).usage.prompt_tokens == 20, name


@pytest.mark.parametrize("model", ["openai/text-embedding-3-small", "gemini/gemini-embedding-001"])
async def test_embeddings_come_one_per_input(fleet: SimulatedProviders, model: str) -> None:
    name = model.partition("/")[0]
    response = await litellm.aembedding(**call_arguments(fleet, name, model), input=["hello", "bye"])
    assert [len(item["embedding"]) for item in response.data] == [8, 8]
    assert response.usage.prompt_tokens > 0
    assert response.usage.completion_tokens == 0
    assert fleet[name].counts().succeeded == 1


async def test_a_response_of_the_responses_api_has_text_and_usage(fleet: SimulatedProviders) -> None:
    response = await litellm.aresponses(**call_arguments(fleet, "openai"), input="x" * 40)
    assert response.output[0].content[0].text == "Hello from openai."
    assert (response.usage.input_tokens, response.usage.output_tokens) == (10, 5)


async def test_a_streamed_response_ends_with_its_usage(fleet: SimulatedProviders) -> None:
    stream = await litellm.aresponses(**call_arguments(fleet, "openai"), input="x" * 40, stream=True)
    events = [event async for event in stream]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == "Hello from openai."
    assert events[-1].type == "response.completed"
    assert (events[-1].response.usage.input_tokens, events[-1].response.usage.output_tokens) == (10, 5)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_anthropics_message_format_reaches_every_provider(fleet: SimulatedProviders, name: str) -> None:
    response = await litellm.anthropic_messages(**call_arguments(fleet, name), messages=PROMPT, max_tokens=20)
    assert response["content"][0]["text"] == f"Hello from {name}."
    assert response["usage"]["input_tokens"] == 10
    assert response["usage"]["output_tokens"] == completion_tokens(name)


async def test_anthropics_message_format_streams(fleet: SimulatedProviders) -> None:
    arguments = call_arguments(fleet, "anthropic")
    stream = await litellm.anthropic_messages(**arguments, messages=PROMPT, max_tokens=20, stream=True)
    raw = b"".join([event async for event in stream]).decode()
    kinds = [line.removeprefix("event: ") for line in raw.splitlines() if line.startswith("event: ")]
    deltas = kinds.count("content_block_delta")
    assert deltas > 1
    assert kinds == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
