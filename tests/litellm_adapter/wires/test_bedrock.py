"""Bedrock: its event stream through the chat call, and passed through as it is."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Callable
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import messages

from wallie_litellm.events import Ended, Settled
from wallie_litellm.litellm_adapter.wires.bedrock_events import BedrockReader

MODEL = "bedrock/converse/anthropic.claude-3-5-sonnet-20240620-v1:0"
ANTHROPIC = "anthropic.claude-3-5-sonnet-20240620-v1:0"
CLEAN = (openai.APIError,)
USAGE = {"inputTokens": 1_000, "outputTokens": 200, "totalTokens": 1_200}


def message(headers: dict[str, str], payload: Any) -> bytes:
    """One message of the event stream."""
    parts = (bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
             for name, value in headers.items())  # fmt: skip
    head, body = b"".join(parts), json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(head) + len(body), len(head))
    begun = prelude + struct.pack(">I", binascii.crc32(prelude)) + head + body
    return begun + struct.pack(">I", binascii.crc32(begun))


def event(kind: str, payload: Any) -> bytes:
    return message({":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(kind: str) -> bytes:
    headers = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, {"message": "no"})


def delta(text: str) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})


BEGIN = [event("messageStart", {"role": "assistant"}), delta("Hello "), delta("world")]
STOP = [event("contentBlockStop", {"contentBlockIndex": 0}), event("messageStop", {"stopReason": "end_turn"})]
WHOLE = [*BEGIN, *STOP, event("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}})]


@pytest.fixture
def router(open_router, vendor) -> Any:
    where = {
        "aws_access_key_id": "AKIASIMULATED", "aws_secret_access_key": "simulated", "aws_region_name": "us-east-1",
        "aws_bedrock_runtime_endpoint": vendor.base,
    }  # fmt: skip
    return open_router({"group": MODEL}, parameters=where)


async def chat(router: Any) -> Any:
    return await router.acompletion("group", messages(), stream=True)


async def passed_through(router: Any, *, path: str = "/model/group/converse-stream", stream: bool = True) -> Any:
    body = {"messages": [{"role": "user", "content": [{"text": "Hello there, how are you?"}]}]}
    return await router.allm_passthrough_route(
        model="group", method="POST", endpoint=path, request_query_params={}, request_headers={}, json=body,
        stream=stream,
    )  # fmt: skip


CALLS: dict[str, Callable[[Any], Any]] = {"chat": chat, "passed through": passed_through}


async def read(stream: Any) -> None:
    async for _ in stream:
        pass


@pytest.mark.parametrize("call", CALLS)
async def test_a_whole_stream_has_its_tokens_and_cost_on_record(router, vendor, bus, call):
    vendor.stream(*WHOLE, apart=True)
    await read(await CALLS[call](router))
    (record,) = bus.of(Settled)
    assert (record.success, record.prompt_tokens, record.completion_tokens) == (True, 1_000, 200)
    assert record.cost_usd == pytest.approx(0.006)
    assert not record.estimated
    assert record.stream
    assert bus.of(Ended)[0].stream


@pytest.mark.parametrize("place", [0, 1, 3], ids=["before", "in the middle of", "after"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("kind", "statuses"),
    [("throttlingException", {429}), ("serviceUnavailableException", {503}), ("internalServerException", {500, 503})],
)
async def test_an_exception_in_the_stream_is_the_providers(router, vendor, bus, call, kind, statuses, place):
    vendor.stream(*BEGIN[:place], exception(kind), apart=True)
    with pytest.raises(CLEAN):
        await read(await CALLS[call](router))
    (record,) = bus.of(Settled)
    (ended,) = bus.of(Ended)
    assert record.status_code in statuses
    assert (ended.success, ended.by_caller, ended.status_code) == (False, False, record.status_code)


async def test_a_passed_through_stream_without_its_end_mark_is_cut(router, vendor, bus):
    vendor.stream(*BEGIN, apart=True)
    with pytest.raises(CLEAN):
        await read(await passed_through(router))
    (record,) = bus.of(Settled)
    assert (record.outcome, record.error, record.completion_tokens) == ("cut", "stream cut off", 3)


async def test_an_answer_that_is_passed_through_in_one_piece_is_billed(router, vendor, bus):
    answer = {"output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}}, "usage": USAGE}
    vendor.whole(answer)
    await passed_through(router, path="/model/group/converse", stream=False)
    (record,) = bus.of(Settled)
    assert (record.operation, record.prompt_tokens, record.completion_tokens) == ("bedrock", 1_000, 200)
    assert record.cost_usd == pytest.approx(0.006)


async def test_a_request_of_an_unknown_format_is_passed_through_and_counts_as_one(router, vendor, bus):
    for _ in range(6):
        vendor.whole(b"\x00whatever comes", "application/octet-stream")
        answer = await passed_through(router, path="/model/group/future-operation", stream=False)
        assert answer.content == b"\x00whatever comes"
    assert {(record.operation, record.success, record.charged.requests) for record in bus.of(Settled)} == {
        ("pass_through", True, 1)
    }
    provider = bus.of(Settled)[0].provider
    assert router.guard.status()["providers"][provider]["breaker"]["state"] == "closed"


def chunk(inner: Any) -> bytes:
    return event("chunk", {"bytes": base64.b64encode(json.dumps(inner).encode()).decode()})


METRICS = {"inputTokenCount": 10, "outputTokenCount": 5}
INVOKED = {
    "anthropic": [
        {"type": "message_start", "message": {"usage": {"input_tokens": 10, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS},
    ],
    "llama": [
        {"generation": "Hello", "stop_reason": None},
        {"generation": "", "stop_reason": "stop", "amazon-bedrock-invocationMetrics": METRICS},
    ],
}


@pytest.mark.parametrize("model", INVOKED)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_a_models_own_format_is_read_however_it_is_split(model: str, data: st.DataObject) -> None:
    stream = b"".join(map(chunk, INVOKED[model]))
    ends = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=6)))
    reader = BedrockReader()
    for start, end in zip([0, *ends], [*ends, len(stream)], strict=True):
        reader.see(stream[start:end])
    seen = reader.seen(99)
    assert (reader.was_ended(), reader.failed, reader.characters) == (True, None, 5)
    assert (seen.usage, seen.estimated) == ((1, 15, 10, 5), False)


def test_other_bytes_are_no_event_stream() -> None:
    reader = BedrockReader()
    reader.see(b"<html>no such page, and no lengths</html>")
    assert reader.unreadable or not reader.was_ended()
