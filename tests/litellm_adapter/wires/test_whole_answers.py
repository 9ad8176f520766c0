"""Answers in one piece: the provider's usage, else the estimated prompt and what their text amounts to."""

from __future__ import annotations

from typing import Any

import pytest
from support import messages
from wire_scripts import (
    CHAT_USAGE,
    COUNTED,
    GEMINI_USAGE,
    PROMPT_TOKENS,
    RESPONSES_USAGE,
    TEXT,
    WIRES,
    counted_by_limits,
    response,
)

from wallie_litellm import execute_ai_request
from wallie_litellm.events import Settled

ESTIMATED = 7  # tokens, estimated for the prompt of every wire
ABSENT = object()


def chat_body(usage: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage,
    }  # fmt: skip


def text_body(usage: Any) -> dict[str, Any]:
    choice = {"text": TEXT, "index": 0, "logprobs": None, "finish_reason": "stop"}
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def message_body(usage: Any) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": TEXT}], "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def gemini_body(usage: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": [{"text": TEXT}], "role": "model"}, "finishReason": "STOP", "index": 0}
    return {"candidates": [candidate], "modelVersion": "m", "responseId": "r", "usageMetadata": usage}


BODIES = {
    "chat": (chat_body, CHAT_USAGE),
    "text completion": (text_body, CHAT_USAGE),
    "messages": (message_body, {"input_tokens": PROMPT_TOKENS, "output_tokens": 200}),
    "responses": (lambda usage: response("completed", usage=usage), RESPONSES_USAGE),
    "generate content": (gemini_body, GEMINI_USAGE),
}
NOTHING_SAID = {
    "absent": lambda usage: ABSENT,
    "null": lambda usage: None,
    "zeros": lambda usage: {name: 0 for name, value in usage.items() if isinstance(value, int)},
}


def body(name: str, usage: Any) -> dict[str, Any]:
    found = BODIES[name][0](usage)
    return {key: value for key, value in found.items() if value is not ABSENT}


@pytest.mark.parametrize("name", BODIES)
async def test_the_providers_usage_is_billed_and_charged(open_router, vendor, bus, name):
    router = open_router({"group": WIRES[name].model})
    vendor.whole(body(name, BODIES[name][1]))
    assert await WIRES[name].ask_whole(router, "group")
    (record,) = bus.of(Settled)
    assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (PROMPT_TOKENS, 200, False)
    assert record.charged.tokens == counted_by_limits(name, PROMPT_TOKENS, 200)
    assert record.cost_usd


@pytest.mark.parametrize("said", NOTHING_SAID)
@pytest.mark.parametrize("name", BODIES)
async def test_an_answer_without_usage_is_counted_and_never_costs_max_tokens(open_router, vendor, bus, name, said):
    router = open_router({"group": WIRES[name].model})
    vendor.whole(body(name, NOTHING_SAID[said](BODIES[name][1])))
    more = {"max_output_tokens": 64_000} if name == "responses" else {"max_tokens": 64_000}
    await WIRES[name].ask_whole(router, "group", **({} if name == "generate content" else more))
    (record,) = bus.of(Settled)
    assert (record.success, record.estimated, record.completion_tokens) == (True, True, COUNTED)
    assert record.prompt_tokens == ESTIMATED
    assert record.charged == (1, counted_by_limits(name, ESTIMATED, COUNTED), ESTIMATED, COUNTED)
    assert record.cost_usd is not None
    assert record.cost_usd < 0.001


async def test_the_helpers_say_what_was_counted(open_router, vendor, bus):
    router = open_router({"group": "openai/gpt-4o-mini"})
    vendor.whole(body("chat", None))
    result = await execute_ai_request(router, "group", messages(), max_tokens=64_000)
    assert (result.text, result.prompt_tokens, result.completion_tokens) == (TEXT, ESTIMATED, COUNTED)
    (record,) = bus.of(Settled)
    assert result.cost_usd == record.cost_usd


async def test_the_tokens_of_a_call_of_the_applications_own_are_counted_too(open_router, bus):
    router = open_router({"group": "openai/gpt-4o-mini"})

    async def call(target: Any) -> dict[str, Any]:
        return body("chat", ABSENT)

    await execute_ai_request(router, "group", execute=call)
    await execute_ai_request(router, "group", execute=call, estimated_tokens=500)
    counted, stated = bus.of(Settled)
    assert (counted.completion_tokens, counted.estimated, counted.charged.tokens) == (COUNTED, True, COUNTED)
    assert (stated.total_tokens, stated.estimated) == (500, True)


async def test_tools_and_reasoning_are_part_of_what_is_counted(open_router, vendor, bus):
    router = open_router({"group": "openai/gpt-4o-mini"})
    function = {"name": "f", "arguments": "x" * 39}
    message = {
        "role": "assistant", "content": None, "reasoning_content": "y" * 40,
        "tool_calls": [{"id": "1", "type": "function", "function": function}],
    }  # fmt: skip
    answer = body("chat", None)
    answer["choices"][0]["message"] = message
    vendor.whole(answer)
    await WIRES["chat"].ask_whole(router, "group")
    (record,) = bus.of(Settled)
    assert record.completion_tokens == 20
