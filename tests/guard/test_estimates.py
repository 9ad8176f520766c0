"""Limits are asked for what a call will use, as its vendor counts it; the guess gets better with each answer."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from recording import RecordingBus
from scripted_vendor import ScriptedVendor
from support import messages

from wallie_litellm import build_router
from wallie_litellm.config import parse_config
from wallie_litellm.core.prompt_size import json_size
from wallie_litellm.errors import RateLimited
from wallie_litellm.events import Settled
from wallie_litellm.guard import Guard

MODELS = {
    "openai": ("/v1", "gpt-4o"),
    "anthropic": ("", "claude-sonnet-4-5"),
    "groq": ("/v1", "openai/gpt-oss-120b"),
    "bedrock": ("", "converse/anthropic.claude-sonnet-4-5-20250929-v1:0"),
}
AWS = {"aws_access_key_id": "AKIASIMULATED", "aws_secret_access_key": "simulated", "aws_region_name": "us-east-1"}
TPM = 100_000
LARGE = 20_000  # tokens of each agent's request
FILE = base64.b64encode(bytes(3_000_000)).decode()  # 4 MB


def tool(number: int) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {f"p{n}": {"type": "string", "description": "d" * 380} for n in range(4)},
    }
    return {
        "type": "function",
        "function": {"name": f"tool_{number}", "description": "x" * 150, "parameters": parameters},
    }


TOOLS = [tool(number) for number in range(40)]
TEXT = "word " * (LARGE * 4 // 5)  # as many characters as those tokens have
CALLS = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"a": TEXT})}}]
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": ""}
SCHEMA = {"name": "s", "schema": {"description": TEXT}}
# An agent's requests, each of about 20,000 tokens: the vendor, LiteLLM's method, and what is sent.
AGENTS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "forty tools": ("openai", "acompletion", {"messages": messages(), "tools": TOOLS}),
    "arguments of tool calls": (
        "openai",
        "acompletion",
        {"messages": [{"role": "assistant", "tool_calls": CALLS}, RESULT]},
    ),
    "the result of a tool": (
        "openai",
        "acompletion",
        {"messages": [*messages(), {**RESULT, "content": TEXT}]},
    ),
    "a schema": (
        "openai",
        "acompletion",
        {"messages": messages(), "response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    ),
    "a system text in blocks": (
        "anthropic",
        "aanthropic_messages",
        {"messages": messages(), "max_tokens": 150, "system": [{"type": "text", "text": TEXT}]},
    ),
    "a document of type text": (
        "anthropic",
        "aanthropic_messages",
        {"max_tokens": 150, "messages": [{"role": "user", "content": [
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": TEXT}}]}]},
    ),
    "the output of a function, in Responses": (
        "openai",
        "aresponses",
        {"input": [{"type": "function_call_output", "call_id": "c", "output": TEXT}]},
    ),
    "instructions, in Responses": ("openai", "aresponses", {"input": "hello", "instructions": TEXT}),
}  # fmt: skip


def usage_of(prompt: int, output: int, cached: int = 0, written: int = 0) -> dict[str, Any]:
    """In the names of all wires at once: each reads its own."""
    return {
        "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached}, "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip


def answer(method: str, prompt: int, output: int, cached: int = 0, written: int = 0) -> dict[str, Any]:
    usage = usage_of(prompt, output, cached)
    if method == "aanthropic_messages":
        own = {"input_tokens": prompt - cached - written, "output_tokens": output}
        own |= {"cache_read_input_tokens": cached, "cache_creation_input_tokens": written}
        return {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
                "stop_sequence": None, "content": [{"type": "text", "text": "Hello"}], "usage": own}  # fmt: skip
    if method == "aresponses":
        part = {"type": "output_text", "text": "Hello", "annotations": []}
        item = {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [part]}
        return {"id": "r", "object": "response", "created_at": 1, "status": "completed", "model": "m", "output": [item],
                "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                "usage": {**usage, "input_tokens": prompt}}  # fmt: skip
    message = {"role": "assistant", "content": "Hello"}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "service_tier": "default",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}  # fmt: skip


@pytest.fixture
def open_router(running_vendor: ScriptedVendor, bus: RecordingBus) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(vendor: str, max_wait: float = 0, **limits: Any) -> Any:
        path, model = MODELS[vendor]
        where = {"api_base": running_vendor.base + path, "api_key": "sk-simulated"}
        if vendor == "bedrock":
            where = {**AWS, "aws_bedrock_runtime_endpoint": running_vendor.base}
        data = {
            "model_list": [{"model_name": "group", "litellm_params": {"model": f"{vendor}/{model}", **where}}],
            "wallie": {
                "ledger": None,
                "providers": {vendor: limits},
                "admission": {"max_wait": max_wait},
                "retry": {"max_retries": 0},
            },
        }
        made.append(build_router(parse_config(data), guard=Guard(parse_config(data).wallie, bus=bus)))
        return made[-1]

    yield make
    for router in made:
        router.guard.close()


async def at_once(router: Any, method: str, times: int, arguments: dict[str, Any]) -> int:
    """How many of so many equal calls go out at the same moment, before any is settled."""
    calls = [getattr(router, method)(model="group", **arguments) for _ in range(times)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    errors = [one for one in found if isinstance(one, BaseException)]
    assert all(isinstance(error, RateLimited) for error in errors), errors
    return times - len(errors)


@pytest.mark.parametrize("shape", AGENTS)
async def test_of_twenty_agents_at_once_those_go_out_that_fit(open_router, running_vendor, shape):
    vendor, method, arguments = AGENTS[shape]
    running_vendor.whole(answer(method, LARGE, 150))
    router = open_router(vendor, tpm=TPM)
    assert 4 <= await at_once(router, method, 20, arguments) <= 5


def test_the_tools_of_the_agents_are_as_large_as_said():
    assert json_size(TOOLS) / 4 == pytest.approx(LARGE, rel=0.05)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + FILE}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + FILE}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64," + FILE}},
    ],
    ids=["image", "video", "document"],
)
async def test_four_megabytes_of_media_are_asked_of_no_limit(open_router, running_vendor, part):
    running_vendor.whole(answer("acompletion", 1000, 10))
    router = open_router("openai", tpm=TPM)
    await router.acompletion("group", [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}])


@pytest.mark.parametrize("shape", AGENTS)
async def test_after_twenty_calls_of_a_kind_the_mean_error_is_within_15_percent(
    open_router, running_vendor, bus, shape
):
    vendor, method, arguments = AGENTS[shape]
    router = open_router(vendor, tpd=10**9)
    for number in range(24):  # of the vendor's own counts, 30 % above the characters' and a tenth up and down
        running_vendor.whole(answer(method, int(LARGE * (1.2 + 0.05 * (number % 5))), 100 + 10 * (number % 7)))
        await getattr(router, method)(model="group", **arguments)
    records = bus.of(Settled)[20:]
    settled = [record.charged.tokens for record in records]
    asked = [record.estimated_input + record.estimated_output for record in records]
    assert sum(abs(one - other) / other for one, other in zip(asked, settled, strict=True)) / len(settled) <= 0.15
    figures = router.guard.status()["providers"][vendor]["estimates"]
    assert figures["calls"] == figures["models"][f"{vendor}/{MODELS[vendor][1]}"]["calls"] == 24
    assert figures["p95_error"] >= figures["mean_error"] > 0


async def test_the_usual_output_of_a_feature_is_reserved_where_max_tokens_is_not_stated(
    open_router, running_vendor, bus
):
    running_vendor.whole(answer("acompletion", 10, 900))
    router = open_router("openai", tpd=10**9)
    for feature in ["long"] * 11 + ["other"]:
        await router.acompletion("group", messages(), metadata={"feature": feature})
    outputs = [record.estimated_output for record in bus.of(Settled)]
    assert (outputs[0], outputs[10], outputs[11]) == (150, 900, 150)


# The vendors' caches


def cached_prompt(characters: int) -> list[dict[str, Any]]:
    block = {"type": "text", "text": "x" * characters, "cache_control": {"type": "ephemeral"}}
    return [{"role": "user", "content": [block]}]


async def test_a_prompt_that_anthropics_cache_has_does_not_use_up_its_limit(open_router, running_vendor, bus):
    running_vendor.whole(answer("aanthropic_messages", 150_200, 50, cached=150_000))
    router = open_router("anthropic", max_wait=5, itpm=50_000, tpm=TPM)
    for _ in range(4):
        await router.aanthropic_messages(model="group", messages=cached_prompt(600_000), max_tokens=50)
    records = bus.of(Settled)
    assert [record.charged.input for record in records] == [200] * 4
    assert records[0].estimated_input == 50_000  # the whole limit: the prompt may be in the cache
    assert records[-1].estimated_input < 1000  # as it has been so far
    assert await at_once(
        router, "aanthropic_messages", 20, {"messages": cached_prompt(600_000), "max_tokens": 50}
    ) == 20  # fmt: skip


async def test_a_prompt_that_is_not_marked_for_the_cache_counts_whole(open_router, running_vendor):
    running_vendor.whole(answer("aanthropic_messages", 30_000, 50))
    router = open_router("anthropic", itpm=50_000)
    arguments = {"messages": messages("x" * 120_000), "max_tokens": 50}
    assert await at_once(router, "aanthropic_messages", 5, arguments) == 1


async def test_what_is_written_into_anthropics_cache_counts_and_is_on_record(open_router, running_vendor, bus):
    running_vendor.whole(answer("aanthropic_messages", 20_200, 50, written=20_000))
    router = open_router("anthropic", itpm=50_000)
    await router.aanthropic_messages(model="group", messages=cached_prompt(80_000), max_tokens=50)
    (record,) = bus.of(Settled)
    assert (record.cache_write_tokens, record.charged.input) == (20_000, 20_200)


async def test_a_models_own_limit_is_taken_whole_by_a_prompt_that_may_be_cached(open_router, running_vendor, bus):
    running_vendor.whole(answer("aanthropic_messages", 150_200, 50, cached=150_000))
    router = open_router("anthropic", itpm=10**6, models={"claude-sonnet*": {"itpm": 30_000}})
    await router.aanthropic_messages(model="group", messages=cached_prompt(600_000), max_tokens=50)
    (record,) = bus.of(Settled)
    assert (record.estimated_input, record.charged.input) == (30_000, 200)


async def test_what_bedrocks_cache_has_is_taken_at_the_beginning_and_comes_back(open_router, running_vendor, bus):
    usage = {"inputTokens": 200, "outputTokens": 50, "totalTokens": 150_250, "cacheReadInputTokens": 150_000}
    text = {"message": {"role": "assistant", "content": [{"text": "Hello"}]}}
    running_vendor.whole({"output": text, "stopReason": "end_turn", "metrics": {"latencyMs": 1}, "usage": usage})
    router = open_router("bedrock", tpm=400_000, tpd=10**9)
    for _ in range(2):  # what is learned of the cache changes nothing at the beginning
        assert await at_once(router, "acompletion", 10, {"messages": cached_prompt(600_000), "max_tokens": 50}) == 2
    assert {record.estimated_input for record in bus.of(Settled)} == {150_000}
    charged = 200 + 5 * 50  # a token of this model's output counts five times
    quota = router.guard.status()["providers"]["bedrock"]["quota"]
    assert quota["tpd"]["used"] == 4 * charged
    assert quota["tpm"]["left"] >= 400_000 - 4 * charged
