"""A provider that uses tools calls them in its vendor's format, as the real LiteLLM reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from simulator_support import PROMPT, PROVIDERS, call_arguments

from wallie_litellm.simulator import SimulatedProviders
from wallie_litellm.simulator.tool_calls import sample

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
ARGUMENTS = {"city": "simulated"}


@pytest.fixture(scope="module")
def tools() -> Iterator[SimulatedProviders]:
    with SimulatedProviders(uses_tools=True) as providers:
        yield providers


@pytest.mark.parametrize("name", PROVIDERS)
async def test_an_offered_tool_is_called(tools: SimulatedProviders, name: str) -> None:
    response = await litellm.acompletion(**call_arguments(tools, name), messages=PROMPT, tools=[TOOL])
    (call,) = response.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", ARGUMENTS)
    assert response.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_stream_calls_it_in_pieces(tools: SimulatedProviders, name: str) -> None:
    stream = await litellm.acompletion(**call_arguments(tools, name), messages=PROMPT, tools=[TOOL], stream=True)
    whole = litellm.stream_chunk_builder([chunk async for chunk in stream])
    (call,) = whole.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", ARGUMENTS)


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_result_is_answered_with_text(tools: SimulatedProviders, name: str) -> None:
    called = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    response = await litellm.acompletion(**call_arguments(tools, name), messages=[*PROMPT, *turns], tools=[TOOL])
    assert response.choices[0].message.content == f"Hello from {name}."


async def test_the_responses_api_calls_tools(tools: SimulatedProviders) -> None:
    tool = {"type": "function", "name": "weather", "parameters": CITY}
    arguments = {**call_arguments(tools, "openai"), "input": "x" * 40, "tools": [tool]}
    whole = await litellm.aresponses(**arguments)
    events = [event async for event in await litellm.aresponses(**arguments, stream=True)]
    for response in (whole, events[-1].response):
        (call,) = response.output
        assert (call.name, json.loads(call.arguments)) == ("weather", ARGUMENTS)


async def test_a_schema_is_kept_to(tools: SimulatedProviders) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    response = await litellm.acompletion(**call_arguments(tools, "openai"), messages=PROMPT, response_format=schema)
    assert json.loads(response.choices[0].message.content) == ARGUMENTS


def test_a_sample_has_what_its_schema_says() -> None:
    schema = {
        "type": "object",
        "properties": {
            "size": {"$ref": "#/$defs/Size"},
            "count": {"type": "integer", "minimum": 9},
            "ready": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "names": {"type": "array", "items": {"type": "string"}},
            "kind": {"const": "box"},
        },
        "$defs": {"Size": {"enum": ["small", "large"]}},
    }
    assert sample(schema) == {"size": "small", "count": 9, "ready": True, "names": ["simulated"], "kind": "box"}
